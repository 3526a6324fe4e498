"""Packets that are too large for their tunnel: nothing vanishes silently.

    client ──1500── gateway ══1500══ router ══1500 or less══ peer, for a host that it speaks for

What has DF is answered with an ICMP error that names a size that gets through; what has not is fragmented. TCP needs
neither. All nets are `private`, that of the clients too, with trap, floor and guard up; nobody serves the queues: an
error that is trapped is lost.
"""

import errno
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from ipaddress import ip_address, ip_network
from itertools import pairwise

import pytest

from oe.ipsec.xfrm import XfrmBackend
from oe.model import Directions, Group, HostPair, Interval, Verdict
from oe.trap.guard import Guard
from oe.trap.nft import NftTable
from oe.trap.spec import TrapSpec
from tests.ipsec import traffic
from tests.ipsec.children import child, mirrored
from tests.ipsec.ends import Pair
from tests.ipsec.netns import Namespace
from tests.ipsec.standing import StandingLoop, ignore
from tests.waiting import PATIENCE, await_that

pytestmark = pytest.mark.kernel

CLIENT: dict[int, str] = {4: "10.1.0.2", 6: "fd01::2"}
GATEWAY: dict[int, str] = {4: "10.2.0.1", 6: "fd02::1"}
PEER: dict[int, str] = {4: "10.3.0.2", 6: "fd03::2"}
SERVER: dict[int, str] = {4: "198.18.0.5", 6: "2001:db8::5"}
NETS = ("10.0.0.0/8", "fd00::/8", "198.18.0.0/15", "2001:db8::/32")

SIZES = {4: (socket.IPPROTO_IP, 10, 14), 6: (socket.IPPROTO_IPV6, 23, 24)}
"""Level and options IP_MTU_DISCOVER and IP_MTU."""
NEVER, ALWAYS = 0, 2
"""Whether to set DF (IP_PMTUDISC_DONT, _DO)."""
HEADERS = {4: 28, 6: 48}
"""IP and UDP."""


def spec() -> TrapSpec:
    intervals = [Interval(net.network_address, net.broadcast_address, Group.PRIVATE) for net in map(ip_network, NETS)]
    served = (ip_network("10.1.0.0/24"), ip_network("fd01::/64"))
    return TrapSpec(intervals=tuple(intervals), queue_closed=41, queue_open=42, served=served)


class Road:
    """The four hosts, with tunnels from the gateway to the peer."""

    def __init__(self, stack: ExitStack) -> None:
        hosts = [stack.enter_context(closing(Namespace())) for _ in range(4)]
        self.client, self.gateway, self.router, self.peer = hosts
        for number, (left, right) in enumerate(pairwise(hosts), 1):
            near, far = (2, 1) if left is self.client else (1, 2)
            batch(right, f"link add name left type veth peer name right netns {left.path}", *wired("left", number, far))
            batch(left, *wired("right", number, near))
            # Until the kernel has noticed the carrier, what is sent is lost.
            for host, device in ((left, "right"), (right, "left")):
                await_that(partial(is_up, host, device), "carrier")
        for host in hosts[1:]:
            host.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        self.lead("add")
        batch(self.router, "route add 10.1.0.0/24 via 10.2.0.1", "route add fd01::/64 via fd02::1")
        batch(
            self.peer,
            *("route add default via 10.3.0.1", "route add ::/0 via fd03::1"),
            *(f"addr add {SERVER[4]}/32 dev lo", f"addr add {SERVER[6]}/128 dev lo nodad"),
        )
        self._backends = [self._backend(stack, host) for host in (self.gateway, self.peer)]
        with self.gateway.entered():
            self._table = stack.enter_context(closing(NftTable()))
            self._table.install(spec())
            stack.enter_context(closing(Guard(spec())))

    @staticmethod
    def _backend(stack: ExitStack, host: Namespace) -> XfrmBackend:
        with host.entered():
            backend = stack.enter_context(closing(XfrmBackend()))
            backend.start(StandingLoop(), ignore)
        return backend

    def lead(self, verb: str) -> None:
        """Add or delete the routes to the other side; those that are new know of no MTU."""
        batch(self.client, f"route {verb} default via 10.1.0.1", f"route {verb} ::/0 via fd01::1")
        batch(self.gateway, f"route {verb} default via 10.2.0.2", f"route {verb} ::/0 via fd02::2")

    def clear(self, pair: Pair) -> None:
        """Be as before the test."""
        for backend in self._backends:
            backend.remove(1)
        self._table.undecide(HostPair(*pair))
        self.narrow(1500)
        for verb in ("del", "add"):
            self.lead(verb)

    def knows_to_be_narrow(self, outer: int) -> bool:
        """Whether the gateway has learnt what the router knows of the path to the peer."""
        command = ["ip", "route", "get", PEER[outer]]
        with self.gateway.entered():
            return "mtu 1400" in subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def narrow(self, mtu: int) -> None:
        """Let the link before the peer take no more."""
        self.router.sh(f"ip link set right mtu {mtu}")
        self.peer.sh(f"ip link set left mtu {mtu}")

    @contextmanager
    def tunnel(self, source: str, inner: int, outer: int) -> Iterator[Pair]:
        """Cover the pair of that source and the server."""
        pair = (ip_address(source), ip_address(SERVER[inner]))
        one = child(pair=pair, gateways=(ip_address(GATEWAY[outer]), ip_address(PEER[outer])))
        for backend, end in zip(self._backends, (one, mirrored(one)), strict=True):
            backend.install(end, Directions.BOTH)
        self._table.decide(HostPair(*pair), Verdict.PROTECTED, 600.0, fail_closed=True)
        try:
            yield pair
        finally:
            self.clear(pair)

    def dropped(self) -> dict[str, int]:
        return {name: counter.packets for name, counter in self._table.counters().items() if counter.packets}


