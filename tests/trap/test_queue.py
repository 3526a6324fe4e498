"""The queues against a real kernel, in namespaces of the test's own."""

import random
import select
import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest

from oe.errors import MachineLacks
from oe.model import MARK_EXEMPT, MARK_SHIELD_OPEN, Group, HeldPacket, Interval
from oe.trap.nft import NftTable
from oe.trap.queue import TrapQueues
from oe.trap.spec import TrapSpec
from tests.trap.netns import (
    CLIENT,
    GATEWAY,
    PORT,
    QUEUE_CLOSED,
    QUEUE_OPEN,
    Catcher,
    Network,
    hear,
    hears_nothing,
    run,
)
from tests.waiting import await_that

pytestmark = pytest.mark.netns

PRIVATE, OPEN, OPEN6 = "198.18.0.5", "198.18.1.5", "2001:db8:1::5"
NOTHING_LINGERS = struct.pack("ii", 1, 0)
"""No FIN whose retransmissions would be trapped in the next test."""
SPEC = TrapSpec(
    intervals=(
        Interval(ip_address("198.18.0.0"), ip_address("198.18.0.255"), Group.PRIVATE),
        Interval(ip_address("198.18.1.0"), ip_address("198.18.1.255"), Group.PRIVATE_OR_CLEAR),
        Interval(ip_address("2001:db8:1::"), ip_address("2001:db8:1::ffff"), Group.PRIVATE_OR_CLEAR),
    ),
    queue_closed=QUEUE_CLOSED,
    queue_open=QUEUE_OPEN,
    served=(),
)


@pytest.fixture(autouse=True)
def armed(network: Network, table: NftTable) -> None:
    with network.inside(GATEWAY):
        table.install(SPEC)


@pytest.fixture
def listener(network: Network) -> Iterator[socket.socket]:
    with network.listen() as listening:
        yield listening


@pytest.mark.parametrize("destination", [OPEN, OPEN6])
def test_held_packets_leave_in_the_order_of_their_release(
    network: Network, catcher: Catcher, listener: socket.socket, destination: str
) -> None:
    for number in range(20):
        network.send(destination, bytes([number]))
    held = [packet.id for packet in catcher.catch(20)]
    assert held == sorted(set(held))
    assert hears_nothing(listener)
    order = list(range(20))
    random.Random(7).shuffle(order)
    catcher.queues.release([held[number] for number in order], MARK_EXEMPT)
    assert [hear(listener)[0] for _ in order] == order
    assert len(catcher.queues) == 0
    assert hears_nothing(listener)


def test_dropped_packets_are_gone_and_verdicts_are_given_once(
    network: Network, catcher: Catcher, listener: socket.socket
) -> None:
    network.send(OPEN, b"dropped")
    network.send(OPEN, b"released")
    first, second = catcher.catch(2)
    catcher.queues.drop([first.id, 999])
    catcher.queues.release([first.id, second.id, second.id], MARK_EXEMPT)
    assert hear(listener) == b"released"
    assert hears_nothing(listener)


def test_a_release_keeps_the_operators_mark_and_adds_ours(network: Network, catcher: Catcher) -> None:
    """The mark is seen in a table of the test, after ours."""
    seen = f"meta mark {0xAB | MARK_EXEMPT | MARK_SHIELD_OPEN:#x} counter accept"
    hook = "type filter hook postrouting priority 100;"
    network.nft(GATEWAY, f"table inet seen {{\n chain c {{\n  {hook}\n  {seen}\n }}\n}}\n")
    try:
        network.send(OPEN, mark=0xAB)
        [held] = catcher.catch(1)
        assert held.mark == 0xAB
        catcher.queues.release([held.id], MARK_EXEMPT | MARK_SHIELD_OPEN)
        with network.inside(GATEWAY):
            assert "packets 1 " in run("nft", "list", "table", "inet", "seen")
    finally:
        network.nft(GATEWAY, "delete table inet seen\n")


def test_a_release_must_change_the_mark(catcher: Catcher) -> None:
    with pytest.raises(ValueError, match="MARK_EXEMPT"):
        catcher.queues.release([1], MARK_SHIELD_OPEN)


def release_until(catcher: Catcher, true: Callable[[], bool], what: str) -> list[HeldPacket]:
    """Let go whatever is trapped, retransmissions too, until something has come of it; all that was trapped."""
    released: list[HeldPacket] = []

    def done() -> bool:
        catcher.turn()
        released.extend(catcher.packets)
        catcher.queues.release([packet.id for packet in catcher.packets], MARK_EXEMPT)
        catcher.packets.clear()
        return true()

    await_that(done, what)
    return released


