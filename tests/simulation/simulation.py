"""From a seed to a verdict: storm, healing, agreement, rest."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from tests.simulation.monitor import Violation
from tests.simulation.rest import disagreements, footprint
from tests.simulation.scenario import Scenario, draw
from tests.simulation.trouble import heal, strike
from tests.simulation.world import World

SETTLING_TIME = 200.0
ECHO_TIME = 4.0
LOOK_AGAIN = 0.37
REST_TIME = 1200.0
STEP_OF_REST = 30.0
PASSED_OVER = frozenset(
    {"settings", "_settings", "policies", "own", "reasons", "entropy", "_entropy", "cookies", "_told"}
)
"""Attributes that hold settings, or a bounded number of things."""


@dataclass(slots=True)
class Result:
    """What became of one seed. Times in seconds."""

    scenario: Scenario
    failure: str
    round_trips: int
    frames: int
    longest_hole: float
    settled_after: float
    story: list[str] = field(default_factory=list)


def simulate(seed: int, *, tell: bool = False) -> Result:
    """Run the scenario of a seed. Whatever does not hold ends it, and is `Result.failure`; so does any exception."""
    world = World(draw(seed), tell=tell)
    run = Run(world)
    failure = ""
    try:
        run.storm()
        run.heal()
        run.rest()
    except Exception as error:
        kind = "" if isinstance(error, Violation) else f"{type(error).__name__}: "
        failure = f"{world.clock.now - world.began:.3f} s: {kind}{error}"
    return Result(
        world.scenario,
        failure,
        world.traffic.round_trips,
        world.frames,
        world.monitor.longest_hole,
        run.settled_after,
        world.story,
    )


class Run:
    """The phases of a run; `Violation` when something does not hold."""

    def __init__(self, world: World) -> None:
        self.settled_after = 0.0
        self._world = world
        self._clock = world.clock
        self._traffic = world.traffic

    def storm(self) -> None:
        """All goes wrong that the scenario wants."""
        world, clock, scenario = self._world, self._clock, self._world.scenario
        for station in world.stations:
            station.start()
        self._traffic.until = world.began + scenario.storm + SETTLING_TIME
        self._traffic.breaks = tuple((world.began + start, world.began + end) for start, end in scenario.breaks)
        begins = (*scenario.begins, scenario.begins[0] + 1.0)
        pauses = (*scenario.pauses, 2.0)
        for pair, begin, pause in zip(world.pairs, begins, pauses, strict=False):
            clock.after(begin, partial(self._traffic.talk, pair, pause))
        for trouble in scenario.troubles:
            clock.after(trouble.at, partial(strike, world, trouble))
        clock.run(world.began + scenario.storm)

    def heal(self) -> None:
        """The world is kind again; the machines must come to terms by themselves, and packets arrive."""
        heal(self._world)
        healed = self._clock.now
        while why := self._why_unsettled():
            if self._clock.now - healed > SETTLING_TIME:
                raise Violation(f"no agreement {SETTLING_TIME:.0f} s after healing: {why}")
            self._clock.run(self._clock.now + LOOK_AGAIN)
        self.settled_after = self._clock.now - healed
        lost = [id for id, at in self._traffic.asked.items() if at < self._clock.now - ECHO_TIME]
        if lost and self._world.scenario.is_calm:
            raise Violation(f"packets are lost on a good network: {len(lost)}, the first is #{lost[0]}")

    def rest(self) -> None:
        """Nobody talks any more: in the end nothing is left."""
        self._traffic.until = self._clock.now
        for station in self._world.stations:
            # Their operators end a rollover: until then own records are watched.
            station.reload(station.policies, station.keys[:1])
        ends = self._clock.now + REST_TIME
        while left := next(self._left_over(), ""):
            if self._clock.now >= ends:
                raise Violation(f"{REST_TIME:.0f} s after the last packet there is {left}")
            self._clock.run(self._clock.now + STEP_OF_REST)
        if grown := list(self._leaks()):
            raise Violation(f"books leak: {', '.join(grown)}")

    def _why_unsettled(self) -> str:
        """All agree, and then a datagram of everybody is echoed; or why not."""
        world = self._world
        if why := next(disagreements(world.stations, world.pairs if world.scenario.expects_tunnel else []), ""):
            return why
        asked = {self._traffic.ask(pair): pair for pair in world.pairs}
        self._clock.run(self._clock.now + ECHO_TIME)
        deaf = [pair for id, pair in asked.items() if id in self._traffic.asked]
        return f"{deaf[0]} hears no echo" if deaf and world.scenario.may_talk else ""

    def _left_over(self) -> Iterator[str]:
        """What machines still have that talked to nobody for a while."""
        for station in self._world.stations:
            yield from (f"{station.name}: Child SA {id}" for id in station.kernel.placed)
            yield from (f"{station.name}: a held packet of {packet.pair}" for packet in station.held.values())
            pairs = station.gateway.snapshot() if station.gateway is not None else ()
            yield from (f"{station.name}: {row.pair} {row.state} {row.reason}" for row in pairs)
            sas = station.engine.snapshot() if station.engine is not None else ()
            yield from (f"{station.name}: an IKE SA, {row.state}" for row in sas)
            if station.gateway is not None and station.gateway.deadline() is not None:
                yield f"{station.name}: a timer"

    def _leaks(self) -> Iterator[str]:
        """What the books of the machines hold that those of fresh ones do not."""
        for station in self._world.stations:
            used = footprint(station.gateway, PASSED_OVER)
            station.crash()
            station.start()
            self._clock.run(self._clock.now + 5.0)
            fresh = footprint(station.gateway, PASSED_OVER)
            grown = {path: size for path, size in used.items() if size > fresh.get(path, 0)}
            yield from (f"{station.name}: {path} holds {size}" for path, size in grown.items())
