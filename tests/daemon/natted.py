"""Two gateways around a masquerading router: engine, sockets and back end are the product's own.

What decides on peers is played: everybody may have what it asks for.
"""

import asyncio
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from functools import partial
from ipaddress import ip_address
from itertools import count
from os import urandom
from pathlib import Path

from oe.ike.endpoint import Endpoint
from oe.ike.settings import IkeSettings
from oe.ike.udp import UdpSockets
from oe.ipsec.model import Backend, BackendEvent, Marks
from oe.messages import (
    ChildInstalled,
    KeepMapping,
    OctetsSigned,
    PeerMoved,
    ReserveSpi,
    SendDatagram,
    SignOctets,
    SpiReserved,
)
from oe.model import Address, ChildSa, Directions, Encapsulation, HostPair, Identity, SocketAddress
from oe.negotiation import ChildMoved, ChildReady, IkeInput, IkeOutput, JudgePeer, Negotiate, PeerJudged
from tests.ike.world import private_key, public_key, sign
from tests.ipsec import traffic
from tests.ipsec.ends import MARK_ALL, exchange_datagram, in_host
from tests.ipsec.netns import Namespace
from tests.waiting import PATIENCE

UDP = 17
SHORT = 0.5
"""Seconds to wait for what may be lost."""
ADDRESSES = {
    4: tuple(map(ip_address, ("10.77.0.1", "10.88.0.2"))),
    6: tuple(map(ip_address, ("fd77::1", "fd88::2"))),
}
MASQUERADE = """
table inet nat {
  chain post {
    type nat hook postrouting priority srcnat
    oifname "outside" masquerade
  }
}
"""


class Net:
    """inner ── cable ── router, which masquerades ── cable ── outer"""

    def __init__(self, stack: ExitStack) -> None:
        self.inner, self.router, self.outer = (stack.enter_context(closing(Namespace())) for _ in range(3))
        self.router.sh(
            f"ip link add name inside type veth peer name cable netns {self.inner.path}",
            f"ip link add name outside type veth peer name cable netns {self.outer.path}",
        )
        for host, device, net, number in (
            (self.inner, "cable", 77, 1),
            (self.router, "inside", 77, 254),
            (self.router, "outside", 88, 254),
            (self.outer, "cable", 88, 2),
        ):
            host.sh(
                f"ip addr add 10.{net}.0.{number}/24 dev {device}",
                f"ip addr add fd{net}::{number}/64 dev {device} nodad",
                f"ip link set {device} up",
            )
        # What the outer one has no address for goes nowhere: only the NAT's own addresses are known there.
        for route in ("default via 10.77.0.254", "default via fd77::254"):
            self.inner.sh(f"ip route add {route}")
        self.outer.sh("ip route add 10.77.0.1/32 dev cable", "ip route add fd77::1/128 dev cable")
        self.router.call(self._forward)

    @staticmethod
    def _forward() -> None:
        for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            Path("/proc/sys/net", switch).write_text("1")
        subprocess.run(["nft", "-f", "-"], input=MASQUERADE, text=True, check=True)

    def move_nat(self, version: int) -> None:
        """The router has another address; what it knew of connections is void."""
        old, new = ("10.88.0.254/24", "10.88.0.253/24") if version == 4 else ("fd88::254/64", "fd88::253/64 nodad")
        self.router.sh(f"ip addr del {old} dev outside", f"ip addr add dev outside {new}")


class Station:
    """A gateway in a namespace, without policy."""

    def __init__(self, host: Namespace, own: Address, number: int, make: Callable[[], Backend]) -> None:
        self.host, self.own = host, own
        self.private = private_key("ed25519", number)
        self.children: list[ChildSa] = []
        self.moves: list[ChildMoved] = []
        self.peer: Station = self
        self.ready = asyncio.Event()
        """A Child SA is in place, both halves."""
        self._loop = asyncio.get_running_loop()
        self._tickets = count(1)
        self.key = public_key(self.private)
        settings = IkeSettings(nat_keepalive=0.2)
        self.endpoint = Endpoint(settings, (self.key,), urandom, lambda _: True, self._tickets, count(1), None)
        with host.entered():
            self.sockets = UdpSockets(self.feed, mark=Marks().exempt)
            self.sockets.open(self._loop)
            self.backend = make()
            self.backend.join(self.sockets)
            self.backend.start(self._loop, self._happened)
            if self.backend.tunnel_interface is not None:
                subprocess.run(["nft", "-f", "-"], input=MARK_ALL % Marks().shield_closed, text=True, check=True)

    def close(self) -> None:
        with self.host.entered():
            self.backend.close()
            self.sockets.close()

    def negotiate(self) -> None:
        local, remote = SocketAddress(self.own, 500), SocketAddress(self.peer.own, 500)
        pair = HostPair(self.own, self.peer.own)
        identities = Identity.of(self.own), Identity.of(self.peer.own)
        deadline = self._loop.time() + PATIENCE
        self.feed(Negotiate(next(self._tickets), pair, local, remote, *identities, (self.peer.key,), False, deadline))

    def _happened(self, event: BackendEvent) -> None:
        if isinstance(event, PeerMoved):
            self.feed(event)

    def feed(self, event: IkeInput) -> None:
        self.endpoint.handle(event, self._loop.time())
        self._work()

    def _work(self) -> None:
        while outputs := self.endpoint.take():
            for output in outputs:
                self._carry_out(output)
        if (at := self.endpoint.deadline()) is not None:
            self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self.endpoint.expire(self._loop.time())
        self._work()

    def _carry_out(self, output: IkeOutput) -> None:
        now = self._loop.time()
        match output:
            case SendDatagram():
                self.sockets.send(output)
            case KeepMapping():
                self.sockets.keep_mapping(output)
            case SignOctets(ticket, _, scheme, octets):
                self.endpoint.handle(OctetsSigned(ticket, sign(self.private, scheme, octets)), now)
            case ReserveSpi(ticket, local, remote):
                self.endpoint.handle(SpiReserved(ticket, self.backend.reserve_spi(local, remote)), now)
            case JudgePeer(ticket):
                self.endpoint.handle(PeerJudged(ticket, (self.peer.key,), None), now)
            case ChildReady(ticket, child, directions):
                with self.host.entered():
                    self.backend.install(child, directions)
                self.children.append(child)
                if directions is not Directions.INBOUND:
                    self.ready.set()
                self.endpoint.handle(ChildInstalled(ticket, child.id, directions), now)
            case ChildMoved(child, remote, encapsulation):
                self.moves.append(output)
                self.backend.move(child, remote, encapsulation)


