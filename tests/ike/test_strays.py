"""Messages of no IKE SA of ours or no version of ours: counted, and answered rarely and in few words."""

from oe.ike.admission import STRAY_ANSWERS_AT_ONCE
from oe.ike.message import Header, Message, decode_message, encode_message
from oe.ike.payloads import NotifyPayload, UnknownPayload, find_notify
from oe.ike.registry import ExchangeType, NotifyType, PayloadType
from oe.ike.settings import IkeSettings
from oe.reasons import Reason
from tests.ike.puppet import INIT, Puppet, played
from tests.ike.world import World

INFORMATIONAL = ExchangeType.INFORMATIONAL


def stray(exchange: ExchangeType = INFORMATIONAL, *, is_response: bool = False, version: int = 0x20) -> bytes:
    head = Header(0x1111, 0x2222, exchange, is_response, True, 7, version)
    return encode_message(head, ())


def only(octets: list[bytes]) -> Message:
    assert len(octets) == 1
    return decode_message(octets[0])


def test_a_request_of_an_unknown_ike_sa_is_answered_in_clear() -> None:
    _, host, puppet = played()
    answer = only(puppet.send(stray()))
    assert answer.header == Header(0x1111, 0x2222, INFORMATIONAL, True, False, 7)
    assert answer.payloads == (NotifyPayload(NotifyType.INVALID_IKE_SPI),)
    assert host.rejected == {Reason.UNKNOWN_IKE_SPI: 1}


def test_a_response_of_an_unknown_ike_sa_is_not() -> None:
    _, host, puppet = played()
    assert not puppet.send(stray(is_response=True))
    assert not puppet.send(stray(INIT, is_response=True))
    assert host.rejected == {Reason.UNKNOWN_IKE_SPI: 2}


def test_such_answers_have_a_bound() -> None:
    world = World()
    host = world.host("192.0.2.1", settings=IkeSettings(stray_answers_per_source=2.0))
    puppet = Puppet(host)
    answered = [len(puppet.send(stray())) for _ in range(STRAY_ANSWERS_AT_ONCE + 2)]
    assert answered == [1] * STRAY_ANSWERS_AT_ONCE + [0, 0]
    world.run(1.0)
    assert len(puppet.send(stray())) == 1


def test_whoever_is_not_admitted_gets_no_answer_at_all() -> None:
    world, host, puppet = played()
    world.not_admitted.add(puppet.socket.address)
    assert not puppet.send(stray())
    assert not puppet.send(stray(version=0x30))
    assert not puppet.send(puppet.init_request(UnknownPayload(PayloadType(200), True, b"")))
    assert host.rejected == {
        Reason.UNKNOWN_IKE_SPI: 1,
        Reason.INVALID_MAJOR_VERSION: 1,
        Reason.NOT_ADMITTED: 1,
    }


def test_ikev1_is_counted_under_its_name_and_not_answered() -> None:
    _, host, puppet = played()
    aggressive_mode, main_mode, quick_mode = ExchangeType(4), ExchangeType(2), ExchangeType(32)
    for exchange in (main_mode, aggressive_mode, quick_mode):
        assert not puppet.send(stray(exchange, version=0x10))
    assert host.rejected == {Reason.IKEV1: 3}


def test_a_later_version_is_told_ours_and_one_before_the_first_nothing() -> None:
    _, host, puppet = played()
    answer = only(puppet.send(stray(INIT, version=0x30)))
    assert answer.header.major_version == 2
    assert find_notify(answer.payloads, NotifyType.INVALID_MAJOR_VERSION) is not None
    assert not puppet.send(stray(version=0x30, is_response=True))
    assert not puppet.send(stray(version=0x00))
    assert host.rejected == {Reason.INVALID_MAJOR_VERSION: 3}


def test_a_stray_that_cannot_be_read_is_counted_and_not_answered() -> None:
    _, host, puppet = played()
    octets = Header(0x1111, 0x2222, INFORMATIONAL, False, True, 7).encode(PayloadType.NONCE, 32) + b"\0\0\0\3"
    assert not puppet.send(octets)
    assert host.rejected == {Reason.INVALID_SYNTAX: 1}
