"""IKE_INTERMEDIATE: hybrid where both can, classical where one cannot, and the ways in which a peer gets it wrong."""

from collections.abc import Callable

import pytest

from oe.ike.intauth import IntAuth, sent
from oe.ike.kem import KEMS, Decapsulation, encapsulate
from oe.ike.message import decode_header
from oe.ike.payloads import KePayload, NotifyPayload, Payload, find, find_notify
from oe.ike.registry import ExchangeType, KeyExchangeId, NotifyType
from oe.ike.states import State
from oe.messages import SendDatagram
from oe.model import HostPair
from oe.negotiation import Negotiate
from oe.reasons import Reason
from tests.ike.puppet import AUTH, Puppet, played
from tests.ike.test_ike_auth import chosen, ts
from tests.ike.world import Host, World, assert_matched, is_message

INTERMEDIATE = ExchangeType.IKE_INTERMEDIATE
INIT = ExchangeType.IKE_SA_INIT
ML_KEM_768, ML_KEM_1024 = KeyExchangeId.ML_KEM_768, KeyExchangeId.ML_KEM_1024
METHOD = KEMS[0]


def exchanges(host: Host) -> list[str]:
    return [decode_header(datagram.data).exchange.name for datagram in host.sent]


# --- two of us -------------------------------------------------------------------------------------------------


def test_two_that_can_do_it_do_it() -> None:
    world = World(hybrid=True)
    one, other = world.pair()
    one.negotiate(other)
    world.run(1.0)
    assert list(dict.fromkeys(exchanges(one))) == ["IKE_SA_INIT", "IKE_INTERMEDIATE", "IKE_AUTH"]
    assert list(dict.fromkeys(exchanges(other))) == ["IKE_SA_INIT", "IKE_INTERMEDIATE", "IKE_AUTH"]
    assert one.states == other.states == [State.ESTABLISHED]
    assert_matched(one, other)
    assert not one.rejected + other.rejected
    assert {decode_header(datagram.data).message_id for datagram in one.sent} == {0, 1, 2}


def test_without_fragments_on_the_wire_that_ip_would_have_to_cut() -> None:
    world = World(hybrid=True)
    one, other = world.pair()
    one.negotiate(other)
    world.run(1.0)
    assert max(len(datagram.data) for datagram in one.sent + other.sent) <= 1280


@pytest.mark.parametrize("is_initiator", [True, False])
def test_one_that_does_not_is_met_halfway(is_initiator: bool) -> None:
    world = World(hybrid=True)
    able = world.host("192.0.2.1")
    world.hybrid = False
    unable = world.host("192.0.2.2")
    first, second = (able, unable) if is_initiator else (unable, able)
    first.negotiate(second)
    world.run(1.0)
    assert exchanges(first) == ["IKE_SA_INIT", "IKE_AUTH"]
    assert_matched(one=able, other=unable)
    assert len(able.kernel) == 1


@pytest.mark.parametrize("is_response", [False, True])
@pytest.mark.parametrize("exchange", [INIT, INTERMEDIATE, AUTH])
def test_each_message_may_be_lost_and_repeated(exchange: ExchangeType, is_response: bool) -> None:
    world = World(hybrid=True)
    one, other = world.pair()
    lost: list[SendDatagram] = []

    def passes(datagram: SendDatagram) -> bool:
        if len(lost) < 2 and is_message(datagram, exchange, is_response=is_response):
            lost.append(datagram)
            return False
        return True

    world.link.passes = passes
    one.negotiate(other, patience=10.0)
    world.run(10.0)
    assert len(lost) == 2
    assert_matched(one, other)
    assert len(one.kernel) == 1
    assert Reason.INTEGRITY_CHECK_FAILED not in one.rejected + other.rejected


def test_everything_may_come_twice_and_late() -> None:
    world = World(3, hybrid=True)
    one, other = world.pair()
    world.link.duplicates, world.link.jitter = 1.0, 0.2
    one.negotiate(other)
    world.run(3.0)
    assert one.states == other.states == [State.ESTABLISHED]
    assert_matched(one, other)
    assert Reason.INTEGRITY_CHECK_FAILED not in one.rejected + other.rejected


# --- a responder and a puppet ----------------------------------------------------------------------------------


def begun(method: KeyExchangeId = METHOD) -> tuple[World, Host, Puppet, Decapsulation]:
    """The puppet has had its IKE_SA_INIT answered; the additional key exchange is agreed."""
    world, host, puppet = played(World(hybrid=True))
    puppet.additional = (method,)
    answer = puppet.begin()
    assert find_notify(answer.payloads, NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED) is not None
    assert host.states == [State.INTERMEDIATE]
    return world, host, puppet, Decapsulation.generate(method, lambda size: b"\x07" * size)


