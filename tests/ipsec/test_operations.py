"""Operations and what takes them back."""

from dataclasses import replace

from oe.ipsec.operations import (
    EXEMPTION_PRIORITY,
    NEIGHBOUR_DISCOVERY,
    PRIORITY,
    REQID_BASE,
    AddSa,
    PutPolicy,
    RemovePolicy,
    RemoveSa,
    ReplaceSa,
    Way,
    exemptions,
    own_reqid,
    sas_between,
    undo,
)
from oe.ipsec.plan import Book
from oe.model import Directions
from tests.ipsec.children import CLIENT, OURS, child


def test_what_was_added_is_removed_and_what_was_replaced_returns() -> None:
    sa, policy = Book().plan_install(child(), Directions.INBOUND)[:2]
    assert isinstance(sa, AddSa)
    assert undo(sa) == RemoveSa((OURS, 0x1001))
    assert isinstance(policy, PutPolicy)
    assert undo(policy) == RemovePolicy(policy.policy)
    older = exemptions()[0]
    assert undo(PutPolicy(policy.policy, older)) == PutPolicy(older, policy.policy)


def test_which_sas_a_move_that_failed_half_way_has_left() -> None:
    book, here = Book(), child()
    book.record(here, book.plan_install(here, Directions.BOTH))
    move = book.plan_move(replace(here, remote=CLIENT))
    ends = [step for step, operation in enumerate(move) if isinstance(operation, ReplaceSa)]
    for done in range(len(move) + 1):
        outbound = (CLIENT if done > ends[1] else here.remote, here.outbound.spi)
        assert list(sas_between(move, done)) == [(here.local, here.inbound.spi), outbound]


def test_only_our_range_of_reqids_is_ours() -> None:
    assert own_reqid(REQID_BASE)
    assert own_reqid(REQID_BASE + 0xFF_FFFF)
    for foreign in (0, 1, 16385, REQID_BASE - 1, REQID_BASE + 0x100_0000):
        assert not own_reqid(foreign)


def test_reqids_stay_in_the_range_and_off_the_reserved_one() -> None:
    for number in (0, 1, 0xFF_FFFE, 0xFF_FFFF, 1 << 40):
        (sa, *_rest) = Book().plan_install(child(number), Directions.INBOUND)
        assert isinstance(sa, AddSa)
        assert own_reqid(sa.sa.reqid)
        assert sa.sa.reqid != REQID_BASE


def test_exemptions_go_before_every_pair_and_only_for_neighbour_discovery() -> None:
    assert EXEMPTION_PRIORITY < PRIORITY
    assert {policy.selector.icmp_type for policy in exemptions()} == set(NEIGHBOUR_DISCOVERY)
    assert {policy.way for policy in exemptions()} == {Way.IN, Way.OUT}
    assert all(policy.selector.protocol == 58 and policy.template is None for policy in exemptions())
