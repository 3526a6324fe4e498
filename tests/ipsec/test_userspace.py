"""Two userspace back ends on a link: everything arrives, and nothing but ESP is on the wire."""

import asyncio
import errno
from contextlib import closing
from dataclasses import replace

import pytest

from oe.errors import KernelError, MachineLacks
from oe.ipsec.coalesce import Packet
from oe.ipsec.esp import OutboundEsp
from oe.ipsec.esp_socket import EspSocket
from oe.ipsec.model import BackendName, Marks
from oe.ipsec.tun import Tun
from oe.ipsec.userspace import UserspaceBackend
from oe.messages import ChildExpired
from oe.model import Directions, Encapsulation, Mode
from oe.reasons import Reason
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
from tests.ipsec.netns import Namespace
from tests.ipsec.standing import StandingLoop, counted, ignore
from tests.waiting import until

pytestmark = pytest.mark.netns

SHORT = 0.3
"""Seconds to wait for what must not come."""


@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("outer", [4, 6])
def test_everything_arrives_and_only_esp_is_on_the_link(hosts: Hosts, inner: int, outer: int) -> None:
    async def scenario(ends: Ends) -> None:
        ends.install(child(pair=ADDRESSES[inner], gateways=ADDRESSES[outer], esn=inner == 4))
        await exchange_everything(ends, ADDRESSES[inner])
        assert [backend.statistics() for backend in ends.backends] == [{}, {}]
        assert watch.protocols() == {traffic.ESP}

    with Watch(hosts) as watch:
        with_ends(hosts, UserspaceBackend, scenario)


@pytest.mark.parametrize("version", [4, 6])
def test_no_fragment_of_esp_over_ipv4_is_on_the_link(hosts: Hosts, version: int) -> None:
    """TCP learns the tunnel's size; what else is too large is fragmented before it is sealed."""

    async def scenario(ends: Ends) -> None:
        ends.install(child(pair=ADDRESSES[version]))
        await exchange_everything(ends, ADDRESSES[version])
        rows = [row for backend in ends.backends for row in await counters(backend)]
        assert watch.packets() == sum(row.outbound_packets for row in rows)

    with Watch(hosts) as watch:
        with_ends(hosts, UserspaceBackend, scenario)


def test_marked_packets_without_sa_are_dropped_and_counted(hosts: Hosts) -> None:
    async def scenario(ends: Ends) -> None:
        with pytest.raises(TimeoutError):
            await exchange_datagram(hosts, ADDRESSES[4], 100, SHORT)
        await until(ends.backends[0].statistics, "the drop")
        assert ends.backends[0].statistics() == {Reason.NO_OUTBOUND_SA: 1}
        assert watch.protocols() == set()

    with Watch(hosts) as watch:
        with_ends(hosts, UserspaceBackend, scenario)


@pytest.mark.parametrize(
    ("mark", "in_clear"), [(Marks().shield_closed, set()), (Marks().shield_open, {17})], ids=["closed", "open"]
)
def test_a_dead_process_means_what_the_group_means(hosts: Hosts, mark: int, in_clear: set[int]) -> None:
    async def scenario(ends: Ends) -> None:
        ends.install(child())
        await exchange_datagram(hosts, ADDRESSES[4], 100)
        assert watch.protocols() == {traffic.ESP}
        for host in hosts:
            host.sh("ip link delete oe0")  # as the kernel does when the process ends
        if in_clear:
            await exchange_datagram(hosts, ADDRESSES[4], 100)
        else:
            with pytest.raises(OSError):  # noqa: PT011 - refused at once, or nothing comes back
                await exchange_datagram(hosts, ADDRESSES[4], 100, SHORT)
        assert watch.protocols() == in_clear

    with Watch(hosts) as watch:
        with_ends(hosts, UserspaceBackend, scenario, mark)


def test_clients_behind_both_gateways(hosts: Hosts) -> None:
    for host, client, far in zip(hosts, (CLIENT, FAR_CLIENT), (FAR_CLIENT, CLIENT), strict=True):
        host.sh(f"ip addr add {client}/32 dev lo")
        host.sh(f"ip route add {far}/32 via {THEIRS if client is CLIENT else OURS}")

    async def scenario(ends: Ends) -> None:
        ends.install(child(pair=(CLIENT, FAR_CLIENT)))
        await exchange_datagram(hosts, (CLIENT, FAR_CLIENT), 1400)
        assert watch.protocols() == {traffic.ESP}

    with Watch(hosts) as watch:
        with_ends(hosts, UserspaceBackend, scenario)


