"""The model does what the real kernels do; `tests/trap`, `tests/ipsec` and `tests/leak` say so of those."""

from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from random import Random

import pytest

from oe.ipsec.model import BackendName
from oe.model import (
    ChildSa,
    Directions,
    Encapsulation,
    EspCipher,
    EspSa,
    Group,
    HostPair,
    Mode,
    Secret,
    SocketAddress,
    Verdict,
)
from oe.policy.groups import Entry, PolicySet
from tests.simulation.clock import Clock
from tests.simulation.frames import Esp, Frame, Packet
from tests.simulation.kernel import PACKET_OCTETS, Fell, Kernel

OURS, PEER = ip_address("192.0.2.1"), ip_address("198.51.100.1")
PAIR = HostPair(OURS, PEER)
THERE = SocketAddress(PEER, 0)


@dataclass
class Outside:
    """Remembers what the kernel says."""

    sent: list[Frame] = field(default_factory=list)
    trap: list[Packet] = field(default_factory=list)
    called: list[Packet] = field(default_factory=list)
    inside: list[Packet] = field(default_factory=list)
    over: list[tuple[int, bool]] = field(default_factory=list)
    roamed: list[tuple[int, SocketAddress]] = field(default_factory=list)
    lost: list[Fell] = field(default_factory=list)

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)

    def trapped(self, packet: Packet) -> None:
        self.trap.append(packet)

    def refused_in_clear(self, packet: Packet) -> None:
        self.called.append(packet)

    def deliver(self, packet: Packet) -> None:
        self.inside.append(packet)

    def expired(self, child: int, *, hard: bool) -> None:
        self.over.append((child, hard))

    def moved(self, child: int, remote: SocketAddress) -> None:
        self.roamed.append((child, remote))

    def fell(self, packet: Packet, why: Fell) -> None:
        self.lost.append(why)


class Bench:
    """A kernel with a daemon, for one pair of a group."""

    def __init__(self, backend: BackendName, group: Group) -> None:
        self.clock, self.outside = Clock(), Outside()
        net = ip_network("198.51.100.0/24")
        policies = PolicySet.of([Entry(net, group, str(group), 1, str(net))])[0]
        self.kernel = Kernel(self.clock, backend, policies, Random(0), self.outside)
        self.kernel.daemon_starts()

    def packet(self, id: int = 1) -> Packet:
        packet = Packet(id, PAIR)
        self.kernel.output(packet)
        return packet

    def decide(self, verdict: Verdict, lifetime: float = 100.0) -> None:
        self.kernel.decide(PAIR, verdict, lifetime, fail_closed=True)


@pytest.fixture(params=list(BackendName))
def backend(request: pytest.FixtureRequest) -> BackendName:
    return BackendName(request.param)


def child(id: int, lifetime: float = 50.0) -> ChildSa:
    ours, theirs = (
        EspSa(base + id, EspCipher.AES_GCM_16_256, Secret(bytes([base >> 8, id]))) for base in (0x1000, 0x2000)
    )
    return ChildSa(id, PAIR, OURS, PEER, ours, theirs, True, Mode.TUNNEL, None, lifetime, True)


def esp(id: int = 1, sequence: int = 1, pair: HostPair = PAIR.reversed) -> Esp:
    return Esp(0x1000 + id, bytes([0x10, id]), sequence, Packet(9, pair))


def test_an_undecided_packet_is_trapped_or_falls_with_the_queue(backend: BackendName) -> None:
    bench = Bench(backend, Group.PRIVATE)
    assert bench.outside.trap == [bench.packet()]
    bench.kernel.daemon_died()
    bench.packet()
    assert bench.outside.lost == [Fell.UNQUEUED]
    open = Bench(backend, Group.PRIVATE_OR_CLEAR)
    open.kernel.daemon_died()
    assert open.packet() == open.outside.sent[0].load


def test_decisions_count_until_their_time_is_over(backend: BackendName) -> None:
    bench = Bench(backend, Group.PRIVATE_OR_CLEAR)
    bench.decide(Verdict.BLOCKED, 5.0)
    bench.packet()
    assert bench.outside.lost == [Fell.REFUSED]
    bench.decide(Verdict.CLEAR, 5.0)
    bench.packet()
    assert len(bench.outside.sent) == 1
    bench.clock.run(bench.clock.now + 5.0)
    bench.packet()
    assert len(bench.outside.trap) == 1


