"""IKE_AUTH as initiator: the happy path, and each way in which it can fail."""

from collections.abc import Callable

import pytest

from oe.ike.message import encode_message
from oe.ike.payloads import IdPayload, NotifyPayload, Payload, find, find_notify
from oe.ike.proposals import offer_esp
from oe.ike.registry import ExchangeType, NotifyType, PayloadType
from oe.ike.sa_payload import SaPayload
from oe.ike.states import State
from oe.ike.ts_payload import TrafficSelector, TsPayload
from oe.messages import ChildInstalled, OctetsSigned, ReserveSpi, SignOctets, SpiReserved
from oe.model import Directions, HostPair, Identity
from oe.negotiation import ChildReady, Negotiate
from oe.reasons import Reason
from tests.ike.puppet import AUTH, Puppet, played
from tests.ike.world import Host, KeyKind, World, assert_matched, private_key, public_key

STRANGER = public_key(private_key("ed25519", 77))


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ecdsa-p384", "ed25519"])
def test_four_messages_set_up_a_child_sa(kind: KeyKind) -> None:
    world = World()
    one, other = world.pair(kind)
    ticket = one.negotiate(other, fail_closed=True)
    world.run(1.0)
    assert [len(one.sent), len(other.sent)] == [2, 2]
    assert one.states == other.states == [State.ESTABLISHED]
    assert len(one.kernel) == 1
    assert_matched(one, other)
    assert [ready.negotiation for ready in one.ready] == [ticket]
    assert [ready.negotiation for ready in other.ready] == [None, None]
    assert one.ready[0].child.fail_closed
    assert not other.ready[0].child.fail_closed
    assert (one.ready[0].peer_key, other.ready[0].peer_key) == (other.key, one.key)
    assert not one.rejected + other.rejected


def test_a_child_sa_over_ipv6() -> None:
    world = World()
    one, other = world.host("2001:db8::1"), world.host("2001:db8::2")
    one.negotiate(other)
    world.run(1.0)
    assert len(one.kernel) == 1
    assert_matched(one, other)


def test_gateways_for_others() -> None:
    world = World()
    one, other = world.pair()
    clients = HostPair(*(Identity.of(host.address).address or host.address for host in (other, one)))
    pair = HostPair(clients.source, clients.destination)
    one.negotiate(other, pair=pair)
    world.run(1.0)
    assert [question.pair for question in other.judged] == [HostPair(pair.destination, pair.source)]
    assert_matched(one, other)


def test_any_of_the_peers_keys_will_do() -> None:
    world = World()
    one, other = world.pair()
    one.negotiate(other, keys=(STRANGER, other.key))
    world.run(1.0)
    assert [ready.peer_key for ready in one.ready] == [other.key]


def hung_up(one: Host, other: Host) -> None:
    """Both ends have forgotten everything."""
    assert not one.kernel
    assert not other.kernel
    assert not one.states
    assert not other.states


@pytest.mark.parametrize("keys", [(), (STRANGER,)])
def test_a_responder_with_another_key_is_told_so(keys: tuple[()]) -> None:
    world = World()
    one, other = world.pair()
    ticket = one.negotiate(other, keys=keys)
    world.run(2.0)
    ended = one.ended[ticket]
    assert (ended.reason, ended.authenticated) == (Reason.PEER_AUTHENTICATION_FAILED, False)
    assert not one.ready
    assert list(other.closed.values()) == [Reason.WE_WERE_REFUSED]
    world.run(20.0)
    hung_up(one, other)


def test_a_responder_with_another_identity_is_told_so() -> None:
    world = World()
    one, other = world.pair()
    ticket = one.negotiate(other, identity=Identity.of(one.address))
    world.run(20.0)
    assert one.ended[ticket].reason is Reason.PEER_AUTHENTICATION_FAILED
    assert "192.0.2.2" in one.ended[ticket].detail
    hung_up(one, other)


def test_a_responder_that_does_not_believe_us() -> None:
    world = World()
    one, other = world.pair()
    other.judge = lambda question: world.judge(question).__class__(question.ticket, (STRANGER,), None)
    ticket = one.negotiate(other)
    world.run(20.0)
    ended = one.ended[ticket]
    assert (ended.reason, ended.authenticated) == (Reason.WE_WERE_REFUSED, False)
    assert other.rejected[Reason.PEER_AUTHENTICATION_FAILED] == 1
    hung_up(one, other)


