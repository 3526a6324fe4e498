"""The rows are what the plan can drive, and each has a pair of its own."""

from collections import Counter
from dataclasses import replace

from oe.lab.outcome import Outcome
from oe.lab.plan import CLIENT, HOST, host_of
from oe.lab.rows import MATRIX, ROWS, Row
from oe.model import Group


def test_every_end_is_a_hosts_address() -> None:
    for row in ROWS:
        assert host_of(row.source) is not host_of(row.destination)
        assert HOST[row.decider].runs_oe


def test_no_two_rows_share_a_pair_unless_one_repeats_the_other() -> None:
    assert max(Counter(row.inner for row in ROWS if not row.repeats).values()) == 1
    for row in ROWS:
        assert not row.repeats or any(other.inner == row.inner for other in ROWS[: ROWS.index(row)])


def test_groups_are_those_of_the_policy_files() -> None:
    for row in ROWS:
        policies = HOST[row.decider].policies
        groups = [group for group, nets in policies.items() if any(row.destination in net for net in nets)]
        assert groups == ([] if row.group is None else [row.group])
        if row.far_group is not None:
            assert any(row.source in net for net in HOST["bob"].policies[row.far_group])


def test_every_group_is_tried_against_every_other() -> None:
    assert {(row.group, row.far_group) for row in ROWS if row.far_group} == {(a, b) for a in Group for b in Group}
    assert set(MATRIX) == set(Group)


def test_gateways_are_the_ends_unless_a_row_says_otherwise() -> None:
    for row in ROWS:
        behind_the_gate = any(HOST["client"] is host_of(end) for end in row.inner)
        assert (row.gateways == row.inner) == (row.outer is None)
        assert row.outer is not None or not behind_the_gate


def _row(expected: Outcome) -> Row:
    return Row("", "tcp", CLIENT, CLIENT, Group.PRIVATE, expected)


def test_answered_rows_allow_no_loss() -> None:
    assert _row(Outcome.ENCRYPTED).allows(Outcome.ENCRYPTED, 0)
    assert not _row(Outcome.ENCRYPTED).allows(Outcome.ENCRYPTED, 1)
    assert not _row(Outcome.ENCRYPTED).allows(Outcome.IN_CLEAR, 0)
    assert replace(_row(Outcome.ENCRYPTED), may_lose=1).allows(Outcome.ENCRYPTED, 1)
    assert _row(Outcome.UNANSWERED).allows(Outcome.UNANSWERED, 2)


def test_refused_at_once_is_as_good_as_nothing_but_not_the_other_way_round() -> None:
    assert _row(Outcome.NOTHING).allows(Outcome.REFUSED, 1)
    assert not _row(Outcome.REFUSED).allows(Outcome.NOTHING, 1)
