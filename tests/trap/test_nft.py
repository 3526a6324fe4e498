"""The table against a real kernel, in namespaces of the test's own."""

import errno
import fcntl
import os
import random
import select
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import pairwise
from pathlib import Path
from time import monotonic

import pytest

from oe.errors import KernelError, MachineLacks
from oe.model import (
    MARK_EXEMPT,
    MARK_SHIELD_CLOSED,
    MARK_SHIELD_OPEN,
    Group,
    Interval,
    SocketAddress,
    Verdict,
)
from oe.trap.nft import NftTable
from oe.trap.spec import TrapSpec, Tunnel
from tests.trap.netns import (
    CLIENT,
    GATEWAY,
    PEER,
    PORT,
    QUEUE_CLOSED,
    QUEUE_OPEN,
    Catcher,
    Network,
    hear,
    hears_nothing,
    pair,
    run,
)
from tests.waiting import PATIENCE, await_that

pytestmark = pytest.mark.netns

PRIVATE, OPEN, CLEAR, CLEAR_OR_PRIVATE, BLOCK, UNLISTED = (f"198.18.{net}.5" for net in range(6))
PRIVATE6, OPEN6, CLEAR6, CLEAR_OR_PRIVATE6, BLOCK6, UNLISTED6 = (f"2001:db8:{net}::5" for net in range(6))


def _net(net: str, group: Group) -> Interval:
    parsed = ip_network(net)
    return Interval(parsed.network_address, parsed.broadcast_address, group)


GROUPS = (Group.PRIVATE, Group.PRIVATE_OR_CLEAR, Group.CLEAR, Group.CLEAR_OR_PRIVATE, Group.BLOCK)
SPEC = TrapSpec(
    intervals=(
        *(_net(f"198.18.{number}.0/24", group) for number, group in enumerate(GROUPS)),
        *(_net(f"2001:db8:{number}::/48", group) for number, group in enumerate(GROUPS)),
    ),
    queue_closed=QUEUE_CLOSED,
    queue_open=QUEUE_OPEN,
    served=(ip_network("10.1.0.0/24"), ip_network("fd01::/64")),
)


@pytest.fixture
def armed(network: Network, table: NftTable) -> NftTable:
    with network.inside(GATEWAY):
        table.install(SPEC)
    return table


@pytest.fixture
def listener(network: Network) -> Iterator[socket.socket]:
    with network.listen() as listening:
        yield listening


def dropped(table: NftTable) -> dict[str, int]:
    return {name: counter.packets for name, counter in table.counters().items() if counter.packets}


def drops(table: NftTable, expected: dict[str, int]) -> None:
    """These it has dropped, or will when the last packet is there."""
    with suppress(AssertionError):
        await_that(lambda: dropped(table) == expected, "packets dropped")
    assert dropped(table) == expected


# --- groups ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [GATEWAY, CLIENT])
def test_each_group_does_what_it_says(
    network: Network, armed: NftTable, catcher: Catcher, listener: socket.socket, role: str
) -> None:
    sources = {GATEWAY: ("10.2.0.1", "fd02::1"), CLIENT: ("10.1.0.2", "fd01::2")}[role]
    for destination in (PRIVATE, OPEN, PRIVATE6, OPEN6):
        network.send(destination, role=role)
        [held] = catcher.catch(1)
        assert held.pair == pair(sources[":" in destination], destination)
        assert (held.protocol, held.destination_port, held.forwarded) == (17, PORT, role == CLIENT)
    assert hears_nothing(listener)
    for destination in (CLEAR, CLEAR_OR_PRIVATE, UNLISTED, CLEAR6, CLEAR_OR_PRIVATE6, UNLISTED6):
        network.send(destination, destination.encode(), role=role)
        assert hear(listener) == destination.encode()
    for destination in (BLOCK, BLOCK6):
        network.send(destination, role=role)
    assert catcher.caught_nothing()
    assert hears_nothing(listener)
    drops(armed, {"refused": 2})


