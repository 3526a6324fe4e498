"""Stories of host pairs: which commands, in which order."""

from ipaddress import ip_address

import pytest

from oe.gateway.coordinator import DUE_AT_ONCE
from oe.gateway.decisions import SA_MARGIN
from oe.messages import (
    AddressesChanged,
    ChildExpired,
    ClearPacketRefused,
    Decide,
    Drop,
    Finish,
    FlushAsked,
    InstallChild,
    KeepMapping,
    LookUpKeys,
    Note,
    PeerMoved,
    Release,
    RemoveChild,
    StopAsked,
    Undecide,
)
from oe.model import Grade, HostPair, PairState, SocketAddress, Verdict
from oe.negotiation import ChildClosed, CloseChild, CloseEverything, NegotiationEnded, RekeyChild
from oe.policy.outcome import Unreachable
from oe.reasons import Reason
from tests.gateway.script import (
    NETS,
    OUR_KEY,
    OURS,
    PEER,
    PRIVATE_PEER,
    Script,
    actions,
    delegation,
    found,
    missing,
    v4,
)

PAIR = HostPair(OURS, PEER)
PRIVATE_PAIR = HostPair(OURS, PRIVATE_PEER)


def test_first_packet_to_a_keyed_peer_is_held_until_it_can_leave_encrypted() -> None:
    script = Script()
    packet = script.trap()
    assert actions(script.commands) == []
    waiting = script.status()
    assert waiting is not None
    assert waiting.state is PairState.NEGOTIATING
    (negotiate,) = script.negotiations()
    assert (negotiate.pair, negotiate.remote.address, negotiate.deadline) == (PAIR, PEER, 3.0)

    done = actions(script.protect())

    assert [type(command) for command in done] == [Decide, Release]
    assert done[0] == Decide(PAIR, Verdict.PROTECTED, 3600.0 + SA_MARGIN, fail_closed=False)
    assert done[1] == Release((packet,), Verdict.PROTECTED, fail_closed=False)
    status = script.status()
    assert status is not None
    assert (status.state, status.reason) == (PairState.PROTECTED, Reason.PROTECTED_AS_INITIATOR)
    assert (status.peer, status.grade, status.held, status.lost) == (PEER, Grade.SECURE, 0, 0)


def test_packets_are_released_in_the_order_of_their_arrival() -> None:
    script = Script()
    packets = tuple(script.trap() for _ in range(4))
    script.protect()
    assert [release.packets for release in script.all(Release)] == [packets]


def test_what_does_not_fit_is_dropped_by_name_and_the_first_are_kept() -> None:
    script = Script()
    packets = [script.trap() for _ in range(6)]
    assert script.all(Drop) == [Drop((id,), Reason.HOLD_PAIR_FULL) for id in packets[4:]]
    status = script.status()
    assert status is not None
    assert (status.held, status.lost) == (4, 2)


def test_no_key_in_private_or_clear_goes_in_clear_at_once_and_without_ike() -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), missing(PEER)))
    packet = script.trap()
    decide, release = actions(script.commands)
    assert isinstance(decide, Decide)
    assert decide.verdict is Verdict.CLEAR
    assert release == Release((packet,), Verdict.CLEAR, fail_closed=False)
    assert script.negotiations() == []


def test_no_key_in_private_is_blocked() -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), missing(PRIVATE_PEER)))
    packet = script.trap(PRIVATE_PEER)
    decide, drop = actions(script.commands)
    assert isinstance(decide, Decide)
    assert (decide.verdict, decide.fail_closed) == (Verdict.BLOCKED, True)
    assert drop == Drop((packet,), Reason.NO_KEY)


@pytest.mark.parametrize("reason", [Reason.DNS_BOGUS, Reason.MALFORMED_RECORD])
def test_an_answer_that_cannot_be_believed_blocks_even_permissive_pairs(reason: Reason) -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), missing(PEER, reason, Grade.BOGUS)))
    script.trap()
    assert script.all(Release) == []
    assert script.all(Decide)[0].verdict is Verdict.BLOCKED


