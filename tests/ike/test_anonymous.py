"""NULL authentication (RFC 7619): a grade of its own, on either side, and never taken for more than it is."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from oe.ike.payloads import AuthPayload, IdPayload, NoncePayload, NotifyPayload, Payload, find, find_notify
from oe.ike.proposals import offer_esp
from oe.ike.registry import AuthMethod, ExchangeType, NotifyType, PayloadType
from oe.ike.states import State
from oe.model import ID_NULL, Anonymity, HostPair, Identity, IdentityKind, PublicKey
from oe.negotiation import JudgePeer, Negotiate, PeerJudged
from oe.reasons import Reason
from tests.ike.puppet import AUTH, Puppet, played
from tests.ike.test_ike_auth import chosen, ts
from tests.ike.world import Host, World, assert_matched

ANONYMOUS, AUTHENTICATED = Anonymity.ANONYMOUS, Anonymity.AUTHENTICATED


def lenient(world: World) -> Callable[[JudgePeer], PeerJudged]:
    """A coordinator that lets anonymous peers in."""

    def judge(question: JudgePeer) -> PeerJudged:
        if question.identity == ID_NULL:
            return PeerJudged(question.ticket, (), None, anonymity=ANONYMOUS)
        return world.judge(question)

    return judge


def negotiate(
    one: Host,
    other: Host | Puppet,
    *,
    own: Identity | None = None,
    keys: tuple[PublicKey, ...] = (),
    anonymity: Anonymity = ANONYMOUS,
) -> int:
    ticket = next(one.tickets)
    pair, deadline = HostPair(one.address, other.socket.address), one.world.now + 3.0
    identities = own or one.identity, other.identity
    one.feed(Negotiate(ticket, pair, one.socket, other.socket, *identities, keys, False, deadline, anonymity))
    return ticket


# --- two of us -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hybrid", [False, True])
def test_nobody_and_nobody(hybrid: bool) -> None:
    world = World(hybrid=hybrid)
    one, other = world.pair()
    other.judge = lenient(world)
    negotiate(one, other, own=ID_NULL)
    world.run(1.0)
    assert_matched(one, other)
    assert [(ready.anonymity, ready.peer_key) for ready in one.ready] == [(ANONYMOUS, None)]
    assert [(ready.anonymity, ready.peer_key) for ready in other.ready] == [(ANONYMOUS, None)] * 2
    assert not one.rejected + other.rejected


def test_an_anonymous_initiator_knows_its_responder() -> None:
    world = World()
    one, other = world.pair()
    other.judge = lenient(world)
    negotiate(one, other, own=ID_NULL, keys=(other.key,), anonymity=AUTHENTICATED)
    world.run(1.0)
    assert_matched(one, other)
    assert [(ready.anonymity, ready.peer_key) for ready in one.ready] == [(AUTHENTICATED, other.key)]
    assert {ready.anonymity for ready in other.ready} == {ANONYMOUS}


def test_a_known_initiator_of_whom_its_responder_has_no_key_to_show() -> None:
    world = World()
    one, other = world.pair()
    negotiate(one, other)
    world.run(1.0)
    assert_matched(one, other)
    assert {ready.anonymity for ready in one.ready} == {ANONYMOUS}
    assert {(ready.anonymity, ready.peer_key) for ready in other.ready} == {(AUTHENTICATED, one.key)}


def test_a_key_is_preferred_where_there_is_one() -> None:
    world = World()
    one, other = world.pair()
    negotiate(one, other, keys=(other.key,))
    world.run(1.0)
    assert {ready.anonymity for ready in one.ready + other.ready} == {AUTHENTICATED}


def test_anonymous_peers_are_refused_unless_they_are_let_in() -> None:
    world = World()
    one, other = world.pair()
    ticket = negotiate(one, other, own=ID_NULL, keys=(other.key,))
    world.run(1.0)
    assert one.ended[ticket].reason is Reason.WE_WERE_REFUSED
    assert other.rejected == {Reason.ANONYMOUS_REFUSED: 1}
    assert [question.identity for question in other.judged] == [ID_NULL]


def test_many_anonymous_peers_do_not_touch_each_other() -> None:
    world = World()
    one, other, third = world.host("192.0.2.1"), world.host("192.0.2.2"), world.host("192.0.2.3")
    other.judge = lenient(world)
    for host in (one, third, one):
        negotiate(host, other, own=ID_NULL)
        world.run(1.0)
    assert {held.child.remote for held in other.kernel.values()} == {one.address, third.address}
    assert all(row.peer_identity == ID_NULL for row in other.endpoint.snapshot())


def test_no_books_are_left() -> None:
    world = World()
    one, other = world.pair()
    other.judge = lenient(world)
    negotiate(one, other, own=ID_NULL)
    world.run(1.0)
    for child in tuple(one.kernel):
        one.close(child)
    world.run(30.0)
    for host in (one, other):
        assert not host.endpoint._ctx.sas
        assert not host.endpoint._ctx._by_identity


# --- a responder and a puppet ----------------------------------------------------------------------------------


def begun() -> tuple[Host, Puppet]:
    world, host, puppet = played()
    host.judge = lenient(world)
    puppet.begin()
    return host, puppet


def failed(response: tuple[Payload, ...] | None) -> bool:
    return response is not None and find_notify(response, NotifyType.AUTHENTICATION_FAILED) is not None


def test_a_puppet_without_a_name_is_served() -> None:
    host, puppet = begun()
    response = puppet.request(AUTH, 1, *puppet.anonymous(), *puppet.child())
    assert response is not None
    assert host.states == [State.ESTABLISHED]
    auth, identity = find(response, AuthPayload), find(response, IdPayload)
    assert auth is not None
    assert identity is not None
    # It can verify a signature, and did not ask for nobody.
    assert (auth.method, identity.identity) == (AuthMethod.DIGITAL_SIGNATURE, host.identity)


def test_whoever_asks_for_nobody_gets_nobody() -> None:
    _, puppet = begun()
    wanted = IdPayload.of(PayloadType.ID_R, ID_NULL)
    response = puppet.request(AUTH, 1, *puppet.anonymous(), wanted, *puppet.child())
    assert response is not None
    auth, identity = find(response, AuthPayload), find(response, IdPayload)
    assert auth is not None
    assert identity is not None
    assert (auth.method, identity.identity) == (AuthMethod.NULL, ID_NULL)
    puppet.is_initiator = False
    puppet.own_init, puppet.host_nonce = puppet.host_init, puppet.nonce
    assert auth == puppet.anonymous()[1]


@pytest.mark.parametrize(
    "name",
    [
        Identity(IdentityKind.IPV4_ADDR, bytes((192, 0, 2, 9))),
        Identity(IdentityKind.FQDN, b"somebody.example"),
        Identity(IdentityKind.FQDN, b"\x1b[2J"),
    ],
)
def test_a_name_beside_null_authentication_means_nothing(name: Identity) -> None:
    host, puppet = begun()
    assert puppet.request(AUTH, 1, *puppet.anonymous(name), *puppet.child()) is not None
    assert [question.identity for question in host.judged] == [ID_NULL]
    assert host.states == [State.ESTABLISHED]
    assert [row.peer_identity for row in host.endpoint.snapshot()] == [ID_NULL]
    assert {ready.anonymity for ready in host.ready} == {ANONYMOUS}


def test_a_signature_of_nobody_is_nobodys() -> None:
    host, puppet = begun()
    assert failed(puppet.request(AUTH, 1, *puppet.auth(ID_NULL), *puppet.child()))
    assert not host.judged


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"", lambda data: bytes(64)]
)
def test_null_authentication_with_other_keys_is_none(change: Callable[[bytes], bytes]) -> None:
    host, puppet = begun()
    identity, auth = puppet.anonymous()
    assert isinstance(auth, AuthPayload)
    assert failed(puppet.request(AUTH, 1, identity, replace(auth, data=change(auth.data)), *puppet.child()))
    assert host.rejected == {Reason.PEER_AUTHENTICATION_FAILED: 1}


def test_keys_of_a_name_do_not_make_null_authentication_good() -> None:
    _, host, puppet = played()
    host.judge = lambda question: PeerJudged(question.ticket, (puppet.key,), None)
    puppet.begin()
    assert failed(puppet.request(AUTH, 1, *puppet.anonymous(puppet.identity), *puppet.child()))
    assert host.rejected == {Reason.ANONYMOUS_REFUSED: 1}


def test_a_lenient_answer_does_not_make_a_bad_signature_good() -> None:
    _, host, puppet = played()
    host.judge = lambda question: PeerJudged(question.ticket, (), None, anonymity=ANONYMOUS)
    puppet.begin()
    assert failed(puppet.request(AUTH, 1, *puppet.auth(), *puppet.child()))


def test_initial_contact_of_nobody_ends_nothing() -> None:
    world, host, puppet = played()
    host.judge = lambda question: PeerJudged(
        question.ticket,
        () if question.identity == ID_NULL else (puppet.key,),
        None,
        anonymity=ANONYMOUS if question.identity == ID_NULL else AUTHENTICATED,
    )
    puppet.establish()
    world.run(1.0)
    again = Puppet(host, number=8)
    host.judge = lambda question: PeerJudged(question.ticket, (), None, anonymity=ANONYMOUS)
    again.begin()
    contact = NotifyPayload(NotifyType.INITIAL_CONTACT)
    assert again.request(AUTH, 1, contact, *again.anonymous(), *again.child()) is not None
    assert Reason.REPLACED_BY_PEER not in host.closed.values()


# --- an initiator and a puppet ---------------------------------------------------------------------------------


def asked(*, hashes: bool = True, anonymity: Anonymity = ANONYMOUS) -> tuple[Host, Puppet, int, tuple[Payload, ...]]:
    _, host, puppet = played()
    ticket = negotiate(host, puppet, keys=(puppet.key,), anonymity=anonymity)
    (request,) = puppet.send(puppet.answer_init(hashes=hashes))
    return host, puppet, ticket, puppet.open(request)


def test_a_peer_that_verifies_nothing_hears_from_nobody() -> None:
    host, puppet, _, request = asked(hashes=False)
    auth, identity = find(request, AuthPayload), find(request, IdPayload)
    assert auth is not None
    assert identity is not None
    assert (auth.method, identity.identity) == (AuthMethod.NULL, ID_NULL)
    assert find_notify(request, NotifyType.INITIAL_CONTACT) is None
    puppet.respond(AUTH, 1, *puppet.anonymous(), chosen(), *ts(puppet))
    assert host.states == [State.ESTABLISHED]


def test_an_anonymous_answer_is_refused_where_a_key_was_expected() -> None:
    host, puppet, ticket, _ = asked(anonymity=AUTHENTICATED)
    (complaint,) = puppet.respond(AUTH, 1, *puppet.anonymous(puppet.identity), chosen(), *ts(puppet))
    assert host.ended[ticket].reason is Reason.ANONYMOUS_REFUSED
    assert find_notify(puppet.open(complaint), NotifyType.AUTHENTICATION_FAILED) is not None
    assert not host.ready


def test_an_anonymous_answer_with_other_keys_is_refused() -> None:
    host, puppet, ticket, _ = asked()
    identity, auth = puppet.anonymous()
    assert isinstance(auth, AuthPayload)
    puppet.respond(AUTH, 1, identity, replace(auth, data=bytes(64)), chosen(), *ts(puppet))
    assert host.ended[ticket].reason is Reason.PEER_AUTHENTICATION_FAILED
    assert not host.ready


def test_a_refusal_of_nobody_is_not_authenticated() -> None:
    host, puppet, ticket, _ = asked()
    puppet.respond(AUTH, 1, *puppet.anonymous(), NotifyPayload(NotifyType.TS_UNACCEPTABLE))
    assert host.states == [State.ESTABLISHED]
    ended = host.ended[ticket]
    assert (ended.reason, ended.authenticated) == (Reason.TS_UNACCEPTABLE, False)


def test_who_would_take_nobody_does_not_take_somebody_else() -> None:
    host, puppet, ticket, _ = asked()
    puppet.respond(AUTH, 1, *puppet.auth(Identity.of(host.address)), chosen(), *ts(puppet))
    assert host.ended[ticket].reason is Reason.PEER_AUTHENTICATION_FAILED


def test_one_that_was_let_in_gets_no_further_child_sa_that_it_may_not_have() -> None:
    host, puppet = begun()
    assert puppet.request(AUTH, 1, *puppet.anonymous(), *puppet.child()) is not None
    host.judge = lambda question: PeerJudged(question.ticket, (puppet.key,), None)
    further = (offer_esp(0x8888), NoncePayload(b"n" * 32), *puppet.child()[1:])
    response = puppet.request(ExchangeType.CREATE_CHILD_SA, 2, *further)
    assert response is not None
    assert find_notify(response, NotifyType.TS_UNACCEPTABLE) is not None
    assert host.rejected[Reason.ANONYMOUS_REFUSED] == 1


def test_an_ike_sa_in_which_we_are_nobody_serves_nobody_else() -> None:
    world = World()
    one, other = world.pair()
    other.judge = lenient(world)
    for own in (ID_NULL, one.identity):
        negotiate(one, other, own=own, keys=(other.key,), anonymity=AUTHENTICATED)
        world.run(0.2)
    assert [row.peer_identity for row in other.endpoint.snapshot()] == [ID_NULL, one.identity]
