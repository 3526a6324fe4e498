"""What IKE_AUTH and CREATE_CHILD_SA do alike: one of two goes, and who sees to that."""

from oe.ike.channel import end_child, finish_request
from oe.ike.child import Child, ChildTimer
from oe.ike.context import Context
from oe.ike.exchanges.child_sa import Installation, complete, directions_of, end_retired, refusal
from oe.ike.payloads import NotifyPayload
from oe.ike.registry import NotifyType
from oe.ike.sa import IkeSa, Timer
from oe.ike.states import ChildState
from oe.messages import ChildInstalled, SendDatagram
from oe.model import Directions
from oe.negotiation import ChildClosed, ChildReady, ChildRedundant
from oe.reasons import Reason
from tests.ike.children import HIGH, LOW, child
from tests.ike.puppet import played

NOW = 1000.5


def standing(*children: Child) -> tuple[Context, IkeSa]:
    """An IKE SA with these Child SAs."""
    _, host, puppet = played()
    puppet.establish()
    ctx = host.endpoint._ctx
    (sa,) = ctx.sas.values()
    ctx.output.clear()
    for one in children:
        ctx.enter_child(sa, one)
    return ctx, sa


def test_alone_it_stands() -> None:
    one = child(801, begun=NOW - 0.1, made=None)
    ctx, sa = standing(one)
    sa.timers[Timer.CHILDLESS] = NOW + 1
    complete(ctx, sa, one, NOW)
    assert one.made == NOW
    assert one.fate is None
    assert Timer.CHILDLESS not in sa.timers


def test_of_two_that_crossed_the_coordinator_hears_which_goes_and_says_when() -> None:
    for is_ours in (True, False):
        loser = child(801, ours=is_ours, nonces=(LOW, HIGH), begun=NOW - 0.1, made=None)
        winner = child(802, ours=not is_ours, begun=NOW - 0.05, made=NOW - 0.01)
        ctx, sa = standing(loser, winner)
        complete(ctx, sa, loser, NOW)
        assert (loser.fate, winner.fate) == (Reason.REDUNDANT, None)
        assert (loser.is_spare, winner.is_spare) == (True, False)
        assert set(loser.timers) == {ChildTimer.END}
        assert ctx.output == [ChildRedundant(801, is_ours)]
        assert directions_of(loser) is Directions.INBOUND
        assert directions_of(winner) is Directions.BOTH


def test_its_outbound_half_is_handed_out_once_the_inbound_one_is_in_place() -> None:
    loser = child(801)
    ctx, sa = standing(loser)
    for directions, follows in ((Directions.INBOUND, [Directions.OUTBOUND]), (Directions.OUTBOUND, [])):
        ctx.output.clear()
        Installation(ctx, sa, loser).answer(ChildInstalled(1, 801, directions), NOW)
        assert [output.directions for output in ctx.output if isinstance(output, ChildReady)] == follows


def test_when_the_last_one_in_use_is_over_the_redundant_one_is_not_any_more() -> None:
    spare, older, winner = child(801), child(803), child(802)
    for one in (spare, older):
        one.fate = Reason.REDUNDANT
    ctx, sa = standing(older, spare, winner)
    end_child(ctx, sa, 802, Reason.DELETED_BY_PEER)
    assert (spare.fate, older.fate) == (None, Reason.REDUNDANT)
    # Its time to be rekeyed came and went.
    assert spare.timers[ChildTimer.REKEY] == 0.0
    assert sa in ctx.touched
    end_child(ctx, sa, 801, Reason.DELETED_BY_PEER)
    assert older.is_in_use


def test_one_that_is_about_to_be_deleted_is_none_to_fall_back_to() -> None:
    retired, winner = child(801), child(802)
    retired.fate = Reason.REDUNDANT
    retired.timers[ChildTimer.DELETE] = NOW
    ctx, sa = standing(retired, winner)
    end_child(ctx, sa, 802, Reason.DELETED_BY_PEER)
    assert retired.fate is Reason.REDUNDANT


def test_one_that_is_younger_than_both_of_two_that_crossed_ends_the_redundant_one() -> None:
    """Whatever the peer's rule is, it does not send in that any more. Whoever began it: a peer with another rule does
    not delete it."""
    for is_ours in (True, False):
        spare, old, new = child(801, ours=is_ours), child(802), child(803, begun=NOW - 0.1, made=None)
        spare.fate, new.replaces = Reason.REDUNDANT, 802
        ctx, sa = standing(spare, old, new)
        complete(ctx, sa, new, NOW)
        assert spare.timers[ChildTimer.DELETE] == NOW + ctx.settings.succession_grace
        assert not spare.is_spare
        assert new.is_in_use


