"""Child SAs: who installs, who replaces whom, who asks whether the peer lives."""

from dataclasses import replace

from oe.gateway.children import CROSSED_SUCCESSION, GRACE, LINGER, SUCCESSION
from oe.gateway.decisions import SA_MARGIN
from oe.messages import (
    ChildInstalled,
    DatagramReceived,
    Decide,
    FlushAsked,
    InstallChild,
    MoveChild,
    Release,
    RemoveChild,
    SendDatagram,
    Undecide,
)
from oe.model import (
    Anonymity,
    ChildCounters,
    Directions,
    Encapsulation,
    Grade,
    HostPair,
    PairState,
    RecordKind,
    SocketAddress,
    Verdict,
)
from oe.negotiation import CheckLiveness, ChildClosed, ChildMoved, ChildReady, CloseChild, NegotiationEnded
from oe.policy.outcome import Anonymous
from oe.reasons import Reason
from tests.gateway.halves import (
    BEGIN,
    PAIR,
    SUCCESSOR,
    carrier,
    inbound_half,
    informed,
    outbound_half,
    responder,
    with_a_successor,
)
from tests.gateway.script import OTHER, OURS, PEER, PEER_KEY, PRIVATE_PEER, Script, actions, child


def test_responder_answers_between_the_outbound_half_and_the_decision() -> None:
    script = Script()
    commands = responder(script)
    kinds = [type(command) for command in commands if isinstance(command, SendDatagram | InstallChild | Decide)]
    assert kinds == [InstallChild, SendDatagram, Decide]
    status = script.status()
    assert status is not None
    assert (status.state, status.reason) == (PairState.PROTECTED, Reason.PROTECTED_AS_RESPONDER)
    assert (status.peer, status.grade, status.key_source) == (PEER, Grade.SECURE, RecordKind.IPSECKEY)


def test_peer_that_comes_first_frees_what_we_hold_and_our_attempt_is_dropped() -> None:
    script = Script(answers=())
    packet = script.trap()
    responder(script)
    assert script.all(Release) == []
    script.run_until(GRACE)
    assert script.all(Release) == [Release((packet,), Verdict.PROTECTED, fail_closed=False)]
    script.run_until(10.0)
    assert script.all(Undecide) == []
    assert [decide.verdict for decide in script.all(Decide)] == [Verdict.PROTECTED]


def test_what_is_trapped_while_the_peer_gets_ready_waits_too() -> None:
    script = Script(answers=())
    first = script.trap()
    responder(script)
    second = script.trap()
    assert script.all(Release) == []
    script.run_until(GRACE)
    assert script.all(Release) == [Release((first, second), Verdict.PROTECTED, fail_closed=False)]


def test_our_own_negotiation_that_completes_meanwhile_ends_the_wait() -> None:
    script = Script()
    packet = script.trap()
    responder(script)
    script.protect(id=2)
    assert script.all(Release) == [Release((packet,), Verdict.PROTECTED, fail_closed=False)]
    script.run_until(1.0)
    assert len(script.all(Decide)) == 1


def test_our_own_attempt_that_fails_meanwhile_shunts_nothing_over_the_living_sa() -> None:
    script = Script()
    packet = script.trap()
    ticket = script.negotiations()[0].ticket
    responder(script)
    script.engine_says(NegotiationEnded(ticket, Reason.PEER_SILENT, "", authenticated=False))
    assert [decide.verdict for decide in script.all(Decide)] == [Verdict.PROTECTED]
    assert script.all(Release) == [Release((packet,), Verdict.PROTECTED, fail_closed=False)]


def test_sa_that_ends_while_packets_wait_for_it_leaves_them_to_our_own_attempt() -> None:
    script = Script()
    packet = script.trap()
    responder(script)
    script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER))
    script.run_until(1.0)
    assert script.all(Decide) == []
    script.protect(id=2)
    assert script.all(Release) == [Release((packet,), Verdict.PROTECTED, fail_closed=False)]


