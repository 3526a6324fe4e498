"""IKE_FOLLOWUP_KE: the rekey of a hybrid IKE SA is hybrid again, and the ways in which it can go wrong."""

from collections.abc import Callable

import pytest

from oe.ike.crypto import SkCipher
from oe.ike.kem import KEMS, Decapsulation, encapsulate
from oe.ike.kex import KeyExchange
from oe.ike.keymat import derive_rekeyed_ike
from oe.ike.message import decode_header
from oe.ike.payloads import KePayload, NoncePayload, NotifyPayload, Payload, SaPayload, find, find_error, find_notify
from oe.ike.proposals import IKE_GROUPS, accept_ike, choose_ike, offer_ike
from oe.ike.registry import ExchangeType, KeyExchangeId, NotifyType
from oe.ike.sa import Timer
from oe.ike.states import State
from oe.messages import SendDatagram
from oe.reasons import Reason
from tests.ike.puppet import AUTH, Puppet
from tests.ike.test_ike_intermediate import begun, exchange_keys
from tests.ike.world import Host, World, assert_matched, is_message

CREATE, FOLLOWUP = ExchangeType.CREATE_CHILD_SA, ExchangeType.IKE_FOLLOWUP_KE
METHOD, GROUP = KEMS[0], IKE_GROUPS[0]
NONCE = NoncePayload(b"\x55" * 32)
NEW_SPI = b"\xbb" * 8


def connected() -> tuple[World, Host, Host]:
    world = World(hybrid=True)
    one, other = world.pair()
    one.negotiate(other)
    world.run(2.5)
    return world, one, other


def is_hybrid(host: Host) -> list[bool]:
    return [sa.is_hybrid for sa in host.endpoint._ctx.sas.values() if sa.state is State.ESTABLISHED]


@pytest.mark.parametrize("first", [0, 1])
def test_what_was_hybrid_stays_hybrid(first: int) -> None:
    world, *hosts = connected()
    one, other = hosts[first], hosts[1 - first]
    for _ in range(3):
        before = len(one.sent)
        one.rekey_ike()
        world.run(1.0)
        found = [decode_header(datagram.data).exchange for datagram in one.sent[before:]]
        assert list(dict.fromkeys(found))[:2] == [CREATE, FOLLOWUP]
        assert is_hybrid(one) == is_hybrid(other) == [True]
    world.run(20.0)
    one.check_all()
    other.check_all()
    world.run(2.0)
    assert one.states == other.states == [State.ESTABLISHED]
    assert_matched(one, other)
    assert not one.closed
    assert not other.closed


@pytest.mark.parametrize("is_response", [False, True])
@pytest.mark.parametrize("exchange", [CREATE, FOLLOWUP])
def test_each_message_may_be_lost(exchange: ExchangeType, is_response: bool) -> None:
    world, one, other = connected()
    lost: list[SendDatagram] = []

    def passes(datagram: SendDatagram) -> bool:
        if len(lost) < 2 and is_message(datagram, exchange, is_response=is_response):
            lost.append(datagram)
            return False
        return True

    world.link.passes = passes
    one.rekey_ike()
    world.run(20.0)
    assert len(lost) == 2
    assert is_hybrid(one) == is_hybrid(other) == [True]
    assert_matched(one, other)
    assert not one.closed


def test_both_at_once() -> None:
    world, one, other = connected()
    one.rekey_ike()
    other.rekey_ike()
    world.run(20.0)
    assert one.states == other.states == [State.ESTABLISHED]
    assert is_hybrid(one) == is_hybrid(other) == [True]
    assert_matched(one, other)


def test_a_classical_one_stays_classical() -> None:
    world = World()
    one, other = world.pair()
    one.negotiate(other)
    world.run(2.5)
    before = len(one.sent)
    one.rekey_ike()
    world.run(1.0)
    assert FOLLOWUP not in {decode_header(datagram.data).exchange for datagram in one.sent[before:]}
    assert is_hybrid(one) == is_hybrid(other) == [False]


# --- a responder and a puppet ----------------------------------------------------------------------------------


def rekeying() -> tuple[World, Host, Puppet, bytes, tuple[Payload, ...], KeyExchange]:
    """The puppet's IKE SA stands, and its rekey wants the additional key exchange: the link, and the answer so far."""
    world, host, puppet, ours = begun()
    exchange_keys(puppet, ours)
    assert puppet.request(AUTH, 2, *puppet.auth(), *puppet.child()) is not None
    kex = KeyExchange.generate(GROUP, lambda size: b"\x09" * size)
    request = (offer_ike((GROUP,), NEW_SPI, KEMS), NONCE, KePayload(GROUP, kex.public))
    answer = puppet.request(CREATE, 3, *request)
    assert answer is not None
    link = find_notify(answer, NotifyType.ADDITIONAL_KEY_EXCHANGE)
    assert link is not None
    return world, host, puppet, link.data, answer, kex


