"""What goes wrong in a scenario, and how it is made good again."""

from collections.abc import Callable
from functools import partial

from oe.ike.message import decode_header
from oe.ike.registry import ExchangeType
from oe.model import Group
from tests.simulation.frames import KEEPALIVE, Frame
from tests.simulation.link import Weather
from tests.simulation.scenario import Kind, Trouble
from tests.simulation.station import Station
from tests.simulation.world import CLIENT, World, policies_of

Undo = Callable[[], None]


def strike(world: World, trouble: Trouble) -> None:
    """Let one trouble happen; it ends by itself."""
    station = world.stations[trouble.who]
    world.monitor.happened(station, f"suffers: {trouble.kind}")
    undo = TROUBLES[trouble.kind](world, station)
    if undo is not None:
        world.clock.after(trouble.lasts, undo)


def heal(world: World) -> None:
    """End all that is left of it: from now on the world is kind."""
    world.monitor.happened(world.stations[0], "sees the world healed")
    world.link.weather = Weather()
    world.link.stoppers.clear()
    world.link.dark.clear()
    world.zone.withdrawn.clear()
    for station in world.stations:
        resolver = station.resolver
        resolver.is_out, resolver.failing, resolver.slow = False, 0.0, 0.0
        station.failing_installs = 0
        station.start()


def _crash(_world: World, station: Station) -> Undo:
    station.crash()
    return station.start


def _stop(_world: World, station: Station) -> Undo:
    station.stop()
    return station.start


def _reload(_world: World, station: Station) -> Undo:
    """`private` becomes permissive, or the other way round, for a while."""
    before = station.policies
    group = before.entries[0].group
    other = Group.PRIVATE if group is Group.PRIVATE_OR_CLEAR else Group.PRIVATE_OR_CLEAR
    station.reload(policies_of(station.address, other), station.keys)
    return lambda: station.reload(before, station.keys)


def _replace_key(world: World, station: Station) -> Undo:
    new = station.make_key()
    for old in station.keys:
        world.zone.replace(old, new)
    station.keys = (new,)
    station.crash()
    return station.start


def _roll_over(world: World, station: Station) -> Undo:
    """The daemon has the new key before DNS has."""
    new, old = station.make_key(), station.keys[-1]
    station.reload(station.policies, (new, *station.keys))
    return lambda: world.zone.add(old, new)


def _rebind(world: World, _station: Station) -> None:
    if world.nat is not None:
        world.nat.rebind()


def _fail_next_install(_world: World, station: Station) -> None:
    station.failing_installs = 1


def _darken(world: World, station: Station, *, both: bool) -> Undo:
    others = [one.address for one in world.stations if one is not station] + [CLIENT]
    ways = {(station.address, other) for other in others}
    if both:
        ways |= {(there, here) for here, there in ways}
    world.link.dark |= ways
    return lambda: world.link.dark.difference_update(ways)


def _withdraw(world: World, station: Station) -> Undo:
    world.zone.withdrawn.add(station.address)
    return lambda: world.zone.withdrawn.discard(station.address)


def _cut_off_names(_world: World, station: Station) -> Undo:
    def mend() -> None:
        station.resolver.is_out = False

    station.resolver.is_out = True
    return mend


def _spoil_names(_world: World, station: Station) -> Undo:
    def mend() -> None:
        station.resolver.failing = 0.0

    station.resolver.failing = 0.5
    return mend


def _lose(world: World, station: Station, exchange: ExchangeType, *, is_response: bool) -> Undo:
    """Lose the messages of one kind that a machine sends."""

    def stops(frame: Frame) -> bool:
        octets = frame.load
        if not isinstance(octets, bytes) or octets == KEEPALIVE or frame.source.address != station.address:
            return False
        header = decode_header(octets)
        return header.exchange == exchange and header.is_response is is_response

    def undo() -> None:
        if stops in world.link.stoppers:
            world.link.stoppers.remove(stops)

    world.link.stoppers.append(stops)
    return undo


TROUBLES: dict[Kind, Callable[[World, Station], Undo | None]] = {
    Kind.CRASH: _crash,
    Kind.STOP: _stop,
    Kind.NEW_KEY: _replace_key,
    Kind.ROLLOVER: _roll_over,
    Kind.RELOAD: _reload,
    Kind.MOVE: lambda world, _: world.move_host(),
    Kind.FLUSH: lambda _, station: station.flush(),
    Kind.SAS_LOST: lambda _, station: station.lose_sas(),
    Kind.DECISIONS_LOST: lambda _, station: station.lose_decisions(),
    Kind.INSTALL_FAILS: _fail_next_install,
    Kind.REBIND: _rebind,
    Kind.DARK: partial(_darken, both=True),
    Kind.ONE_WAY: partial(_darken, both=False),
    Kind.DNS_OUTAGE: _cut_off_names,
    Kind.DNS_FAILING: _spoil_names,
    Kind.WITHDRAWAL: _withdraw,
    Kind.AUTH_ANSWERS_LOST: partial(_lose, exchange=ExchangeType.IKE_AUTH, is_response=True),
    Kind.INFORMATIONAL_LOST: partial(_lose, exchange=ExchangeType.INFORMATIONAL, is_response=False),
}
"""What each kind does to a machine, and how it is undone."""
