"""Policies are reloaded under traffic: not one clear packet to or from a net that is private, and none is lost."""

import select
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from ipaddress import ip_network
from threading import Thread

import pytest

from oe.control import Json, ask
from oe.errors import ConfigError
from oe.model import Address, Group
from tests.leak.traffic import Traffic, flowing
from tests.leak.wire import Packet, Wire
from tests.leak.world import FROM_HOST, World
from tests.waiting import PATIENCE, await_that

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

INNER = ("198.18.64.0/18", "2001:db8:4000::/34")
"""A part of the private net that has keys; the tests move it to other groups."""
TO_INNER = ("198.18.64.5", "2001:db8:4000::5")
KEYLESS = ("198.18.128.5", "2001:db8:8000::5")
OTHER = ("198.19.0.0/16", "2001:db9::/32")
"""Another net, without keys: what is not closed there goes in clear."""
TO_OTHER = ("198.19.0.5", "2001:db9::5")
SINK = 7002
OPENERS = {FROM_HOST[0]: 200, TO_INNER[0]: 201}
"""What is sent to each until it arrives: on a machine that halts for a while the first may wait for too long."""

NAIVE = """
import oe.trap.guard
from oe.daemon.keeper import Keeper

async def reload(self, spec):
    self._table.remove()
    self._table.install(spec)

oe.trap.guard.LIBRARY = "libnothing.so"
Keeper.reload = reload
"""
"""The table is taken away and installed again, with nothing underneath."""


def put(world: World, nets: tuple[str, ...], group: Group | None) -> Json:
    """Have these nets in one group, or in none, and the daemon know it."""
    for other in Group:
        file = world.directory / "host" / "policies" / other.value
        lines = file.read_text().splitlines() if file.exists() else []
        lines = [line for line in lines if line not in nets] + [*nets] * (other is group)
        file.write_text("".join(f"{line}\n" for line in lines))
    return reload(world)


def reload(world: World) -> Json:
    return ask(world.directory / "host" / "run", {"ask": "reload"}, PATIENCE)


@pytest.fixture(autouse=True)
def tidy(peopled: World) -> Iterator[None]:
    """Every test finds the groups, and leaves them, as they are."""
    directory = peopled.directory / "host" / "policies"
    private = (directory / "private").read_text()
    yield
    for file in directory.iterdir():
        file.unlink()
    (directory / "private").write_text(private)


def flows(world: World, *destinations: str) -> tuple[Traffic, ...]:
    """From the host, and through it. Not too dense: what goes in clear is all seen by one thread among these."""
    return tuple(Traffic(world.hosts[name], destinations, pause=0.02) for name in ("host", "client"))


class Shown:
    """What the wire shows in clear, from the host, to some nets."""

    def __init__(self, wire: Wire, nets: tuple[str, ...]) -> None:
        self._wire = wire
        self._nets = tuple(map(ip_network, nets))
        self._packets: list[Packet] = []
        wire.on_packet = self._take

    def __bool__(self) -> bool:
        return bool(self._packets)

    def _take(self, packet: Packet) -> None:
        if packet.from_host and any(packet.destination in net for net in self._nets):
            self._packets.append(packet)

    def since_last_time(self) -> set[Address]:
        """Their destinations, up to what the host has sent when this is called."""
        self._wire.settle()
        found, self._packets = self._packets, []
        return {packet.destination for packet in found}


def test_back_and_forth_under_what_stays_private(world: World, wire: Wire) -> None:
    """The nets beside it and a part of it change; it has pairs with and without keys."""
    going = (*world.flows(), *flows(world, *TO_INNER, *TO_OTHER, *KEYLESS))
    with world.running() as daemon, flowing(*going):
        wire.carries_esp()
        for group in (Group.PRIVATE_OR_CLEAR, Group.PRIVATE) * 3:
            put(world, (*INNER, *OTHER), group)
            for flow in going:
                flow.go_on(5)
        wire.carries_esp()
        assert not any("policy-changed" in line for line in daemon.log)
        assert daemon.told("table-restored") == 0
    assert wire.shows_no_clear_packet()


