"""The kernel back end. What needs real ESP runs in the test kernel; policies, SPIs and rollback run everywhere."""

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

import pytest

from oe.errors import KernelError
from oe.ike.udp import exempt
from oe.ipsec import xfrm_wire as wire
from oe.ipsec.esp_socket import EspSocket
from oe.ipsec.model import BackendEvent
from oe.ipsec.netlink import NETLINK_XFRM, Netlink
from oe.ipsec.operations import RESERVED_REQID, PutPolicy, exemptions
from oe.ipsec.plan import Book
from oe.ipsec.xfrm import XfrmBackend
from oe.messages import ChildExpired
from oe.model import Directions, Encapsulation, Mode, Secret
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
from tests.waiting import PATIENCE, await_that, until

pytestmark = pytest.mark.netns


@contextmanager
def backend_in(host: Namespace, loop: StandingLoop | None = None) -> Iterator[XfrmBackend]:
    """A started back end in a host; the block runs there too."""
    with host.entered():
        backend = XfrmBackend()
        backend.start(loop or StandingLoop(), ignore)
        try:
            yield backend
        finally:
            backend.close()


def policies(host: Namespace) -> str:
    """As `ip` shows them, in one line; kernels without sub-policies show no type."""
    return " ".join(host.sh("ip xfrm policy").replace("ptype main", "").split())


def states(host: Namespace) -> str:
    return " ".join(host.sh("ip xfrm state").split())


def test_neighbour_discovery_passes_while_the_back_end_lives(host: Namespace) -> None:
    with backend_in(host):
        shown = policies(host)
        assert shown.count("src ::/0 dst ::/0 proto ipv6-icmp type") == 8
        for icmp_type in (133, 134, 135, 136):
            for way in ("in", "out"):
                assert f"type {icmp_type} dir {way} priority 2999999" in shown
    assert policies(host) == ""


def test_somebody_elses_exemption_is_good_enough(host: Namespace) -> None:
    host.sh("ip xfrm policy add src ::/0 dst ::/0 proto ipv6-icmp type 135 dir in priority 7")
    with backend_in(host):
        assert policies(host).count("proto ipv6-icmp") == 8
    assert policies(host) == "src ::/0 dst ::/0 proto ipv6-icmp type 135 dir in priority 7"


def test_policies_as_ip_xfrm_shows_them(host: Namespace) -> None:
    operations = Book().plan_install(child(5, pair=(CLIENT, FAR_CLIENT)), Directions.BOTH)
    with host.entered(), closing(Netlink(NETLINK_XFRM)) as netlink:
        for operation in operations:
            if isinstance(operation, PutPolicy):
                netlink.request(wire.NEWPOLICY, wire.encode_policy(operation.policy), "add", "policy")
    shown = policies(host)
    inward = f"src {FAR_CLIENT}/32 dst {CLIENT}/32 dir %s priority 3000000 tmpl src {THEIRS} dst {OURS}"
    for way in ("in", "fwd"):
        assert f"{inward % way} proto esp reqid 1862270982 mode tunnel" in shown
    outward = f"src {CLIENT}/32 dst {FAR_CLIENT}/32 dir out priority 3000000 tmpl src {OURS} dst {THEIRS}"
    assert f"{outward} proto esp spi 0x00002002 reqid 1862270982 mode tunnel" in shown


def test_the_kernel_hands_out_spis(host: Namespace) -> None:
    with backend_in(host) as backend:
        spis = [backend.reserve_spi(OURS, THEIRS) for _ in range(3)]
        assert len(set(spis)) == 3
        assert min(spis) >= 256
        shown = states(host)
        for spi in spis:
            assert f"src {THEIRS} dst {OURS} proto esp spi 0x{spi:08x} reqid {RESERVED_REQID} mode tunnel" in shown
    assert states(host) == ""