@pytest.mark.parametrize("destination", [OPEN, OPEN6])
def test_tcp_completes_after_its_first_packets_were_held(network: Network, catcher: Catcher, destination: str) -> None:
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    with network.listen(kind=socket.SOCK_STREAM) as server, network.inside(GATEWAY), socket.socket(family) as client:
        client.setblocking(False)
        client.connect_ex((destination, PORT))
        released = release_until(catcher, lambda: bool(select.select([server], [], [], 0)[0]), "a connection")
        accepted, _ = server.accept()
        for end in (accepted, client):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOTHING_LINGERS)
            end.close()
    assert len(released) >= 2, "SYN and ACK"
    assert {(packet.protocol, packet.destination_port) for packet in released} == {(6, PORT)}


@pytest.mark.parametrize("destination", [OPEN, OPEN6])
def test_ping_completes_after_its_first_packet_was_held(network: Network, catcher: Catcher, destination: str) -> None:
    if ":" in destination:
        family, kind, at, request, reply, checksum = socket.AF_INET6, socket.IPPROTO_ICMPV6, 0, 128, 129, 0
    else:
        family, kind, at, request, reply, checksum = socket.AF_INET, socket.IPPROTO_ICMP, 20, 8, 0, 0xF7FC
    with network.inside(GATEWAY), socket.socket(family, socket.SOCK_RAW, kind) as pinger:
        pinger.sendto(struct.pack("!BBHHH", request, 0, checksum, 1, 2), (destination, 0))

        def answered() -> bool:
            while select.select([pinger], [], [], 0)[0]:
                if pinger.recv(4096)[at] == reply:
                    return True
            return False

        [held] = release_until(catcher, answered, "an answer")
    assert (held.protocol, held.source_port) == (kind, 0)


def test_a_flood_is_drained_64_packets_at_a_turn(network: Network) -> None:
    turns: list[int] = []
    catcher = Catcher(network, on_packet=lambda packet: turns.append(packet.id))
    try:
        for _ in range(150):
            network.send(OPEN)
        counts = []
        while len(turns) < 150:
            before = len(turns)
            catcher.single_turn()
            counts.append(len(turns) - before)
        assert max(counts) == 64
        assert len(catcher.queues) == 150
    finally:
        catcher.close()


def test_a_full_closed_queue_drops_and_a_full_open_one_passes(network: Network, listener: socket.socket) -> None:
    catcher = Catcher(network, max_len=3)
    try:
        for number in range(5):
            network.send(PRIVATE, bytes([number]))
            network.send(OPEN, bytes([number]))
        assert len(catcher.catch(6)) == 6
        assert [hear(listener)[0] for _ in range(2)] == [3, 4]
        assert hears_nothing(listener)
        with network.inside(GATEWAY):
            statistics = catcher.queues.statistics()
        assert statistics[QUEUE_CLOSED].waiting == statistics[QUEUE_OPEN].waiting == 3
        assert statistics[QUEUE_CLOSED].dropped_queue_full == 2
        assert statistics[QUEUE_OPEN].dropped_queue_full == 0
    finally:
        catcher.close()


def test_packets_held_when_the_queues_close_are_dropped(network: Network, listener: socket.socket) -> None:
    catcher = Catcher(network)
    network.send(OPEN)
    catcher.catch(1)
    catcher.close()
    assert hears_nothing(listener)


@pytest.mark.parametrize("destination", [PRIVATE, OPEN])
def test_a_packet_that_cannot_be_read_is_dropped_and_reported(
    network: Network, catcher: Catcher, listener: socket.socket, destination: str
) -> None:
    with network.inside(GATEWAY), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as sender:
        sender.sendto(b"ab", (destination, 0))
    assert catcher.caught_nothing()
    assert len(catcher.malformed) == 1
    assert len(catcher.queues) == 0


def test_a_busy_queue_number_is_named(network: Network, catcher: Catcher) -> None:
    with network.inside(GATEWAY), pytest.raises(MachineLacks, match=f"queue {QUEUE_OPEN} "):
        TrapQueues(closed=QUEUE_CLOSED + 7, open=QUEUE_OPEN, on_packet=print, on_refused=print, on_malformed=print)
    with network.inside(GATEWAY):  # the other number was given back
        TrapQueues(
            closed=QUEUE_CLOSED + 7, open=QUEUE_OPEN + 7, on_packet=print, on_refused=print, on_malformed=print
        ).close()


def test_unserved_clients_are_not_trapped(network: Network, catcher: Catcher, listener: socket.socket) -> None:
    network.send(OPEN, b"foreign", role=CLIENT)
    assert hear(listener) == b"foreign"
    assert catcher.caught_nothing()