def test_peer_replaces_a_pass_entry_at_once() -> None:
    script = Script(answers=())
    script.trap()
    script.run_until(3.0)
    responder(script)
    assert [decide.verdict for decide in script.all(Decide)] == [Verdict.CLEAR, Verdict.PROTECTED]
    script.run_until(120.0)
    assert script.all(Undecide) == []


def test_crossed_negotiations_keep_both_inbound_and_the_newest_outbound() -> None:
    script = Script()
    script.trap()
    responder(script, id=1)
    script.protect(id=2, initiated=True)
    status = script.status()
    assert status is not None
    assert status.child is not None
    assert status.child.id == 2
    assert script.all(RemoveChild) == []


def test_the_older_sa_takes_over_when_the_newer_ends() -> None:
    script = Script()
    script.trap()
    responder(script, id=1)
    script.protect(id=2)
    assert actions(script.engine_says(ChildClosed(2, Reason.DELETED_BY_PEER))) == [RemoveChild(2)]
    status = script.status()
    assert status is not None
    assert status.child is not None
    assert (status.state, status.child.id) == (PairState.PROTECTED, 1)
    assert actions(script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER))) == [Undecide(PAIR), RemoveChild(1)]


def test_a_living_sa_carries_on_until_the_peer_can_read_the_one_that_it_brought() -> None:
    script = with_a_successor()
    script.run_until(BEGIN + SUCCESSION - 0.01)
    assert SUCCESSOR not in script.commands
    assert carrier(script) == 1
    script.run_until(BEGIN + SUCCESSION)
    assert script.commands[-1] == SUCCESSOR
    outbound_half(script, 2)
    assert carrier(script) == 2
    assert script.all(Undecide) == []


def test_the_successor_is_installed_before_the_sa_that_ends_goes() -> None:
    script = with_a_successor()
    assert actions(script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER))) == [SUCCESSOR]
    assert actions(outbound_half(script, 2))[-1] == RemoveChild(1)
    assert carrier(script) == 2
    script.run_until(BEGIN + 2 * SUCCESSION)
    assert script.all(InstallChild).count(SUCCESSOR) == 1
    assert actions(script.engine_says(ChildClosed(2, Reason.DELETED_BY_PEER))) == [Undecide(PAIR), RemoveChild(2)]


def test_a_successor_that_cannot_be_installed_is_none() -> None:
    script = with_a_successor()
    script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER))
    assert actions(outbound_half(script, 2, Reason.INSTALL_FAILED)) == [Undecide(PAIR), RemoveChild(1)]
    assert actions(script.engine_says(ChildClosed(2, Reason.INSTALL_FAILED))) == [RemoveChild(2)]
    assert script.status() is None


def test_a_successor_that_ends_while_it_waits_is_forgotten() -> None:
    script = with_a_successor()
    assert actions(script.engine_says(ChildClosed(2, Reason.SUPERSEDED))) == [RemoveChild(2)]
    script.run_until(BEGIN + 2 * SUCCESSION)
    assert SUCCESSOR not in script.commands
    assert carrier(script) == 1


def test_half_an_sa_cannot_take_over() -> None:
    script = Script()
    script.trap()
    script.install(ChildReady(9, child(1, PAIR), Directions.INBOUND, None, PEER_KEY))
    script.protect(id=2)
    assert actions(script.engine_says(ChildClosed(2, Reason.DELETED_BY_PEER))) == [Undecide(PAIR), RemoveChild(2)]


def test_older_sa_that_ends_is_no_event_for_the_pair() -> None:
    script = Script()
    script.trap()
    responder(script, id=1)
    script.protect(id=2)
    assert actions(script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER))) == []
    assert actions(script.run_until(LINGER)) == [RemoveChild(1)]


