"""What a response comes to: records, aliases, lifetimes."""

from ipaddress import ip_address
from itertools import pairwise

import pytest

from oe.dnskeys.answers import MAX_CHAIN, MAX_DELEGATIONS, Reading, read_answer
from oe.dnskeys.exchange import Heard
from oe.dnskeys.message import Record, Response, Type
from oe.model import Grade, LookupOutcome, RecordKind
from oe.reasons import Reason
from tests.dnskeys.replies import ED_KEY, RSA_KEY, SOA, encoded, heard, ipseckey, question, raw, txt

OWNER = ip_address("192.0.2.1")
NAME = "1.2.0.192.in-addr.arpa."
GATEWAY = "192.0.2.9"
ASKED = question(OWNER)
FAULTY = raw(NAME, b"\x01\x09")


def read(
    *answers: str,
    authority: tuple[str, ...] = (),
    kind: int = Type.IPSECKEY,
    rcode: str = "NOERROR",
    grade: Grade = Grade.SECURE,
) -> Reading:
    asked = question(OWNER, kind)
    return read_answer(asked, OWNER, heard(asked, answers, authority, rcode=rcode, grade=grade))


def test_usable_records_come_best_precedence_first() -> None:
    reading = read(ipseckey(NAME, precedence=20), ipseckey(NAME, GATEWAY, precedence=5))
    assert (reading.outcome, reading.reason) == (LookupOutcome.FOUND, None)
    assert [delegation.precedence for delegation in reading.delegations] == [5, 20]


def test_usable_wins_over_malformed_which_is_told() -> None:
    reading = read(FAULTY, ipseckey(NAME))
    assert reading.outcome is LookupOutcome.FOUND
    assert "1 more unusable" in reading.detail


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([FAULTY], Reason.MALFORMED_RECORD),
        ([raw(NAME, b"\x01\x00\x01dsa")], Reason.NO_USABLE_KEY),
        ([raw(NAME, b"\x01\x00\x01dsa"), FAULTY], Reason.MALFORMED_RECORD),
        ([ipseckey(NAME, "127.0.0.1")], Reason.MALFORMED_RECORD),
        ([ipseckey(NAME, str(OWNER), key=None)], Reason.NO_USABLE_KEY),
    ],
)
def test_nothing_usable(lines: list[str], reason: Reason) -> None:
    reading = read(*lines)
    assert (reading.outcome, reading.reason, reading.delegations) == (LookupOutcome.UNUSABLE, reason, ())


def test_loopback_may_stand_for_itself() -> None:
    owner = ip_address("127.0.0.2")
    asked = question(owner)
    line = ipseckey("2.0.0.127.in-addr.arpa.", "127.0.0.3")
    assert read_answer(asked, owner, heard(asked, [line])).outcome is LookupOutcome.FOUND


@pytest.mark.parametrize("grade", [Grade.INSECURE, Grade.INDETERMINATE])
def test_an_unsigned_record_speaks_for_its_owner_only(grade: Grade) -> None:
    assert read(ipseckey(NAME), grade=grade).outcome is LookupOutcome.FOUND
    assert read(ipseckey(NAME, str(OWNER)), grade=grade).outcome is LookupOutcome.FOUND
    for elsewhere in (ipseckey(NAME, GATEWAY), ipseckey(NAME, "gate.example.")):
        reading = read(elsewhere, grade=grade)
        assert (reading.outcome, reading.reason) == (LookupOutcome.UNUSABLE, Reason.UNSIGNED_DELEGATION)
    mixed = read(ipseckey(NAME, GATEWAY), ipseckey(NAME), grade=grade)
    assert [delegation.gateway for delegation in mixed.delegations] == [None]


@pytest.mark.parametrize(
    ("ttl", "lifetime"), [(0, 60.0), (59, 60.0), (600, 600.0), (86_400, 86_400.0), (2_000_000, 86_400.0)]
)
def test_how_long_a_key_holds(ttl: int, lifetime: float) -> None:
    assert read(ipseckey(NAME, ttl=ttl)).lifetime == lifetime


def test_records_that_are_no_good_are_looked_at_again_soon() -> None:
    assert read(raw(NAME, b"\x01\x09", ttl=86_400)).lifetime == 900.0


@pytest.mark.parametrize("rcode", ["NOERROR", "NXDOMAIN"])
def test_no_record(rcode: str) -> None:
    reading = read(authority=(SOA,), rcode=rcode)
    assert (reading.outcome, reading.reason, reading.lifetime) == (LookupOutcome.NO_KEY, Reason.NO_KEY, 300.0)
    assert reading.name_exists is (rcode == "NOERROR")