def test_not_a_packet_of_a_tunnel_that_stays_is_lost(world: World) -> None:
    """Nor one of the tunnel whose group changes, as long as the new one has tunnels."""
    with world.hosts["peer"].entered():
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with world.hosts["host"].entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with closing(sink), closing(sender), world.running():
        sink.bind(("", SINK))
        sink.settimeout(PATIENCE)

        def opened(destination: str, opener: int) -> bool:
            with suppress(PermissionError):  # refused for a while, after an attempt that failed
                sender.sendto(bytes([opener]), (destination, SINK))
            return bool(select.select([sink], [], [], 0)[0]) and sink.recv(100)[0] == opener

        def send(number: int) -> None:
            for destination in OPENERS:
                sender.sendto(bytes([number]), (destination, SINK))

        def arrived(rounds: int) -> list[int]:
            numbers: list[int] = []
            while len(numbers) < 2 * rounds:
                numbers += {sink.recv(100)[0]} - {*OPENERS.values()}
            return numbers

        for destination, opener in OPENERS.items():
            await_that(partial(opened, destination, opener), f"a tunnel to {destination}")
        for group in (Group.PRIVATE_OR_CLEAR, Group.PRIVATE) * 3:
            changing = Thread(target=put, args=(world, INNER[:1], group))
            changing.start()
            for number in range(50):
                send(number)
                changing.join(0.005)
            changing.join()
            assert sorted(arrived(50)) == sorted([*range(50)] * 2)


@pytest.mark.parametrize("start", [None, Group.PRIVATE_OR_CLEAR])
def test_a_net_becomes_private(world: World, wire: Wire, start: Group | None) -> None:
    """It has no keys: until then its packets are seen, when the reload returns they are not."""
    shown = Shown(wire, OTHER)
    with world.running() as daemon, flowing(*flows(world, *TO_OTHER), *world.flows()):
        put(world, OTHER, start)
        for _ in range(3):
            wire.until(lambda: bool(shown), "clear packets")
            put(world, OTHER, Group.PRIVATE)
            shown.since_last_time()
            wire.carries_esp()
            assert shown.since_last_time() == set()
            put(world, OTHER, start)
        assert daemon.told("not-reloaded") == 0
    assert wire.shows_no_clear_packet()


def test_a_part_of_the_net_goes_in_clear_and_comes_back(world: World, wire: Wire) -> None:
    """Its tunnels are closed, and the peer told; no other packet is seen."""
    shown = Shown(wire, INNER)
    with world.running() as daemon, flowing(*flows(world, *TO_INNER)):
        wire.carries_esp()
        answer = put(world, INNER, Group.CLEAR)
        assert answer["pairs_let_go"]
        with flowing(*world.flows()):
            wire.until(lambda: bool(shown), "clear packets")
            wire.carries_esp()
            put(world, INNER, Group.PRIVATE)
            shown.since_last_time()
            wire.carries_esp()
            assert shown.since_last_time() == set()
        assert daemon.told("table-restored") == 0
    wire.settle()
    inner = tuple(map(ip_network, INNER))
    assert all(any(end in net for net in inner for end in (one.source, one.destination)) for one in wire.clear)


def test_bad_input_changes_nothing(world: World, wire: Wire) -> None:
    going = (*world.flows(), *flows(world, *TO_INNER))
    with world.running() as daemon, flowing(*going):
        wire.carries_esp()
        private = world.directory / "host" / "policies" / "private"
        private.write_text("198.18.0.0/99\n")
        with pytest.raises(ConfigError, match=r"private:1: '198\.18\.0\.0/99'"):
            reload(world)
        daemon.says("not-reloaded")
        wire.carries_esp()
    assert wire.shows_no_clear_packet()


def test_control_a_gap_would_be_seen(world: World, wire: Wire) -> None:
    """The same back and forth with a reload that takes the table away first."""
    with world.running(code=NAIVE), flowing(*world.flows(), *flows(world, *KEYLESS)):
        wire.carries_esp()
        for _ in range(20):
            put(world, OTHER, Group.PRIVATE)
            put(world, OTHER, None)
            if not wire.shows_no_clear_packet():
                return
    raise AssertionError("no clear packet was seen")