def test_silent_peer_with_a_signed_key_is_blocked_when_the_budget_is_spent_and_tried_again() -> None:
    script = Script()
    packet = script.trap()
    ticket = script.negotiations()[0].ticket
    script.now = 2.9
    script.engine_says(NegotiationEnded(ticket, Reason.PEER_SILENT, "no answer", authenticated=False))
    assert script.all(Decide)[0].verdict is Verdict.BLOCKED
    assert script.all(Drop) == [Drop((packet,), Reason.PEER_SILENT)]
    script.run_until(9.0)
    assert len(script.negotiations()) == 2
    status = script.status()
    assert status is not None
    assert status.state is PairState.BLOCKED


def test_silent_peer_with_an_unsigned_key_goes_in_clear_and_the_downgrade_is_told() -> None:
    answers = (found(OURS, delegation(OUR_KEY)), found(PEER, delegation(), grade=Grade.INSECURE))
    script = Script(answers=answers)
    packet = script.trap()
    script.run_until(3.0)
    assert script.all(Release) == [Release((packet,), Verdict.CLEAR, fail_closed=False)]
    assert "pair-downgraded" in [note.event for note in script.all(Note)]


def test_encryption_in_the_background_replaces_the_fallback() -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), found(PEER, delegation(), grade=Grade.INSECURE)))
    script.trap()
    script.run_until(9.0)
    assert len(script.negotiations()) == 2
    decide = actions(script.protect())[0]
    assert isinstance(decide, Decide)
    assert decide.verdict is Verdict.PROTECTED
    assert script.all(Undecide) == []


def test_dns_that_never_answers_costs_the_budget_and_no_more() -> None:
    script = Script(answers=())
    packet = script.trap()
    assert len(script.all(LookUpKeys)) == 2
    script.run_until(3.0)
    assert script.all(Release) == [Release((packet,), Verdict.CLEAR, fail_closed=False)]


def test_our_own_key_unpublished_means_no_ike_at_all() -> None:
    script = Script(answers=(missing(OURS), found(PEER, delegation())))
    packet = script.trap()
    assert script.negotiations() == []
    assert script.all(Release) == [Release((packet,), Verdict.CLEAR, fail_closed=False)]
    status = script.status()
    assert status is not None
    assert status.reason is Reason.OWN_KEY_UNPUBLISHED


@pytest.mark.parametrize(
    ("net", "expected"),
    [("198.51.100.130", Release), ("198.51.100.225", Release), ("192.0.2.77", Release), ("198.51.100.200", Drop)],
)
def test_groups_that_never_hold_settle_a_stray_packet_without_a_record(net: str, expected: type) -> None:
    script = Script()
    script.trap(v4(net))
    assert [type(command) for command in actions(script.commands)] == [expected]
    assert not script.gateway.pairs


def test_packet_that_was_queued_before_the_decision_follows_it() -> None:
    script = Script()
    script.trap()
    script.protect()
    late = script.trap()
    assert script.all(Release)[-1] == Release((late,), Verdict.PROTECTED, fail_closed=False)


def test_clear_packet_from_a_private_peer_starts_what_our_own_would() -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), found(PRIVATE_PEER, delegation())))
    script.feed(ClearPacketRefused(PRIVATE_PAIR))
    (negotiate,) = script.negotiations()
    assert (negotiate.pair, negotiate.fail_closed) == (PRIVATE_PAIR, True)
    script.feed(ClearPacketRefused(PRIVATE_PAIR))
    assert len(script.negotiations()) == 1
    script.protect(PRIVATE_PEER)
    assert script.all(Decide)[0].verdict is Verdict.PROTECTED


def test_forged_clear_packets_decide_nothing() -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), found(PRIVATE_PEER, delegation())))
    script.trap(PRIVATE_PEER)
    script.protect(PRIVATE_PEER)
    before = script.status(PRIVATE_PEER)
    assert actions(script.feed(ClearPacketRefused(PRIVATE_PAIR))) == []
    assert script.status(PRIVATE_PEER) == before
    assert script.gateway.reasons[Reason.CLEAR_FROM_PRIVATE] == 1