@pytest.mark.parametrize("directions", [Directions.INBOUND, Directions.OUTBOUND, Directions.BOTH])
def test_a_refused_installation_leaves_nothing(host: Namespace, directions: Directions) -> None:
    """A key that no AES takes is refused by every kernel, at the first SA or, with `BOTH`, at the last."""
    loop = StandingLoop()
    with backend_in(host, loop) as backend:
        before = policies(host)
        sound = child(spis=(backend.reserve_spi(OURS, THEIRS), 0x2002))
        unsound = replace(sound.outbound, key=Secret(bytes(11)))
        broken = replace(sound, outbound=unsound)
        if directions is Directions.INBOUND:
            broken = replace(sound, inbound=replace(unsound, spi=sound.inbound.spi))
        with pytest.raises(KernelError):
            backend.install(broken, directions)
        assert policies(host) == before
        assert directions is Directions.OUTBOUND or states(host) == ""
        assert counted(backend, loop) == ()


def test_left_overs_of_a_crashed_run_go_and_foreign_ones_stay(host: Namespace) -> None:
    template = f"tmpl src {OURS} dst {THEIRS} proto esp mode tunnel reqid"
    host.sh(f"ip xfrm policy add src {OURS} dst {THEIRS} dir out priority 9 {template} 16389")
    foreign = policies(host)
    host.sh(f"ip xfrm policy add src {OURS} dst {CLIENT} dir out priority 9 {template} {RESERVED_REQID + 77}")
    with host.entered(), closing(Netlink(NETLINK_XFRM)) as netlink:
        netlink.request(wire.NEWPOLICY, wire.encode_policy(exemptions()[0]), "add", "exemption")
        netlink.ask(wire.ALLOCSPI, wire.encode_spi_request(THEIRS, OURS, RESERVED_REQID), "reserve", "SPI")
    with backend_in(host):
        assert states(host) == ""
        assert str(CLIENT) not in policies(host)
        assert policies(host).count("proto ipv6-icmp") == 8
    assert policies(host) == foreign


def test_a_foreign_policy_of_the_pair_is_not_replaced(host: Namespace) -> None:
    host.sh(f"ip xfrm policy add src {OURS} dst {THEIRS} dir out action block priority 1")
    (operation,) = (step for step in Book().plan_install(child(), Directions.OUTBOUND) if isinstance(step, PutPolicy))
    with backend_in(host) as backend:
        with pytest.raises(KernelError) as refusal:
            backend._execute(operation)
        assert refusal.value.errno == errno.EEXIST
    assert policies(host) == f"src {OURS}/32 dst {THEIRS}/32 dir out action block priority 1"


@pytest.mark.parametrize("version", [4, 6])
def test_an_exempt_socket_passes_whatever_policies_say(hosts: Hosts, version: int) -> None:
    ours, _theirs = hosts
    source, destination = ADDRESSES[version]
    ours.sh(
        f"ip xfrm policy add src {source} dst {destination} dir out action block priority 10",
        f"ip xfrm policy add src {destination} dst {source} dir in action block priority 10",
        *(f"ip xfrm policy add src ::/0 dst ::/0 proto ipv6-icmp dir {way} priority 1" for way in ("in", "out")),
    )
    family = traffic.FAMILIES[version]
    with (
        ours.call(lambda: socket.socket(family, socket.SOCK_DGRAM)) as ike,
        hosts[1].call(lambda: traffic.listening(destination, socket.SOCK_DGRAM)) as peer,
    ):
        ike.bind((str(source), 0))
        ike.settimeout(PATIENCE)
        exempt(ike, 0)
        ike.sendto(b"IKE", (str(destination), traffic.PORT))
        traffic.echo_datagram(peer)
        assert ike.recv(10) == b"IKE"


