"""The userspace back end with ESP in UDP: by which way it sends, and what it tells of a peer that moved."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest

from oe.errors import KernelError
from oe.ipsec.esp import OutboundEsp
from oe.ipsec.model import BackendEvent
from oe.ipsec.userspace import UserspaceBackend
from oe.messages import PeerMoved
from oe.model import ChildCounters, Directions, Encapsulation, Mode, SocketAddress
from oe.reasons import Reason
from tests.ipsec.children import OURS, THEIRS, child, mirrored
from tests.ipsec.netns import Namespace
from tests.ipsec.standing import StandingLoop, counted

pytestmark = pytest.mark.netns

HERE, THERE = SocketAddress(OURS, 4500), SocketAddress(THEIRS, 61000)
NATTED = replace(child(), encapsulation=Encapsulation(4500, 61000))
INNER = bytes.fromhex("450000140000000040fd0000") + THEIRS.packed + OURS.packed
"""An IPv4 header, theirs to ours, of a protocol that nobody speaks."""


class SoonIsNow(StandingLoop):
    """What is to happen soon happens at once."""

    def call_soon(self, callback: Callable[[], object], /) -> StandingLoop:
        callback()
        return self


class Bench:
    """A back end whose UDP sockets are played."""

    def __init__(self) -> None:
        self.ways: list[tuple[SocketAddress, SocketAddress]] = []
        """What was to carry ESP, from where to where."""
        self.deliver: Callable[[SocketAddress, SocketAddress, bytes], None] = lambda *_: None
        self.events: list[BackendEvent] = []
        self._theirs = OutboundEsp(mirrored(NATTED).outbound, esn=True)
        self.backend = UserspaceBackend()
        self.backend.join(self)
        self._loop = SoonIsNow()
        self.backend.start(self._loop, self.events.append)

    def counted(self) -> tuple[ChildCounters, ...]:
        return counted(self.backend, self._loop)

    def leave_esp_to_kernel(self) -> None:
        raise AssertionError("it is ours")

    def deliver_esp(self, deliver: Callable[[SocketAddress, SocketAddress, bytes], None]) -> None:
        self.deliver = deliver

    def carrier(self, local: SocketAddress, remote: SocketAddress) -> Callable[[bytes], bool]:
        self.ways.append((local, remote))
        return lambda _: True

    def arrives(self, remote: SocketAddress = THERE) -> bytes:
        """The next packet of the peer comes from `remote`."""
        esp = self._theirs.seal(INNER)
        assert isinstance(esp, bytes)
        self.deliver(HERE, remote, esp)
        return esp


@pytest.fixture
def bench(host: Namespace) -> Iterator[Bench]:
    host.sh(f"ip addr add {OURS}/32 dev lo")
    with host.entered():
        made = Bench()
        yield made
        made.backend.close()


def test_esp_goes_between_the_agreed_ports(bench: Bench) -> None:
    bench.backend.install(NATTED, Directions.BOTH)
    assert bench.ways == [(HERE, THERE)]
    bench.arrives()
    assert [row.inbound_packets for row in bench.counted()] == [1]
    assert bench.events == []


def test_a_move_goes_on_where_it_was(bench: Bench) -> None:
    bench.backend.install(NATTED, Directions.BOTH)
    first = bench.arrives()
    elsewhere = SocketAddress(ip_address("10.77.0.9"), 62000)
    bench.backend.move(1, elsewhere.address, Encapsulation(4500, 62000))
    assert bench.ways == [(HERE, THERE), (HERE, elsewhere)]
    bench.arrives(elsewhere)
    bench.deliver(HERE, elsewhere, first)
    assert bench.events == []
    assert bench.backend.statistics() == {Reason.ESP_REPLAYED: 1}
    assert [row.inbound_packets for row in bench.counted()] == [2]


def test_half_a_child_sa_moves_and_an_unknown_one_does_not(bench: Bench) -> None:
    bench.backend.install(NATTED, Directions.INBOUND)
    bench.backend.move(1, OURS, Encapsulation(4500, 62000))
    bench.backend.move(2, OURS, Encapsulation(4500, 62000))
    assert bench.ways == []
    bench.backend.install(replace(NATTED, remote=OURS), Directions.OUTBOUND)
    assert bench.ways == [(HERE, SocketAddress(OURS, 61000))]


def test_a_peer_that_sends_from_elsewhere_is_told_once_for_each_place(bench: Bench) -> None:
    bench.backend.install(NATTED, Directions.BOTH)
    one, other = SocketAddress(THEIRS, 61001), SocketAddress(ip_address("10.77.0.9"), 61000)
    for remote in (THERE, one, one, other, other, THERE, other):
        bench.arrives(remote)
    assert bench.events == [PeerMoved(1, one), PeerMoved(1, other), PeerMoved(1, other)]


def test_what_is_not_genuine_or_not_fresh_tells_nothing(bench: Bench) -> None:
    bench.backend.install(NATTED, Directions.BOTH)
    esp = bench.arrives()
    elsewhere = SocketAddress(THEIRS, 61001)
    stranger = SocketAddress(ip_address("10.77.0.9"), 4500)
    for octets in (esp, esp[:-1] + b"x", b"\0\0\xff\xff" + esp[4:], b"", b"?"):
        bench.deliver(HERE, elsewhere, octets)
    bench.deliver(stranger, elsewhere, esp)
    assert bench.events == []
    assert bench.backend.statistics() == {Reason.ESP_REPLAYED: 2, Reason.ESP_UNKNOWN_SPI: 4}


def test_a_child_sa_without_encapsulation_has_no_mapping_to_move(bench: Bench) -> None:
    bench.backend.install(child(), Directions.BOTH)
    bench.arrives()
    assert bench.events == []
    assert bench.ways == []


def test_what_cannot_be_carried_is_refused_and_changes_nothing(bench: Bench) -> None:
    with pytest.raises(KernelError) as refusal:
        bench.backend.install(replace(NATTED, mode=Mode.TRANSPORT), Directions.BOTH)
    assert refusal.value.errno == errno.EOPNOTSUPP
    assert bench.counted() == ()


def test_without_sockets_for_it_nothing_moves_into_udp(host: Namespace) -> None:
    host.sh(f"ip addr add {OURS}/32 dev lo")
    with host.entered():
        backend = UserspaceBackend()
        backend.start(StandingLoop(), lambda _: None)
        backend.install(child(), Directions.BOTH)
        with pytest.raises(KernelError) as refusal:
            backend.move(1, THEIRS, Encapsulation(4500, 4500))
        assert refusal.value.errno == errno.EOPNOTSUPP
        backend.move(1, ip_address("10.77.0.9"), None)
        backend.close()