def test_a_refused_pair_leaves_an_ike_sa_for_a_moment() -> None:
    world = World()
    one, other = world.pair()
    world.refused[HostPair(other.address, one.address)] = Reason.POLICY_CLEAR
    ticket = one.negotiate(other)
    world.run(1.0)
    ended = one.ended[ticket]
    assert (ended.reason, ended.authenticated) == (Reason.TS_UNACCEPTABLE, True)
    assert other.rejected[Reason.POLICY_CLEAR] == 1
    assert one.states == other.states == [State.ESTABLISHED]
    world.run(30.0)
    hung_up(one, other)


def test_no_word_after_ike_sa_init() -> None:
    world = World()
    one, other = world.pair()
    other.answers = lambda _: None
    ticket = one.negotiate(other, patience=3.0)
    world.run(2.99)
    assert not one.ended
    world.run(0.02)
    assert one.ended[ticket].reason is Reason.NEGOTIATION_TIMEOUT
    assert not one.states
    world.run(30.0)
    hung_up(one, other)


def test_our_own_key_hand_fails() -> None:
    world = World()
    one, other = world.pair()
    one.answers = lambda output: None if isinstance(output, SignOctets) else 0.0
    ticket = one.negotiate(other)
    world.run(0.5)
    signing = next(iter(one.endpoint._ctx._askers))
    one.feed(OctetsSigned(signing, None))
    assert one.ended[ticket].reason is Reason.SIGNING_FAILED
    world.run(30.0)
    hung_up(one, other)


@pytest.mark.parametrize("first", [SignOctets, ReserveSpi])
def test_signature_and_spi_come_in_any_order(first: type) -> None:
    world = World()
    one, other = world.pair()
    one.answers = lambda output: 0.0 if isinstance(output, first | ChildReady) else 0.3
    one.negotiate(other)
    world.run(1.0)
    assert_matched(one, other)
    assert len(one.kernel) == 1


def test_a_child_sa_that_cannot_be_installed_is_deleted_at_the_peer() -> None:
    world = World()
    one, other = world.pair()
    one.installs = lambda _: Reason.INSTALL_FAILED
    ticket = one.negotiate(other)
    world.run(20.0)
    assert ticket not in one.ended
    assert list(one.closed.values()) == [Reason.INSTALL_FAILED]
    assert list(other.closed.values()) == [Reason.DELETED_BY_PEER]
    hung_up(one, other)


def test_answers_after_the_negotiation_ended_are_late() -> None:
    world = World()
    one, other = world.pair()
    one.answers = lambda _: 5.0
    ticket = one.negotiate(other, patience=3.0)
    world.run(10.0)
    assert one.ended[ticket].reason is Reason.NEGOTIATION_TIMEOUT
    assert one.rejected[Reason.LATE_ANSWER] == 2


# --- against a responder that may say anything ---


def asked() -> tuple[World, Host, Puppet, int]:
    """The host has sent its IKE_AUTH request to the puppet."""
    world, host, puppet = played()
    ticket = next(host.tickets)
    pair = HostPair(host.address, puppet.socket.address)
    deadline = world.now + 3.0
    host.feed(
        Negotiate(
            ticket, pair, host.socket, puppet.socket, host.identity, puppet.identity, (puppet.key,), False, deadline
        )
    )
    (request,) = puppet.send(puppet.answer_init())
    payloads = puppet.open(request)
    own, contact = find(payloads, IdPayload, PayloadType.ID_I), find_notify(payloads, NotifyType.INITIAL_CONTACT)
    assert own is not None
    assert own.identity == host.identity
    assert contact is not None
    return world, host, puppet, ticket


def chosen(spi: int = 0x9999) -> SaPayload:
    """The first of our offer, taken."""
    offer = offer_esp(spi).proposals[0]
    kinds = {transform.kind: transform for transform in reversed(offer.transforms)}
    return SaPayload((type(offer)(offer.number, offer.protocol, offer.spi, tuple(kinds.values())),))


def ts(puppet: Puppet, first: TrafficSelector | None = None) -> tuple[TsPayload, TsPayload]:
    ours = TrafficSelector.of(puppet.host.address)
    theirs = first or TrafficSelector.of(puppet.socket.address)
    return TsPayload(PayloadType.TS_I, (ours,)), TsPayload(PayloadType.TS_R, (theirs,))


