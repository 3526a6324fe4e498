"""Two whole gateways, of which one or none publishes a key: who is whom in the end."""

from dataclasses import replace

import pytest

from oe.model import Anonymity, Grade, Group, HostPair, PairState
from oe.policy.outcome import Anonymous, Unreachable
from tests.simulation.link import Weather
from tests.simulation.scenario import Scenario, Shape, Theme, draw
from tests.simulation.simulation import Run
from tests.simulation.station import Station
from tests.simulation.world import World

KNOWN, NOBODY = Anonymity.AUTHENTICATED, Anonymity.ANONYMOUS
NO, ACCEPT, ASK = Anonymous


def scenario() -> Scenario:
    """Two hosts on a good network; the first one begins."""
    drawn = draw(1)
    side = replace(drawn.sides[0], group=Group.PRIVATE_OR_CLEAR, unreachable=Unreachable.AUTO, is_keyless=False)
    return replace(
        drawn,
        theme=Theme.BOTH_BEGIN,
        shape=Shape.PAIR,
        sides=(side, side),
        weather=Weather(),
        grade=Grade.SECURE,
        ttl=60.0,
        slow_names=0.0,
        child_lifetime=90.0,
        ike_lifetime=300.0,
        cookie_threshold=100,
        storm=6.0,
        begins=(0.1, 2.0),
        pauses=(0.5, 0.5),
        breaks=(),
        troubles=(),
    )


def seen(station: Station, pair: HostPair) -> tuple[PairState, Anonymity | None]:
    """What a machine thinks of its pair, and of who is at the other end."""
    assert station.gateway is not None
    (row,) = (row for row in station.gateway.snapshot() if row.pair == pair)
    return row.state, row.authentication


@pytest.mark.parametrize(
    ("published", "knobs", "host", "peer"),
    [
        ((True, True), (ASK, ASK), KNOWN, KNOWN),
        ((True, False), (ASK, ACCEPT), NOBODY, KNOWN),
        ((False, True), (ASK, ACCEPT), KNOWN, NOBODY),
        ((False, False), (ASK, ACCEPT), NOBODY, NOBODY),
        ((False, False), (ACCEPT, ACCEPT), None, None),
        ((False, False), (ASK, NO), None, None),
        ((False, True), (ASK, NO), None, None),
        ((True, False), (NO, ASK), None, None),
    ],
)
def test_who_is_whom(
    published: tuple[bool, bool], knobs: tuple[Anonymous, Anonymous], host: Anonymity | None, peer: Anonymity | None
) -> None:
    world = World(scenario())
    for station, has_key, knob in zip(world.stations, published, knobs, strict=True):
        groups = {group: replace(one, anonymous=knob) for group, one in station.settings.groups.items()}
        station.settings = replace(station.settings, groups=groups)
        if not has_key:
            world.zone.withdrawn.add(station.address)
    Run(world).storm()
    ends = [seen(station, pair) for station, pair in zip(world.stations, world.pairs, strict=True)]
    states = [PairState.CLEAR if one is None else PairState.PROTECTED for one in (host, peer)]
    assert ends == list(zip(states, (host, peer), strict=True))
    recent = world.clock.now - 2.0
    assert all(world.traffic.echoed[pair] > recent for pair in world.pairs)
