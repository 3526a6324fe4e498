"""What is left over, what is foreign, what is missing."""

from dataclasses import replace

from oe.ipsec.operations import (
    PRIORITY,
    REQID_BASE,
    RESERVED_REQID,
    Action,
    Policy,
    RemovePolicy,
    RemoveSa,
    Selector,
    Way,
    exemptions,
)
from oe.ipsec.plan import Book
from oe.ipsec.reconcile import SeenPolicy, SeenSa, left_over, missing
from oe.model import Directions
from tests.ipsec.children import OURS, THEIRS, child

OUT = Policy(Selector.hosts(OURS, THEIRS), Way.OUT, None, PRIORITY)
SA_IN, SA_OUT = (OURS, 0x1001), (THEIRS, 0x2002)


def test_own_ones_go_policies_first_and_foreign_ones_stay() -> None:
    sas = [SeenSa(SA_IN, REQID_BASE + 5, 0, 0), SeenSa(SA_OUT, 16385, 0, 0), SeenSa((OURS, 9), RESERVED_REQID, 0, 0)]
    foreign = replace(OUT, way=Way.IN)
    policies = [SeenPolicy(OUT, (REQID_BASE + 5,)), SeenPolicy(foreign, (16385,)), SeenPolicy(foreign, ())]
    assert list(left_over(sas, policies, (), ())) == [RemovePolicy(OUT), RemoveSa(SA_IN), RemoveSa((OURS, 9))]


def test_what_is_wanted_stays() -> None:
    sas = [SeenSa(SA_IN, REQID_BASE + 5, 0, 0), SeenSa(SA_OUT, REQID_BASE + 5, 0, 0)]
    policies = [SeenPolicy(OUT, (REQID_BASE + 5,))]
    assert list(left_over(sas, policies, {SA_IN}, {(OUT.selector, Way.OUT)})) == [RemoveSa(SA_OUT)]


def test_an_exemption_is_ours_only_if_it_is_exactly_ours() -> None:
    ours = exemptions()[0]
    others = [replace(ours, priority=7), replace(ours, action=Action.BLOCK), replace(ours, way=Way.FORWARD)]
    policies = [SeenPolicy(policy, ()) for policy in (ours, *others)]
    assert list(left_over([], policies, (), ())) == [RemovePolicy(ours)]


def test_a_policy_of_several_templates_is_ours_if_one_is() -> None:
    assert list(left_over([], [SeenPolicy(OUT, (1, REQID_BASE + 1))], (), ())) == [RemovePolicy(OUT)]


def test_a_child_sa_of_which_half_is_gone_is_missing() -> None:
    book = Book()
    for number in (1, 2):
        one = child(number, spis=(0x1000 + number, 0x2000 + number))
        book.record(one, book.plan_install(one, Directions.BOTH))
    present = [SeenSa(key, REQID_BASE + 1, 0, 0) for key in book.owners]
    assert missing(present, book.owners) == frozenset()
    assert missing([sa for sa in present if sa.key != (THEIRS, 0x2002)], book.owners) == {2}
    assert missing([], book.owners) == {1, 2}