# --- with ESP in the kernel ------------------------------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("esn", [True, False])
def test_everything_arrives_and_only_esp_is_on_the_link(hosts: Hosts, inner: int, outer: int, esn: bool) -> None:
    async def scenario(ends: Ends) -> None:
        ends.install(child(pair=ADDRESSES[inner], gateways=ADDRESSES[outer], esn=esn))
        await exchange_everything(ends, ADDRESSES[inner])
        assert watch.protocols() == {traffic.ESP}

    with Watch(hosts) as watch:
        with_ends(hosts, XfrmBackend, scenario)


@pytest.mark.kernel
@pytest.mark.parametrize("version", [4, 6])
def test_transport_mode(hosts: Hosts, version: int) -> None:
    async def scenario(ends: Ends) -> None:
        pair = ADDRESSES[version]
        ends.install(child(pair=pair, gateways=pair, mode=Mode.TRANSPORT))
        await exchange_everything(ends, pair)
        assert watch.protocols() == {traffic.ESP}

    with Watch(hosts) as watch:
        with_ends(hosts, XfrmBackend, scenario)


@pytest.mark.kernel
def test_reserved_spis_become_sas_as_the_kernel_shows_them(hosts: Hosts) -> None:
    ours, _theirs = hosts
    with backend_in(ours) as backend:
        spi = backend.reserve_spi(OURS, THEIRS)
        sound = replace(child(3, spis=(spi, 0x2002)), encapsulation=Encapsulation(4500, 61000), lifetime=99.5)
        backend.install(sound, Directions.BOTH)
        shown = states(ours)
        assert f"src {THEIRS} dst {OURS} proto esp spi 0x{spi:08x} reqid 1862270980 mode tunnel" in shown
        assert f"src {OURS} dst {THEIRS} proto esp spi 0x00002002 reqid 1862270980 mode tunnel" in shown
        assert "aead rfc4106(gcm(aes)) 0x" + sound.inbound.key.octets.hex() + " 128" in shown
        assert "encap type espinudp sport 61000 dport 4500" in shown
        assert "encap type espinudp sport 4500 dport 61000" in shown
        assert shown.count("flag esn") == 2
        assert shown.count("replay_window 256, bitmap-length 8") == 2
        assert f"sel src {THEIRS}/32 dst {OURS}/32" in shown
        backend.remove(3)
        assert states(ours) == ""


@pytest.mark.kernel
def test_the_kernels_drops_have_our_reasons(hosts: Hosts) -> None:
    ours, theirs = hosts
    with backend_in(ours) as backend, closing(theirs.call(lambda: EspSocket(THEIRS, 0))) as attacker:
        assert backend.statistics() == {}
        backend.install(child(), Directions.BOTH)
        for esp in (bytes(40), b"\0\0\x10\x01" + bytes(3) + b"\1" + bytes(40)):
            assert attacker.send(esp, str(OURS))
        await_that(lambda: sum(backend.statistics().values()) >= 2, "two drops")
        assert backend.statistics() == {Reason.ESP_UNKNOWN_SPI: 1, Reason.ESP_INTEGRITY_FAILED: 1}


@pytest.mark.kernel
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

    with_ends(hosts, XfrmBackend, scenario)


@pytest.mark.kernel
def test_peers_may_switch_one_after_the_other(hosts: Hosts) -> None:
    """Old SA still used by one end, new one by the other: the shared reqid lets both in."""
    old, new = child(1), child(2, spis=(0x1003, 0x2004))

    async def scenario(ends: Ends) -> None:
        ends.install(old)
        ends.backends[0].install(new, Directions.BOTH)
        with hosts[1].entered():
            ends.backends[1].install(mirrored(new), Directions.INBOUND)
        await exchange_datagram(hosts, ADDRESSES[4], 10)
        rows = {row.child: row for row in await counters(ends.backends[0])}
        assert (rows[1].inbound_packets, rows[2].outbound_packets) == (1, 1)

    with_ends(hosts, XfrmBackend, scenario)