def test_an_sa_that_lingers_goes_before_the_one_that_sends() -> None:
    script = Script()
    script.trap()
    for id in (1, 2, 3):
        responder(script, id)
        script.run_until(script.now + CROSSED_SUCCESSION)
        outbound_half(script, id)
    script.engine_says(ChildClosed(2, Reason.DELETED_BY_PEER))
    assert actions(script.engine_says(ChildClosed(3, Reason.DELETED_BY_PEER))) == [RemoveChild(2), RemoveChild(3)]
    assert carrier(script) == 1


def test_nothing_lingers_behind_a_trap() -> None:
    script = Script()
    script.trap()
    responder(script, id=1)
    script.protect(id=2)
    script.engine_says(ChildClosed(1, Reason.REDUNDANT))
    assert actions(script.feed(FlushAsked(PAIR))) == [Undecide(PAIR), RemoveChild(1), RemoveChild(2)]
    assert script.gateway.deadline() is None


def test_private_pairs_are_decided_fail_closed() -> None:
    script = Script()
    script.protect(PRIVATE_PEER, initiated=False)
    assert script.all(Decide)[0].fail_closed


# --- rekeys -----------------------------------------------------------------------------------------------------


def test_a_rekey_of_ours_takes_over_and_the_pair_goes_on_as_it_was() -> None:
    script = Script()
    script.trap()
    script.protect()
    script.traffic = {1: (10, 20)}
    script.run_until(50.0)
    before = script.status()
    assert before is not None
    commands = script.protect(id=2, initiated=False, replaces=1)
    assert actions(commands) == [Decide(PAIR, Verdict.PROTECTED, 3600.0 + SA_MARGIN, fail_closed=False)]
    closing = script.engine_says(ChildClosed(1, Reason.REKEYED))
    assert actions(closing) == []
    assert informed([*commands, *closing]) == []
    assert actions(script.run_until(script.now + LINGER)) == [RemoveChild(1)]
    script.traffic = {2: (1, 2)}
    script.run_until(55.0)
    after = script.status()
    assert after is not None
    assert carrier(script) == 2
    assert (after.since, after.reason, after.grade) == (before.since, before.reason, before.grade)
    assert after.counters == ChildCounters(2, 11, 1100, 22, 2200)


def test_a_rekey_of_the_peers_takes_over_when_it_is_ready_for_it() -> None:
    script = with_a_successor()
    closing = script.engine_says(ChildClosed(1, Reason.REKEYED))
    assert actions(closing) == [SUCCESSOR]
    taking_over = outbound_half(script, 2)
    assert actions(taking_over)[-1] == RemoveChild(1)
    assert informed([*closing, *taking_over]) == []
    assert carrier(script) == 2
    assert script.all(Undecide) == []


def test_several_successors_may_wait_and_the_last_one_sends() -> None:
    script = with_a_successor()
    inbound_half(script, 3)
    script.run_until(BEGIN + SUCCESSION)
    assert [install.child.id for install in script.all(InstallChild)[-2:]] == [2, 3]
    outbound_half(script, 2)
    outbound_half(script, 3)
    assert carrier(script) == 3


def test_an_inbound_half_survives_the_end_of_the_pair() -> None:
    script = Script()
    script.trap()
    script.protect()
    script.install(ChildReady(50, child(2, PAIR), Directions.INBOUND, None, PEER_KEY))
    assert actions(script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER))) == [Undecide(PAIR), RemoveChild(1)]
    assert actions(script.engine_says(ChildClosed(2, Reason.DELETED_BY_PEER))) == [RemoveChild(2)]
    assert not script.gateway.pairs


def test_an_outbound_half_that_nobody_wants_any_more_protects_nothing() -> None:
    script = Script(answers=())
    inbound_half(script, 1)
    script.feed(FlushAsked(PAIR))
    assert RemoveChild(1) in actions(outbound_half(script, 1))
    assert script.status() is None
    assert script.all(Decide) == []


