"""What a CREATE_CHILD_SA request is told while we are at work on the same SA ourselves."""

import pytest

from oe.ike.collisions import COLLISIONS, Ask, Situation, refusal
from oe.ike.registry import NotifyType


@pytest.mark.parametrize("ask", Ask)
def test_with_nothing_under_way_everything_is_answered_as_usual(ask: Ask) -> None:
    assert refusal(ask, ()) is None


@pytest.mark.parametrize(("situation", "ask"), list(COLLISIONS))
def test_the_table_is_followed(situation: Situation, ask: Ask) -> None:
    assert refusal(ask, {situation}) == COLLISIONS[situation, ask][0]


def test_a_child_sa_that_is_not_there_cannot_be_rekeyed_and_anything_else_can_be_done() -> None:
    assert refusal(Ask.REKEY_CHILD, {Situation.CHILD_UNKNOWN}) == NotifyType.CHILD_SA_NOT_FOUND
    assert refusal(Ask.NEW_CHILD, {Situation.CHILD_UNKNOWN}) is None
    assert refusal(Ask.REKEY_IKE, {Situation.CHILD_UNKNOWN}) is None


def test_both_rekey_the_same_and_both_are_answered() -> None:
    """RFC 7296 2.8.1 and 2.8.2: nonces decide afterwards."""
    assert refusal(Ask.REKEY_CHILD, {Situation.CHILD_CHANGES}) is None
    assert refusal(Ask.REKEY_IKE, {Situation.IKE_REKEYED}) is None


def test_of_several_reasons_the_one_that_says_later_comes_first() -> None:
    every = frozenset(Situation)
    assert refusal(Ask.REKEY_CHILD, every) == NotifyType.TEMPORARY_FAILURE
    assert refusal(Ask.NEW_CHILD, every) == NotifyType.TEMPORARY_FAILURE


def test_every_story_is_told_once() -> None:
    stories = [story for _, story in COLLISIONS.values()]
    assert len(set(stories)) == len(stories)