async def stream(hosts: tuple[Namespace, Namespace], pair: tuple[Address, Address]) -> None:
    """Some TCP, in packets as large as they may be."""
    (ours, theirs), data = hosts, bytes(range(256)) * 2048
    with theirs.call(partial(traffic.listening, pair[1], socket.SOCK_STREAM)) as server:
        received = theirs.submit(partial(traffic.take_stream, server))
        await in_host(ours, partial(traffic.send_stream, *pair, data))
        assert await asyncio.wrap_future(received) == data


def opened(address: Address, port: int) -> socket.socket:
    sock = socket.socket(traffic.FAMILIES[address.version], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind((str(address), port))
    return sock


async def exchange_somehow(hosts: tuple[Namespace, Namespace], pair: tuple[Address, Address], size: int) -> None:
    """A datagram there and its copy back, at last: each may leave before its way is known, be refused while its SA is
    replaced, or be late."""
    (ours, theirs), data, loop = hosts, bytes(size), asyncio.get_running_loop()
    with (
        ours.call(partial(opened, pair[0], 0)) as client,
        theirs.call(partial(opened, pair[1], traffic.PORT)) as server,
    ):

        def echo() -> None:
            with suppress(PermissionError, BlockingIOError):
                server.sendto(*server.recvfrom(65535))

        def answered() -> None:
            loop.remove_reader(client)
            answer.set_result(client.recv(65535))

        answer: asyncio.Future[bytes] = loop.create_future()
        loop.add_reader(server, echo)
        loop.add_reader(client, answered)
        try:
            while not answer.done():
                with suppress(PermissionError):
                    client.sendto(data, (str(pair[1]), traffic.PORT))
                await asyncio.wait({answer}, timeout=SHORT)
            assert answer.result() == data
        finally:
            loop.remove_reader(server)
            loop.remove_reader(client)


def go_through_a_nat_that_moves(net: Net, version: int, make: Callable[[], Backend]) -> None:
    """Everything arrives, as UDP alone, before and after the NAT has another address."""
    hosts, pair = (net.inner, net.outer), (ADDRESSES[version][0], ADDRESSES[version][1])

    async def scenario() -> None:
        with ExitStack() as stack:
            inner, outer = (
                stack.enter_context(closing(Station(host, own, number, make)))
                for number, (host, own) in enumerate(zip(hosts, pair, strict=True))
            )
            inner.peer, outer.peer = outer, inner
            watch = stack.enter_context(net.outer.call(traffic.capture))
            inner.negotiate()
            async with asyncio.timeout(PATIENCE):
                await inner.ready.wait()
                await outer.ready.wait()
            assert inner.children[0].encapsulation == Encapsulation(4500, 4500)
            assert outer.children[0].encapsulation is not None
            assert outer.children[0].remote == ip_address("10.88.0.254" if version == 4 else "fd88::254")
            for size in (0, 1200, 3000, 20000):
                await exchange_datagram(hosts, pair, size, PATIENCE)
            await stream(hosts, pair)
            assert set(watch.protocols()) == {UDP}

            # A new mapping, and ESP is the first to tell of it.
            net.move_nat(version)
            async with asyncio.timeout(PATIENCE):
                # The router takes its time to forget.
                while not outer.moves:
                    await exchange_somehow(hosts, pair, 1200)
                await exchange_somehow(hosts, pair, 1200)
            moved = ip_address("10.88.0.253" if version == 4 else "fd88::253")
            assert {move.remote for move in outer.moves} == {moved}
            assert inner.moves == []
            assert set(watch.protocols()) == {UDP}

    asyncio.run(scenario())
