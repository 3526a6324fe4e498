"""The heart of it, on a kernel with ESP: a packet is trapped, SAs and policies go in, it is released, and arrives.

Nobody sends anything twice: what arrives is the very first packet, and the link shows it as ESP.

    client ── gateway ═══ESP═══ peer      trapped at OUTPUT (the gateway's own) and at PREROUTING (the client's)

Transport mode is for the gateway's own packets alone: its ESP runs from the packet's source to its destination, and so
cannot serve anybody behind a gateway.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from netfilterqueue import NetfilterQueue, Packet

from oe.ipsec.xfrm import XfrmBackend
from oe.lab import probes
from oe.lab.probes import Echoes, Probe
from oe.model import MARK_EXEMPT, Address, ChildSa, Directions, Group, HostPair, Interval, Mode, Verdict
from oe.trap.nft import NftTable
from oe.trap.spec import Dropped, TrapSpec
from tests.ipsec.children import child, mirrored
from tests.ipsec.standing import StandingLoop, ignore
from tests.ipsec.traffic import ESP, Capture
from tests.trap.conftest import catcher, network, table
from tests.trap.netns import CLIENT, GATEWAY, PEER, QUEUE_CLOSED, QUEUE_OPEN, Catcher, Network, hears_nothing
from tests.waiting import PATIENCE, await_that

__all__ = ["catcher", "network", "table"]

pytestmark = pytest.mark.kernel

SOURCES = {GATEWAY: {4: "10.2.0.1", 6: "fd02::1"}, CLIENT: {4: "10.1.0.2", 6: "fd01::2"}}
GATEWAYS: dict[int, tuple[Address, Address]] = {
    4: (ip_address("10.2.0.1"), ip_address("10.2.0.2")),
    6: (ip_address("fd02::1"), ip_address("fd02::2")),
}
DESTINATIONS = {
    Group.PRIVATE: {4: "198.18.0.5", 6: "2001:db8::5"},
    Group.PRIVATE_OR_CLEAR: {4: "198.18.1.5", 6: "2001:db8:1::5"},
}
NETS = {
    Group.PRIVATE: ("198.18.0.0/24", "2001:db8::/48"),
    Group.PRIVATE_OR_CLEAR: ("198.18.1.0/24", "2001:db8:1::/48"),
}
PROTOCOLS = {"udp": {4: 17, 6: 17}, "unconnected": {4: 17, 6: 17}, "tcp": {4: 6, 6: 6}, "icmp": {4: 1, 6: 58}}
LIFETIME = 600.0
SYN_TIMER = 1.0
"""Seconds after which TCP repeats its first packet."""
QUIET_STATES = ("0A", "06")
"""TCP_LISTEN and TCP_TIME_WAIT: they send nothing of their own accord."""


def intervals() -> Iterator[Interval]:
    for group, nets in NETS.items():
        for net in map(ip_network, nets):
            yield Interval(net.network_address, net.broadcast_address, group)


SPEC = TrapSpec(
    intervals=tuple(intervals()),
    queue_closed=QUEUE_CLOSED,
    queue_open=QUEUE_OPEN,
    served=(ip_network("10.1.0.0/24"), ip_network("fd01::/64")),
)


@dataclass(frozen=True)
class Case:
    """One flow: who sends, over which version of IP, how, and in which group the other side is."""

    role: str
    version: int
    protocol: str
    group: Group
    mode: Mode = Mode.TUNNEL

    @property
    def pair(self) -> HostPair:
        source = ip_address(SOURCES[self.role][self.version])
        return HostPair(source, ip_address(DESTINATIONS[self.group][self.version]))

    @property
    def child(self) -> ChildSa:
        ends = self.pair.source, self.pair.destination
        return child(pair=ends, gateways=GATEWAYS[self.version] if self.mode is Mode.TUNNEL else ends, mode=self.mode)

    def __str__(self) -> str:
        return f"{self.role}-v{self.version}-{self.protocol}-{self.group}-{self.mode}"


TUNNELS = tuple(
    Case(role, version, protocol, group)
    for role in (GATEWAY, CLIENT)
    for version in (4, 6)
    for protocol in PROTOCOLS
    for group in NETS
)
TRANSPORTS = tuple(replace(case, mode=Mode.TRANSPORT) for case in TUNNELS if case.role == GATEWAY)
CASES = TUNNELS + TRANSPORTS
OUR_OWN = tuple(case for case in CASES if case.role == GATEWAY)


class Hosts:
    """The gateway with table and back end, the peer with its back end and an echo service, and a view of the link."""

    def __init__(self, network: Network, table: NftTable) -> None:
        self.network = network
        self._table = table
        self._stack = ExitStack()
        self._sender = self._stack.enter_context(ThreadPoolExecutor(1))
        self._backends = [self._backend(role) for role in (GATEWAY, PEER)]
        self._captures = [self._capture(GATEWAY, f"to-{PEER}"), self._capture(PEER, f"to-{GATEWAY}")]
        with network.inside(GATEWAY):
            table.install(SPEC)

    def _backend(self, role: str) -> XfrmBackend:
        with self.network.inside(role):
            backend = XfrmBackend()
            backend.start(StandingLoop(), ignore)
        self._stack.callback(backend.close)
        return backend

    def _capture(self, role: str, device: str) -> Capture:
        with self.network.inside(role):
            return self._stack.enter_context(closing(Capture(device)))

    def begin(self, case: Case, patience: float = PATIENCE) -> "Future[Echoes]":
        """Send one packet, or connect, and wait for the answer, in the background."""
        return self._sender.submit(self._talk, case, patience)

    def _talk(self, case: Case, patience: float) -> Echoes:
        with self.network.inside(case.role):
            if case.protocol == "unconnected":
                return unconnected(case, patience)
            ends = str(case.pair.source), str(case.pair.destination)
            return probes.run(Probe(case.protocol, *ends, marker="first", count=1, patience=patience))

    def cover(self, case: Case) -> None:
        """SAs and policies on both ends, then the decision: from now on the pair's packets need not be trapped."""
        for backend, end in zip(self._backends, (case.child, mirrored(case.child)), strict=True):
            backend.install(end, Directions.BOTH)
        self._table.decide(case.pair, Verdict.PROTECTED, LIFETIME, case.group is Group.PRIVATE)

    def seen(self) -> set[int]:
        """IP protocols on the link since the last call."""
        return {protocol for capture in self._captures for protocol in capture.protocols()}

    def dropped(self) -> dict[str, int]:
        return {name: counter.packets for name, counter in self._table.counters().items() if counter.packets}

    def close(self) -> None:
        """Back ends go last: what an open TCP connection repeats without its SAs, the next test would see."""
        try:
            for role in (CLIENT, GATEWAY, PEER):
                await_that(partial(self._is_quiet, role), "the end of all connections")
        finally:
            self._stack.close()

    def _is_quiet(self, role: str) -> bool:
        with self.network.inside(role):
            tables = [Path(f"/proc/thread-self/net/{name}").read_text() for name in ("tcp", "tcp6")]
        lines = [line for table in tables for line in table.splitlines()[1:]]
        return all(line.split()[3] in QUIET_STATES for line in lines)


