"""INFORMATIONAL: Deletes in both directions, crossed ones, liveness."""

from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise

import pytest

from oe.ike.child import Child
from oe.ike.exchanges.informational import doubt_others
from oe.ike.message import Header, encode_message
from oe.ike.payloads import DeletePayload, NotifyPayload, Payload
from oe.ike.registry import ExchangeType, NotifyType, ProtocolId
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.messages import DatagramReceived, SendDatagram
from oe.model import HostPair
from oe.negotiation import CheckLiveness, CloseChild, JudgePeer
from oe.reasons import Reason
from tests.ike.puppet import Puppet, played
from tests.ike.world import Host, World, assert_matched, is_message

INFORMATIONAL = ExchangeType.INFORMATIONAL


def connected(settings: IkeSettings | None = None) -> tuple[World, Host, Host]:
    world = World()
    one, other = world.pair(settings=settings)
    one.negotiate(other)
    world.run(1.0)
    assert len(one.kernel) == len(other.kernel) == 1
    return world, one, other


@pytest.mark.parametrize("closer", [0, 1])
def test_closing_the_last_child_sa_ends_all_at_both_ends(closer: int) -> None:
    world, *hosts = connected()
    one, other = hosts[closer], hosts[1 - closer]
    one.close(next(iter(one.kernel)))
    assert one.states == [State.CLOSING]
    world.run(0.5)
    assert not one.closed
    assert list(other.closed.values()) == [Reason.DELETED_BY_PEER]
    assert not one.states
    assert other.states == [State.LINGERING]
    world.run(60.0)
    assert not other.states
    assert one.endpoint.deadline() is None
    assert other.endpoint.deadline() is None


def test_deletes_that_cross_end_everything_once() -> None:
    world, one, other = connected()
    for host in (one, other):
        host.close(next(iter(host.kernel)))
    world.run(60.0)
    for host in (one, other):
        assert not host.closed
        assert not host.states
        assert not host.notes


def test_a_delete_that_nobody_answers_is_given_up() -> None:
    world, one, _ = connected()
    world.link.loss = 1.0
    one.close(next(iter(one.kernel)))
    world.run(one.settings.request_patience - 1)
    assert one.states == [State.CLOSING]
    world.run(2.0)
    assert not one.states


def test_an_unknown_child_is_nobodys() -> None:
    world, one, _ = connected()
    world.run(1.0)  # Until the responder knows that we have its answer.
    sent = len(one.sent)
    one.feed(CloseChild(999, Reason.OPERATOR_FLUSH))
    one.feed(CheckLiveness(999))
    world.run(1.0)
    assert len(one.sent) == sent


# --- the peer's word, said by hand ---


def established() -> tuple[World, Host, Puppet]:
    world, host, puppet = played()
    puppet.establish()
    return world, host, puppet


def test_an_empty_request_is_answered_empty() -> None:
    _, host, puppet = established()
    assert puppet.request(INFORMATIONAL, 2) == ()
    assert puppet.request(INFORMATIONAL, 3) == ()
    assert host.states == [State.ESTABLISHED]


def test_a_repeated_request_gets_the_same_octets() -> None:
    _, _, puppet = established()
    request = puppet.sealed(INFORMATIONAL, 2, ())
    first = puppet.send(request)
    assert len(first) == 1
    assert puppet.send(request) == first


def test_deleting_the_child_sa_is_answered_with_its_other_half() -> None:
    world, host, puppet = established()
    (held,) = host.kernel.values()
    answer = puppet.request(INFORMATIONAL, 2, DeletePayload(ProtocolId.ESP, (0x9999,)))
    assert answer == (DeletePayload(ProtocolId.ESP, (held.child.inbound.spi,)),)
    assert host.closed == {held.child.id: Reason.DELETED_BY_PEER}
    # Without a Child SA it is of no use any more.
    assert host.states == [State.ESTABLISHED]
    world.run(host.settings.childless_lifetime + 0.1)
    assert host.states == [State.CLOSING]
    goodbye = puppet.heard()[0]
    assert puppet.open(goodbye) == (DeletePayload(ProtocolId.IKE),)


