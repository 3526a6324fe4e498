"""From two answers to one, and the step to the gateway's own name."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from itertools import product

import pytest

from oe.dnskeys.answers import Reading
from oe.dnskeys.exchange import Heard
from oe.dnskeys.lookup import MAX_GATEWAYS_ASKED, Lookup, decide
from oe.dnskeys.message import Question, Type
from oe.dnskeys.names import host_labels, reverse_labels
from oe.model import Grade, KeyAnswer, LookupOutcome, RecordKind
from oe.reasons import Reason
from tests.dnskeys.replies import ED_KEY, RSA_KEY, SOA, encoded, heard, ipseckey, question, raw, txt

OWNER, GATEWAY = ip_address("192.0.2.1"), ip_address("192.0.2.9")
NAME, GATEWAY_NAME = "1.2.0.192.in-addr.arpa.", "9.2.0.192.in-addr.arpa."
BOGUS = Heard(None, Grade.BOGUS, Reason.DNS_BOGUS, "bogus")
TIMEOUT = Heard(None, Grade.INDETERMINATE, Reason.DNS_TIMEOUT, "silent")
NOW = 1000.0

Answering = Callable[[Question], Heard]


def nothing(asked: Question) -> Heard:
    return heard(asked, authority=[SOA])


def lines(*answers: str, grade: Grade = Grade.SECURE) -> Answering:
    """Answers with those lines that are of the type asked for."""

    def answer(asked: Question) -> Heard:
        is_txt = asked.type == Type.TXT
        mine = [line for line in answers if (" IN TXT " in line) is is_txt]
        return heard(asked, mine, [] if mine else [SOA], grade=grade)

    return answer


def run(ipseckey_says: Answering, txt_says: Answering = nothing, gateways: Answering = nothing) -> KeyAnswer:
    """Answer every question, the first two in both orders; both must come to the same."""
    answers = []
    for backwards in (False, True):
        lookup = Lookup(OWNER)
        to_ask = list(lookup.questions())
        assert to_ask == [question(OWNER), question(OWNER, Type.TXT)]
        if backwards:
            to_ask.reverse()
        while to_ask and lookup.answer is None:
            asked = to_ask.pop(0)
            mine = ipseckey_says if asked.type == Type.IPSECKEY else txt_says
            says = mine if asked.name == reverse_labels(OWNER) else gateways
            to_ask += lookup.feed(asked, says(asked), NOW)
        assert lookup.answer is not None
        answers.append(lookup.answer)
    assert answers[0] == answers[1]
    return answers[0]


def reading(outcome: LookupOutcome, lifetime: float, grade: Grade = Grade.SECURE) -> Reading:
    return Reading(outcome, grade, None, lifetime)


FOUND, BAD, UNUSABLE, FAILED, NO_KEY = (
    LookupOutcome.FOUND,
    LookupOutcome.BOGUS,
    LookupOutcome.UNUSABLE,
    LookupOutcome.FAILED,
    LookupOutcome.NO_KEY,
)


@pytest.mark.parametrize(
    ("ipseckey_says", "txt_says", "expected"),
    [
        *((FOUND, other, FOUND) for other in LookupOutcome),
        *((BAD, other, BAD) for other in LookupOutcome),
        (UNUSABLE, FOUND, FOUND),
        (UNUSABLE, BAD, BAD),
        (UNUSABLE, UNUSABLE, UNUSABLE),
        (UNUSABLE, FAILED, UNUSABLE),
        (UNUSABLE, NO_KEY, UNUSABLE),
        (FAILED, FOUND, FOUND),
        (FAILED, BAD, BAD),
        (FAILED, UNUSABLE, UNUSABLE),
        (FAILED, FAILED, FAILED),
        (FAILED, NO_KEY, FAILED),
        (NO_KEY, FOUND, FOUND),
        (NO_KEY, BAD, BAD),
        (NO_KEY, UNUSABLE, UNUSABLE),
        (NO_KEY, FAILED, FAILED),
        (NO_KEY, NO_KEY, NO_KEY),
    ],
)
def test_the_whole_table(ipseckey_says: LookupOutcome, txt_says: LookupOutcome, expected: LookupOutcome) -> None:
    decided = decide(reading(ipseckey_says, 100.0), reading(txt_says, 50.0))
    assert decided is not None
    assert decided.outcome is expected
    assert decided.lifetime == (100.0 if ipseckey_says in (FOUND, BAD) else 50.0)


def test_what_needs_no_second_answer() -> None:
    for outcome in (FOUND, BAD):
        assert decide(reading(outcome, 1.0), None) == reading(outcome, 1.0)
    no_such_name = replace(reading(NO_KEY, 1.0), name_exists=False)
    assert decide(no_such_name, None) == no_such_name
    for outcome in (UNUSABLE, FAILED, NO_KEY):
        assert decide(reading(outcome, 1.0), None) is None
    for outcome in LookupOutcome:
        assert decide(None, reading(outcome, 1.0)) is None


def test_absence_is_as_proven_as_the_weaker_proof() -> None:
    for one, other in product((Grade.SECURE, Grade.INSECURE), repeat=2):
        decided = decide(reading(NO_KEY, 1.0, one), reading(NO_KEY, 1.0, other))
        assert decided is not None
        assert decided.grade is (Grade.SECURE if one is other is Grade.SECURE else Grade.INSECURE)


def test_found() -> None:
    answer = run(lines(ipseckey(NAME, ttl=700)))
    assert (answer.owner, answer.outcome, answer.grade, answer.reason) == (OWNER, FOUND, Grade.SECURE, None)
    assert answer.expires == NOW + 700
    assert [delegation.key for delegation in answer.delegations] == [ED_KEY]


def test_txt_is_ignored_beside_a_usable_ipseckey() -> None:
    legacy = lines(txt(NAME, f"X-IPsec-Server(1)={GATEWAY} {encoded(RSA_KEY)}"))
    assert [d.kind for d in run(lines(ipseckey(NAME)), legacy).delegations] == [RecordKind.IPSECKEY]
    assert [d.kind for d in run(nothing, legacy).delegations] == [RecordKind.TXT]
    assert [d.kind for d in run(lines(raw(NAME, b"\x01\x09")), legacy).delegations] == [RecordKind.TXT]


def test_the_other_outcomes() -> None:
    for says, outcome, reason in (
        (nothing, NO_KEY, Reason.NO_KEY),
        (lambda asked: BOGUS, BAD, Reason.DNS_BOGUS),
        (lambda asked: TIMEOUT, FAILED, Reason.DNS_TIMEOUT),
        (lines(raw(NAME, b"\x01\x09")), UNUSABLE, Reason.MALFORMED_RECORD),
    ):
        answer = run(says)
        assert (answer.outcome, answer.reason, answer.delegations) == (outcome, reason, ())


KEYLESS = lines(ipseckey(NAME, str(GATEWAY), key=None, ttl=500, precedence=7))


def test_a_record_without_key_finds_it_at_the_gateways_name() -> None:
    at_gateway = lines(ipseckey(GATEWAY_NAME, ttl=400), ipseckey(GATEWAY_NAME, str(GATEWAY), key=RSA_KEY))
    answer = run(KEYLESS, gateways=at_gateway)
    assert (answer.outcome, answer.expires) == (FOUND, NOW + 400)
    assert {(d.gateway, d.precedence) for d in answer.delegations} == {(GATEWAY, 7)}
    assert {d.key for d in answer.delegations} == {ED_KEY, RSA_KEY}


def test_a_named_gateway_has_its_key_under_its_name() -> None:
    answer = run(nothing, lines(txt(NAME, "X-IPsec-Server(1)=@gate.example")), lines(ipseckey("gate.example.")))
    (delegation,) = answer.delegations
    assert (delegation.gateway_name, delegation.gateway, delegation.key) == ("gate.example", None, ED_KEY)


def test_keys_that_the_gateway_publishes_for_others_do_not_count() -> None:
    answer = run(KEYLESS, gateways=lines(ipseckey(GATEWAY_NAME, "192.0.2.8")))
    assert (answer.outcome, answer.reason) == (UNUSABLE, Reason.NO_USABLE_KEY)


def test_an_unsigned_key_completes_no_delegation() -> None:
    answer = run(KEYLESS, gateways=lines(ipseckey(GATEWAY_NAME), grade=Grade.INSECURE))
    assert (answer.outcome, answer.delegations) == (UNUSABLE, ())


def test_one_step_and_no_further() -> None:
    answer = run(KEYLESS, gateways=lines(ipseckey(GATEWAY_NAME, "192.0.2.8", key=None)))
    assert (answer.outcome, answer.reason) == (UNUSABLE, Reason.NO_USABLE_KEY)


@pytest.mark.parametrize(
    ("says", "outcome", "reason"), [(BOGUS, BAD, Reason.DNS_BOGUS), (TIMEOUT, FAILED, Reason.DNS_TIMEOUT)]
)
def test_what_goes_wrong_at_the_gateways_name_tells_why(says: Heard, outcome: LookupOutcome, reason: Reason) -> None:
    answer = run(KEYLESS, gateways=lambda asked: says)
    assert (answer.outcome, answer.reason, answer.delegations) == (outcome, reason, ())


def test_a_key_at_hand_outlives_a_gateway_that_fails() -> None:
    both = lines(ipseckey(NAME, str(GATEWAY), key=None), ipseckey(NAME, "192.0.2.8"))
    answer = run(both, gateways=lambda asked: TIMEOUT)
    assert (answer.outcome, [str(d.gateway) for d in answer.delegations]) == (FOUND, ["192.0.2.8"])


def test_only_so_many_gateways_are_asked() -> None:
    lookup = Lookup(OWNER)
    asked = question(OWNER)
    many = [ipseckey(NAME, f"192.0.2.{n}", key=None) for n in range(100, 110)]
    assert len(lookup.feed(asked, heard(asked, many), NOW)) == 2 * MAX_GATEWAYS_ASKED


def test_a_gateway_named_like_the_owner_does_no_harm() -> None:
    named = lines(txt(NAME, f"X-IPsec-Server(1)=@{NAME}"))
    assert host_labels(NAME) == reverse_labels(OWNER)
    assert run(nothing, named).outcome is UNUSABLE