def test_the_kernel_chooses_as_the_intervals_say(
    network: Network, table: NftTable, catcher: Catcher, listener: socket.socket
) -> None:
    rng = random.Random(4322)
    for kind, base in ((IPv4Address, IPv4Address("198.18.0.0")), (IPv6Address, IPv6Address("2001:db8::"))):
        for _ in range(4):
            bounds = sorted(rng.sample(range(0x20000), 24))
            intervals = [
                Interval(kind(int(base) + first), kind(int(base) + last - 1), rng.choice(list(Group)))
                for first, last in pairwise(bounds)
                if rng.random() < 0.8
            ]
            with network.inside(GATEWAY):
                table.install(replace(SPEC, intervals=tuple(intervals)))
            edges = [int(base) + bound + step for bound in bounds for step in (-1, 0, 1)]
            for address in (kind(edge) for edge in edges if edge >= int(base)):
                _check_choice(network, catcher, listener, intervals, address)


def _check_choice(
    network: Network,
    catcher: Catcher,
    listener: socket.socket,
    intervals: list[Interval],
    address: IPv4Address | IPv6Address,
) -> None:
    group = next((one.group for one in intervals if int(one.first) <= int(address) <= int(one.last)), None)
    network.send(str(address), str(address).encode())
    if group in (Group.PRIVATE, Group.PRIVATE_OR_CLEAR):
        [held] = catcher.catch(1)
        assert held.pair.destination == address
        with network.inside(GATEWAY):
            waiting = {number: queue.waiting for number, queue in catcher.queues.statistics().items()}
        assert waiting == {QUEUE_CLOSED: int(group is Group.PRIVATE), QUEUE_OPEN: int(group is Group.PRIVATE_OR_CLEAR)}
        catcher.queues.drop([held.id])
    elif group is not Group.BLOCK:
        assert hear(listener) == str(address).encode()
    assert catcher.caught_nothing()
    assert hears_nothing(listener, patience=0)


def test_without_a_listener_the_closed_trap_drops_and_the_open_one_passes(
    network: Network, armed: NftTable, listener: socket.socket
) -> None:
    for destination in (PRIVATE, PRIVATE6):
        network.send(destination)
        network.send(destination, role=CLIENT)
    assert hears_nothing(listener)
    for destination in (OPEN, OPEN6):
        network.send(destination, b"open")
        assert hear(listener) == b"open"


def test_blocked_tcp_fails_at_once(network: Network, armed: NftTable) -> None:
    with network.inside(GATEWAY), socket.socket() as client:
        client.settimeout(PATIENCE)
        assert client.connect_ex((BLOCK, PORT)) == errno.EHOSTUNREACH


# --- decisions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("destination", [PRIVATE, OPEN, OPEN6])
def test_a_decision_ends_trapping_and_its_end_begins_it_again(
    network: Network, armed: NftTable, catcher: Catcher, listener: socket.socket, destination: str
) -> None:
    ours = pair("fd02::1" if ":" in destination else "10.2.0.1", destination)
    armed.decide(ours, Verdict.BLOCKED, 60, False)
    network.send(destination)
    assert hears_nothing(listener)
    drops(armed, {"refused": 1})
    armed.undecide(ours)
    armed.undecide(ours)
    network.send(destination)
    assert len(catcher.catch(1)) == 1
    if destination is not PRIVATE:
        armed.decide(ours, Verdict.CLEAR, 60, False)
        network.send(destination, b"clear")
        assert hear(listener) == b"clear"
        assert catcher.caught_nothing()


def test_a_decision_is_for_one_pair_only(
    network: Network, armed: NftTable, catcher: Catcher, listener: socket.socket
) -> None:
    armed.decide(pair("10.2.0.1", OPEN), Verdict.CLEAR, 60, False)
    network.send(OPEN, role=CLIENT)
    [held] = catcher.catch(1)
    assert held.pair == pair("10.1.0.2", OPEN)
    assert hears_nothing(listener)