def test_segments_are_forwarded_to_a_client_as_they_were_sent(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go into the kernel as one large packet, and leave it in pieces, only a hop older."""
    from scapy.layers.inet import IP, TCP

    ours, theirs = hosts
    ip = [IP(src=str(CLIENT), dst=str(FAR_CLIENT), flags="DF", id=7 + number, ttl=64) for number in range(10)]
    tcp = [TCP(flags="A" if number < 9 else "PA", seq=1000 * number) / (bytes([number]) * 1000) for number in range(10)]
    with theirs.entered(), closing(Tun("far0")) as link:
        theirs.sh(f"ip route add {CLIENT} via {OURS}", f"ip route add {FAR_CLIENT} dev far0")
        theirs.sh("sysctl -qw net.ipv4.ip_forward=1")

        async def scenario(ends: Ends) -> None:
            ends.install(child(pair=(CLIENT, FAR_CLIENT)))
            written: list[Packet] = []
            backend = ends.backends[1]
            assert isinstance(backend, UserspaceBackend)
            [inlet] = backend._inlets.values()
            write, receive = backend._tun.write, inlet.socket.receive
            arrived: list[bytes] = []
            together = iter(arrived)

            def all_at_once() -> bytes | None:
                """How many of them are there when the loop looks is chance."""
                arrived.extend(iter(receive, None))
                return next(together, None) if len(arrived) == len(ip) else None

            def noted(packet: Packet) -> bool:
                written.append(packet)
                return write(packet)

            monkeypatch.setattr(inlet.socket, "receive", all_at_once)
            monkeypatch.setattr(backend._tun, "write", noted)
            sealer = OutboundEsp(child().outbound, esn=True)
            with closing(ours.call(lambda: EspSocket(OURS, Marks().exempt))) as sender:
                for one, part in zip(ip, tcp, strict=True):
                    esp = sealer.seal(bytes(one / part))
                    assert isinstance(esp, bytes)
                    assert sender.send(esp, str(THEIRS))
            came: list[bytes] = []

            def have_come() -> bool:
                came.extend(iter(link.read, None))
                return len(came) >= len(ip)

            await until(have_come, "all segments")
            assert len(written) == 1
            for one in ip:
                one.ttl = 63
            assert came == [bytes(one / part) for one, part in zip(ip, tcp, strict=True)]

        with_ends(hosts, UserspaceBackend, scenario)


def test_rekey_moves_traffic_and_removal_moves_it_back(hosts: Hosts) -> None:
    old, new = child(1), child(2, spis=(0x1003, 0x2004))

    async def scenario(ends: Ends) -> None:
        async def sent() -> dict[int, int]:
            return {row.child: row.outbound_packets for row in await counters(ends.backends[0])}

        for one in (old, new):
            ends.install(one)
            await exchange_datagram(hosts, ADDRESSES[4], 10)
        assert await sent() == {1: 1, 2: 1}
        ends.remove(2)
        await exchange_datagram(hosts, ADDRESSES[4], 10)
        assert await sent() == {1: 2}
        ends.install(new)
        ends.remove(1)
        await exchange_datagram(hosts, ADDRESSES[4], 10)
        assert await sent() == {2: 1}

    with_ends(hosts, UserspaceBackend, scenario)


def test_halves_may_come_one_after_the_other(hosts: Hosts) -> None:
    async def scenario(ends: Ends) -> None:
        for direction in (Directions.INBOUND, Directions.OUTBOUND):
            for host, backend, end in zip(hosts, ends.backends, (child(), mirrored(child())), strict=True):
                with host.entered():
                    backend.install(end, direction)
        await exchange_datagram(hosts, ADDRESSES[4], 10)

    with_ends(hosts, UserspaceBackend, scenario)


def test_replayed_forged_and_unknown_esp_is_counted(hosts: Hosts) -> None:
    _ours, theirs = hosts

    async def scenario(ends: Ends) -> None:
        ends.install(child())
        sealed = OutboundEsp(mirrored(child()).outbound, esn=True).seal(inner_packet())
        assert isinstance(sealed, bytes)
        with theirs.entered(), closing(EspSocket(THEIRS, 0x10000)) as attacker:
            for esp in (sealed, sealed):
                assert attacker.send(esp, str(OURS))
            # One was accepted, whichever came first.
            await until(ends.backends[0].statistics, "the drop of the other one")
            for esp in (sealed[:-1] + b"x", b"\0\0\xff\xff" + sealed[4:], b"\x00\x00\x10\x01xx"):
                assert attacker.send(esp, str(OURS))
        await until(lambda: sum(ends.backends[0].statistics().values()) > 3, "four drops")
        assert ends.backends[0].statistics() == {
            Reason.ESP_REPLAYED: 2,
            Reason.ESP_UNKNOWN_SPI: 1,
            Reason.ESP_MALFORMED: 1,
        }

    with_ends(hosts, UserspaceBackend, scenario)


def inner_packet() -> bytes:
    """An IPv4 header, theirs to ours, of a protocol that nobody speaks."""
    return bytes.fromhex("450000140000000040fd0000") + THEIRS.packed + OURS.packed


def test_lifetime_ends_in_one_event_without_a_warning_and_nothing_leaves(hosts: Hosts) -> None:
    async def scenario(ends: Ends) -> None:
        ends.install(child(lifetime=0.05))
        await asyncio.sleep(0.1)
        assert ends.events == [ChildExpired(1, hard=True)] * 2
        assert await counters(ends.backends[0]) == ()
        with pytest.raises(TimeoutError):
            await exchange_datagram(hosts, ADDRESSES[4], 100, SHORT)
        assert watch.protocols() == set()
        ends.remove(1)

    with Watch(hosts) as watch:
        with_ends(hosts, UserspaceBackend, scenario)


def test_shortage_of_sequence_numbers_is_reported(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oe.ipsec.userspace.PACKETS", 4)

    async def scenario(ends: Ends) -> None:
        ends.install(child(esn=False))
        for _ in range(3):
            await exchange_datagram(hosts, ADDRESSES[4], 10)
        assert ends.events == [ChildExpired(1, hard=False)] * 2

    with_ends(hosts, UserspaceBackend, scenario)


def test_octets_are_limited_softly_then_hard_and_then_nothing_leaves(hosts: Hosts) -> None:
    async def scenario(ends: Ends) -> None:
        ends.install(child(octets=4000))
        for _ in range(3):
            await exchange_datagram(hosts, ADDRESSES[4], 972)
        await until(lambda: len(ends.events) > 1, "both warnings")
        assert ends.events == [ChildExpired(1, hard=False)] * 2
        for protocols in ({traffic.ESP}, set()):  # the datagram that fills the measure is the last one
            watch.protocols()
            with pytest.raises(TimeoutError):
                await exchange_datagram(hosts, ADDRESSES[4], 972, SHORT)
            await until(lambda: len(ends.events) > 3, "both ends")
            assert watch.protocols() == protocols
            assert ends.events[2:] == [ChildExpired(1, hard=True)] * 2
        assert [await counters(backend) for backend in ends.backends] == [(), ()]

    with Watch(hosts) as watch:
        with_ends(hosts, UserspaceBackend, scenario)


def test_a_peer_at_another_address_is_followed(hosts: Hosts) -> None:
    elsewhere = THEIRS + 1
    hosts[1].sh(f"ip addr add {elsewhere}/24 dev cable")

    async def scenario(ends: Ends) -> None:
        ends.install(child(1))
        await exchange_datagram(hosts, ADDRESSES[4], 10)
        backend, peer = ends.backends
        with hosts[1].entered():
            peer.remove(1)
            peer.install(replace(mirrored(child(1)), local=elsewhere), Directions.INBOUND)
        backend.move(1, elsewhere, None)
        with pytest.raises(TimeoutError):
            await exchange_datagram(hosts, ADDRESSES[4], 10, SHORT)  # the peer has no way back
        await until(lambda: counted(peer, StandingLoop())[0].inbound_packets, "the datagram")
        rows = [(await counters(backend))[0] for backend in ends.backends]
        assert (rows[0].outbound_packets, rows[1].inbound_packets) == (2, 1)
        with pytest.raises(KernelError) as refusal:
            backend.move(1, THEIRS, Encapsulation(4500, 4500))
        assert refusal.value.errno == errno.EOPNOTSUPP
        backend.move(9, THEIRS, None)

    with_ends(hosts, UserspaceBackend, scenario)


def test_what_cannot_be_carried_is_refused_and_changes_nothing(host: Namespace) -> None:
    host.sh(f"ip addr add {OURS}/32 dev lo")
    loop = StandingLoop()
    with host.entered():
        backend = UserspaceBackend()
        backend.start(loop, ignore)
        for unfit, number in (
            (child(mode=Mode.TRANSPORT), errno.EOPNOTSUPP),
            (replace(child(), encapsulation=Encapsulation(4500, 4500)), errno.EOPNOTSUPP),
            (child(gateways=(THEIRS, OURS)), errno.EADDRNOTAVAIL),
        ):
            with pytest.raises(KernelError) as refusal:
                backend.install(unfit, Directions.BOTH)
            assert refusal.value.errno == number
        backend.install(child(1), Directions.BOTH)
        for again in (child(1), child(2)):
            with pytest.raises(KernelError, match="in use"):
                backend.install(again, Directions.BOTH)
        with pytest.raises(KernelError, match="in place already"):
            backend.install(child(1), Directions.OUTBOUND)
        assert [row.child for row in counted(backend, loop)] == [1]
        backend.remove(2)
        backend.close()
    assert loop.readers == {}


def test_reserved_spis_are_free_legal_and_kept_for_a_while(host: Namespace) -> None:
    numbers = [0, 255, 256, 256, 300, 256]
    loop = StandingLoop()
    with host.entered():
        backend = UserspaceBackend(entropy=lambda count: numbers.pop(0).to_bytes(count, "big"))
        backend.start(loop, ignore)
        assert backend.reserve_spi(OURS, THEIRS) == 256
        assert backend.reserve_spi(OURS, THEIRS) == 300
        loop.now += 31
        assert backend.reserve_spi(OURS, THEIRS) == 256
        backend.close()


def test_the_device_has_one_owner(host: Namespace) -> None:
    with host.entered():
        backend = UserspaceBackend()
        assert (backend.tunnel_interface, backend.name) == ("oe0", BackendName.USERSPACE)
        with pytest.raises(MachineLacks, match="oe0"):
            UserspaceBackend()
        backend.start(StandingLoop(), ignore)
        backend.close()


def test_one_that_was_never_started_can_be_closed(host: Namespace) -> None:
    with host.entered():
        UserspaceBackend().close()
        UserspaceBackend().close()
