"""What IKE_AUTH and CREATE_CHILD_SA do alike: one of two goes, and who sees to that."""

from oe.ike.channel import finish_request
from oe.ike.child import Child, ChildTimer
from oe.ike.context import Context
from oe.ike.exchanges.child_sa import complete, end_retired, refusal
from oe.ike.payloads import NotifyPayload
from oe.ike.registry import NotifyType
from oe.ike.sa import IkeSa, Timer
from oe.ike.states import ChildState
from oe.messages import SendDatagram
from oe.negotiation import ChildClosed
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


def test_of_two_that_crossed_ours_is_deleted_by_us_after_the_grace() -> None:
    loser = child(801, ours=True, nonces=(LOW, HIGH), begun=NOW - 0.1, made=None)
    winner = child(802, ours=False, begun=NOW - 0.05, made=NOW - 0.01)
    ctx, sa = standing(loser, winner)
    loser.timers[ChildTimer.REKEY] = NOW + 9
    complete(ctx, sa, loser, NOW)
    assert (loser.fate, winner.fate) == (Reason.REDUNDANT, None)
    assert loser.timers[ChildTimer.DELETE] == NOW + ctx.settings.succession_grace
    assert ChildTimer.REKEY not in loser.timers


def test_and_the_peers_by_the_peer_unless_it_forgets() -> None:
    winner = child(801, ours=True, begun=NOW - 0.1, made=None)
    loser = child(802, ours=False, nonces=(HIGH, LOW), begun=NOW - 0.05, made=NOW - 0.01)
    ctx, sa = standing(loser, winner)
    complete(ctx, sa, winner, NOW)
    assert (winner.fate, loser.fate) == (None, Reason.REDUNDANT)
    assert loser.timers[ChildTimer.DELETE] - NOW >= 1.5 * ctx.settings.request_patience


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
