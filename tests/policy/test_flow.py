"""Every row of the table of host pair states, and what all rows have in common."""

import pytest

from oe.model import PairState
from oe.policy.flow import TRANSITIONS, FlowEvent, IllegalTransition, mermaid, next_state

STATES: list[PairState | None] = [None, *PairState]
NAMES = {"-": "illegal", "?": None} | {state.value[0].upper(): state for state in PairState}

# One column per state: unknown, held, negotiating, protected, clear, blocked; the letter is that of the next state.
EXPECTED = """
                     ?  H  N  P  C  B
trapped              H  H  N  P  C  B
keys-found           -  N  N  P  C  B
negotiation-failed   -  H  H  P  C  B
decided-clear        C  C  C  P  C  C
decided-blocked      B  B  B  P  B  B
decided-hold         -  H  H  P  H  H
child-installed      P  P  P  P  P  P
child-closed         -  H  N  ?  C  B
idled                -  -  -  ?  -  -
withdrawn            -  -  -  ?  -  -
lapsed               -  -  -  -  C  -
expired              -  ?  N  P  ?  ?
flushed              ?  ?  ?  ?  ?  ?
"""


def rows() -> list[tuple[PairState | None, FlowEvent, str]]:
    header, *lines = EXPECTED.strip().splitlines()
    columns = [NAMES[letter] for letter in header.split()]
    assert columns == [None, *PairState]
    return [
        (state, FlowEvent(event), letter)
        for event, *letters in map(str.split, lines)
        for state, letter in zip(STATES, letters, strict=True)
    ]


def test_the_expectation_is_complete() -> None:
    assert {(state, event) for state, event, _ in rows()} == {(state, event) for state in STATES for event in FlowEvent}


@pytest.mark.parametrize(("state", "event", "letter"), rows())
def test_every_row(state: PairState | None, event: FlowEvent, letter: str) -> None:
    if letter == "-":
        with pytest.raises(IllegalTransition) as caught:
            next_state(state, event)
        assert (caught.value.state, caught.value.event) == (state, event)
    else:
        assert next_state(state, event) is NAMES[letter]


def test_an_illegal_transition_says_what_was_tried() -> None:
    with pytest.raises(IllegalTransition, match="host pair is unknown: expired cannot happen"):
        next_state(None, FlowEvent.EXPIRED)


def test_every_row_tells_a_story() -> None:
    assert all(transition.story for transition in TRANSITIONS.values())


def test_only_the_end_of_its_sa_leads_away_from_protected() -> None:
    rows = {event: row.to for (state, event), row in TRANSITIONS.items() if state is PairState.PROTECTED}
    away = {event for event, to in rows.items() if to is not PairState.PROTECTED}
    assert away == {FlowEvent.CHILD_CLOSED, FlowEvent.IDLED, FlowEvent.WITHDRAWN, FlowEvent.FLUSHED}
    assert {rows[event] for event in away} == {None}


def test_no_fallback_without_a_way_back_to_unknown() -> None:
    for state in (PairState.HELD, PairState.CLEAR, PairState.BLOCKED):
        assert next_state(state, FlowEvent.EXPIRED) is None


def test_background_work_does_not_disturb_a_fallback() -> None:
    for state in (PairState.CLEAR, PairState.BLOCKED):
        for event in (FlowEvent.TRAPPED, FlowEvent.KEYS_FOUND, FlowEvent.NEGOTIATION_FAILED):
            assert next_state(state, event) is state


def test_nothing_reaches_clear_but_a_decision() -> None:
    reach = {event for (state, event), row in TRANSITIONS.items() if row.to is PairState.CLEAR is not state}
    assert reach == {FlowEvent.DECIDED_CLEAR}


def test_the_diagram_draws_every_change_once() -> None:
    text = mermaid()
    lines = text.splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> unknown"]
    assert "    unknown --> held: trapped" in lines
    assert "    protected --> unknown: child-closed, idled, withdrawn, flushed" in lines
    assert text.endswith("\n")
    drawn = {
        (line.split(" --> ")[0].strip(), event, line.split(" --> ")[1].split(": ")[0])
        for line in lines[2:]
        for event in line.split(": ")[1].split(", ")
    }
    changes = {
        (state or "unknown", event.value, row.to or "unknown")
        for (state, event), row in TRANSITIONS.items()
        if row.to is not state
    }
    assert drawn == changes