def test_of_two_that_did_not_cross_the_older_one_is_deleted_by_who_began_it() -> None:
    for is_ours in (True, False):
        old, new = child(801, ours=is_ours), child(802, ours=not is_ours, begun=NOW - 0.1, made=None)
        ctx, sa = standing(old, new)
        old.timers[ChildTimer.REKEY] = NOW + 9
        complete(ctx, sa, new, NOW)
        assert (old.fate, new.fate) == (Reason.REDUNDANT, None)
        assert ChildTimer.REKEY not in old.timers
        wait = old.timers[ChildTimer.DELETE] - NOW
        assert wait == ctx.settings.succession_grace if is_ours else wait >= 1.5 * ctx.settings.request_patience
        assert not ctx.output


def test_one_that_is_not_made_yet_is_not_counted() -> None:
    one, other = child(801, begun=NOW, made=None), child(802, ours=False, begun=NOW, made=None)
    ctx, sa = standing(one, other)
    complete(ctx, sa, one, NOW)
    assert one.fate is None
    assert other.fate is None


def test_the_successor_that_we_asked_for_and_its_predecessor() -> None:
    old, new = child(801), child(802, begun=NOW, made=None)
    new.replaces = 801
    ctx, sa = standing(old, new)
    complete(ctx, sa, new, NOW)
    assert (old.state, old.fate, old.successor) == (ChildState.REPLACED, Reason.REKEYED, 802)
    assert old.timers[ChildTimer.DELETE] == NOW + ctx.settings.succession_grace


def test_while_we_asked_too_the_peers_successor_waits_for_our_answer() -> None:
    old, new = child(801), child(802, ours=False, begun=NOW, made=None)
    old.state, new.replaces = ChildState.REKEYING, 801
    ctx, sa = standing(old, new)
    complete(ctx, sa, new, NOW)
    assert (old.state, old.successor) == (ChildState.REKEYING, 802)
    ours = child(803, nonces=(LOW, LOW), begun=NOW, made=None)
    ours.replaces = 801
    ctx.enter_child(sa, ours)
    complete(ctx, sa, ours, NOW)
    assert (old.state, old.successor) == (ChildState.REPLACED, 802)
    assert ours.fate is Reason.REDUNDANT
    # Who began the one that holds deletes the old one.
    assert old.timers[ChildTimer.DELETE] - NOW >= 1.5 * ctx.settings.request_patience


def test_what_was_to_go_is_deleted_with_a_word_to_the_peer_and_none_to_the_coordinator_so_far() -> None:
    loser, winner = child(801), child(802)
    loser.fate = Reason.REDUNDANT
    ctx, sa = standing(loser, winner)
    end_retired(ctx, sa, loser, NOW)
    assert loser.is_closing
    assert [type(output) for output in ctx.output] == [SendDatagram]
    task = finish_request(sa)
    assert task is not None
    task.answered((), NOW + 0.1)
    assert ChildClosed(801, Reason.REDUNDANT) in ctx.output


def test_the_last_one_of_its_pair_is_kept_whatever_was_decided() -> None:
    one, other = child(801), child(802)
    one.fate, one.state = Reason.REKEYED, ChildState.REPLACED
    other.fate = Reason.REDUNDANT
    ctx, sa = standing(one, other)
    one.timers[ChildTimer.DELETE] = NOW
    end_retired(ctx, sa, one, NOW)
    assert one.is_in_use
    assert ChildTimer.DELETE not in one.timers
    assert ChildTimer.REKEY in one.timers
    assert not ctx.output


def test_refusals_have_their_reason() -> None:
    assert refusal((), "nothing") == (Reason.PEER_REFUSED, "nothing")
    for notify, reason in (
        (NotifyType.TS_UNACCEPTABLE, Reason.TS_UNACCEPTABLE),
        (NotifyType.NO_PROPOSAL_CHOSEN, Reason.NO_PROPOSAL_CHOSEN),
        (NotifyType.FAILED_CP_REQUIRED, Reason.PEER_REFUSED),
    ):
        assert refusal((NotifyPayload(notify),), "") == (reason, notify.name)
