"""Child SAs: who installs, who replaces whom, who asks whether the peer lives."""

from oe.gateway.children import GRACE, SUCCESSION
from oe.messages import (
    CheckLiveness,
    ChildClosed,
    ChildInstalled,
    ChildReady,
    Command,
    CountersRead,
    DatagramReceived,
    Decide,
    IkeInput,
    IkeOutput,
    InstallChild,
    NegotiationEnded,
    ReadCounters,
    Release,
    RemoveChild,
    SendDatagram,
    StopAsked,
    Undecide,
)
from oe.model import (
    ChildCounters,
    Directions,
    Grade,
    HostPair,
    PairState,
    Reason,
    RecordKind,
    SocketAddress,
    Verdict,
)
from tests.gateway.script import OURS, PEER, PEER_KEY, PRIVATE_PEER, Script, actions, child

PAIR = HostPair(OURS, PEER)
REPLY = SendDatagram(SocketAddress(OURS, 500), SocketAddress(PEER, 500), b"IKE_AUTH response")


def inbound_half(script: Script, id: int) -> list[Command]:
    """A responder's installation up to its answer and the wish for the outbound half, ticket 200 + `id`."""
    inbound = ChildReady(100 + id, child(id, PAIR), Directions.INBOUND, None, PEER_KEY)
    outbound = ChildReady(200 + id, child(id, PAIR), Directions.OUTBOUND, None, PEER_KEY)

    def reacts(event: IkeInput) -> list[IkeOutput]:
        done = isinstance(event, ChildInstalled) and event.directions is Directions.INBOUND
        return [outbound, REPLY] if done else []

    script.ike.reacts = reacts
    return script.install(inbound)


def outbound_half(script: Script, id: int, reason: Reason | None = None) -> list[Command]:
    return script.feed(ChildInstalled(200 + id, id, Directions.OUTBOUND, reason))


def responder(script: Script, id: int = 1) -> list[Command]:
    """The whole of a responder's installation; every command in order."""
    return [*inbound_half(script, id), *outbound_half(script, id)]


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


def with_a_successor() -> Script:
    """A pair that SA 1 protects, and of SA 2, which the peer brought, the inbound half."""
    script = Script()
    script.trap()
    script.protect(id=1)
    assert SUCCESSOR not in inbound_half(script, 2)
    return script


SUCCESSOR = InstallChild(202, child(2, PAIR), Directions.OUTBOUND)


def carrier(script: Script) -> int | None:
    status = script.status()
    return status.child.id if status is not None and status.child is not None else None


def test_a_living_sa_carries_on_until_the_peer_can_read_the_one_that_it_brought() -> None:
    script = with_a_successor()
    script.run_until(SUCCESSION - 0.01)
    assert SUCCESSOR not in script.commands
    assert carrier(script) == 1
    script.run_until(SUCCESSION)
    assert script.commands[-1] == SUCCESSOR
    outbound_half(script, 2)
    assert carrier(script) == 2
    assert script.all(Undecide) == []


def test_the_successor_is_installed_before_the_sa_that_ends_goes() -> None:
    script = with_a_successor()
    assert actions(script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER))) == [SUCCESSOR, RemoveChild(1)]
    outbound_half(script, 2)
    assert carrier(script) == 2
    script.run_until(2 * SUCCESSION)
    assert script.all(InstallChild).count(SUCCESSOR) == 1
    assert actions(script.engine_says(ChildClosed(2, Reason.DELETED_BY_PEER))) == [Undecide(PAIR), RemoveChild(2)]


def test_a_successor_that_cannot_be_installed_is_none() -> None:
    script = with_a_successor()
    script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER))
    outbound_half(script, 2, Reason.INSTALL_FAILED)
    assert actions(script.engine_says(ChildClosed(2, Reason.INSTALL_FAILED))) == [Undecide(PAIR), RemoveChild(2)]


def test_a_successor_that_ends_while_it_waits_is_forgotten() -> None:
    script = with_a_successor()
    assert actions(script.engine_says(ChildClosed(2, Reason.DELETED_BY_PEER))) == [RemoveChild(2)]
    script.run_until(2 * SUCCESSION)
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
    assert actions(script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER))) == [RemoveChild(1)]


def test_installation_that_fails_is_told_to_the_engine() -> None:
    script = Script()
    script.trap()
    ready = ChildReady(9, child(1, PAIR), Directions.BOTH, script.negotiations()[0].ticket, PEER_KEY)
    script.engine_says(ready)
    failed = ChildInstalled(9, 1, Directions.BOTH, Reason.INSTALL_FAILED, "no ESP")
    script.feed(failed)
    assert failed in script.ike.heard
    assert script.all(Decide) == []


def test_half_an_sa_that_is_given_up_leaves_no_record() -> None:
    script = Script()
    script.install(ChildReady(9, child(1, PAIR), Directions.INBOUND, None, PEER_KEY))
    assert script.status() is not None
    assert actions(script.engine_says(ChildClosed(1, Reason.LIFETIME_ENDED))) == [RemoveChild(1)]
    assert script.status() is None


def test_sa_that_arrives_while_stopping_is_taken_down_again() -> None:
    script = Script()
    script.trap()
    script.feed(StopAsked())
    commands = script.install(ChildReady(9, child(1, PAIR), Directions.BOTH, None, PEER_KEY))
    assert actions(commands) == [RemoveChild(1)]
    assert script.status() is None


def test_private_pairs_are_decided_fail_closed() -> None:
    script = Script()
    script.protect(PRIVATE_PEER, initiated=False)
    assert script.all(Decide)[0].fail_closed


def test_one_way_traffic_asks_whether_the_peer_lives() -> None:
    script = Script()
    script.trap()
    script.protect()
    for second in range(1, 30):
        script.run_until(float(second))
        if script.commands and isinstance(script.commands[-1], ReadCounters):
            script.feed(CountersRead((ChildCounters(1, 0, 0, 3, 300),)))
    checks = [event for event in script.ike.heard if isinstance(event, CheckLiveness)]
    assert checks == [CheckLiveness(1)]


def test_counters_are_shown_with_the_pair_and_read_while_there_is_something_to_count() -> None:
    script = Script()
    script.trap()
    script.protect()
    script.run_until(2.5)
    assert isinstance(script.commands[-1], ReadCounters)
    counters = ChildCounters(1, 5, 500, 6, 600)
    script.feed(CountersRead((counters, ChildCounters(99, 1, 1, 1, 1))))
    status = script.status()
    assert status is not None
    assert status.counters == counters
    script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER))
    script.feed(CountersRead(()))
    assert script.gateway.deadline() is None


def test_other_events_go_to_the_engine() -> None:
    script = Script()
    datagram = DatagramReceived(SocketAddress(OURS, 500), SocketAddress(PEER, 500), b"\0" * 28)
    script.feed(datagram)
    assert script.ike.heard == [datagram]