DEAF = """
table inet deaf {
  chain input {
    type filter hook input priority raw
    icmp type destination-unreachable drop
    icmpv6 type packet-too-big drop
  }
}
"""


@contextmanager
def deaf(host: Namespace) -> Iterator[None]:
    """ICMP errors are lost on their way into a host."""
    load(host, DEAF)
    try:
        yield
    finally:
        load(host, "delete table inet deaf")


def load(host: Namespace, text: str) -> None:
    host.call(partial(subprocess.run, ["nft", "-f", "-"], check=True, text=True, input=text))


def batch(host: Namespace, *commands: str) -> None:
    text = "\n".join(commands)
    host.call(partial(subprocess.run, ["ip", "-batch", "-"], check=True, text=True, input=text))


def is_up(host: Namespace, device: str) -> bool:
    return " state UP " in host.sh(f"ip link show {device}")


def wired(device: str, net: int, last: int) -> tuple[str, ...]:
    return (
        f"addr add 10.{net}.0.{last}/24 dev {device}",
        f"addr add fd0{net}::{last}/64 dev {device} nodad",
        f"link set {device} up",
    )


@pytest.fixture(scope="module")
def road() -> Iterator[Road]:
    with ExitStack() as stack:
        yield Road(stack)


def sender(road: Road, who: str) -> tuple[Namespace, dict[int, str]]:
    return (road.client, CLIENT) if who == "client" else (road.gateway, GATEWAY)


def discover(pair: Pair, size: int, gateway_knows: Callable[[], bool]) -> tuple[int, list[int]]:
    """Send packets with DF, of that size at first and then as small as the errors tell, until one is echoed: the size
    that was, and those told. One is lost on the way: now the gateway knows, and will tell who sends it again."""
    level, discovery, mtu = SIZES[pair[0].version]
    headers = HEADERS[pair[0].version]
    told: list[int] = []
    with socket.socket(traffic.FAMILIES[pair[0].version], socket.SOCK_DGRAM) as client:
        client.bind((str(pair[0]), 0))
        client.setsockopt(level, discovery, ALWAYS)
        client.connect((str(pair[1]), traffic.PORT))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            knew = gateway_knows()
            try:
                client.send(bytes(size - headers))
                while gateway_knows() == knew and time.monotonic() < deadline:
                    if select.select([client], [], [], 0.05)[0]:
                        return len(client.recv(65535)) + headers, told
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                size = client.getsockopt(level, mtu)
                told.append(size)
    return 0, told


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("who", ["client", "gateway"])
def test_with_df_the_sender_learns_a_size_that_gets_through(road: Road, who: str, inner: int, outer: int) -> None:
    """First what the tunnel takes away, then, from the router's error about ESP, what the path does not have."""
    host, addresses = sender(road, who)
    with road.tunnel(addresses[inner], inner, outer) as pair:
        road.narrow(1400)
        overhead = {4: 54, 6: 74}[outer]
        with road.peer.call(partial(traffic.listening, pair[1], socket.SOCK_DGRAM)) as server:
            answered = road.peer.submit(partial(traffic.echo_datagram, server))
            size, told = host.call(partial(discover, pair, 1500, partial(road.knows_to_be_narrow, outer)))
            answered.result()
        assert told == [1500 - overhead, 1400 - overhead]
        assert size == told[-1]
        assert road.dropped() == {}


def ask_without_df(pair: Pair, size: int) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.setsockopt(socket.IPPROTO_IP, SIZES[4][1], NEVER)
        client.bind((str(pair[0]), 0))
        client.sendto(bytes(size), (str(pair[1]), traffic.PORT))
        return len(client.recv(65535))


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("who", ["client", "gateway"])
def test_without_df_everything_arrives_in_fragments(road: Road, who: str, outer: int) -> None:
    host, addresses = sender(road, who)
    with road.tunnel(addresses[4], 4, outer) as pair:
        for size in (1430, 1472, 5000):
            with road.peer.call(partial(traffic.listening, pair[1], socket.SOCK_DGRAM)) as server:
                answered = road.peer.submit(partial(traffic.echo_datagram, server))
                assert host.call(partial(ask_without_df, pair, size)) == size
                answered.result()
        assert road.dropped() == {}


DATA = bytes(range(256)) * 400


def give_and_take(server: socket.socket) -> bytes:
    connection, _ = server.accept()
    with connection:
        connection.settimeout(PATIENCE)
        received = bytearray()
        while len(received) < len(DATA):
            received += connection.recv(1 << 16)
        connection.sendall(DATA)
        return bytes(received)


def take_and_give(pair: Pair) -> bytes:
    with socket.create_connection((str(pair[1]), traffic.PORT), PATIENCE, (str(pair[0]), 0)) as client:
        client.sendall(DATA)
        received = bytearray()
        while octets := client.recv(1 << 16):
            received += octets
        return bytes(received)


def exchange(road: Road, host: Namespace, pair: Pair) -> None:
    with road.peer.call(partial(traffic.listening, pair[1], socket.SOCK_STREAM)) as server:
        received = road.peer.submit(partial(give_and_take, server))
        assert host.call(partial(take_and_give, pair)) == DATA
        assert received.result() == DATA


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("who", ["client", "gateway"])
def test_tcp_of_any_size_works_both_ways(road: Road, who: str, inner: int, outer: int) -> None:
    """The tunnel alone costs no error: segments are small enough from the start. A narrow path does."""
    host, addresses = sender(road, who)
    with road.tunnel(addresses[inner], inner, outer) as pair:
        with deaf(host):
            exchange(road, host, pair)
        road.narrow(1400)
        exchange(road, host, pair)
