"""Whole gateways change their keys, and every handshake meanwhile is believed."""

from dataclasses import replace

import pytest

from oe.model import PublicKey
from oe.reasons import Reason
from tests.simulation.link import Weather
from tests.simulation.scenario import Kind, Scenario, Shape, Theme, Trouble, draw
from tests.simulation.simulation import Run
from tests.simulation.world import World

ROLLOVERS = tuple(Trouble(10.0, Kind.ROLLOVER, who, 114.0 + 40.0 * who) for who in range(2))
"""Both daemons have a new key long before DNS does. The host's is published just after its peer has looked there, and
just before it looks itself."""
HANDSHAKES = tuple(Trouble(float(at), Kind.FLUSH, 0, 0.0) for at in range(15, 590, 5))
"""The flush empties the cache of the one who is to be believed, not that of the other one."""
DISBELIEF = (Reason.PEER_AUTHENTICATION_FAILED, Reason.WE_WERE_REFUSED)


def calm(shape: Shape) -> Scenario:
    drawn = next(one for one in map(draw, range(1000)) if one.shape is shape and one.theme is Theme.DELETES)
    weather = Weather(delay=0.01, jitter=0.0, loss=0.0, duplicates=0.0)
    return replace(
        drawn, weather=weather, ttl=60.0, slow_names=0.0, storm=600.0, troubles=ROLLOVERS + HANDSHAKES, heedless=None
    )


def rolled_over(shape: Shape) -> tuple[int, list[PublicKey | None], list[PublicKey]]:
    """How often somebody was not believed; the keys that the peers saw at last, and those that are new."""
    world = World(calm(shape))
    Run(world).storm()
    here, there = world.stations[:2]
    gateways = [station.gateway for station in (here, there)]
    doubts = sum(gateway.reasons[reason] for gateway in gateways if gateway is not None for reason in DISBELIEF)
    assert here.engine is not None
    assert there.engine is not None
    seen = [engine.snapshot()[-1].peer_key for engine in (there.engine, here.engine)]
    return doubts, seen, [here.key, there.key]


@pytest.mark.parametrize("shape", [Shape.PAIR, Shape.CLIENT])
def test_every_handshake_is_believed(shape: Shape) -> None:
    doubts, seen, new = rolled_over(shape)
    assert doubts == 0
    assert seen == new


def test_a_key_that_signs_too_early_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oe.gateway.rollover.in_order", lambda keys, _seen: keys)
    assert rolled_over(Shape.PAIR)[0] > 0


def test_a_key_that_signs_when_caches_may_be_without_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as DNS has it, of which peers hear up to a TTL later."""
    monkeypatch.setattr(
        "oe.gateway.rollover.in_order", lambda keys, seen: tuple(sorted(keys, key=lambda key: key not in seen.since))
    )
    assert rolled_over(Shape.PAIR)[0] > 0