def test_protected_packets_go_through_the_youngest_sa_and_back_to_the_older(backend: BackendName) -> None:
    bench = Bench(backend, Group.PRIVATE)
    for id in (1, 2):
        bench.kernel.install(child(id), Directions.BOTH)
    bench.decide(Verdict.PROTECTED)
    bench.packet()
    bench.kernel.remove(2)
    bench.packet()
    assert [frame.load.spi for frame in bench.outside.sent if isinstance(frame.load, Esp)] == [0x2002, 0x2001]
    bench.kernel.remove(1)
    bench.packet()
    assert bench.outside.lost == [Fell.FLOOR if backend is BackendName.XFRM else Fell.NO_SA]


def test_an_expired_sa_swallows_packets_and_is_told_once(backend: BackendName) -> None:
    bench = Bench(backend, Group.PRIVATE)
    bench.kernel.install(child(1, 20.0), Directions.BOTH)
    bench.decide(Verdict.PROTECTED)
    bench.clock.run(bench.clock.now + 30.0)
    bench.packet()
    bench.kernel.receive_esp(THERE, OURS, esp())
    assert bench.outside.lost == [Fell.NO_SA, Fell.UNKNOWN_SPI]
    assert bench.outside.over == [(1, True)]


def test_esp_is_taken_in_once_and_for_its_pair_only(backend: BackendName) -> None:
    bench = Bench(backend, Group.PRIVATE)
    bench.kernel.install(child(1), Directions.INBOUND)
    for load in (esp(), esp(), esp(2), esp(sequence=2, pair=PAIR)):
        bench.kernel.receive_esp(THERE, OURS, load)
    assert len(bench.outside.inside) == 1
    assert bench.outside.lost == [Fell.REPLAYED, Fell.UNKNOWN_SPI, Fell.OUTSIDE]


def test_clear_packets_stop_at_the_door_of_a_closed_net(backend: BackendName) -> None:
    bench = Bench(backend, Group.PRIVATE)
    bench.kernel.receive_clear(Packet(1, PAIR.reversed))
    assert bench.outside.lost == [Fell.DOOR]
    assert len(bench.outside.called) == 1


def test_an_inbound_policy_refuses_clear_packets_with_xfrm_alone(backend: BackendName) -> None:
    bench = Bench(backend, Group.PRIVATE_OR_CLEAR)
    bench.kernel.install(child(1), Directions.INBOUND)
    bench.kernel.receive_clear(Packet(1, PAIR.reversed))
    assert bool(bench.outside.inside) is (backend is BackendName.USERSPACE)


def test_the_tunnel_dies_with_the_daemon_in_user_space_alone(backend: BackendName) -> None:
    bench = Bench(backend, Group.PRIVATE)
    bench.kernel.install(child(1), Directions.BOTH)
    bench.decide(Verdict.PROTECTED)
    bench.kernel.daemon_died()
    bench.packet()
    assert bool(bench.outside.sent) is (backend is BackendName.XFRM)
    bench.kernel.daemon_starts()
    assert not bench.kernel.placed
    bench.packet()
    assert len(bench.outside.trap) == 1


def test_an_sa_that_has_carried_much_asks_for_a_successor_once_and_ends(backend: BackendName) -> None:
    bench = Bench(backend, Group.PRIVATE)
    bench.kernel.install(replace(child(1), octets=8 * PACKET_OCTETS), Directions.BOTH)
    bench.decide(Verdict.PROTECTED)
    for id in range(7):
        bench.packet(id)
    assert bench.outside.over == [(1, False)]
    assert [row.outbound_packets for row in bench.kernel.counters()] == [7]
    bench.packet(8)
    bench.packet(9)
    assert bench.outside.over == [(1, False), (1, True)]
    assert bench.outside.lost == [Fell.NO_SA]


def test_esp_in_udp_from_elsewhere_is_told_and_a_move_sends_there(backend: BackendName) -> None:
    bench = Bench(backend, Group.PRIVATE)
    bench.kernel.install(replace(child(1), encapsulation=Encapsulation(4500, 4500)), Directions.BOTH)
    bench.decide(Verdict.PROTECTED)
    elsewhere = SocketAddress(ip_address("198.51.100.77"), 1234)
    bench.kernel.receive_esp(elsewhere, OURS, esp())
    assert bench.outside.roamed == [(1, elsewhere)]
    bench.kernel.move(1, elsewhere.address, Encapsulation(4500, elsewhere.port))
    bench.packet()
    assert bench.outside.sent[0].destination == elsewhere