def test_a_decision_times_out(network: Network, armed: NftTable, catcher: Catcher, listener: socket.socket) -> None:
    """Nobody turns the kernel's clock: one decision is not over before it is looked at, the other is waited for."""
    ours = pair("10.2.0.1", OPEN)
    armed.decide(ours, Verdict.CLEAR, 600, False)
    network.send(OPEN, b"clear")
    assert hear(listener) == b"clear"
    armed.decide(ours, Verdict.CLEAR, 0.2, False)

    def trapped() -> bool:
        network.send(OPEN)
        return not catcher.caught_nothing()

    await_that(trapped, "the end of the decision")


def test_each_verdict_replaces_each_other(network: Network, armed: NftTable, listener: socket.socket) -> None:
    rng = random.Random(1)
    ours = pair("10.2.0.1", OPEN)
    for number, verdict in enumerate(rng.choices(list(Verdict), k=30)):
        armed.decide(ours, verdict, 60, False)
        network.send(OPEN, bytes([number]))
        if verdict is Verdict.BLOCKED:
            assert hears_nothing(listener, patience=0.002)
        else:
            assert hear(listener) == bytes([number])


def test_a_private_pair_that_is_decided_protected_still_cannot_leave_in_clear(
    network: Network, armed: NftTable, listener: socket.socket
) -> None:
    """No XFRM policy is here: what is taken to be protected is not."""
    armed.decide(pair("10.2.0.1", PRIVATE), Verdict.PROTECTED, 60, True)
    armed.decide(pair("10.1.0.2", PRIVATE), Verdict.PROTECTED, 60, True)
    network.send(PRIVATE)
    network.send(PRIVATE, role=CLIENT)
    assert hears_nothing(listener)
    drops(armed, {"clear-to-private": 2})


@pytest.mark.parametrize("floor", [False, True])
def test_the_exemptions_of_our_own_packets_are_not_for_clients(
    network: Network, table: NftTable, listener: socket.socket, floor: bool
) -> None:
    """ESP in UDP comes from our port 4500, and our questions go to our resolver: what clients send is neither."""
    with network.inside(GATEWAY):
        table.install(replace(SPEC, resolvers=(SocketAddress(ip_address(PRIVATE), PORT),)))
        for source, destination in (("10.1.0.2", PRIVATE), ("fd01::2", PRIVATE6)):
            table.decide(pair(source, destination), Verdict.PROTECTED, 60, True)
        if floor:
            table.reduce_to_floor()
    for destination in (PRIVATE, PRIVATE6):
        network.send(destination, role=CLIENT, source_port=4500)
        network.send(destination, role=CLIENT)
    assert hears_nothing(listener)
    drops(table, {"clear-to-private": 4})


def test_a_full_set_is_an_error_that_says_so(network: Network, table: NftTable) -> None:
    with network.inside(GATEWAY):
        table.install(replace(SPEC, max_decisions=2))
    for last in (1, 2):
        table.decide(pair("10.2.0.1", f"198.18.1.{last}"), Verdict.CLEAR, 60, False)
    with pytest.raises(KernelError, match=r"decide 10\.2\.0\.1 → 198\.18\.1\.3") as refused:
        table.decide(pair("10.2.0.1", "198.18.1.3"), Verdict.CLEAR, 60, False)
    assert refused.value.errno == errno.ENFILE
    table.decide(pair("10.2.0.1", "198.18.1.2"), Verdict.CLEAR, 60, False)


# --- exemptions ------------------------------------------------------------------------------------------------