@pytest.mark.parametrize("pair", [PAIR, HostPair(v4("203.0.113.99"), PRIVATE_PEER)])
def test_clear_packet_of_another_group_or_to_somebody_else_starts_nothing(pair: HostPair) -> None:
    script = Script()
    script.feed(ClearPacketRefused(pair))
    assert not script.gateway.pairs


def test_clear_packets_cannot_fill_the_table() -> None:
    script = Script(max_pairs=1)
    script.trap()
    script.feed(ClearPacketRefused(PRIVATE_PAIR))
    assert script.status(PRIVATE_PEER) is None


def test_too_many_pairs_fail_closed_for_private_and_open_for_the_rest() -> None:
    script = Script(max_pairs=1)
    script.trap()
    clear = script.trap(v4("198.51.100.11"))
    dropped = script.trap(PRIVATE_PEER)
    assert script.all(Release) == [Release((clear,), Verdict.CLEAR, fail_closed=False)]
    assert script.all(Drop) == [Drop((dropped,), Reason.TOO_MANY_PAIRS)]


def test_decision_expires_and_the_next_packet_asks_again() -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), missing(PRIVATE_PEER, grade=Grade.INSECURE)))
    script.trap(PRIVATE_PEER)
    lifetime = script.all(Decide)[0].lifetime
    script.run_until(lifetime + 1)
    assert script.all(Undecide) == [Undecide(PRIVATE_PAIR)]
    assert not script.gateway.pairs
    script.trap(PRIVATE_PEER)
    assert len(script.all(Decide)) == 2


# --- a peer that stopped answering ------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [Reason.LIVENESS_FAILED, Reason.PEER_RESTARTED])
@pytest.mark.parametrize(
    ("grade", "knob", "verdict"),
    [
        (Grade.INSECURE, Unreachable.AUTO, Verdict.CLEAR),
        (Grade.SECURE, Unreachable.AUTO, Verdict.BLOCKED),
        (Grade.SECURE, Unreachable.CLEAR, Verdict.CLEAR),
        (Grade.SECURE, Unreachable.HOLD, None),
    ],
)
def test_behind_a_dead_tunnel_packets_are_held_until_the_policy_says(
    reason: Reason, grade: Grade, knob: Unreachable, verdict: Verdict | None
) -> None:
    answers = (found(OURS, delegation(OUR_KEY)), found(PEER, delegation(), grade=grade))
    script = Script(answers=answers, unreachable=knob)
    script.trap()
    script.protect()
    assert actions(script.engine_says(ChildClosed(1, reason))) == [Undecide(PAIR), RemoveChild(1)]
    packet = script.trap()
    status = script.status()
    assert status is not None
    assert (status.state, status.held) == (PairState.NEGOTIATING, 1)
    script.run_until(2.9)
    assert all(packet not in release.packets for release in script.all(Release))
    script.run_until(3.0)
    decided = [decide.verdict for decide in script.all(Decide)][1:]
    assert decided == ([verdict] if verdict is not None else [])
    script.trap()
    script.protect(id=2)
    assert script.all(Decide)[-1].verdict is Verdict.PROTECTED


def test_the_trap_closes_before_the_last_sa_goes() -> None:
    script = Script()
    script.trap()
    script.protect()
    closing = actions(script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER)))
    assert closing == [Undecide(PAIR), RemoveChild(1)]
    assert not script.gateway.pairs


def test_kernel_expiry_deletes_at_the_peer_too() -> None:
    script = Script()
    script.trap()
    script.protect()
    assert actions(script.feed(ChildExpired(1, hard=True))) == [Undecide(PAIR), RemoveChild(1)]
    assert CloseChild(1, Reason.SA_EXPIRED) in script.ike.heard


def test_soft_expiry_asks_for_a_successor_and_changes_nothing() -> None:
    script = Script()
    script.trap()
    script.protect()
    assert actions(script.feed(ChildExpired(1, hard=False))) == []
    assert script.ike.heard[-1] == RekeyChild(1)
    script.feed(ChildExpired(99, hard=False))
    assert script.ike.heard[-1] == RekeyChild(1)


