"""The kernel back end where peers are behind a NAT or change their place: ESP in UDP, mappings, moves."""

import asyncio
import errno
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest

from oe.errors import KernelError
from oe.ike.udp import exempt
from oe.ipsec.esp import OutboundEsp
from oe.ipsec.netlink_wire import Message
from oe.ipsec.xfrm import XfrmBackend
from oe.messages import PeerMoved
from oe.model import Address, ChildSa, Directions, Encapsulation, Mode, SocketAddress
from oe.reasons import Reason
from oe.tasks import spawn
from tests.ipsec import traffic
from tests.ipsec.children import CLIENT, FAR_CLIENT, OURS, THEIRS, child, mirrored
from tests.ipsec.ends import (
    ADDRESSES,
    Ends,
    Hosts,
    Watch,
    counters,
    exchange_datagram,
    exchange_everything,
    with_ends,
)
from tests.ipsec.test_xfrm import backend_in, policies, states
from tests.waiting import await_that, until

pytestmark = [pytest.mark.netns, pytest.mark.kernel]

NAT_PORT, FIRST_PORT, SECOND_PORT = 4500, 61000, 62000
ICMP, UDP, NOBODYS = 1, 17, 253
UDP_ENCAP, ESP_IN_UDP = 100, 2
ELSEWHERE = ip_address("10.77.0.3")
NAT = f"""
table ip nat {{
  chain in {{
    type nat hook prerouting priority dstnat
    ip daddr {ELSEWHERE} dnat to {THEIRS}
  }}
}}
"""
"""The peer's packets and ours are translated on their way in, so that ours know it by another address."""


@contextmanager
def decapsulating(address: Address, *ports: int) -> Iterator[None]:
    """In the namespace of the caller: UDP sockets whose ESP the kernel takes out, as those of IKE do."""
    with ExitStack() as stack:
        for port in ports:
            ike = stack.enter_context(socket.socket(traffic.FAMILIES[address.version], socket.SOCK_DGRAM))
            exempt(ike, 0)
            ike.setsockopt(UDP, UDP_ENCAP, ESP_IN_UDP)
            ike.bind((str(address), port))
        yield


@contextmanager
def ike_sockets(hosts: Hosts, version: int) -> Iterator[None]:
    ours, theirs = hosts
    here, there = ADDRESSES[version]
    with ExitStack() as stack:
        with ours.entered():
            stack.enter_context(decapsulating(here, NAT_PORT))
        with theirs.entered():
            stack.enter_context(decapsulating(there, FIRST_PORT, SECOND_PORT))
        yield


def in_udp(version: int, mode: Mode = Mode.TUNNEL) -> ChildSa:
    """A Child SA with a peer whose ESP comes from `FIRST_PORT`."""
    ends = ADDRESSES[version]
    return replace(child(pair=ends, gateways=ends, mode=mode), encapsulation=Encapsulation(NAT_PORT, FIRST_PORT))


def install(ends: Ends, ours: ChildSa) -> None:
    """`Ends.install` knows nothing of ports, which are the other way round at the other end."""
    theirs = mirrored(ours)
    if ours.encapsulation is not None:
        ports = Encapsulation(ours.encapsulation.remote_port, ours.encapsulation.local_port)
        theirs = replace(theirs, encapsulation=ports)
    for host, backend, end in zip(ends.hosts, ends.backends, (ours, theirs), strict=True):
        with host.entered():
            backend.install(end, Directions.BOTH)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("mode", list(Mode))
def test_everything_arrives_as_esp_in_udp(hosts: Hosts, version: int, mode: Mode) -> None:
    async def scenario(ends: Ends) -> None:
        install(ends, in_udp(version, mode=mode))
        await exchange_everything(ends, ADDRESSES[version])
        assert watch.protocols() == {UDP}
        assert ends.events == []

    with ike_sockets(hosts, version), Watch(hosts) as watch:
        with_ends(hosts, XfrmBackend, scenario)


@pytest.mark.parametrize("version", [4, 6])
def test_a_peer_whose_port_changes_is_heard_told_of_and_followed(hosts: Hosts, version: int) -> None:
    pair = ADDRESSES[version]

    async def scenario(ends: Ends) -> None:
        install(ends, in_udp(version))
        await exchange_datagram(hosts, pair, 100)
        ends.backends[1].move(1, pair[0], Encapsulation(SECOND_PORT, NAT_PORT))
        for _ in range(2):  # the answers still go to the old port, which is the peer's as well
            await exchange_datagram(hosts, pair, 100)
        await until(lambda: ends.events, "the peer's move")
        await asyncio.sleep(0.05)  # and no second one
        assert ends.events == [PeerMoved(1, SocketAddress(pair[1], SECOND_PORT))]
        ends.backends[0].move(1, pair[1], Encapsulation(NAT_PORT, SECOND_PORT))
        shown = states(hosts[0])
        assert f"encap type espinudp sport {SECOND_PORT} dport {NAT_PORT}" in shown
        assert f"encap type espinudp sport {NAT_PORT} dport {SECOND_PORT}" in shown
        await exchange_everything(ends, pair)
        assert len(ends.events) == 1
        assert watch.protocols() == {UDP}

    with ike_sockets(hosts, version), Watch(hosts) as watch:
        with_ends(hosts, XfrmBackend, scenario)


