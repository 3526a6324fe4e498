"""Grades: the whole table, and what a grade allows."""

from ipaddress import ip_address

import pytest

from oe.dnskeys.trust import Evidence, grade, may_delegate, weaker
from oe.model import Delegation, Grade, RecordKind
from tests.dnskeys.replies import ED_KEY

OWNER = ip_address("192.0.2.1")


@pytest.mark.parametrize(
    ("on_loopback", "authenticated", "only_unchecked", "expected"),
    [
        (True, True, False, Grade.SECURE),
        (True, False, False, Grade.INSECURE),
        (False, True, False, Grade.INDETERMINATE),
        (False, False, False, Grade.INDETERMINATE),
        (True, True, True, Grade.BOGUS),
        (True, False, True, Grade.BOGUS),
        (False, True, True, Grade.BOGUS),
        (False, False, True, Grade.BOGUS),
    ],
)
def test_grades(on_loopback: bool, authenticated: bool, only_unchecked: bool, expected: Grade) -> None:
    assert grade(Evidence(on_loopback, authenticated, only_unchecked)) is expected


def test_the_weaker_of_two() -> None:
    order = [Grade.BOGUS, Grade.INDETERMINATE, Grade.INSECURE, Grade.SECURE]
    for index, low in enumerate(order):
        for high in order[index:]:
            assert weaker(low, high) is weaker(high, low) is low


@pytest.mark.parametrize("unsigned", [Grade.INSECURE, Grade.INDETERMINATE])
def test_only_signed_records_delegate_to_others(unsigned: Grade) -> None:
    itself = Delegation(RecordKind.IPSECKEY, 10, None, None, ED_KEY)
    by_address = Delegation(RecordKind.IPSECKEY, 10, OWNER, None, ED_KEY)
    elsewhere = Delegation(RecordKind.IPSECKEY, 10, ip_address("192.0.2.2"), None, ED_KEY)
    by_name = Delegation(RecordKind.IPSECKEY, 10, None, "gate.example", ED_KEY)
    for delegation, unsigned_may in ((itself, True), (by_address, True), (elsewhere, False), (by_name, False)):
        assert may_delegate(Grade.SECURE, OWNER, delegation)
        assert may_delegate(unsigned, OWNER, delegation) is unsigned_may