def test_flush_closes_the_trap_then_deletes() -> None:
    script = Script()
    script.trap()
    script.protect()
    assert actions(script.feed(FlushAsked(PAIR))) == [Undecide(PAIR), RemoveChild(1)]
    assert CloseChild(1, Reason.OPERATOR_FLUSH) in script.ike.heard


def test_flush_of_another_pair_touches_nothing() -> None:
    script = Script()
    script.trap()
    assert actions(script.feed(FlushAsked(PRIVATE_PAIR))) == []
    assert script.status() is not None


def test_orderly_stop_lets_the_permissive_go_and_drops_the_private() -> None:
    script = Script(answers=())
    permissive, private = script.trap(), script.trap(PRIVATE_PEER)
    commands = script.feed(StopAsked())
    assert actions(commands) == [
        Release((permissive,), Verdict.CLEAR, fail_closed=False),
        Drop((private,), Reason.STOPPING),
    ]
    assert commands[-1] == Finish()
    assert any(isinstance(event, CloseEverything) for event in script.ike.heard)


def test_stop_removes_the_decision_before_the_sa() -> None:
    script = Script()
    script.trap()
    script.protect()
    assert actions(script.feed(StopAsked())) == [Undecide(PAIR), RemoveChild(1)]


def test_after_stop_a_packet_is_settled_at_once() -> None:
    script = Script()
    script.feed(StopAsked())
    permissive, private = script.trap(), script.trap(PRIVATE_PEER)
    assert script.all(Release) == [Release((permissive,), Verdict.CLEAR, fail_closed=False)]
    assert script.all(Drop) == [Drop((private,), Reason.STOPPING)]
    assert script.all(InstallChild) == []


def test_a_moved_peer_is_the_engines_business_and_a_keepalive_the_networks() -> None:
    script = Script()
    moved = PeerMoved(1, SocketAddress(PEER, 61000))
    assert actions(script.feed(moved)) == []
    assert script.ike.heard[-1] == moved
    keepalive = KeepMapping(SocketAddress(OURS, 4500), SocketAddress(PEER, 4500))
    assert script.engine_says(keepalive) == [keepalive]


def test_every_group_of_the_script_is_covered() -> None:
    assert len(set(NETS.values())) == 5


def test_pairs_of_a_lost_address_are_forgotten_the_trap_first() -> None:
    script = Script()
    script.trap()
    script.protect()
    commands = actions(script.feed(AddressesChanged((ip_address("192.0.2.77"),))))
    assert commands == [Undecide(HostPair(OURS, PEER)), RemoveChild(1)]
    assert script.status() is None
    assert script.gateway.reasons[Reason.ADDRESS_LOST] == 1


def test_a_new_address_is_looked_up_and_leaves_the_others_alone() -> None:
    script = Script()
    script.trap()
    script.protect()
    new = ip_address("192.0.2.77")
    commands = script.feed(AddressesChanged((OURS, new)))
    assert [command.owner for command in commands if isinstance(command, LookUpKeys)] == [new]
    assert actions(commands) == []


def test_many_pairs_that_run_out_at_once_do_so_in_parts_and_keep_their_packets_till_then() -> None:
    """Every packet gets its pair's verdict, and none is dropped for its own deadline before."""
    script = Script(answers=())
    for number in range(2 * DUE_AT_ONCE):
        script.trap(v4(f"198.51.100.{number}"))
    held = {id for command in script.all(Drop) for id in command.packets} ^ set(range(1, 2 * DUE_AT_ONCE + 1))
    script.commands.clear()
    script.now += 3.0
    for parts in (1, 2):
        script.gateway.expire(script.now)
        script.commands += script.gateway.take()
        assert len(script.all(Decide)) == parts * DUE_AT_ONCE
    assert {id for command in script.all(Release) for id in command.packets} == held
    assert not script.all(Drop)