def test_marked_sockets_loopback_own_addresses_and_esp_are_exempt(
    network: Network, table: NftTable, catcher: Catcher, listener: socket.socket
) -> None:
    everything = (_net("0.0.0.0/0", Group.PRIVATE), _net("::/0", Group.PRIVATE))
    with network.inside(GATEWAY):
        table.install(replace(SPEC, intervals=everything))
        network.send(PRIVATE, b"marked", mark=MARK_EXEMPT)
        assert hear(listener) == b"marked"
        with network.listen(GATEWAY) as own:
            for address in ("127.0.0.1", "::1", "10.2.0.1", "10.1.0.1", "fd02::1"):
                network.send(address, b"own")
                assert hear(own) == b"own"
            network.send("10.1.0.1", b"from a client", role=CLIENT)
            assert hear(own) == b"from a client"
    with network.inside(PEER):
        esp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ESP)
    with esp, network.inside(GATEWAY), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ESP) as sender:
        sender.sendto(b"sealed", (PRIVATE, 0))
        assert hear(esp).endswith(b"sealed")
    assert catcher.caught_nothing()


def test_ah_hides_nothing_and_is_trapped(network: Network, table: NftTable, catcher: Catcher) -> None:
    with network.inside(GATEWAY):
        table.install(SPEC)
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_AH) as sender:
            sender.sendto(bytes(24), (PRIVATE, 0))
    [held] = catcher.catch(1)
    assert str(held.pair.destination) == PRIVATE


def test_neighbour_discovery_multicast_and_broadcast_are_exempt(
    network: Network, table: NftTable, catcher: Catcher
) -> None:
    everything = (_net("0.0.0.0/0", Group.PRIVATE), _net("::/0", Group.PRIVATE))
    with network.inside(GATEWAY):
        table.install(replace(SPEC, intervals=everything))
        run("ip", "neigh", "flush", "dev", "to-peer")
    with network.inside(GATEWAY), network.listen() as listening:
        network.send("fd02::2", b"solicited", mark=MARK_EXEMPT)
        assert hear(listening) == b"solicited"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.2.0.1"))
            sender.sendto(b"broadcast", ("10.2.0.255", PORT))
            assert hear(listening) == b"broadcast"
            with network.inside(PEER), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as group:
                group.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                group.bind(("224.0.0.1", PORT))
                sender.sendto(b"multicast", ("224.0.0.1", PORT))
                assert hear(group) == b"multicast"
    assert catcher.caught_nothing()
    drops(table, {})


def test_our_resolver_may_ask_and_gets_its_answer_and_nothing_else_comes_by_that_door(
    network: Network, table: NftTable, catcher: Catcher
) -> None:
    spec = replace(SPEC, resolvers=(SocketAddress(ip_address(PRIVATE), PORT),), resolver_uids=(4711,))
    with network.inside(GATEWAY):
        table.install(spec)
    with network.inside(GATEWAY):
        asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        other.bind(("", 4000))
    with network.inside(PEER):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((PRIVATE, PORT))
    with asker, other, server:
        asker.sendto(b"question", (PRIVATE, PORT))
        question, address = server.recvfrom(100)
        assert question == b"question"
        server.sendto(b"intruder", ("10.2.0.1", 4000))
        server.sendto(b"answer", address)
        assert hear(asker) == b"answer"
        assert hears_nothing(other)
    drops(table, {"clear-from-private": 1})
    script = "import socket; socket.socket(2, 2).sendto(b'recursive', ('198.18.0.9', 53))"
    with network.listen(PEER, 53) as recursive, network.inside(GATEWAY):
        for uid in ("4711", "4712"):
            command = ["setpriv", f"--reuid={uid}", "--clear-groups", "/usr/bin/python3", "-c", script]
            subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE)
        assert hear(recursive) == b"recursive"
        assert hears_nothing(recursive)
    assert [held.destination_port for held in catcher.catch(1)] == [53]


# --- what comes in ---------------------------------------------------------------------------------------------


def _send_from(
    network: Network, source: str, destination: str, *, port: int = PORT, source_port: int = 0, size: int = 0
) -> None:
    with (
        network.inside(PEER),
        socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM) as one,
    ):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND: the peer's nets are routes, not addresses
        one.bind((source, source_port))
        one.sendto(source.encode().ljust(size), (destination, port))


