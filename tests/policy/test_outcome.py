"""What follows when encryption fails: every class, group, grade and knob."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.model import Grade, Group, PairState, Verdict
from oe.policy.outcome import (
    BY_POLICY,
    CAPS,
    FAILURES,
    HOLD_RETRY,
    SHORTEST,
    Anonymous,
    Dnssec,
    Failure,
    GroupSettings,
    Outcome,
    Unreachable,
    anonymous_for,
    decide,
    may_use,
)
from oe.reasons import Reason
from tests.policy.nets import steady

MINUTE, HOUR = 60.0, 3600.0
AUTO = GroupSettings()
LETTERS = {"c": PairState.CLEAR, "b": PairState.BLOCKED, "h": PairState.HELD}

# private-or-clear. Grades: - none, ? indeterminate, i insecure, s secure. Columns: clear, hold, block, auto.
EXPECTED = """
no-key                      -?is  c c c c   F1
dns-failed                  -?is  c c c c   F2
dns-timeout                 -?is  c c c c   F2
dns-bogus                   -?is  b b b b   F3
malformed-record            -?is  b b b b   F3
no-usable-key               -?is  c c c c   F4
dnssec-required             -?is  c c c c   F4
unsigned-delegation         -?is  c c c c   F4
peer-silent                 -     c c c c   F5
peer-silent                 ?i    c h b c   F5
peer-silent                 s     c h b b   F5
negotiation-timeout         i     c h b c   F5
negotiation-timeout         s     c h b b   F5
liveness-failed             i     c h b c   F5
liveness-failed             s     c h b b   F5
peer-refused                i     c h b c   F6
peer-refused                s     c h b b   F6
we-were-refused             s     c h b b   F6
no-proposal-chosen          s     c h b b   F6
ts-unacceptable             s     c h b b   F6
invalid-syntax              s     c h b b   F6
unsupported-critical-payload s    c h b b   F6
invalid-major-version       s     c h b b   F6
peer-authentication-failed  ?i    c h b c   F7
peer-authentication-failed  s     b b b b   F7
own-key-unpublished         -     c c c c   F8
own-key-unpublished         ?is   c h b c   F8
own-client-undelegated      s     c h b c   F8
no-local-address            s     c h b c   F8
signing-failed              s     c h b c   F8
install-failed              -     c c c c   F10
install-failed              ?i    c h b c   F10
install-failed              s     c h b b   F10
too-many-pairs              -     c c c c   F10
lifetime-ended              s     c h b b   F10
"""
GRADES: dict[str, Grade | None] = {"-": None, "?": Grade.INDETERMINATE, "i": Grade.INSECURE, "s": Grade.SECURE}

Row = tuple[Reason, Grade | None, Unreachable, PairState, Failure]


def rows() -> list[Row]:
    found: list[Row] = []
    for reason, grades, *letters, failure in map(str.split, EXPECTED.strip().splitlines()):
        for grade, (knob, letter) in product(grades, zip(Unreachable, letters, strict=True)):
            found.append((Reason(reason), GRADES[grade], knob, LETTERS[letter], Failure(failure)))
    return found


def test_every_reason_with_a_class_has_a_row() -> None:
    assert {reason for reason, *_ in rows()} >= FAILURES.keys()
    assert {failure for *_, failure in rows()} == set(Failure) == set(CAPS)


@pytest.mark.parametrize(("reason", "grade", "knob", "state", "failure"), rows())
def test_private_or_clear(
    reason: Reason, grade: Grade | None, knob: Unreachable, state: PairState, failure: Failure
) -> None:
    settings = GroupSettings(published_but_unreachable=knob)
    outcome = decide(Group.PRIVATE_OR_CLEAR, reason, grade, settings, authenticated=True)
    assert outcome.state is state
    nothing_published = failure in (Failure.NO_RECORD, Failure.DNS_SILENT, Failure.RECORD_UNUSABLE) or grade is None
    assert outcome.downgrade is (state is PairState.CLEAR and not nothing_published)
    assert outcome.lifetime == lifetime_of(failure, state, grade)


@pytest.mark.parametrize(("reason", "grade", "knob", "permissive", "failure"), rows())
def test_private_is_as_strict_and_never_clear(
    reason: Reason, grade: Grade | None, knob: Unreachable, permissive: PairState, failure: Failure
) -> None:
    settings = GroupSettings(published_but_unreachable=knob)
    outcome = decide(Group.PRIVATE, reason, grade, settings, authenticated=True)
    state = PairState.BLOCKED if permissive is PairState.CLEAR else permissive
    assert outcome == Outcome(state, lifetime_of(failure, state, grade), downgrade=False)


# seconds: clear, blocked
LIFETIMES = {
    Failure.NO_RECORD: (15 * MINUTE, 15 * MINUTE),
    Failure.DNS_SILENT: (MINUTE, MINUTE),
    Failure.UNBELIEVABLE: (0.0, 5 * MINUTE),
    Failure.RECORD_UNUSABLE: (15 * MINUTE, 15 * MINUTE),
    Failure.PEER_SILENT: (2 * MINUTE, 30.0),
    Failure.PEER_REFUSED: (15 * MINUTE, 15 * MINUTE),
    Failure.SIGNATURE_WRONG: (HOUR, HOUR),
    Failure.OWN_CREDENTIALS: (MINUTE, MINUTE),
    Failure.LOCAL_LIMIT: (10.0, 10.0),
}


def lifetime_of(failure: Failure, state: PairState, grade: Grade | None) -> float:
    if state is PairState.HELD:
        return HOLD_RETRY
    if failure is Failure.NO_RECORD and state is PairState.CLEAR and grade is Grade.SECURE:
        return HOUR
    return LIFETIMES[failure][0 if state is PairState.CLEAR else 1]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(None, 900.0), (86400.0, 900.0), (300.0, 300.0), (SHORTEST, SHORTEST), (0.0, SHORTEST), (-1.0, SHORTEST)],
)
def test_a_decision_dies_with_its_answer_but_not_at_once(answer: float | None, expected: float) -> None:
    outcome = decide(Group.PRIVATE_OR_CLEAR, Reason.NO_KEY, Grade.INSECURE, AUTO, answer)
    assert outcome.lifetime == expected


@pytest.mark.parametrize("group", [Group.PRIVATE, Group.PRIVATE_OR_CLEAR])
def test_an_unauthenticated_refusal_counts_as_silence(group: Group) -> None:
    refused, silent = (
        decide(group, reason, Grade.INSECURE, AUTO) for reason in (Reason.PEER_REFUSED, Reason.PEER_SILENT)
    )
    assert refused == silent
    assert decide(group, Reason.PEER_REFUSED, Grade.INSECURE, AUTO, authenticated=True).lifetime > refused.lifetime


@pytest.mark.parametrize(
    ("group", "state"),
    [
        (Group.CLEAR, PairState.CLEAR),
        (Group.CLEAR_OR_PRIVATE, PairState.CLEAR),
        (Group.BLOCK, PairState.BLOCKED),
    ],
)
@pytest.mark.parametrize("reason", [Reason.DNS_BOGUS, Reason.PEER_SILENT, Reason.NO_KEY])
def test_groups_that_start_nothing_keep_to_their_word(group: Group, state: PairState, reason: Reason) -> None:
    assert decide(group, reason, Grade.SECURE, AUTO) == Outcome(state, BY_POLICY, downgrade=False)


@steady
@given(
    reason=st.sampled_from(Reason),
    grade=st.none() | st.sampled_from(Grade),
    knob=st.sampled_from(Unreachable),
    dnssec=st.sampled_from(Dnssec),
    answer=st.none() | st.floats(-1e9, 1e9),
    authenticated=st.booleans(),
)
def test_for_any_reason_private_never_passes_and_nothing_is_final(
    reason: Reason,
    grade: Grade | None,
    knob: Unreachable,
    dnssec: Dnssec,
    answer: float | None,
    authenticated: bool,
) -> None:
    settings = GroupSettings(dnssec, knob)
    for group in Group:
        outcome = decide(group, reason, grade, settings, answer, authenticated=authenticated)
        assert SHORTEST <= outcome.lifetime <= HOUR
        assert outcome.state in LETTERS.values()
        if group in (Group.PRIVATE, Group.BLOCK):
            assert outcome.state is not PairState.CLEAR
        if group is Group.PRIVATE_OR_CLEAR and grade is Grade.BOGUS:
            assert outcome.state is PairState.BLOCKED
        assert not outcome.downgrade or outcome.state is PairState.CLEAR


@pytest.mark.parametrize(
    ("state", "verdict"),
    [(PairState.CLEAR, Verdict.CLEAR), (PairState.BLOCKED, Verdict.BLOCKED), (PairState.HELD, None)],
)
def test_the_kernel_s_part(state: PairState, verdict: Verdict | None) -> None:
    assert Outcome(state, 1.0, downgrade=False).verdict is verdict


@pytest.mark.parametrize(
    ("grade", "require", "prefer", "any_"),
    [
        (Grade.SECURE, None, None, None),
        (Grade.INSECURE, Reason.DNSSEC_REQUIRED, None, None),
        (Grade.INDETERMINATE, Reason.DNSSEC_REQUIRED, Reason.DNSSEC_REQUIRED, None),
        (Grade.BOGUS, Reason.DNS_BOGUS, Reason.DNS_BOGUS, Reason.DNS_BOGUS),
    ],
)
def test_which_answers_may_be_used(
    grade: Grade, require: Reason | None, prefer: Reason | None, any_: Reason | None
) -> None:
    found = [may_use(grade, dnssec) for dnssec in (Dnssec.REQUIRE, Dnssec.PREFER, Dnssec.ANY)]
    assert found == [require, prefer, any_]


def test_defaults() -> None:
    assert GroupSettings() == GroupSettings(Dnssec.PREFER, Unreachable.AUTO, Anonymous.NO)


@pytest.mark.parametrize("knob", Anonymous)
def test_private_never_talks_to_nobody(knob: Anonymous) -> None:
    settings = GroupSettings(anonymous=knob)
    assert anonymous_for(Group.PRIVATE, settings) is Anonymous.NO
    assert anonymous_for(Group.PRIVATE_OR_CLEAR, settings) is knob
