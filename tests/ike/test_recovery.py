"""After a crash: tokens, shown in clear, and INITIAL_CONTACT. What ends an IKE SA, and who cannot."""

import hmac
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pytest

from oe.ike.message import Header, decode_message, encode_message
from oe.ike.payloads import NotifyPayload, find_notify
from oe.ike.recovery import LEAST_OCTETS, MOST_OCTETS, MOST_TOKENS, token
from oe.ike.registry import ExchangeType, NotifyType, ProtocolId
from oe.ike.sa import Role
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.messages import DatagramReceived, SendDatagram
from oe.model import Identity, IdentityKind, Secret
from oe.reasons import Reason
from tests.ike.puppet import AUTH, INIT, Puppet, played
from tests.ike.world import Host, World, assert_matched, is_message, private_key, public_key

INFORMATIONAL = ExchangeType.INFORMATIONAL
QCD = NotifyType.QUICK_CRASH_DETECTION
CONTACT = NotifyPayload(NotifyType.INITIAL_CONTACT)


def connected() -> tuple[World, Host, Host]:
    world = World()
    one, other = world.pair()
    one.negotiate(other)
    world.run(5.0)
    assert_matched(one, other)
    return world, one, other


def shown(datagram: SendDatagram) -> NotifyPayload | None:
    """The token that a datagram shows in clear, if it is one that does."""
    message = decode_message(datagram.data)
    return None if message.sealed is not None else find_notify(message.payloads, QCD)


# --- tokens, between two engines ---


def test_a_token_is_a_keyed_hash_of_the_spis() -> None:
    notify = token(Secret(bytes(32)), 1, 2)
    spis = (1).to_bytes(8, "big") + (2).to_bytes(8, "big")
    assert notify == NotifyPayload(QCD, hmac.digest(bytes(32), spis, sha256), ProtocolId.IKE)
    assert notify.data != token(Secret(bytes(32)), 2, 1).data
    assert notify.data != token(Secret(bytes(31) + b"1"), 1, 2).data


def test_both_ends_have_the_token_of_the_other() -> None:
    _, one, other = connected()
    (first,), (second,) = one.endpoint._ctx.sas.values(), other.endpoint._ctx.sas.values()
    spis = (first.local_spi, first.remote_spi)
    assert one.crash_secret is not None
    assert other.crash_secret is not None
    assert first.crash_token == Secret(token(other.crash_secret, *spis).data)
    assert second.crash_token == Secret(token(one.crash_secret, *spis).data)
    assert token(other.crash_secret, *spis).data.hex() not in repr(first)


@pytest.mark.parametrize("initiator_crashes", [True, False])
def test_a_peer_that_lost_everything_is_noticed_with_the_first_liveness_check(initiator_crashes: bool) -> None:
    world, one, other = connected()
    crashed, survivor = (one, other) if initiator_crashes else (other, one)
    (child,) = survivor.kernel
    crashed.restart()
    survivor.check_all()
    world.run(0.1)
    assert survivor.closed == {child: Reason.PEER_RESTARTED}
    assert not survivor.states
    assert not survivor.kernel
    ticket = survivor.negotiate(crashed)
    world.run(1.0)
    assert ticket not in survivor.ended
    assert_matched(survivor, crashed)


def test_without_the_secret_of_its_former_life_it_is_noticed_later() -> None:
    world, one, other = connected()
    (child,) = one.kernel
    other.crash_secret = Secret(b"another" * 5)
    other.restart()
    one.check_all()
    world.run(0.1)
    assert one.rejected == {Reason.INVALID_CRASH_TOKEN: 1}
    assert not one.closed
    world.run(30.0)
    assert one.closed == {child: Reason.LIVENESS_FAILED}


def test_whoever_has_no_secret_gives_none_and_shows_none() -> None:
    world = World()
    one, other = world.pair()
    other.crash_secret = None
    other.restart()
    one.negotiate(other)
    world.run(1.0)
    (sa,) = one.endpoint._ctx.sas.values()
    assert sa.crash_token is None
    other.restart()
    one.check_all()
    world.run(0.1)
    assert one.rejected == {Reason.UNAUTHENTICATED_NOTIFY: 1}


# --- who gets to see a token ---