@pytest.mark.parametrize("floor", [False, True])
@pytest.mark.parametrize("role", [GATEWAY, CLIENT])
def test_clear_packets_from_closed_nets_are_dropped(network: Network, armed: NftTable, role: str, floor: bool) -> None:
    own, own6 = {GATEWAY: ("10.2.0.1", "fd02::1"), CLIENT: ("10.1.0.2", "fd01::2")}[role]
    if floor:
        with network.inside(GATEWAY):
            armed.reduce_to_floor()
    with network.listen(role) as listening, network.listen(role, 500) as ike:
        for source, to in ((PRIVATE, own), (PRIVATE6, own6), (BLOCK, own), (BLOCK6, own6)):
            _send_from(network, source, to, source_port=500)
        assert hears_nothing(listening)
        drops(armed, {"clear-from-private": 2, "from-block": 2})
        for source, to in ((OPEN, own), (CLEAR6, own6), (UNLISTED, own)):
            _send_from(network, source, to)
            assert hear(listening) == source.encode()
        for source, to in ((PRIVATE, own), (PRIVATE6, own6)):
            _send_from(network, source, to, port=500)
            assert hear(ike) == source.encode()


def test_some_clear_packets_from_private_nets_are_shown_and_none_gets_in(
    network: Network, armed: NftTable, catcher: Catcher
) -> None:
    begun = monotonic()
    with network.listen(GATEWAY, PORT) as listening:
        for _ in range(60):
            _send_from(network, PRIVATE, "10.2.0.1")
        _send_from(network, BLOCK, "10.2.0.1")
        assert hears_nothing(listening)
    drops(armed, {"clear-from-private": 60, "from-block": 1})
    most = 20 + 10 * (monotonic() - begun) + 1  # the rule's burst, and its rate for as long as it took
    catcher.turn()
    shown = {(str(packet.pair.source), str(packet.pair.destination)) for packet in catcher.refused}
    assert shown == {(PRIVATE, "10.2.0.1")}
    assert len(catcher.refused) <= most
    assert catcher.caught_nothing()


def test_fragments_of_ike_come_in(network: Network, armed: NftTable) -> None:
    with network.listen(GATEWAY, 500) as ike:
        for source, to in ((PRIVATE, "10.2.0.1"), (PRIVATE6, "fd02::1")):
            _send_from(network, source, to, port=500, size=4000)
            assert len(hear(ike)) == 4000
    drops(armed, {})
    with network.listen(GATEWAY) as other:
        for source, to in ((PRIVATE, "10.2.0.1"), (PRIVATE6, "fd02::1")):
            _send_from(network, source, to, size=4000)
        assert hears_nothing(other)
    drops(armed, {"clear-from-private": 2})


# --- the userspace tunnel --------------------------------------------------------------------------------------


@contextmanager
def tun(network: Network) -> Iterator[int]:
    """A TUN interface `oe0` in the gateway that shield marks are routed to; yields its descriptor."""
    with network.inside(GATEWAY):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        with network.inside(GATEWAY):
            fcntl.ioctl(
                descriptor, 0x400454CA, struct.pack("16sH22x", b"oe0", 0x1001)
            )  # TUNSETIFF, IFF_TUN | IFF_NO_PI
            run("ip", "link", "set", "oe0", "mtu", "1400", "up")
            Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("0")
            Path("/proc/sys/net/ipv4/conf/oe0/rp_filter").write_text("0")
            for family in ("-4", "-6"):
                run("ip", family, "route", "add", "default", "dev", "oe0", "table", "77")
                for mark in (MARK_SHIELD_CLOSED, MARK_SHIELD_OPEN):
                    run("ip", family, "rule", "add", "fwmark", f"{mark:#x}/{mark:#x}", "lookup", "77")
        yield descriptor
    finally:
        with network.inside(GATEWAY):
            for family in ("-4", "-6"):
                for _ in range(2):
                    subprocess.run(["ip", family, "rule", "del", "lookup", "77"], check=False, capture_output=True)
        os.close(descriptor)