@pytest.mark.parametrize(
    ("soa", "grade", "lifetime"),
    [
        ("a. 100 IN SOA b. c. 1 2 3 4 300", Grade.SECURE, 100.0),
        ("a. 90000 IN SOA b. c. 1 2 3 4 90000", Grade.SECURE, 10_800.0),
        ("a. 90000 IN SOA b. c. 1 2 3 4 90000", Grade.INSECURE, 900.0),
        ("a. 90000 IN SOA b. c. 1 2 3 4 90000", Grade.INDETERMINATE, 900.0),
        ("a. 300 IN NS b.", Grade.SECURE, 0.0),
    ],
)
def test_how_long_absence_holds(soa: str, grade: Grade, lifetime: float) -> None:
    assert read(authority=(soa,), grade=grade).lifetime == lifetime


def test_a_soa_too_short_to_be_one_keeps_nothing() -> None:
    cut = Record((), Type.SOA, 300, b"\x00\x00\x00\x09", None)
    response = Response(1, ASKED, 0, authenticated=True, truncated=False, authority=(cut,))
    assert read_answer(ASKED, OWNER, Heard(response, Grade.SECURE, None, "")).lifetime == 0.0


def test_txt_about_other_things_holds_for_its_ttl() -> None:
    reading = read(txt(NAME, "v=spf1 -all", ttl=120), kind=Type.TXT)
    assert (reading.outcome, reading.lifetime) == (LookupOutcome.NO_KEY, 120.0)


def test_txt_that_delegates() -> None:
    content = f"X-IPsec-Server(10)={GATEWAY} {encoded(RSA_KEY)}"
    (delegation,) = read(txt(NAME, "other"), txt(NAME, content), kind=Type.TXT).delegations
    assert (delegation.kind, str(delegation.gateway), delegation.key) == (RecordKind.TXT, GATEWAY, RSA_KEY)


def test_aliases_are_followed_and_their_ttls_count() -> None:
    target = "1.0-31.2.0.192.in-addr.arpa."
    reading = read(f"{NAME} 90 IN CNAME {target}", ipseckey(target))
    assert (reading.outcome, reading.lifetime) == (LookupOutcome.FOUND, 90.0)


def test_dname_without_its_cname_is_followed() -> None:
    reading = read("2.0.192.in-addr.arpa. 70 IN DNAME net.example.", ipseckey("1.net.example."))
    assert (reading.outcome, reading.lifetime) == (LookupOutcome.FOUND, 70.0)


def test_an_alias_to_nothing_is_no_record() -> None:
    reading = read(f"{NAME} 90 IN CNAME a.example.", authority=(SOA,))
    assert (reading.outcome, reading.lifetime) == (LookupOutcome.NO_KEY, 90.0)
    assert read(f"{NAME} 90 IN CNAME a.example.").lifetime == 0.0


def test_records_of_other_names_do_not_count() -> None:
    assert read(ipseckey("2.2.0.192.in-addr.arpa."), authority=(SOA,)).outcome is LookupOutcome.NO_KEY


def chain(links: int) -> list[str]:
    names = [NAME, *(f"n{n}.example." for n in range(links))]
    return [f"{a} 60 IN CNAME {b}" for a, b in pairwise(names)] + [ipseckey(names[-1])]


def test_chains_have_an_end() -> None:
    assert read(*chain(MAX_CHAIN)).outcome is LookupOutcome.FOUND
    for lines in (chain(MAX_CHAIN + 1), [f"{NAME} 60 IN CNAME a.", f"a. 60 IN CNAME {NAME}"]):
        reading = read(*lines)
        assert (reading.outcome, reading.reason) == (LookupOutcome.FAILED, Reason.DNS_FAILED)


def test_a_record_given_twice_counts_once_and_only_so_many_count() -> None:
    assert len(read(ipseckey(NAME), ipseckey(NAME)).delegations) == 1
    many = [ipseckey(NAME, precedence=n, key=ED_KEY) for n in range(40)]
    assert [d.precedence for d in read(*reversed(many)).delegations] == list(range(MAX_DELEGATIONS))


@pytest.mark.parametrize(
    ("grade", "reason", "outcome", "lifetime"),
    [
        (Grade.BOGUS, Reason.DNS_BOGUS, LookupOutcome.BOGUS, 60.0),
        (Grade.INDETERMINATE, Reason.DNS_FAILED, LookupOutcome.FAILED, 15.0),
        (Grade.INDETERMINATE, Reason.DNS_TIMEOUT, LookupOutcome.FAILED, 15.0),
    ],
)
def test_no_response(grade: Grade, reason: Reason, outcome: LookupOutcome, lifetime: float) -> None:
    reading = read_answer(ASKED, OWNER, Heard(None, grade, reason, "why"))
    assert (reading.outcome, reading.reason, reading.lifetime, reading.detail) == (outcome, reason, lifetime, "why")