def linked(link: bytes) -> NotifyPayload:
    return NotifyPayload(NotifyType.ADDITIONAL_KEY_EXCHANGE, link)


def share(ours: Decapsulation) -> KePayload:
    return KePayload(ours.method, ours.public)


def own_half() -> Decapsulation:
    return Decapsulation.generate(METHOD, lambda size: b"\x0b" * size)


def test_the_keys_are_of_both_key_exchanges() -> None:
    _, host, puppet, link, answer, kex = rekeying()
    ours = own_half()
    response = puppet.request(FOLLOWUP, 4, share(ours), linked(link))
    assert response is not None
    chosen, nonce = find(answer, SaPayload), find(answer, NoncePayload)
    first, second = find(answer, KePayload), find(response, KePayload)
    assert chosen is not None
    assert nonce is not None
    assert first is not None
    assert second is not None
    accepted = accept_ike(offer_ike((GROUP,), NEW_SPI, KEMS), chosen)
    assert accepted is not None
    assert puppet.keys is not None
    spis = int.from_bytes(NEW_SPI, "big"), int.from_bytes(accepted.spi, "big")
    new = derive_rekeyed_ike(
        puppet.keys,
        accepted.prf,
        accepted.encryption_bits,
        kex.shared(first.data),
        (NONCE.data, nonce.data),
        spis,
        ours.shared(second.data),
    )
    puppet.spi, puppet.host_spi = spis
    puppet.sealing, puppet.opening = SkCipher(new.sk_ei), SkCipher(new.sk_er)
    assert puppet.request(ExchangeType.INFORMATIONAL, 0) is not None
    assert is_hybrid(host).count(True) == len(is_hybrid(host))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda link: (share(own_half()),), NotifyType.STATE_NOT_FOUND),
        (lambda link: (share(own_half()), linked(link + b"x")), NotifyType.STATE_NOT_FOUND),
        (lambda link: (share(own_half()), linked(b"")), NotifyType.STATE_NOT_FOUND),
    ],
)
def test_what_does_not_fit_is_refused_and_the_old_one_stays(
    wrong: Callable[[bytes], tuple[Payload, ...]], told: NotifyType
) -> None:
    _, host, puppet, link, _, _ = rekeying()
    response = puppet.request(FOLLOWUP, 4, *wrong(link))
    assert response is not None
    assert find_notify(response, told) is not None
    assert host.states == [State.ESTABLISHED]
    assert puppet.request(ExchangeType.INFORMATIONAL, 5) == ()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda link: (KePayload(KeyExchangeId.ML_KEM_1024, bytes(1568)), linked(link)),
        lambda link: (KePayload(METHOD, b"\xff" * 1184), linked(link)),
        lambda link: (linked(link),),
    ],
)
def test_what_is_malformed_ends_the_ike_sa(wrong: Callable[[bytes], tuple[Payload, ...]]) -> None:
    _, host, puppet, link, _, _ = rekeying()
    assert puppet.request(FOLLOWUP, 4, *wrong(link)) == (NotifyPayload(NotifyType.INVALID_SYNTAX),)
    assert host.states == [State.LINGERING]


def test_a_rekey_goes_on_once() -> None:
    _, host, puppet, link, _, _ = rekeying()
    assert puppet.request(FOLLOWUP, 4, share(own_half()), linked(b"other")) is not None
    response = puppet.request(FOLLOWUP, 5, share(own_half()), linked(link))
    assert response is not None
    assert find_notify(response, NotifyType.STATE_NOT_FOUND) is not None
    assert host.rejected[Reason.UNEXPECTED_MESSAGE] == 2


def test_one_out_of_the_blue_is_refused() -> None:
    world = World(hybrid=True)
    host = world.host("192.0.2.1")
    puppet = Puppet(host)
    puppet.establish()
    response = puppet.request(FOLLOWUP, 2, share(own_half()))
    assert response is not None
    assert find_notify(response, NotifyType.STATE_NOT_FOUND) is not None


# --- an initiator and a puppet ---------------------------------------------------------------------------------


def asked() -> tuple[World, Host, Puppet, tuple[Payload, ...]]:
    """The host's IKE SA with the puppet is to be rekeyed by the host: its request."""
    world, host, puppet, ours = begun()
    exchange_keys(puppet, ours)
    assert puppet.request(AUTH, 2, *puppet.auth(), *puppet.child()) is not None
    world.run(1.5)
    for octets in puppet.heard():
        puppet.send(puppet.sealed(ExchangeType.INFORMATIONAL, decode_header(octets).message_id, (), is_response=True))
    host.rekey_ike()
    world.run(0.001)
    (request,) = puppet.heard()
    return world, host, puppet, puppet.open(request)