def read_tun(descriptor: int, destination: str) -> bytes:
    """The next packet to `destination`: the kernel chatters on a new interface, and TCP repeats itself."""
    address = ip_address(destination).packed
    while select.select([descriptor], [], [], PATIENCE)[0]:
        packet = os.read(descriptor, 2000)
        if address == (packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]):
            return packet
    raise AssertionError("nothing came into the tunnel")


@pytest.mark.parametrize("role", [GATEWAY, CLIENT])
@pytest.mark.parametrize("destination", [PRIVATE, OPEN, OPEN6])
def test_protected_packets_go_into_the_userspace_tunnel(
    network: Network, table: NftTable, catcher: Catcher, listener: socket.socket, role: str, destination: str
) -> None:
    closed = destination is PRIVATE
    bit = MARK_SHIELD_CLOSED if closed else MARK_SHIELD_OPEN
    with tun(network) as inner:
        with network.inside(GATEWAY):
            table.install(replace(SPEC, tunnel=Tunnel("oe0", 1400)))
        network.send(destination, b"first", role=role)
        [held] = catcher.catch(1)
        table.decide(held.pair, Verdict.PROTECTED, 60, closed)
        catcher.queues.release([held.id], MARK_EXEMPT | bit)
        assert read_tun(inner, destination).endswith(b"first")
        network.send(destination, b"second", role=role)
        assert read_tun(inner, destination).endswith(b"second")
        assert catcher.caught_nothing()
        assert hears_nothing(listener)
    network.send(destination, b"the tunnel is gone", role=role)
    if closed:
        assert hears_nothing(listener)
    else:
        assert hear(listener) == b"the tunnel is gone"


def test_what_comes_out_of_the_tunnel_passes(network: Network, table: NftTable, catcher: Catcher) -> None:
    with tun(network) as inner, network.listen(GATEWAY) as own, network.listen(CLIENT) as clients:
        with network.inside(GATEWAY):
            table.install(replace(SPEC, tunnel=Tunnel("oe0", 1400), served=(*SPEC.served, ip_network("198.18.0.0/24"))))
        for destination, listening in (("10.2.0.1", own), ("10.1.0.2", clients)):
            udp = struct.pack("!HHHH", 9, PORT, 8 + 6, 0) + b"inside"
            header = struct.pack(
                "!BBHHHBBH4s4s",
                0x45,
                0,
                20 + len(udp),
                0,
                0,
                64,
                17,
                0,
                socket.inet_aton(PRIVATE),
                socket.inet_aton(destination),
            )
            total = sum(struct.unpack("!10H", header))
            checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
            os.write(inner, header[:10] + checksum.to_bytes(2, "big") + header[12:] + udp)
            assert hear(listening) == b"inside"
        assert catcher.caught_nothing()
        drops(table, {})


def test_tcp_segments_fit_the_tunnel(network: Network, table: NftTable) -> None:
    with tun(network) as inner:
        with network.inside(GATEWAY):
            table.install(replace(SPEC, tunnel=Tunnel("oe0", 1300)))
        for source, destination, size in (("10.1.0.2", OPEN, 1260), ("fd01::2", OPEN6, 1240)):
            table.decide(pair(source, destination), Verdict.PROTECTED, 60, False)
            with network.inside(CLIENT), socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET) as client:
                client.setblocking(False)
                client.connect_ex((destination, PORT))
                syn = read_tun(inner, destination)
            assert struct.pack("!BBH", 2, 4, size) in syn  # option: maximum segment size


# --- the table's life ------------------------------------------------------------------------------------------