async def flood(hosts: Hosts, stop: asyncio.Event) -> None:
    """Packets of a protocol that nobody speaks, without a pause; a refusal for the moment is all right."""
    with hosts[0].call(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, NOBODYS)) as sender:
        sender.setblocking(False)
        sender.bind((str(OURS), 0))
        while not stop.is_set():
            for _ in range(20):
                with _tolerated():
                    sender.sendto(b"flood", (str(THEIRS), 0))
            await asyncio.sleep(0)


def fail(name: str, error: BaseException) -> None:
    raise AssertionError(name) from error


REFUSALS = {errno.EPERM, errno.EAGAIN, errno.ECONNREFUSED, errno.ESRCH, errno.ENOBUFS}
"""The last is what a raw socket says, instead of EAGAIN, when too much of what it sent still waits somewhere: here for
the neighbour at `ELSEWHERE`, whom nobody answers for, and for the other end's turn to receive."""


@contextmanager
def _tolerated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise


def test_a_peer_whose_address_changes_is_followed_and_nothing_begins_anew(hosts: Hosts) -> None:
    pair = ADDRESSES[4]

    async def scenario(ends: Ends) -> None:
        async def totals() -> tuple[int, int]:
            [row] = await counters(ends.backends[0])
            return row.inbound_packets, row.outbound_packets

        install(ends, child())
        await exchange_datagram(hosts, pair, 100)
        hosts[1].sh(f"ip addr add {ELSEWHERE}/24 dev cable")
        hosts[1].call(lambda: subprocess.run(["nft", "-f", "-"], input=NAT, text=True, check=True))
        ends.backends[0].move(1, ELSEWHERE, None)
        assert await totals() == (1, 1)
        await exchange_datagram(hosts, pair, 100)
        assert await totals() == (2, 2)
        assert policies(hosts[0]).count(f"src {OURS} dst {ELSEWHERE}") == 1
        assert policies(hosts[0]).count(f"src {ELSEWHERE} dst {OURS}") == 2
        copy = OutboundEsp(mirrored(child()).outbound, esn=True).seal(bytes([0x45]) + bytes(19))
        assert isinstance(copy, bytes)
        with hosts[1].entered(), socket.socket(socket.AF_INET, socket.SOCK_RAW, traffic.ESP) as attacker:
            exempt(attacker, 0)
            attacker.sendto(copy, (str(OURS), 0))
        await_that(lambda: hosts[0].call(ends.backends[0].statistics), "a drop")
        assert hosts[0].call(ends.backends[0].statistics) == {Reason.ESP_REPLAYED: 1}
        assert watch.protocols() == {traffic.ESP}

    with Watch(hosts) as watch:
        with_ends(hosts, XfrmBackend, scenario)


def test_nothing_leaves_in_clear_during_moves(hosts: Hosts) -> None:
    async def scenario(ends: Ends) -> None:
        install(ends, child())
        stop = asyncio.Event()
        flooding = spawn(flood(hosts, stop), "flood", fail)
        await asyncio.sleep(0.05)
        ports = Encapsulation(NAT_PORT, FIRST_PORT)
        for place in [(ELSEWHERE, None), (ELSEWHERE, ports), (THEIRS, ports), (THEIRS, None)] * 5:
            ends.backends[0].move(1, *place)
            await asyncio.sleep(0.005)
        stop.set()
        await flooding
        assert states(hosts[0]).count("proto esp") == 2
        assert watch.protocols() <= {traffic.ESP, UDP, ICMP}
        assert ends.events == []
        await exchange_datagram(hosts, ADDRESSES[4], 100)

    with Watch(hosts) as watch:
        with_ends(hosts, XfrmBackend, scenario)


def test_a_move_that_the_kernel_refuses_leaves_no_way_out(hosts: Hosts) -> None:
    ours, _theirs = hosts
    with backend_in(ours) as backend:
        backend.install(child(1), Directions.BOTH)
        # A foreign SA is where the moved one would have to be.
        ours.sh(
            f"ip xfrm state add src {OURS} dst {ELSEWHERE} proto esp spi 0x2002 mode tunnel "
            f"aead rfc4106(gcm(aes)) 0x{'00' * 20} 128"
        )
        with pytest.raises(KernelError, match="replace SA") as refusal:
            backend.move(1, ELSEWHERE, None)
        assert refusal.value.errno == errno.EEXIST
        assert "action block" in policies(ours)
        backend.remove(1)
        assert policies(ours).count("proto esp") == 0
    assert "proto esp" in states(ours)


def test_a_move_of_which_the_kernels_news_are_lost_leaves_no_way_out(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overrun() -> list[Message]:
        raise OSError(errno.ENOBUFS, "")

    ours, _theirs = hosts
    with backend_in(ours) as backend:
        backend.install(child(1), Directions.BOTH)
        monkeypatch.setattr(backend._obituaries, "receive", overrun)
        with pytest.raises(KernelError, match="replace SA"):
            backend.move(1, ELSEWHERE, None)
        assert "action block" in policies(ours)
        assert states(ours) == ""


def test_who_is_not_there_does_not_move(hosts: Hosts) -> None:
    with backend_in(hosts[0]) as backend:
        backend.install(child(2, pair=(CLIENT, FAR_CLIENT)), Directions.INBOUND)
        backend.move(1, ELSEWHERE, None)
        backend.move(2, ELSEWHERE, None)
        assert f"src {ELSEWHERE} dst {OURS} proto esp spi 0x00001001" in states(hosts[0])
        assert states(hosts[0]).count("proto esp") == 1