def test_a_claim_to_a_pair_that_is_protected_asks_whether_its_peer_still_lives() -> None:
    script = Script()
    script.trap()
    script.protect()
    script.claim(PAIR, PEER)
    assert CheckLiveness(1) not in script.ike.heard
    script.run_until(CROSSED_SUCCESSION)
    script.claim(HostPair(OURS, PRIVATE_PEER), PRIVATE_PEER)
    assert CheckLiveness(1) not in script.ike.heard
    script.claim(PAIR, PEER)
    assert script.ike.heard.count(CheckLiveness(1)) == 1
    assert carrier(script) == 1


# --- the peer moves ---------------------------------------------------------------------------------------------


def test_the_back_end_follows_a_peer_that_moved() -> None:
    script = Script()
    script.trap()
    script.protect()
    mapped = Encapsulation(4500, 61000)
    assert script.engine_says(ChildMoved(1, OTHER, mapped))[0] == MoveChild(1, OTHER, mapped)
    status = script.status()
    assert status is not None
    assert status.child is not None
    assert (status.peer, status.child.remote, status.child.encapsulation) == (OTHER, OTHER, mapped)
    assert script.engine_says(ChildMoved(9, OTHER, mapped)) == []


def test_a_successor_that_waits_moves_too() -> None:
    script = with_a_successor()
    script.engine_says(ChildMoved(2, OTHER, None))
    closing = actions(script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER)))
    assert closing[0] == InstallChild(202, replace(child(2, PAIR), remote=OTHER), Directions.OUTBOUND)


# --- anonymous peers --------------------------------------------------------------------------------------------


def test_nobody_displaces_somebody() -> None:
    script = Script(anonymous=Anonymous.ACCEPT)
    script.trap()
    script.protect()
    commands = script.engine_says(ChildReady(50, child(2, PAIR), Directions.INBOUND, None, None, Anonymity.ANONYMOUS))
    assert actions(commands) == []
    assert script.ike.heard[-1] == ChildInstalled(50, 2, Directions.INBOUND, Reason.ANONYMOUS_REFUSED)
    assert carrier(script) == 1


def test_somebody_displaces_nobody() -> None:
    script = Script(anonymous=Anonymous.ACCEPT)
    script.protect(id=1, initiated=False, key=None)
    status = script.status()
    assert status is not None
    assert (status.authentication, status.key) == (Anonymity.ANONYMOUS, None)
    assert actions(script.protect(id=2, initiated=False))[-1] == RemoveChild(1)
    assert CloseChild(1, Reason.SUPERSEDED) in script.ike.heard
    status = script.status()
    assert status is not None
    assert (status.authentication, status.key) == (Anonymity.AUTHENTICATED, PEER_KEY)
    assert script.all(Undecide) == []


def test_nobody_may_come_again() -> None:
    script = Script(anonymous=Anonymous.ACCEPT)
    script.protect(id=1, initiated=False, key=None)
    script.protect(id=2, initiated=False, key=None)
    assert carrier(script) == 2


def test_other_events_go_to_the_engine() -> None:
    script = Script()
    datagram = DatagramReceived(SocketAddress(OURS, 500), SocketAddress(PEER, 500), b"\0" * 28)
    script.feed(datagram)
    assert script.ike.heard == [datagram]


def test_what_lingers_goes_when_nothing_is_left_of_its_pair() -> None:
    script = Script()
    for number in (1, 2):
        script.install(ChildReady(number, child(number, PAIR), Directions.INBOUND, None, PEER_KEY))
    script.engine_says(ChildReady(20, child(2, PAIR), Directions.OUTBOUND, None, PEER_KEY))
    script.engine_says(ChildClosed(1, Reason.REDUNDANT))
    script.feed(ChildInstalled(20, 2, Directions.OUTBOUND, Reason.INSTALL_FAILED))
    script.engine_says(ChildClosed(2, Reason.INSTALL_FAILED))
    script.run_until(2 * LINGER)
    assert {removed.child for removed in script.all(RemoveChild)} == {1, 2}
    assert script.status() is None