def unconnected(case: Case, patience: float) -> Echoes:
    """A datagram by `sendto`: its route is looked up for it alone."""
    family = socket.AF_INET if case.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.bind((str(case.pair.source), 0))
        sender.settimeout(patience)
        started = time.time()
        sender.sendto(b"first", (str(case.pair.destination), probes.PORT))
        try:
            answered = int(sender.recv(100) == b"first")
        except TimeoutError:
            answered = 0
        return Echoes(1, answered, 1 - answered, None, "", started, time.time())


@pytest.fixture(scope="module", autouse=True)
def echo(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The lab's echo service at the peer. It answers from the address that was asked, which has to be a real one."""
    network.ip(PEER, *(f"-6 addr add {DESTINATIONS[group][6]}/128 dev lo nodad" for group in NETS))
    ready = tmp_path_factory.mktemp("echo") / "agent"
    with network.inside(PEER):
        server = subprocess.Popen([sys.executable, "-m", "oe.lab.agent", str(ready)])
    try:
        await_that(ready.exists, "the agent")
        yield
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def hosts(network: Network, table: NftTable) -> Iterator[Hosts]:
    with closing(Hosts(network, table)) as hosts:
        yield hosts


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_very_first_packet_arrives_as_esp(hosts: Hosts, catcher: Catcher, case: Case) -> None:
    talk = hosts.begin(case)
    held, *repeated = catcher.catch(1)
    assert (held.pair, held.forwarded) == (case.pair, case.role == CLIENT)
    assert hosts.seen() == set()
    hosts.cover(case)
    catcher.queues.release([held.id], MARK_EXEMPT)
    echoes = talk.result()
    assert (echoes.answered, echoes.error) == (1, "")
    assert hosts.seen() == {ESP}
    assert (echoes.lost == 0 and not repeated and catcher.caught_nothing()) or has_repeated(case, echoes)
    assert hosts.dropped() == {}


def has_repeated(case: Case, echoes: Echoes) -> bool:
    """Whether so much time went by that TCP sent its first packet again."""
    return case.protocol == "tcp" and echoes.ended - echoes.started >= SYN_TIMER


# --- controls: what would happen without the change of mark, and that the tests above would see it ---------------


@contextmanager
def naive_queue(network: Network, number: int) -> Iterator[tuple[NetfilterQueue, list[Packet]]]:
    """A queue whose packets can be released as they came."""
    packets: list[Packet] = []
    with network.inside(GATEWAY):
        queue = NetfilterQueue()
        queue.bind(number, packets.append)
    try:
        yield queue, packets
    finally:
        queue.unbind()


def release_unmarked(hosts: Hosts, case: Case, number: int) -> Echoes:
    with naive_queue(hosts.network, number) as (queue, packets):
        talk = hosts.begin(case, patience=0.5)

        def is_held() -> bool:
            queue.run(False)
            return bool(packets)

        await_that(is_held, "the packet")
        hosts.cover(case)
        packets[0].accept()
        return talk.result()


@pytest.mark.parametrize("case", [case for case in OUR_OWN if case.group is Group.PRIVATE_OR_CLEAR], ids=str)
def test_without_a_changed_mark_our_own_packet_leaks_although_all_is_in_place(hosts: Hosts, case: Case) -> None:
    echoes = release_unmarked(hosts, case, QUEUE_OPEN)
    assert echoes.answered == 0 or has_repeated(case, echoes)
    assert PROTOCOLS[case.protocol][case.version] in hosts.seen()


@pytest.mark.parametrize("case", [case for case in OUR_OWN if case.group is Group.PRIVATE], ids=str)
def test_the_floor_catches_even_that_for_private_nets(hosts: Hosts, case: Case) -> None:
    echoes = release_unmarked(hosts, case, QUEUE_CLOSED)
    assert echoes.answered == 0 or has_repeated(case, echoes)
    assert PROTOCOLS[case.protocol][case.version] not in hosts.seen()
    assert hosts.dropped() == {Dropped.CLEAR_TO_PRIVATE: 1}


@pytest.mark.parametrize("case", [case for case in TUNNELS if case.group is Group.PRIVATE], ids=str)
def test_with_the_decision_but_without_the_sas_nothing_leaves_for_private_nets(
    hosts: Hosts, catcher: Catcher, network: Network, table: NftTable, case: Case
) -> None:
    table.decide(case.pair, Verdict.PROTECTED, LIFETIME, fail_closed=True)
    with network.listen() as listener:
        network.send(str(case.pair.destination), role=case.role)
        await_that(hosts.dropped, "the drop")
        assert hears_nothing(listener)
    assert hosts.seen() == set()
    assert catcher.caught_nothing()
    assert hosts.dropped() == {Dropped.CLEAR_TO_PRIVATE: 1}
