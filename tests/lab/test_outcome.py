"""The verdict on a flow, from its answers and the wire."""

import pytest

from oe.lab.outcome import Outcome, judge
from oe.lab.sightings import Wire


@pytest.mark.parametrize(
    ("wire", "answered", "refused", "outcome"),
    [
        (Wire(4, 0, 4, 0, False), True, False, Outcome.ENCRYPTED),
        (Wire(4, 0, 4, 0, True), True, False, Outcome.MIXED),
        (Wire(0, 4, 0, 0, True), True, False, Outcome.IN_CLEAR),
        (Wire(3, 1, 4, 0, True), True, False, Outcome.TURNS_ENCRYPTED),
        (Wire(3, 1, 4, 1, True), True, False, Outcome.MIXED),
        (Wire(0, 0, 4, 0, False), False, False, Outcome.NOTHING),
        (Wire(0, 0, 0, 0, False), False, True, Outcome.REFUSED),
        (Wire(0, 0, 0, 0, True), False, True, Outcome.MIXED),
        (Wire(0, 2, 0, 0, True), False, True, Outcome.UNANSWERED),
        (Wire(2, 0, 4, 0, False), False, False, Outcome.MIXED),
        (Wire(0, 0, 0, 0, False), True, False, Outcome.MIXED),
    ],
)
def test_outcomes(wire: Wire, answered: bool, refused: bool, outcome: Outcome) -> None:
    assert judge(wire, answered=answered, refused=refused) is outcome