def test_the_puppet_can_do_it_right() -> None:
    _, host, puppet, _ = asked()
    puppet.respond(AUTH, 1, *puppet.auth(), chosen(), *ts(puppet))
    assert host.states == [State.ESTABLISHED]
    assert len(host.kernel) == 1
    assert isinstance(host.ready[0], ChildReady)
    assert host.ready[0].directions is Directions.BOTH


Answer = Callable[[Puppet], tuple[Payload, ...]]


def narrower(puppet: Puppet) -> TrafficSelector:
    address = puppet.socket.address
    return TrafficSelector(6, 0, 65535, address, address)


@pytest.mark.parametrize(
    ("answer", "reason", "authenticated"),
    [
        (lambda _: (NotifyPayload(NotifyType.INVALID_SYNTAX),), Reason.PEER_REFUSED, False),
        (lambda _: (NotifyPayload(NotifyType.AUTHENTICATION_FAILED),), Reason.WE_WERE_REFUSED, False),
        (lambda _: (), Reason.PEER_REFUSED, False),
        (lambda p: p.auth()[:1], Reason.PEER_REFUSED, False),
        (lambda p: (*p.auth()[:1], *p.auth(Identity.of(p.host.address))[1:]), Reason.PEER_AUTHENTICATION_FAILED, False),
        (lambda p: (*p.auth(), NotifyPayload(NotifyType.NO_PROPOSAL_CHOSEN)), Reason.NO_PROPOSAL_CHOSEN, True),
        (lambda p: (*p.auth(), NotifyPayload(NotifyType.FAILED_CP_REQUIRED)), Reason.PEER_REFUSED, True),
        (
            lambda p: (*p.auth(), chosen(), *ts(p), NotifyPayload(NotifyType.NO_PROPOSAL_CHOSEN)),
            Reason.NO_PROPOSAL_CHOSEN,
            True,
        ),
        (lambda p: p.auth(), Reason.PEER_REFUSED, True),
        (lambda p: (*p.auth(), chosen(), *ts(p, narrower(p))), Reason.PEER_REFUSED, True),
        (lambda p: (*p.auth(), chosen(), *ts(p, TrafficSelector.of(p.host.address))), Reason.PEER_REFUSED, True),
        (lambda p: (*p.auth(), offer_esp(7), *ts(p)), Reason.PEER_REFUSED, True),
    ],
)
def test_answers_that_give_no_child_sa(answer: Answer, reason: Reason, authenticated: bool) -> None:
    world, host, puppet, ticket = asked()
    puppet.respond(AUTH, 1, *answer(puppet))
    assert (host.ended[ticket].reason, host.ended[ticket].authenticated) == (reason, authenticated)
    assert not host.ready
    world.run(60.0)
    assert not host.states


def test_a_peer_that_verifies_none_of_our_signatures() -> None:
    world, host, puppet = played()
    pair = HostPair(host.address, puppet.socket.address)
    args = (pair, host.socket, puppet.socket, host.identity, puppet.identity, (puppet.key,), False, world.now + 3.0)
    host.feed(Negotiate(500, *args))
    assert not puppet.send(puppet.answer_init(hashes=False))
    assert host.ended[500].reason is Reason.SIGNING_FAILED
    assert not host.states


def test_a_response_in_clear_or_to_another_exchange_changes_nothing() -> None:
    _, host, puppet, _ = asked()
    refusal = NotifyPayload(NotifyType.AUTHENTICATION_FAILED)
    puppet.send(encode_message(puppet.header(AUTH, 1, is_response=True), (refusal,)))
    puppet.respond(ExchangeType.INFORMATIONAL, 1, refusal)
    puppet.respond(AUTH, 2, refusal)
    assert host.states == [State.AUTHENTICATING]
    assert not host.ended
    assert host.rejected == {Reason.UNAUTHENTICATED_NOTIFY: 1, Reason.UNEXPECTED_MESSAGE: 2}


def test_an_install_answer_after_the_end_is_late() -> None:
    _, host, puppet, _ = asked()
    host.answers = lambda _: None
    puppet.respond(AUTH, 1, *puppet.auth(), chosen(), *ts(puppet))
    (ready,) = host.ready
    host.close(ready.child.id)
    host.feed(ChildInstalled(ready.ticket, ready.child.id, Directions.BOTH))
    host.feed(SpiReserved(12345, 1))
    assert host.rejected[Reason.LATE_ANSWER] == 2
