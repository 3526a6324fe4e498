"""What must hold when all is quiet: both ends agree, nothing is half done, and in the end the books are empty."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from oe.gateway.decisions import VERDICTS
from oe.ike.states import State
from oe.model import HostPair, Verdict
from tests.simulation.kernel import Placed
from tests.simulation.station import Station

QUIET_STATES = frozenset({State.ESTABLISHED, State.LINGERING})
"""A lingering one is over; it only remembers its last answer for a while."""


def disagreements(stations: list[Station], pairs: list[HostPair]) -> Iterator[str]:
    """Why the machines do not agree, one sentence each; nothing if they do. `pairs` are those with traffic."""
    heeds = not any(station.is_heedless for station in stations)
    everything = {(station.name, id): placed for station in stations for id, placed in station.kernel.placed.items()}
    for (name, id), placed in everything.items():
        yield from _lonely(f"{name}'s Child SA {id}", placed, list(everything.values()), heeds=heeds)
    for station in stations:
        for row in station.engine.snapshot() if station.engine is not None else ():
            if row.state not in QUIET_STATES:
                yield f"{station.name} has an IKE SA that is {row.state}"
        yield from _torn(station)
    for pair in pairs:
        yield from _unprotected(stations, pair, heeds=heeds)


def _torn(station: Station) -> Iterator[str]:
    """Engine, coordinator and kernel of one machine know the same."""
    if station.gateway is None or station.engine is None:
        return
    kernel = station.kernel
    children = {child for row in station.engine.snapshot() for child in row.children}
    if children != set(kernel.placed):
        yield f"{station.name}: Child SAs {sorted(children)} in the engine, {sorted(kernel.placed)} in the kernel"
    rows = {row.pair: VERDICTS.get(row.state) for row in station.gateway.snapshot()}
    decided = {pair: kernel.verdict(pair) for pair in tuple(kernel.decided)}
    for pair in {**rows, **decided}:
        if rows.get(pair) is not decided.get(pair):
            yield f"{station.name}: {pair} is {rows.get(pair)} in the books, {decided.get(pair)} in the kernel"


def _lonely(name: str, placed: Placed, all: list[Placed], *, heeds: bool) -> Iterator[str]:
    """Both halves in place, and the same at the peer. A redundant one that a peer goes on using only receives."""
    child = placed.child
    if not placed.inbound or (heeds and not placed.outbound):
        yield f"{name} is half in place"
    for other in all:
        theirs = other.child
        if (theirs.inbound, theirs.outbound) == (child.outbound, child.inbound):
            if theirs.pair != child.pair.reversed:
                yield f"{name} means another pair at the peer"
            return
    yield f"{name} of {child.pair} has no counterpart"


def _unprotected(stations: list[Station], pair: HostPair, *, heeds: bool) -> Iterator[str]:
    """Some machine speaks for the source, and each that carries the pair does it through exactly one SA."""
    carriers = 0
    for station in stations:
        outlets = station.kernel.outlets(pair)
        if outlets:
            carriers += 1
            # A destination with two gateways may be reached through both for a while.
            if heeds and len({placed.child.remote for placed in outlets}) < len(outlets):
                yield f"{station.name} has {len(outlets)} outbound SAs for {pair}"
            if station.kernel.verdict(pair) is not Verdict.PROTECTED:
                yield f"{station.name} has an SA for {pair}, decided {station.kernel.verdict(pair)}"
    if not carriers:
        yield f"nobody protects {pair}"


# --- books -----------------------------------------------------------------------------------------------------

_PLAIN = (str, bytes, int, float, type(None), IPv4Address, IPv6Address, IPv4Network, IPv6Network)
_FOREIGN = ("cryptography", "builtins", "collections.abc", "itertools", "random", "functools")


def footprint(root: object, passed_over: frozenset[str]) -> dict[str, int]:
    """The sizes of all collections that can be reached from `root`, by the path of attributes that leads there.

    `passed_over` are names of attributes: settings, and what is bounded by its kind.
    """
    sizes: dict[str, int] = {}
    seen: set[int] = set()
    ways: list[tuple[str, object]] = [("", root)]
    while ways:
        path, thing = ways.pop()
        if isinstance(thing, _PLAIN) or id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, dict):
            sizes[path] = sizes.get(path, 0) + len(thing)
            ways += [(f"{path}[]", inside) for inside in thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset) or type(thing).__name__ == "deque":
            sizes[path] = sizes.get(path, 0) + len(thing)  # type: ignore[arg-type]  # a deque has a length too
            ways += [(f"{path}[]", inside) for inside in thing]  # type: ignore[attr-defined]
        else:
            ways += [(f"{path}.{name}", value) for name, value in attributes(thing) if name not in passed_over]
    return sizes


def attributes(thing: object) -> Iterator[tuple[str, object]]:
    """Those of our own classes' objects; bound methods lead to their object."""
    if (owner := getattr(thing, "__self__", None)) is not None:
        yield "__self__", owner
    if not type(thing).__module__.startswith("oe."):
        return
    names = {*getattr(thing, "__dict__", ())}
    for kind in type(thing).__mro__:
        slots = getattr(kind, "__slots__", ())
        names.update((slots,) if isinstance(slots, str) else slots)
    if is_dataclass(thing):
        names.update(field.name for field in fields(thing))
    for name in sorted(names):
        if (value := getattr(thing, name, None)) is not None:
            yield name, value
