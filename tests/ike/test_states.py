"""The tables of an IKE SA's life hold together, and the code cannot leave them."""

from ipaddress import ip_address
from itertools import product

import pytest

from oe.ike.exchanges import RESPONDERS
from oe.ike.sa import IkeSa, IllegalStepError, Role
from oe.ike.states import CHILD_STEPS, HEARD, STEPS, ChildState, State, Step
from oe.model import SocketAddress

END = SocketAddress(ip_address("192.0.2.1"), 500)


def sa_in(state: State) -> IkeSa:
    return IkeSa(Role.INITIATOR, state, 1, END, END, 0.0)


@pytest.mark.parametrize(("state", "step"), list(product(State, Step)))
def test_a_step_is_taken_as_the_table_says_or_not_at_all(state: State, step: Step) -> None:
    sa = sa_in(state)
    if (state, step) in STEPS:
        sa.advance(step)
        assert sa.state is STEPS[state, step][0]
    else:
        with pytest.raises(IllegalStepError):
            sa.advance(step)
        assert sa.state is state


def test_every_state_but_gone_can_be_dropped_and_gone_is_final() -> None:
    assert {state for state, step in STEPS if step is Step.DROPPED} == set(State) - {State.GONE}
    assert not [state for state, _ in STEPS if state is State.GONE]


def test_every_state_can_be_reached() -> None:
    reached = {State.STARTED, State.HALF_OPEN}
    while more := {after for (before, _), (after, _) in STEPS.items() if before in reached} - reached:
        reached |= more
    assert reached == set(State)


def test_every_state_of_a_child_sa_can_be_reached() -> None:
    reached = {ChildState.UP}
    while more := {after for (before, _), (after, _) in CHILD_STEPS.items() if before in reached} - reached:
        reached |= more
    assert reached == set(ChildState)


def test_what_closes_stays_closed() -> None:
    assert not [state for state, _ in CHILD_STEPS if state is ChildState.CLOSING]


def test_every_step_of_a_child_sa_tells_its_story_once() -> None:
    stories = [story for _, story in CHILD_STEPS.values()]
    assert len(set(stories)) == len(stories)


def test_only_an_authenticated_peer_gets_to_established() -> None:
    assert [key for key, (after, _) in STEPS.items() if after is State.ESTABLISHED] == [
        (State.AUTHENTICATING, Step.AUTHENTICATED)
    ]


def test_every_step_tells_its_story_once() -> None:
    stories = [story for _, story in STEPS.values()]
    assert len(set(stories)) == len(stories)


def test_whatever_is_heard_has_a_responder() -> None:
    assert set(HEARD) == set(State)
    assert set().union(*HEARD.values()) == set(RESPONDERS)


def test_nothing_is_sealed_before_keys_are_agreed() -> None:
    sa = sa_in(State.STARTED)
    with pytest.raises(IllegalStepError):
        _ = sa.sealing
    with pytest.raises(IllegalStepError):
        _ = sa.agreed
