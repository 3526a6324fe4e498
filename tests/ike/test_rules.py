import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.ike.payloads import (
    AuthPayload,
    DeletePayload,
    IdPayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    TsPayload,
    UnknownPayload,
    VendorPayload,
)
from oe.ike.registry import AuthMethod, ExchangeType, KeyExchangeId, NotifyType, PayloadType, ProtocolId
from oe.ike.rules import SHAPES, check
from oe.reasons import Reason
from tests.ike.strategies import chains

SA = SaPayload(())
KE = KePayload(KeyExchangeId.CURVE25519, bytes(32))
NONCE = NoncePayload(bytes(32))
ID_I, ID_R = (IdPayload(type, b"\x0d\0\0\0") for type in (PayloadType.ID_I, PayloadType.ID_R))
AUTH = AuthPayload(AuthMethod.DIGITAL_SIGNATURE, b"")
TS_I, TS_R = (TsPayload(type, ()) for type in (PayloadType.TS_I, PayloadType.TS_R))
DELETE = DeletePayload(ProtocolId.IKE)
CERTREQ = UnknownPayload(PayloadType.CERTREQ, False, b"")
STATUS = NotifyPayload(NotifyType.INITIAL_CONTACT)
COOKIE = NotifyPayload(NotifyType.COOKIE, b"c")
REFUSED = NotifyPayload(NotifyType.TS_UNACCEPTABLE)

INIT, AUTHENTICATE = ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH
CREATE, INFORM = ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL


@pytest.mark.parametrize(
    ("exchange", "is_response", "is_protected", "payloads"),
    [
        (INIT, False, False, (SA, KE, NONCE)),
        (INIT, False, False, (COOKIE, SA, KE, NONCE, STATUS, VendorPayload(b""), CERTREQ)),
        (INIT, True, False, (SA, KE, NONCE, CERTREQ)),
        (INIT, True, False, (COOKIE,)),
        (INIT, True, False, (NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, b"\0\x0e"),)),
        (AUTHENTICATE, False, True, (ID_I, ID_R, AUTH, SA, TS_I, TS_R)),
        (AUTHENTICATE, False, True, (ID_I, CERTREQ, AUTH, SA, TS_I, TS_R, STATUS)),
        (AUTHENTICATE, False, True, (ID_I, SA, TS_I, TS_R)),
        (AUTHENTICATE, False, True, (ID_I, AUTH)),
        (AUTHENTICATE, True, True, (ID_R, AUTH, SA, TS_I, TS_R)),
        (AUTHENTICATE, True, True, (ID_R, AUTH, REFUSED)),
        (AUTHENTICATE, True, True, (NotifyPayload(NotifyType.AUTHENTICATION_FAILED),)),
        (CREATE, False, True, (SA, NONCE, KE)),
        (CREATE, False, True, (NotifyPayload(NotifyType.REKEY_SA), SA, NONCE, KE, TS_I, TS_R)),
        (CREATE, True, True, (SA, NONCE, TS_I, TS_R)),
        (CREATE, True, True, (NotifyPayload(NotifyType.NO_ADDITIONAL_SAS),)),
        (INFORM, False, True, ()),
        (INFORM, False, True, (DELETE, DELETE, STATUS)),
        (INFORM, True, True, (DELETE,)),
    ],
)
def test_legal_messages(
    exchange: ExchangeType, is_response: bool, is_protected: bool, payloads: tuple[Payload, ...]
) -> None:
    assert check(exchange, is_response, is_protected, payloads) is None


@pytest.mark.parametrize(
    ("exchange", "is_response", "is_protected", "payloads", "text"),
    [
        (INIT, False, False, (SA, KE), "request with 0 NONCE payloads"),
        (INIT, False, False, (SA, SA, KE, NONCE), "2 SA payloads, must be 1 to 1"),
        (INIT, False, False, (REFUSED,), "0 SA payloads"),
        (INIT, True, False, (KE, NONCE), "response with 0 SA payloads"),
        (INIT, True, False, (SA, KE, NONCE, NONCE, COOKIE), "2 NONCE payloads"),
        (INIT, False, True, (SA, KE, NONCE), "request protected"),
        (AUTHENTICATE, False, False, (ID_I, AUTH, SA, TS_I, TS_R), "request in clear"),
        (AUTHENTICATE, False, True, (AUTH, SA, TS_I, TS_R), "0 ID_I"),
        (AUTHENTICATE, False, True, (ID_I, AUTH, SA, TS_I), "some but not all of SA, TS_I, TS_R"),
        (AUTHENTICATE, False, True, (ID_I, AUTH, AUTH), "2 AUTH"),
        (AUTHENTICATE, True, True, (AUTH, SA, TS_I, TS_R), "0 ID_R"),
        (AUTHENTICATE, True, True, (ID_R, SA, TS_I, TS_R), "0 AUTH"),
        (AUTHENTICATE, True, True, (COOKIE,), "0 ID_R"),
        (AUTHENTICATE, False, True, (REFUSED,), "0 ID_I"),
        (CREATE, False, True, (SA, NONCE, TS_I), "some but not all of TS_I, TS_R"),
        (CREATE, False, True, (NONCE,), "0 SA"),
        (INFORM, False, False, (), "INFORMATIONAL request in clear"),
        (INFORM, True, False, (NotifyPayload(NotifyType.INVALID_IKE_SPI),), "INFORMATIONAL response in clear"),
        (ExchangeType(99), False, True, (), "UNKNOWN_99 request protected"),
    ],
)
def test_illegal_messages(
    exchange: ExchangeType, is_response: bool, is_protected: bool, payloads: tuple[Payload, ...], text: str
) -> None:
    violation = check(exchange, is_response, is_protected, payloads)
    assert violation is not None
    assert (violation.reason, violation.notify) == (Reason.INVALID_SYNTAX, NotifyType.INVALID_SYNTAX)
    assert text in violation.text


@pytest.mark.parametrize("kind", SHAPES)
def test_an_unknown_critical_payload_refuses_every_kind(kind: tuple[ExchangeType, bool, bool]) -> None:
    violation = check(*kind, (UnknownPayload(PayloadType(200), True, b""),))
    assert violation is not None
    assert (violation.notify, violation.data) == (NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, b"\xc8")
    assert violation.reason is Reason.UNSUPPORTED_CRITICAL_PAYLOAD


@pytest.mark.parametrize(
    "payload", [UnknownPayload(PayloadType(200), False, b""), UnknownPayload(PayloadType.CP, True, b"")]
)
def test_payloads_without_meaning_are_skipped(payload: Payload) -> None:
    # RFC 7296 2.5: the critical bit of a payload that is understood says nothing.
    assert check(INIT, False, False, (SA, KE, NONCE, payload)) is None


@given(st.sampled_from(sorted(SHAPES)), chains)
def test_any_chain_has_an_answer(kind: tuple[ExchangeType, bool, bool], payloads: tuple[Payload, ...]) -> None:
    violation = check(*kind, payloads)
    assert violation is None or violation.text