def flipped(datagram: bytes, at: int, bits: int) -> bytes:
    return datagram[:at] + bytes([datagram[at] ^ bits]) + datagram[at + 1 :]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data,
        lambda data: flipped(data, 19, 0x08),  # from the other end
        lambda data: flipped(data, 19, 0x20),  # a response
        lambda data: flipped(data, 19, 0x28),
        lambda data: data[8:16] + data[:8] + data[16:],  # SPIs in the other order
        lambda data: flipped(data[8:16] + data[:8] + data[16:], 19, 0x08),
        lambda data: data[:8] + bytes(8) + data[16:],
        lambda data: bytes(8) + data[8:],
        lambda data: flipped(data, 0, 0x01),  # one SPI of another IKE SA
        lambda data: flipped(data, 15, 0x01),
        lambda data: flipped(data, 40, 0x01),  # what nobody sealed
        lambda data: flipped(data, 18, 0x01),  # another exchange
    ],
)
def test_the_token_of_an_ike_sa_that_stands_is_shown_to_nobody(change: Callable[[bytes], bytes]) -> None:
    """Any datagram that was ever heard, changed so that it seems to belong to no IKE SA, in anybody's name."""
    world, one, other = connected()
    one.check_all()
    world.run(0.1)
    tokens = {sa.crash_token for host in (one, other) for sa in host.endpoint._ctx.sas.values()}
    heard = [datagram.data for host in (one, other) for datagram in host.sent]
    for data in heard:
        for target, source in ((one, other), (other, one)):
            before = len(target.sent)
            target.feed(DatagramReceived(target.socket, source.socket, change(data)))
            for datagram in target.sent[before:]:
                notify = shown(datagram)
                assert notify is None or Secret(notify.data) not in tokens


def test_only_a_protected_request_of_somebody_admitted_is_answered_with_a_token_and_not_often() -> None:
    world, _, puppet = played()
    puppet.begin()
    request = puppet.sealed(INFORMATIONAL, 2, ())
    lost = flipped(flipped(request, 0, 1), 8, 1)
    in_clear = encode_message(Header(0x1111, 0x2222, INFORMATIONAL, False, True, 2), ())
    (answer,) = puppet.send(lost)
    message = decode_message(answer)
    assert [payload.notify for payload in message.payloads if isinstance(payload, NotifyPayload)] == [
        NotifyType.INVALID_IKE_SPI,
        QCD,
    ]
    assert (message.header.message_id, message.header.initiator_spi) == (2, decode_message(lost).header.initiator_spi)
    assert len(answer) <= len(lost) + 48
    assert find_notify(decode_message(puppet.send(in_clear)[0]).payloads, QCD) is None
    assert len([puppet.send(lost) for _ in range(4) if puppet.send(lost)]) <= 2
    world.not_admitted.add(puppet.socket.address)
    world.run(60.0)
    assert not puppet.send(lost)


# --- whose token ends what ---


def told(puppet: Puppet, *tokens: bytes, exchange: ExchangeType = INFORMATIONAL) -> bytes:
    """What a peer that lost everything sends in clear."""
    notifies = [NotifyPayload(NotifyType.INVALID_IKE_SPI), *(NotifyPayload(QCD, data) for data in tokens)]
    return encode_message(puppet.header(exchange, 0, is_response=True), notifies)


GOOD = b"g" * LEAST_OCTETS


def with_token(data: bytes = GOOD) -> tuple[Host, Puppet]:
    _, host, puppet = played()
    puppet.establish(NotifyPayload(QCD, data, ProtocolId.IKE))
    return host, puppet


@pytest.mark.parametrize(
    ("tokens", "ends"),
    [
        ((GOOD,), True),
        ((b"x" * LEAST_OCTETS, GOOD), True),
        ((*[b"x" * LEAST_OCTETS] * (MOST_TOKENS - 1), GOOD), True),
        ((*[b"x" * LEAST_OCTETS] * MOST_TOKENS, GOOD), False),
        ((), False),
        ((b"",), False),
        ((GOOD[:-1],), False),
        ((GOOD + b"g",), False),
        ((GOOD[:-1] + b"h",), False),
    ],
)
def test_only_the_very_token_ends_an_ike_sa(tokens: tuple[bytes, ...], ends: bool) -> None:
    host, puppet = with_token()
    puppet.send(told(puppet, *tokens))
    assert host.states == ([] if ends else [State.ESTABLISHED])
    assert list(host.closed.values()) == ([Reason.PEER_RESTARTED] if ends else [])
    reason = Reason.INVALID_CRASH_TOKEN if tokens else Reason.UNAUTHENTICATED_NOTIFY
    assert host.rejected == ({} if ends else {reason: 1})


def test_a_token_may_come_from_any_address_but_under_the_right_spis() -> None:
    host, puppet = with_token()
    elsewhere = Puppet(host, "203.0.113.7", 7)
    host.feed(DatagramReceived(host.socket, elsewhere.socket, flipped(told(puppet, GOOD), 0, 1)))
    assert host.states == [State.ESTABLISHED]
    host.feed(DatagramReceived(host.socket, elsewhere.socket, told(puppet, GOOD)))
    assert not host.states


@pytest.mark.parametrize("size", [0, LEAST_OCTETS - 1, MOST_OCTETS + 1])
def test_a_token_of_illegal_length_is_not_kept(size: int) -> None:
    host, puppet = with_token(bytes(size))
    puppet.send(told(puppet, bytes(size)))
    assert host.states == [State.ESTABLISHED]