@pytest.mark.kernel
def test_hard_expiry_is_heard_once_and_nothing_leaves(hosts: Hosts) -> None:
    async def scenario(ends: Ends) -> None:
        # What lives long enough to carry something for sure is not what ends.
        ends.install(child(1))
        await exchange_datagram(hosts, ADDRESSES[4], 10)
        ends.remove(1)
        ends.install(child(2, spis=(0x1003, 0x2004), lifetime=1.0))
        await until(lambda: len(ends.events) >= 2, "both expiries")
        await asyncio.sleep(0.2)
        assert ends.events == [ChildExpired(2, hard=True)] * 2
        assert watch.protocols() == {traffic.ESP}
        with pytest.raises(OSError):  # noqa: PT011 - which one differs: refused at once, or nothing comes back
            await exchange_datagram(hosts, ADDRESSES[4], 10, 0.3)
        assert watch.protocols() == set()
        ends.remove(2)
        assert [policies(host).count("proto esp") for host in hosts] == [0, 0]

    with Watch(hosts) as watch:
        with_ends(hosts, XfrmBackend, scenario)


@pytest.mark.kernel
@pytest.mark.parametrize("esn", [True, False])
def test_octets_are_limited_softly_then_hard_and_then_nothing_leaves(hosts: Hosts, esn: bool) -> None:
    async def scenario(ends: Ends) -> None:
        ends.install(child(octets=20_000, esn=esn))
        for _ in range(16):  # the measure is full with the one before, and that is seen when the next one comes
            assert ends.events == []
            await exchange_datagram(hosts, ADDRESSES[4], 972)
            await asyncio.sleep(0.01)
        await until(lambda: len(ends.events) > 1, "both warnings")
        assert ends.events == [ChildExpired(1, hard=False)] * 2
        for _ in range(100):
            with suppress(OSError):  # that fills the measure: refused at once, or nothing comes back
                await exchange_datagram(hosts, ADDRESSES[4], 972, 1.0)
            if len(ends.events) > 2:
                break
        assert ends.events[2] == ChildExpired(1, hard=True)
        watch.protocols()
        with pytest.raises(OSError):  # noqa: PT011 - which one differs, as above
            await exchange_datagram(hosts, ADDRESSES[4], 972, 0.3)
        assert watch.protocols() == set()

    with Watch(hosts) as watch:
        with_ends(hosts, XfrmBackend, scenario)


@pytest.mark.kernel
@pytest.mark.parametrize(
    "meddle",
    [
        "ip xfrm state flush",
        "ip xfrm policy flush",
        "ip xfrm state deleteall",
        "ip xfrm policy deleteall",
        f"ip xfrm state delete src {OURS} dst {THEIRS} proto esp spi 0x2002",
        f"ip xfrm policy delete src {OURS} dst {THEIRS} dir out",
    ],
)
def test_what_others_take_away_is_over(host: Namespace, meddle: str) -> None:
    events: list[BackendEvent] = []
    loop = StandingLoop()
    with host.entered():
        backend = XfrmBackend()
        backend.start(loop, events.append)
        backend.install(child(1), Directions.BOTH)
        backend.install(child(2, pair=(CLIENT, FAR_CLIENT), spis=(0x1003, 0x2004)), Directions.BOTH)
        backend.remove(2)
        backend.install(child(3, pair=(CLIENT, FAR_CLIENT), spis=(0x1005, 0x2006)), Directions.BOTH)
        turn(loop)
        assert events == []  # what we do ourselves is no news
        host.sh(meddle)
        turn(loop)
        assert {event.child for event in events} == ({1, 3} if meddle.endswith(("flush", "all")) else {1})
        assert len(events) == len(set(events))
        assert backend.statistics()[Reason.SA_TAKEN_AWAY] == len(events)
        assert policies(host).count("proto ipv6-icmp") == 8 or "policy delete" in meddle
        for event in events:
            backend.remove(event.child)
        backend.close()
    assert (policies(host), states(host)) == ("", "")


def turn(loop: StandingLoop) -> None:
    for callback in tuple(loop.readers.values()):
        callback()