@pytest.mark.parametrize(
    "payloads",
    [
        (DeletePayload(ProtocolId.ESP, (0x1234,)),),
        (DeletePayload(ProtocolId.AH, (0x9999,)),),
        (NotifyPayload(NotifyType(40000)),),
        (DeletePayload(ProtocolId.ESP, ()),),
    ],
)
def test_what_means_nothing_here_is_answered_and_changes_nothing(payloads: tuple[Payload, ...]) -> None:
    _, host, puppet = established()
    assert puppet.request(INFORMATIONAL, 2, *payloads) == ()
    assert not host.closed
    assert host.states == [State.ESTABLISHED]


def test_deleting_the_ike_sa_ends_its_child_sas_and_the_answer_is_kept() -> None:
    world, host, puppet = established()
    request = puppet.sealed(INFORMATIONAL, 2, (DeletePayload(ProtocolId.IKE),))
    first = puppet.send(request)
    assert puppet.open(first[0]) == ()
    assert list(host.closed.values()) == [Reason.DELETED_BY_PEER]
    assert puppet.send(request) == first
    assert puppet.request(INFORMATIONAL, 3) is None
    assert host.rejected[Reason.UNEXPECTED_MESSAGE] == 1
    world.run(host.settings.linger + 0.1)
    assert not host.states


def test_a_peer_that_did_not_believe_our_signature() -> None:
    _, host, puppet = established()
    assert puppet.request(INFORMATIONAL, 2, NotifyPayload(NotifyType.AUTHENTICATION_FAILED)) == ()
    assert list(host.closed.values()) == [Reason.WE_WERE_REFUSED]
    assert host.states == [State.LINGERING]


def test_a_delete_of_a_child_sa_whose_delete_is_under_way_names_it_not_again() -> None:
    _, host, puppet = established()
    (held,) = host.kernel.values()
    host.close(held.child.id)
    (goodbye,) = puppet.heard()
    assert puppet.open(goodbye) == (DeletePayload(ProtocolId.IKE),)
    assert puppet.request(INFORMATIONAL, 2, DeletePayload(ProtocolId.ESP, (0x9999,))) == ()
    assert not host.closed
    puppet.respond(INFORMATIONAL, 0)
    assert not host.states


# --- one Child SA of several ---


def with_a_second() -> tuple[World, Host, Puppet, Child]:
    """As after a CREATE_CHILD_SA: the IKE SA has another Child SA, with peer's SPI 0x7777."""
    world, host, puppet = established()
    ctx = host.endpoint._ctx
    (sa,) = ctx.sas.values()
    (first,) = sa.children.values()
    esp = replace(first.sa.inbound, spi=0x4444), replace(first.sa.outbound, spi=0x7777)
    child_sa = replace(first.sa, id=next(world.child_ids), inbound=esp[0], outbound=esp[1])
    second = Child(child_sa, first.origin, dict(first.timers), made=first.made)
    ctx.enter_child(sa, second)
    return world, host, puppet, second


def test_closing_one_of_several_deletes_that_one_alone() -> None:
    _, host, puppet, second = with_a_second()
    host.close(second.sa.id)
    host.close(second.sa.id)
    (request,) = puppet.heard()
    assert puppet.open(request) == (DeletePayload(ProtocolId.ESP, (0x4444,)),)
    assert not puppet.respond(INFORMATIONAL, 0, DeletePayload(ProtocolId.ESP, (0x7777,)))
    (row,) = host.endpoint.snapshot()
    assert second.sa.id not in row.children
    assert len(row.children) == 1
    assert row.state is State.ESTABLISHED
    assert not host.closed


def test_its_delete_may_cross_the_peers() -> None:
    _, host, puppet, second = with_a_second()
    host.check_all()
    host.close(second.sa.id)
    (liveness,) = puppet.heard()
    assert puppet.open(liveness) == ()
    # Our Delete waits for its turn; the peer's comes first, and there is nothing left to delete.
    assert puppet.request(INFORMATIONAL, 2, DeletePayload(ProtocolId.ESP, (0x7777,))) == ()
    assert not puppet.respond(INFORMATIONAL, 0)
    assert not host.closed
    (row,) = host.endpoint.snapshot()
    assert len(row.children) == 1


