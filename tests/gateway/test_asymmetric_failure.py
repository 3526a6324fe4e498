"""The answer to IKE_AUTH is lost: the initiator gives up while the responder believes in its SA.

Two whole gateways on virtual time. What the responder sends into the SA that only it has vanishes; within seconds both
must be back, encrypted or as their policy says, and in the end encrypted.
"""

from dataclasses import replace

import pytest

from oe.model import Grade, Group
from oe.policy.outcome import Unreachable
from tests.simulation.link import Weather
from tests.simulation.rest import disagreements
from tests.simulation.scenario import Kind, Scenario, Shape, Theme, Trouble, draw
from tests.simulation.simulation import Run
from tests.simulation.world import World

INITIATOR, RESPONDER = 0, 1
LOST_FOR = 4.0
"""Seconds without an answer to IKE_AUTH: longer than the setup budget."""
LONGEST_HOLE = 5.0
"""Seconds for which packets may vanish unnoticed: a second's grace and the responder's question, three times asked."""


def scenario(group: Group, grade: Grade, *troubles: Trouble) -> Scenario:
    drawn = draw(1)
    side = replace(drawn.sides[0], group=group, unreachable=Unreachable.AUTO)
    return replace(
        drawn,
        theme=Theme.LOST_ANSWERS,
        shape=Shape.PAIR,
        sides=(side, side),
        weather=Weather(),
        grade=grade,
        ttl=60.0,
        slow_names=0.0,
        child_lifetime=90.0,
        ike_lifetime=300.0,
        liveness=5.0,
        cookie_threshold=100,
        storm=LOST_FOR + 8.0,
        begins=(0.1, 0.6),
        pauses=(0.5, 0.5),
        far_gateway_first=False,
        also_gateway=False,
        breaks=(),
        troubles=troubles,
    )


NO_ANSWER = Trouble(0.0, Kind.AUTH_ANSWERS_LOST, RESPONDER, LOST_FOR)
NO_GOODBYE = Trouble(0.0, Kind.INFORMATIONAL_LOST, INITIATOR, LOST_FOR)


@pytest.mark.parametrize("group", [Group.PRIVATE, Group.PRIVATE_OR_CLEAR])
@pytest.mark.parametrize("grade", [Grade.SECURE, Grade.INSECURE])
@pytest.mark.parametrize("troubles", [(NO_ANSWER,), (NO_ANSWER, NO_GOODBYE)], ids=["goodbye", "no goodbye"])
def test_both_are_back_within_seconds(group: Group, grade: Grade, troubles: tuple[Trouble, ...]) -> None:
    world = World(scenario(group, grade, *troubles))
    Run(world).storm()
    assert world.monitor.longest_hole <= LONGEST_HOLE
    assert list(disagreements(world.stations, world.pairs)) == []
    recent = world.clock.now - 2.0
    assert all(world.traffic.echoed[pair] > recent for pair in world.pairs)
