"""The sockets of IKE, on loopback with ports of its own."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from oe.errors import MachineLacks
from oe.ike.udp import TURN, UdpSockets
from oe.messages import DatagramReceived, KeepMapping, SendDatagram
from oe.model import SocketAddress
from tests.ports import free_ports
from tests.waiting import PATIENCE, until


class Inbox:
    """Collects datagrams and lets a test wait for them."""

    def __init__(self) -> None:
        self.datagrams: list[DatagramReceived] = []
        self._more = asyncio.Event()

    def __call__(self, datagram: DatagramReceived) -> None:
        self.datagrams.append(datagram)
        self._more.set()

    async def wait_for(self, number: int) -> list[DatagramReceived]:
        async with asyncio.timeout(PATIENCE):
            while len(self.datagrams) < number:
                self._more.clear()
                await self._more.wait()
        return self.datagrams


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[UdpSockets, Inbox]]:
    inbox = Inbox()
    port, nat_port = free_ports(2)
    sockets = UdpSockets(inbox, mark=None, port=port, nat_port=nat_port)
    sockets.open(asyncio.get_running_loop())
    try:
        yield sockets, inbox
    finally:
        sockets.close()


def run(test: Callable[[UdpSockets, Inbox], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened() as (sockets, inbox):
            await test(sockets, inbox)

    asyncio.run(main())


@pytest.mark.parametrize(("local", "remote"), [("127.0.0.5", "127.0.0.6"), ("::1", "::1")])
@pytest.mark.parametrize("which", ["port", "nat_port"])
def test_a_datagram_leaves_from_and_arrives_at_the_address_that_is_named(local: str, remote: str, which: str) -> None:
    async def test(sockets: UdpSockets, inbox: Inbox) -> None:
        port = getattr(sockets, which)
        ours, theirs = SocketAddress(ip_address(local), port), SocketAddress(ip_address(remote), port)
        sockets.send(SendDatagram(ours, theirs, b"x" * 3000))
        assert await inbox.wait_for(1) == [DatagramReceived(theirs, ours, b"x" * 3000)]
        assert not sockets.failures

    run(test)


def test_only_what_has_the_marker_is_ike_on_the_nat_port() -> None:
    async def test(sockets: UdpSockets, inbox: Inbox) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for data in (b"\xff", b"\x00\x00\x00\x07esp", b"\x00\x00\x00\x00ike"):
                peer.sendto(data, ("127.0.0.1", sockets.nat_port))
            assert [datagram.data for datagram in await inbox.wait_for(1)] == [b"ike"]
            # Not always one processor carries all of them, in the order in which they were sent.
            await until(lambda: sockets.failures, "the failure")
        assert sockets.failures == {"not-ike": 1}

    run(test)


@pytest.mark.parametrize("text", ["127.0.0.1", "::1"])
def test_esp_goes_and_comes_beside_ike(text: str) -> None:
    async def test(sockets: UdpSockets, inbox: Inbox) -> None:
        arrived: list[tuple[SocketAddress, SocketAddress, bytes]] = []
        sockets.deliver_esp(lambda local, remote, esp: arrived.append((local, remote, esp)))
        here = SocketAddress(ip_address(text), sockets.nat_port)
        send = sockets.carrier(here, here)
        for esp in (b"\x00\x00\x10\x01esp", b"", b"\xff", b"\x00\x00\x10\x02esp"):
            assert send(esp)
        sockets.send(SendDatagram(here, here, b"ike"))
        assert [datagram.data for datagram in await inbox.wait_for(1)] == [b"ike"]
        await until(lambda: len(arrived) >= 3, "all three")
        assert [(local, remote) for local, remote, _ in arrived] == [(here, here)] * 3
        assert {esp for _, _, esp in arrived} == {b"\x00\x00\x10\x01esp", b"", b"\x00\x00\x10\x02esp"}

    run(test)


def test_what_carries_esp_outlives_the_sockets_harmlessly() -> None:
    async def test(sockets: UdpSockets, _: Inbox) -> None:
        here = SocketAddress(ip_address("127.0.0.1"), sockets.nat_port)
        send = sockets.carrier(here, here)
        nowhere = sockets.carrier(SocketAddress(ip_address("203.0.113.77"), sockets.nat_port), here)
        assert not nowhere(b"esp from an address that is not ours")
        sockets.close()
        assert not send(b"esp")

    run(test)


def test_a_keepalive_goes_where_nothing_else_went() -> None:
    async def test(sockets: UdpSockets, _: Inbox) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            peer.settimeout(PATIENCE)
            here = SocketAddress(ip_address("127.0.0.1"), sockets.nat_port)
            there = SocketAddress(ip_address("127.0.0.1"), peer.getsockname()[1])
            keep, esp = KeepMapping(here, there), sockets.carrier(here, there)
            sockets.keep_mapping(keep)  # Nobody knows yet what went before.
            for keepalive in [b"\xff"] * 2:
                sockets.keep_mapping(keep)
                assert peer.recv(100) == keepalive
            esp(b"esp")
            assert peer.recv(100) == b"esp"
            sockets.keep_mapping(keep)
            sockets.send(SendDatagram(here, there, b"ike"))
            assert peer.recv(100) == b"\0\0\0\0ike"
            sockets.keep_mapping(keep)
            sockets.keep_mapping(keep)
            assert peer.recv(100) == b"\xff"

    run(test)


def test_the_memory_for_mappings_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oe.ike.udp.MOST_MAPPINGS", 3)

    async def test(sockets: UdpSockets, _: Inbox) -> None:
        here = SocketAddress(ip_address("127.0.0.1"), sockets.nat_port)
        for port in range(1, 20):
            sockets.keep_mapping(KeepMapping(here, SocketAddress(here.address, port)))
        assert len(sockets._quiet) <= 3

    run(test)


def test_the_marker_is_on_the_wire() -> None:
    async def test(sockets: UdpSockets, inbox: Inbox) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            there = SocketAddress(ip_address("127.0.0.1"), peer.getsockname()[1])
            for port, expected in ((sockets.port, b"ike"), (sockets.nat_port, b"\0\0\0\0ike")):
                sockets.send(SendDatagram(SocketAddress(ip_address("127.0.0.1"), port), there, b"ike"))
                assert peer.recv(100) == expected
        assert not inbox.datagrams

    run(test)


def test_an_icmp_error_or_an_unreachable_network_is_counted_and_forgotten() -> None:
    async def test(sockets: UdpSockets, inbox: Inbox) -> None:
        here = SocketAddress(ip_address("127.0.0.1"), sockets.port)
        nobody = SocketAddress(ip_address("127.0.0.1"), free_ports(1)[0])
        for _ in range(3):
            sockets.send(SendDatagram(here, nobody, b"?"))
            await asyncio.sleep(0)
        not_ours = SocketAddress(ip_address("203.0.113.77"), sockets.port)
        sockets.send(SendDatagram(not_ours, here, b"?"))
        sockets.send(SendDatagram(SocketAddress(ip_address("127.0.0.1"), 1), here, b"?"))
        sockets.send(SendDatagram(here, here, b"still there"))
        assert [datagram.data for datagram in await inbox.wait_for(1)] == [b"still there"]
        assert sockets.failures["no-socket"] == 1
        assert sum(sockets.failures.values()) >= 2

    run(test)


def test_a_flood_does_not_keep_the_event_loop() -> None:
    """Each datagram takes half a turn to work on: after three of them others have their turn."""

    async def main() -> None:
        times, turns = [0.0], []
        port, nat_port = free_ports(2)

        def received(_: DatagramReceived) -> None:
            times.append(times[-1] + TURN / 2)

        sockets = UdpSockets(received, mark=None, port=port, nat_port=nat_port, clock=lambda: times[-1])
        sockets.open(asyncio.get_running_loop())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for _ in range(10):
                peer.sendto(b"flood", ("127.0.0.1", port))
        while len(times) < 11:
            before = len(times)
            await asyncio.sleep(0)
            turns.append(len(times) - before)
        sockets.close()
        assert max(turns) <= 3

    asyncio.run(main())


def test_a_taken_port_is_said_with_its_remedy_and_nothing_stays_open() -> None:
    async def test(sockets: UdpSockets, _: Inbox) -> None:
        free = free_ports(1)[0]
        second = UdpSockets(lambda _: None, mark=None, port=free, nat_port=sockets.port)
        with pytest.raises(MachineLacks) as caught:
            second.open(asyncio.get_running_loop())
        assert str(sockets.port) in caught.value.missing
        assert "ss -ulpn" in caught.value.remedy
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", free))

    run(test)


def test_closing_twice_is_closing() -> None:
    async def test(sockets: UdpSockets, _: Inbox) -> None:
        sockets.close()
        sockets.close()
        here = SocketAddress(ip_address("127.0.0.1"), sockets.port)
        sockets.send(SendDatagram(here, here, b"?"))
        assert sockets.failures == {"no-socket": 1}

    run(test)


@pytest.mark.skipif(os.geteuid() != 0, reason="a mark needs CAP_NET_ADMIN")
def test_marked_sockets_work_like_others() -> None:
    async def main() -> None:
        inbox = Inbox()
        port, nat_port = free_ports(2)
        sockets = UdpSockets(inbox, mark=0x10000, port=port, nat_port=nat_port)
        sockets.open(asyncio.get_running_loop())
        for text in ("127.0.0.1", "::1"):
            here = SocketAddress(ip_address(text), port)
            sockets.send(SendDatagram(here, here, b"marked"))
        assert len(await inbox.wait_for(2)) == 2
        sockets.close()

    asyncio.run(main())