def test_its_delete_unanswered_means_a_dead_peer() -> None:
    world, host, puppet, second = with_a_second()
    host.close(second.sa.id)
    start = world.now
    heard = [0.0]
    puppet.heard()
    for _ in range(151):
        world.run(0.1)
        heard += [world.now - start] * len(puppet.heard())
    # Never less often than every four seconds; at last a word of farewell.
    pauses = [later - earlier for earlier, later in pairwise(heard)]
    assert pauses == pytest.approx([0.5, 1.0, 2.0, 4.0, 4.0, 3.5], abs=0.11)
    assert list(host.closed.values()) == [Reason.LIVENESS_FAILED]
    assert not host.states


# --- liveness ---


def test_a_live_peer_answers_and_nothing_changes() -> None:
    world, one, other = connected()
    before = [len(one.sent), len(other.sent)]
    one.check_all()
    one.check_all()
    other.check_all()
    world.run(1.0)
    assert [len(one.sent), len(other.sent)] == [before[0] + 2, before[1] + 2]
    assert one.states == other.states == [State.ESTABLISHED]


def test_a_dead_peer_is_asked_some_times_and_then_given_up() -> None:
    world, one, other = connected()
    start = world.now
    before = len(one.sent)
    other.restart()
    world.link.loss = 1.0
    (child,) = one.kernel
    one.check_all()
    one.check_all()
    while one.states:
        world.run(0.1)
    # At last a word of farewell, for a peer of which only the answers are lost.
    assert len(one.sent) - before == one.settings.liveness_tries + 1
    assert world.now - start == pytest.approx(0.5 * 15, abs=0.11)
    assert one.closed == {child: Reason.LIVENESS_FAILED}
    assert one.endpoint.deadline() is None


def test_a_restarted_peer_says_that_it_knows_nothing_which_proves_nothing() -> None:
    world, one, other = connected()
    other.crash_secret = None
    other.restart()
    one.check_all()
    world.run(0.2)
    assert is_message(other.sent[-1], INFORMATIONAL, is_response=True)
    assert one.rejected[Reason.UNAUTHENTICATED_NOTIFY] >= 1
    assert one.states == [State.ESTABLISHED]
    # But it is believed sooner than silence alone.
    world.run(3.5)
    assert not one.states


def test_what_comes_in_clear_does_not_shorten_what_nobody_waits_for() -> None:
    _, host, puppet = established()
    strange = encode_message(
        puppet.header(INFORMATIONAL, 0, is_response=True), (NotifyPayload(NotifyType.INVALID_IKE_SPI),)
    )
    puppet.send(strange)
    assert host.states == [State.ESTABLISHED]
    assert host.rejected == {Reason.UNAUTHENTICATED_NOTIFY: 1}


def test_what_comes_in_clear_gives_a_peer_that_has_to_look_something_up_the_time_for_it() -> None:
    world, one, other = connected()
    other.answers = lambda question: 8.0 if isinstance(question, JudgePeer) else 0.0
    one.negotiate(other, pair=HostPair(ip_address("10.1.0.1"), other.address), patience=12.0)
    world.run(0.5)
    (row,) = one.endpoint.snapshot()
    head = Header(row.local_spi, row.remote_spi, ExchangeType.CREATE_CHILD_SA, True, False, 2)
    strange = encode_message(head, (NotifyPayload(NotifyType.INVALID_IKE_SPI),))
    one.feed(DatagramReceived(one.socket, other.socket, strange))
    world.run(12.0)
    assert not one.closed
    assert State.ESTABLISHED in one.states


# --- a responder wants to know that its answer arrived ---


def test_a_responder_asks_once_whether_its_answer_arrived() -> None:
    world, one, other = connected()
    world.run(30.0)
    assert [sum(is_message(sent, INFORMATIONAL, is_response=False) for sent in host.sent) for host in (one, other)] == [
        0,
        1,
    ]
    assert one.states == other.states == [State.ESTABLISHED]


def test_and_does_not_if_the_initiator_is_heard_before() -> None:
    world = World()
    one, other = world.pair()
    one.negotiate(other)
    world.run(0.5)
    one.check_all()
    world.run(30.0)
    assert not [sent for sent in other.sent if is_message(sent, INFORMATIONAL, is_response=False)]