def exchange_keys(puppet: Puppet, ours: Decapsulation) -> None:
    share = (KePayload(ours.method, ours.public),)
    response = puppet.request(INTERMEDIATE, 1, *share)
    assert response is not None
    theirs = find(response, KePayload)
    assert theirs is not None
    assert theirs.group == ours.method
    puppet.strengthen(
        ours.shared(theirs.data),
        sent(puppet.header(INTERMEDIATE, 1, is_response=False), share),
        sent(puppet.echo(INTERMEDIATE, 1), response),
    )


@pytest.mark.parametrize("method", KEMS)
def test_a_puppet_can_do_it_right(method: KeyExchangeId) -> None:
    _, host, puppet, ours = begun(method)
    exchange_keys(puppet, ours)
    assert host.states == [State.HALF_OPEN]
    assert puppet.request(AUTH, 2, *puppet.auth(), *puppet.child()) is not None
    assert host.states == [State.ESTABLISHED]


def test_the_preferred_method_is_chosen_and_the_other_may_be_asked_for() -> None:
    for offered, wanted in (((ML_KEM_1024, ML_KEM_768), ML_KEM_768), ((ML_KEM_1024,), ML_KEM_1024)):
        _, host, puppet = played(World(hybrid=True))
        puppet.additional = offered
        puppet.begin()
        (sa,) = host.endpoint._ctx.sas.values()
        assert sa.agreed[0].additional == wanted


def test_auth_covers_both_messages() -> None:
    _, host, puppet, ours = begun()
    exchange_keys(puppet, ours)
    puppet.int_auth = type(puppet.int_auth)(1, puppet.int_auth.initiator, bytes(64))
    response = puppet.request(AUTH, 2, *puppet.auth(), *puppet.child())
    assert response is not None
    assert find_notify(response, NotifyType.AUTHENTICATION_FAILED) is not None
    assert host.rejected[Reason.PEER_AUTHENTICATION_FAILED] == 1


def test_auth_must_wait_for_the_additional_key_exchange() -> None:
    _, host, puppet, ours = begun()
    assert puppet.request(AUTH, 1, *puppet.auth(), *puppet.child()) is None
    assert host.rejected == {Reason.UNEXPECTED_MESSAGE: 1}
    exchange_keys(puppet, ours)
    assert host.states == [State.HALF_OPEN]


def test_there_is_no_second_one() -> None:
    _, host, puppet, ours = begun()
    exchange_keys(puppet, ours)
    assert puppet.request(INTERMEDIATE, 2, KePayload(ours.method, ours.public)) is None
    assert host.rejected == {Reason.UNEXPECTED_MESSAGE: 1}


def test_there_is_none_that_was_not_agreed() -> None:
    _, host, puppet = played(World(hybrid=True))
    puppet.begin()
    assert host.states == [State.HALF_OPEN]
    assert puppet.request(INTERMEDIATE, 1, NotifyPayload(NotifyType.INITIAL_CONTACT)) is None
    assert host.rejected == {Reason.UNEXPECTED_MESSAGE: 1}


def test_an_offer_without_the_notify_is_taken_without_the_additional_key_exchange() -> None:
    _, host, puppet = played(World(hybrid=True))
    puppet.additional = KEMS
    puppet._announced = tuple  # type: ignore[method-assign]  # the puppet forgets its notify
    answer = puppet.begin()
    assert find_notify(answer.payloads, NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED) is None
    assert host.states == [State.HALF_OPEN]


Wrong = Callable[[Decapsulation], tuple[Payload, ...]]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda ours: (KePayload(ML_KEM_1024, ours.public),),
        lambda ours: (KePayload(ours.method, ours.public[1:]),),
        lambda ours: (KePayload(ours.method, b"\xff" * 1184),),
        lambda ours: (),
        lambda ours: (KePayload(ours.method, ours.public),) * 2,
    ],
)
def test_a_share_that_is_none_ends_it(wrong: Wrong) -> None:
    world, host, puppet, ours = begun()
    response = puppet.request(INTERMEDIATE, 1, *wrong(ours))
    assert response is not None
    assert find_notify(response, NotifyType.INVALID_SYNTAX) is not None
    assert host.states == [State.LINGERING]
    assert host.rejected == {Reason.INVALID_SYNTAX: 1}
    world.run(20.0)
    assert not host.states


def test_a_repeated_request_gets_the_same_answer_though_keys_have_changed() -> None:
    _, host, puppet, ours = begun()
    assert puppet.sealing is not None
    request = puppet.sealed(INTERMEDIATE, 1, (KePayload(ours.method, ours.public),))
    first = puppet.send(request)
    assert puppet.send(request) == first
    assert len(first) == 1
    assert not host.rejected


