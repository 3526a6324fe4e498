"""Which user runs the resolver on this host? Its upstream traffic must pass the trap untouched.

The uid column of /proc/net/udp does not tell: it is that of the socket's maker, and resolvers open port 53 as root
before they become somebody else. So the socket leads to the process, and that to its present user.
"""

import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from oe.model import Address, SocketAddress

_TABLES = ("udp", "udp6", "tcp", "tcp6")
_INODE = 9
"""Its column, after slot, local, remote, state, queues, timer, retransmissions, uid and timeout."""


def resolver_owner(server: SocketAddress, proc: Path = Path("/proc")) -> int | None:
    """Uid under which the resolver that listens at `server` sends, in this network namespace. Needs root.

    None: `server` is not on loopback, or nobody is seen to listen there. 0: the resolver runs as root, so that its
    traffic cannot be told from other traffic of root by its uid.
    """
    if not server.address.is_loopback:
        return None
    wanted = _listening(server, proc)
    users = {uid for process in proc.glob("[0-9]*") if (uid := _holder(process, wanted)) is not None}
    # The service manager may hold the same socket as root (socket activation).
    return max(users, default=None)


def _listening(server: SocketAddress, proc: Path) -> set[str]:
    """Links by which /proc/PID/fd shows the sockets bound to `server`; those bound to any address if none is."""
    tables = [path.read_text() for name in _TABLES if (path := proc / "net" / name).exists()]
    bound = [entry for table in tables for entry in _bound(table)]
    for addresses in ({server.address}, _wildcards(server.address)):
        links = {
            f"socket:[{inode}]" for local, inode in bound if local.port == server.port and local.address in addresses
        }
        if links:
            return links
    return set()


def _wildcards(address: Address) -> set[Address]:
    """A v6 socket serves v4 too unless told otherwise."""
    return {IPv6Address(0), IPv4Address(0)} if address.version == 4 else {IPv6Address(0)}


def _bound(table: str) -> Iterator[tuple[SocketAddress, str]]:
    """Local address and inode of every unconnected socket in a table of /proc/net."""
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) > _INODE and columns[2].endswith(":0000"):
            address, _, port = columns[1].partition(":")
            yield SocketAddress(_address(address), int(port, 16)), columns[_INODE]


def _address(digits: str) -> Address:
    """The kernel prints each 32-bit word of an address as a number of its own byte order."""
    words = (int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8))
    packed = b"".join(words)
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _holder(process: Path, links: set[str]) -> int | None:
    """Filesystem uid of a process that holds one of the sockets: the one by which nftables knows what it sends."""
    try:
        if not any(str(entry.readlink()) in links for entry in (process / "fd").iterdir()):
            return None
        status = (process / "status").read_text()
    except OSError:  # it has ended meanwhile, or is not ours to look into
        return None
    return next(int(line.split()[4]) for line in status.splitlines() if line.startswith("Uid:"))