def test_a_later_token_replaces_the_one_before() -> None:
    host, puppet = with_token()
    assert puppet.request(INFORMATIONAL, 2, NotifyPayload(QCD, b"n" * 128, ProtocolId.IKE)) == ()
    puppet.send(told(puppet, GOOD))
    assert host.states == [State.ESTABLISHED]
    puppet.send(told(puppet, b"n" * 128))
    assert not host.states


def test_a_token_given_in_clear_is_not_kept() -> None:
    _, host, puppet = played()
    puppet.begin(NotifyPayload(QCD, GOOD))
    assert puppet.request(AUTH, 1, *puppet.auth(), *puppet.child()) is not None
    puppet.send(encode_message(puppet.header(INFORMATIONAL, 2, is_response=False), (NotifyPayload(QCD, GOOD),)))
    puppet.send(told(puppet, GOOD))
    assert host.states == [State.ESTABLISHED]


def test_a_token_of_somebody_who_was_not_believed_is_not_kept() -> None:
    _, host, puppet = played()
    puppet.begin()
    host.judge = lambda question: replace(puppet.judge(question), keys=())
    puppet.request(AUTH, 1, *puppet.auth(), NotifyPayload(QCD, GOOD), *puppet.child())
    assert all(sa.crash_token is None for sa in host.endpoint._ctx.sas.values())


# --- INITIAL_CONTACT ---


def test_a_responder_that_knows_of_nothing_older_says_so_and_is_believed() -> None:
    """After its crash the peer begins nothing itself: our next IKE SA tells us that the old ones are worth nothing."""
    world, one, other = connected()
    (old,) = one.kernel
    other.private = private_key("ed25519", 55)  # Under another key, so that the old IKE SA is of no use for us.
    other.key = public_key(other.private)
    other.restart()
    world.run(10.0)
    ticket = one.negotiate(other)
    world.run(1.0)
    assert ticket not in one.ended
    assert one.closed == {old: Reason.REPLACED_BY_PEER}
    assert_matched(one, other)


def test_neither_says_it_while_another_ike_sa_stands() -> None:
    _, host, puppet = played()
    response = puppet.establish()
    assert find_notify(response, NotifyType.INITIAL_CONTACT) is not None
    second = Puppet(host, "192.0.2.9", 9)
    second.spi += 77
    assert find_notify(second.establish(), NotifyType.INITIAL_CONTACT) is None


@pytest.mark.parametrize(("number", "is_believed"), [(8, False), (9, True)], ids=["another key", "the same key"])
def test_under_one_name_it_is_believed_of_who_has_the_key(number: int, is_believed: bool) -> None:
    """Anybody may publish, for an address of its own, a gateway of any name with a key of its own."""
    _, host, puppet = played()
    name = Identity(IdentityKind.FQDN, b"gateway.example")
    puppet.identity = name
    puppet.establish()
    puppet.world.run(1.0)
    other = Puppet(host, "203.0.113.7", number)
    other.identity, other.spi = name, other.spi + 77
    other.establish(CONTACT)
    assert (Reason.REPLACED_BY_PEER in host.closed.values()) is is_believed


def test_in_clear_it_means_nothing() -> None:
    _, host, puppet = played()
    puppet.establish()
    for exchange in (INIT, INFORMATIONAL, AUTH):
        for is_response in (False, True):
            puppet.send(encode_message(puppet.header(exchange, 2, is_response=is_response), (CONTACT,)))
    assert host.states == [State.ESTABLISHED]
    assert not host.closed


# --- after a rekey ---


def test_a_rekeyed_ike_sa_has_tokens_of_its_own() -> None:
    world = World()
    one, other = world.pair(settings=IkeSettings(ike_lifetime=100.0, lifetime_jitter=0.0))
    one.negotiate(other)
    world.run(110.0)
    assert one.states == other.states == [State.ESTABLISHED]
    (first,), (second,) = one.endpoint._ctx.sas.values(), other.endpoint._ctx.sas.values()
    assert first.created > 1050.0
    spis = (first.local_spi, first.remote_spi) if first.role is Role.INITIATOR else (first.remote_spi, first.local_spi)
    for sa, peer in ((first, other), (second, one)):
        assert peer.crash_secret is not None
        assert sa.crash_token == Secret(token(peer.crash_secret, *spis).data)


def test_the_token_of_one_that_is_about_to_be_is_not_shown_either() -> None:
    """Our rekey is answered, but the answer is lost; so the peer asks in the new IKE SA whether we have it."""
    world, one, _ = connected()
    world.link.passes = lambda sent: not is_message(sent, ExchangeType.CREATE_CHILD_SA, is_response=True)
    one.rekey_ike()
    world.run(0.6 * one.settings.request_patience)
    assert one.rejected[Reason.UNKNOWN_IKE_SPI] > 0
    assert not [datagram for datagram in one.sent if shown(datagram) is not None]
