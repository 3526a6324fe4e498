"""Whose resolver is it?"""

import os
import socket
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from oe.dnskeys.loopback import resolver_owner
from oe.model import SocketAddress
from tests.ports import free_ports

HEAD = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ANY = "00000000:0035"
LOCAL = f"{int.from_bytes(bytes([127, 0, 0, 1]), sys.byteorder):08X}:0035"


def at(address: str, port: int = 53) -> SocketAddress:
    return SocketAddress(ip_address(address), port)


def row(local: str, inode: int, remote: str = "00000000:0000") -> str:
    return f"  100: {local} {remote} 07 00000000:00000000 00:00000000 00000000     0        0 {inode} 2 0000 0\n"


def proc(directory: Path, table: str, **holders: tuple[int, int]) -> Path:
    """A /proc with one UDP table and processes by number (p1=...): filesystem uid and inode of the socket held."""
    (directory / "net").mkdir()
    (directory / "net" / "udp").write_text(HEAD + table)
    for name, (uid, inode) in holders.items():
        process = directory / name.removeprefix("p")
        (process / "fd").mkdir(parents=True)
        (process / "fd" / "0").symlink_to("/dev/null")
        (process / "fd" / "3").symlink_to(f"socket:[{inode}]")
        (process / "status").write_text(f"Name:\tresolver\nUid:\t0\t0\t0\t{uid}\nGid:\t0\t0\t0\t0\n")
    return directory


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.53"), (socket.AF_INET6, "::1")]
)
@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_our_own_socket_is_ours(family: socket.AddressFamily, address: str, kind: socket.SocketKind) -> None:
    with socket.socket(family, kind) as ours:
        ours.bind((address, *free_ports(1)))
        if kind is socket.SOCK_STREAM:
            ours.listen()
        assert resolver_owner(at(address, ours.getsockname()[1])) == os.getuid()


@pytest.mark.parametrize("any_address", ["0.0.0.0", "::"])
def test_a_wildcard_socket_serves_loopback(any_address: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in any_address else socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind((any_address, *free_ports(1)))
        assert resolver_owner(at("127.0.0.1", ours.getsockname()[1])) == os.getuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_socket_opened_as_root_belongs_to_whom_its_process_became() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", *free_ports(1)))
        server, descriptor = at("127.0.0.1", opened.getsockname()[1]), opened.fileno()
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[descriptor], user=65534)
    try:
        assert resolver_owner(server) == 65534
    finally:
        child.communicate()


def test_nobody_listens() -> None:
    (port,) = free_ports(1)
    assert resolver_owner(at("127.0.0.1", port)) is None


def test_a_resolver_elsewhere_has_no_user_here(tmp_path: Path) -> None:
    assert resolver_owner(at("192.0.2.53"), proc(tmp_path, row(ANY, 7), p1=(53, 7))) is None


def test_the_exact_address_counts_before_the_wildcard(tmp_path: Path) -> None:
    root = proc(tmp_path, row(ANY, 7) + row(LOCAL, 8), p1=(900, 7), p2=(53, 8))
    assert resolver_owner(at("127.0.0.1"), root) == 53
    assert resolver_owner(at("127.0.0.2"), root) == 900


def test_a_service_manager_that_holds_the_socket_too_does_not_count(tmp_path: Path) -> None:
    assert resolver_owner(at("127.0.0.1"), proc(tmp_path, row(LOCAL, 7), p1=(0, 7), p9=(53, 7))) == 53


def test_a_resolver_of_root_is_told_as_such(tmp_path: Path) -> None:
    assert resolver_owner(at("127.0.0.1"), proc(tmp_path, row(LOCAL, 7), p9=(0, 7))) == 0


def test_connected_sockets_serve_nobody_else(tmp_path: Path) -> None:
    assert resolver_owner(at("127.0.0.1"), proc(tmp_path, row(LOCAL, 7, remote=LOCAL), p1=(53, 7))) is None


def test_what_cannot_be_read_does_no_harm(tmp_path: Path) -> None:
    root = proc(tmp_path, "  100: cut\n\n" + row(LOCAL, 7))
    (root / "17").mkdir()
    assert resolver_owner(at("127.0.0.1"), root) is None
    assert resolver_owner(at("::1"), root) is None