def half_answered(puppet: Puppet, request: tuple[Payload, ...], *more: Payload) -> list[bytes]:
    offered, key = find(request, SaPayload), find(request, KePayload)
    assert offered is not None
    assert key is not None
    chosen = choose_ike(offered, key.group, KEMS)
    assert chosen is not None
    assert chosen.additional == METHOD
    kex = KeyExchange.generate(key.group, lambda size: b"\x05" * size)
    answer = (chosen.answer(NEW_SPI), NONCE, KePayload(kex.group, kex.public), *more)
    return puppet.respond(CREATE, next_id(puppet, CREATE), *answer)


def next_id(puppet: Puppet, exchange: ExchangeType) -> int:
    sent = [decode_header(datagram.data) for datagram in puppet.host.sent]
    return next(head.message_id for head in reversed(sent) if head.exchange == exchange and not head.is_response)


def test_an_answer_without_a_link_is_none() -> None:
    _, host, puppet, request = asked()
    assert half_answered(puppet, request) == []
    assert host.states == [State.ESTABLISHED]
    assert not host.closed


@pytest.mark.parametrize(
    "answer",
    [
        (NotifyPayload(NotifyType.STATE_NOT_FOUND),),
        (NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, b"\0\x13"),),
        (NotifyPayload(NotifyType.TEMPORARY_FAILURE),),
        (KePayload(METHOD, b"short"),),
        (KePayload(KeyExchangeId.ML_KEM_1024, bytes(1568)),),
        (),
    ],
)
def test_a_followup_that_fails_leaves_the_old_one(answer: tuple[Payload, ...]) -> None:
    _, host, puppet, request = asked()
    half_answered(puppet, request, linked(b"link"))
    puppet.respond(FOLLOWUP, next_id(puppet, FOLLOWUP), *answer)
    assert host.states == [State.ESTABLISHED]
    assert not host.closed


def test_a_followup_that_is_answered_gives_a_successor() -> None:
    _, host, puppet, request = asked()
    octets = half_answered(puppet, request, linked(b"link"))
    payloads = puppet.open(octets[0]) if len(octets) == 1 else ()
    key, link = find(payloads, KePayload), find_notify(payloads, NotifyType.ADDITIONAL_KEY_EXCHANGE)
    assert key is not None
    assert link is not None
    assert (key.group, link.data, find_error(payloads)) == (METHOD, b"link", None)
    ciphertext, _ = encapsulate(METHOD, key.data)
    puppet.respond(FOLLOWUP, next_id(puppet, FOLLOWUP), KePayload(METHOD, ciphertext))
    assert State.ESTABLISHED in host.states
    assert len(host.states) == 2
    assert not host.closed


def test_a_rekey_that_its_initiator_leaves_half_done_is_forgotten_in_time() -> None:
    world, host, puppet, link, _, _ = rekeying()
    (sa,) = host.endpoint._ctx.sas.values()
    world.run(host.settings.request_patience - 0.1)
    before = sa.halfway
    world.run(0.2)
    after = sa.halfway
    assert before is not None
    assert after is None
    assert host.rejected[Reason.REKEY_ABANDONED] == 1
    assert host.states == [State.ESTABLISHED]
    # Whoever comes so late begins anew (RFC 9370 2.2.4).
    response = puppet.request(FOLLOWUP, 4, share(own_half()), linked(link))
    error = find_error(response or ())
    assert error is not None
    assert error.notify == NotifyType.STATE_NOT_FOUND
    assert host.states == [State.ESTABLISHED]


def test_its_time_is_over_with_it_and_a_second_rekey_has_its_own() -> None:
    world, host, puppet, _, _, kex = rekeying()
    (sa,) = host.endpoint._ctx.sas.values()
    world.run(10.0)
    request = (offer_ike((GROUP,), NEW_SPI, KEMS), NONCE, KePayload(GROUP, kex.public))
    answer = puppet.request(CREATE, 4, *request)
    again = find_notify(answer or (), NotifyType.ADDITIONAL_KEY_EXCHANGE)
    assert again is not None
    world.run(10.0)
    assert sa.halfway is not None
    assert puppet.request(FOLLOWUP, 5, share(own_half()), linked(again.data)) is not None
    assert Timer.FOLLOWUP not in sa.timers
    world.run(20.0)
    assert Reason.REKEY_ABANDONED not in host.rejected