def test_a_forged_repetition_is_not_answered() -> None:
    _, host, puppet, ours = begun()
    request = puppet.sealed(INTERMEDIATE, 1, (KePayload(ours.method, ours.public),))
    puppet.send(request)
    assert puppet.send(request[:-1] + bytes((request[-1] ^ 1,))) == []
    assert host.rejected == {Reason.INTEGRITY_CHECK_FAILED: 1}


# --- an initiator and a puppet ---------------------------------------------------------------------------------


def asked(hybrid_answer: bool = True) -> tuple[World, Host, Puppet, int, Payload | None, bytes]:
    """The puppet has answered IKE_SA_INIT; the host's share, and its request as AUTH covers it."""
    world, host, puppet = played(World(hybrid=True))
    ticket = next(host.tickets)
    pair = HostPair(host.address, puppet.socket.address)
    deadline = world.now + 3.0
    keys = (puppet.key,)
    host.feed(
        Negotiate(ticket, pair, host.socket, puppet.socket, host.identity, puppet.identity, keys, False, deadline)
    )
    puppet.additional = KEMS if hybrid_answer else ()
    (request,) = puppet.send(puppet.answer_init())
    payloads = puppet.open(request)
    return world, host, puppet, ticket, find(payloads, KePayload), sent(decode_header(request), payloads)


@pytest.mark.parametrize("is_covered", [True, False])
def test_a_responder_puppet_can_do_it_right_or_wrong(is_covered: bool) -> None:
    _, host, puppet, ticket, share, request = asked()
    assert host.states == [State.INTERMEDIATE]
    assert isinstance(share, KePayload)
    assert share.group == METHOD
    ciphertext, secret = encapsulate(METHOD, share.data)
    answer = (KePayload(METHOD, ciphertext),)
    (auth,) = puppet.respond(INTERMEDIATE, 1, *answer)
    puppet.strengthen(secret, request, sent(puppet.header(INTERMEDIATE, 1, is_response=True), answer))
    assert decode_header(auth).message_id == 2
    assert puppet.open(auth)
    assert host.states == [State.AUTHENTICATING]
    if not is_covered:
        puppet.int_auth = IntAuth()
    puppet.respond(AUTH, 2, *puppet.auth(), chosen(), *ts(puppet))
    assert host.states == [State.ESTABLISHED if is_covered else State.CLOSING]
    assert is_covered or host.ended[ticket].reason is Reason.PEER_AUTHENTICATION_FAILED


def test_a_responder_without_it_takes_the_second_proposal() -> None:
    _, host, _, _, share, _ = asked(hybrid_answer=False)
    assert share is None
    assert host.states == [State.AUTHENTICATING]


@pytest.mark.parametrize(
    "answer",
    [
        (KePayload(ML_KEM_1024, bytes(1088)),),
        (KePayload(METHOD, bytes(1087)),),
        (NotifyPayload(NotifyType.INVALID_SYNTAX),),
        (),
    ],
)
def test_an_answer_that_gives_no_key_ends_the_negotiation(answer: tuple[Payload, ...]) -> None:
    _, host, puppet, ticket, _, _ = asked()
    puppet.respond(INTERMEDIATE, 1, *answer)
    assert host.ended[ticket].reason is Reason.PEER_REFUSED
    assert not host.states


def test_a_ciphertext_for_another_key_shows_in_what_comes_next() -> None:
    world, host, puppet, ticket, _, _ = asked()
    (auth,) = puppet.respond(INTERMEDIATE, 1, KePayload(METHOD, bytes(1088)))
    assert decode_header(auth).exchange == AUTH
    world.run(4.0)
    assert host.ended[ticket].reason is Reason.NEGOTIATION_TIMEOUT


def test_a_responder_that_chooses_it_without_the_notify_is_not_believed() -> None:
    _, host, puppet = played(World(hybrid=True))
    ticket = next(host.tickets)
    pair = HostPair(host.address, puppet.socket.address)
    host.feed(
        Negotiate(ticket, pair, host.socket, puppet.socket, host.identity, puppet.identity, (puppet.key,), False, 1e9)
    )
    puppet.additional = KEMS
    puppet._announced = tuple  # type: ignore[method-assign]  # the puppet forgets its notify
    assert puppet.send(puppet.answer_init()) == []
    assert host.states == [State.STARTED]
    assert host.rejected == {Reason.UNAUTHENTICATED_NOTIFY: 1}


def test_silence_ends_with_the_negotiation() -> None:
    world, host, _, ticket, _, _ = asked()
    world.run(4.0)
    assert host.ended[ticket].reason is Reason.NEGOTIATION_TIMEOUT
    assert not host.states