def test_an_initiator_that_is_gone_is_noticed_within_seconds() -> None:
    """Its IKE_AUTH answer was lost, and so is every word with which it gave up."""
    world = World()
    one, other = world.pair()
    one.crash_secret = None
    one.restart()
    auth = ExchangeType.IKE_AUTH
    world.link.passes = lambda sent: (
        not is_message(sent, auth, is_response=True) and not is_message(sent, INFORMATIONAL, is_response=False)
    )
    one.negotiate(other, patience=1.0)
    world.run(0.5)
    assert len(other.kernel) == 1
    world.run(5.0)
    assert list(other.closed.values()) == [Reason.LIVENESS_FAILED]
    assert not other.states


def test_an_initiator_that_still_tries_is_given_the_time_to_hear_the_answer() -> None:
    """It cannot answer anything before it has our IKE_AUTH answer, and once it has, one loss must not be the end."""
    world = World()
    one, other = world.pair()

    def passes(sent: SendDatagram) -> bool:
        at = world.now - 1000.0
        if is_message(sent, ExchangeType.IKE_AUTH, is_response=True):
            return at > 1.5
        return at < 1.5 or at > 2.6 or not is_message(sent, INFORMATIONAL, is_response=False)

    world.link.passes = passes
    one.negotiate(other)
    world.run(30.0)
    assert len(one.kernel) == 1
    assert_matched(one, other)


def test_repetitions_of_a_recording_do_not_keep_a_dead_peer_alive() -> None:
    world = World()
    one, other = world.pair()
    one.negotiate(other)
    world.run(0.5)
    recorded = [sent for sent in one.sent if is_message(sent, ExchangeType.IKE_AUTH, is_response=False)]
    world.link.loss = 1.0
    for _ in range(300):
        for sent in recorded:
            world.deliver(sent)
        world.run(0.1)
    assert list(other.closed.values()) == [Reason.LIVENESS_FAILED]


def test_the_restarted_peer_comes_back_and_replaces_the_old_child_sa() -> None:
    world, one, other = connected()
    world.run(100.0)
    other.restart()
    (old,) = one.kernel
    other.negotiate(one)
    world.run(1.0)
    assert one.closed == {old: Reason.REPLACED_BY_PEER}
    assert len(one.kernel) == len(other.kernel) == 1
    assert one.states == other.states == [State.ESTABLISHED]


# --- one IKE SA of several ---


def with_three_ike_sas() -> tuple[World, Host, Host]:
    """Three pairs that were begun at once have an IKE SA each."""
    world = World()
    one, other = world.pair()
    for number in range(3):
        one.negotiate(other, pair=HostPair(one.address, other.address + number))
    world.run(3.0)
    assert len(one.states) == 3
    return world, one, other


@pytest.mark.parametrize("shows_tokens", [False, True])
def test_what_happened_to_one_may_have_happened_to_all(shows_tokens: bool) -> None:
    world, one, other = with_three_ike_sas()
    if not shows_tokens:
        other.crash_secret = None
    other.restart()
    one.feed(CheckLiveness(next(iter(one.kernel))))
    world.run(0.1 if shows_tokens else 12.0)
    assert not one.states
    assert set(one.closed.values()) == {Reason.PEER_RESTARTED if shows_tokens else Reason.LIVENESS_FAILED}


def test_a_live_peer_dispels_the_doubt() -> None:
    world, one, other = with_three_ike_sas()
    sas = list(one.endpoint._ctx.sas.values())
    doubt_others(one.endpoint._ctx, sas[0], world.now)
    assert [sa.is_doubted for sa in sas] == [False, True, True]
    one.drain()
    world.run(0.1)
    assert [sa.is_doubted for sa in sas] == [False, False, False]
    assert other.states == [State.ESTABLISHED] * 3


def test_a_negotiation_does_not_try_one_dead_ike_sa_after_the_other() -> None:
    world, one, other = with_three_ike_sas()
    other.crash_secret = None
    other.restart()
    world.link.passes = lambda sent: (
        not is_message(sent, INFORMATIONAL, is_response=True)
        and not is_message(sent, ExchangeType.CREATE_CHILD_SA, is_response=True)
    )
    ticket = one.negotiate(other, pair=HostPair(one.address, other.address + 9), patience=3.0)
    world.run(1.7)
    assert one.ready[-1].negotiation == ticket