def test_the_floor_keeps_closed_nets_shut_and_frees_the_rest(
    network: Network, armed: NftTable, catcher: Catcher, listener: socket.socket
) -> None:
    with network.inside(GATEWAY):
        armed.reduce_to_floor()
    for role in (GATEWAY, CLIENT):
        for destination in (PRIVATE, PRIVATE6, BLOCK, BLOCK6):
            network.send(destination, role=role)
        assert hears_nothing(listener)
        for destination in (OPEN, OPEN6, CLEAR, UNLISTED):
            network.send(destination, b"free", role=role)
            assert hear(listener) == b"free"
    network.send(PRIVATE, b"ours", mark=MARK_EXEMPT)
    assert hear(listener) == b"ours"
    assert catcher.caught_nothing()
    drops(armed, {"clear-to-private": 4, "to-block": 4})


def test_without_closed_nets_nothing_stays(network: Network, table: NftTable) -> None:
    with network.inside(GATEWAY):
        table.install(replace(SPEC, intervals=(_net("0.0.0.0/0", Group.PRIVATE_OR_CLEAR),)))
        table.reduce_to_floor()
        assert run("nft", "list", "tables") == ""
    assert table.counters() == {}


def test_foreign_tables_are_not_touched(network: Network, armed: NftTable) -> None:
    foreign = "table ip foreign {\n chain c {\n  counter drop\n }\n}\n"
    network.nft(GATEWAY, foreign)
    with network.inside(GATEWAY):
        try:
            before = run("nft", "list", "table", "ip", "foreign")
            armed.install(SPEC)
            armed.reload(SPEC)
            armed.reduce_to_floor()
            armed.remove()
            armed.remove()
            assert run("nft", "list", "tables") == "table ip foreign\n"
            assert run("nft", "list", "table", "ip", "foreign") == before
        finally:
            run("nft", "delete", "table", "ip", "foreign")


def test_another_run_takes_over_and_starts_without_decisions(
    network: Network, armed: NftTable, catcher: Catcher
) -> None:
    armed.decide(pair("10.2.0.1", OPEN), Verdict.CLEAR, 60, False)
    with network.inside(GATEWAY):
        successor = NftTable()
        successor.install(SPEC)
        successor.close()
    network.send(OPEN)
    assert len(catcher.catch(1)) == 1


def test_a_reload_changes_groups_and_keeps_decisions_and_counters(
    network: Network, armed: NftTable, catcher: Catcher, listener: socket.socket
) -> None:
    armed.decide(pair("10.2.0.1", OPEN), Verdict.CLEAR, 60, False)
    network.send(BLOCK)
    swapped = (_net("198.18.1.0/24", Group.PRIVATE_OR_CLEAR), _net("198.18.4.0/24", Group.PRIVATE_OR_CLEAR))
    with network.inside(GATEWAY):
        armed.reload(replace(SPEC, intervals=swapped))
    network.send(OPEN, b"decided")
    assert hear(listener) == b"decided"
    network.send(BLOCK)
    assert catcher.catch(1)[0].pair.destination == ip_address(BLOCK)
    drops(armed, {"refused": 1})


def test_nft_can_print_the_table(network: Network, armed: NftTable) -> None:
    with network.inside(GATEWAY):
        printed = run("nft", "list", "table", "inet", "oe")
    print(printed)
    assert "chain queue-closed" in printed
    assert "chain postrouting" in printed


def test_a_decision_needs_a_table(network: Network, table: NftTable) -> None:
    with pytest.raises(KernelError, match="not installed"):
        table.decide(pair("10.2.0.1", OPEN), Verdict.CLEAR, 60, False)


def test_a_machine_without_nft_is_told_what_to_install(
    network: Network, table: NftTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MachineLacks, match="install nftables"):
        table.install(SPEC)


def test_what_nft_refuses_is_a_kernel_error(network: Network, table: NftTable) -> None:
    twice = (_net("198.18.0.0/16", Group.CLEAR), _net("198.18.0.0/24", Group.PRIVATE))
    with network.inside(GATEWAY), pytest.raises(KernelError, match="install table inet oe"):
        table.install(replace(SPEC, intervals=twice))
