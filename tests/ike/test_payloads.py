from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.errors import ParseError
from oe.ike.payloads import (
    MAX_DELETED,
    AuthPayload,
    DeletePayload,
    IdPayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    TsPayload,
    UnknownPayload,
    VendorPayload,
    decode_payload,
    find,
    find_error,
    find_notify,
)
from oe.ike.registry import AuthMethod, KeyExchangeId, NotifyType, PayloadType, ProtocolId
from oe.model import Identity, IdentityKind
from oe.wire import Reader
from tests.ike.strategies import payloads


def decode(type: int, octets: bytes, critical: bool = False) -> Payload:
    return decode_payload(type, critical, Reader(octets, "test"))


@given(payloads)
def test_what_was_encoded_decodes_to_the_same(payload: Payload) -> None:
    critical = isinstance(payload, UnknownPayload) and payload.critical
    assert decode(payload.type, payload.body(), critical) == payload


@given(st.integers(0, 255), st.binary(max_size=300))
def test_garbage_is_a_value_or_a_parse_error(type: int, octets: bytes) -> None:
    try:
        decode(type, octets)
    except ParseError:
        return


@given(payloads, st.data())
def test_a_cut_payload_is_a_value_or_a_parse_error(payload: Payload, data: st.DataObject) -> None:
    body = payload.body()
    try:
        decode(payload.type, body[: data.draw(st.integers(0, len(body)))])
    except ParseError:
        return


@pytest.mark.parametrize(
    ("type", "octets", "expected"),
    [
        (PayloadType.KE, "001f0000 aabb", KePayload(KeyExchangeId.CURVE25519, b"\xaa\xbb")),
        (PayloadType.AUTH, "0e000000 aabb", AuthPayload(AuthMethod.DIGITAL_SIGNATURE, b"\xaa\xbb")),
        (PayloadType.NOTIFY, "0000402e aabb", NotifyPayload(NotifyType.FRAGMENTATION_SUPPORTED, b"\xaa\xbb")),
        (
            PayloadType.NOTIFY,
            "03044009 c0ffee01",
            NotifyPayload(NotifyType.REKEY_SA, b"", ProtocolId.ESP, bytes.fromhex("c0ffee01")),
        ),
        (PayloadType.DELETE, "01000000", DeletePayload(ProtocolId.IKE)),
        (PayloadType.DELETE, "03040001 c0ffee01", DeletePayload(ProtocolId.ESP, (0xC0FFEE01,))),
        (PayloadType.VENDOR, "aabb", VendorPayload(b"\xaa\xbb")),
        (PayloadType.ID_R, "01000000 c0000201", IdPayload(PayloadType.ID_R, bytes.fromhex("01000000c0000201"))),
        (PayloadType.CERTREQ, "04aabb", UnknownPayload(PayloadType.CERTREQ, False, b"\4\xaa\xbb")),
    ],
)
def test_octets_of_known_payloads(type: int, octets: str, expected: Payload) -> None:
    assert decode(type, bytes.fromhex(octets)) == expected
    assert expected.body() == bytes.fromhex(octets)
    assert expected.type == type


@pytest.mark.parametrize(
    ("type", "octets"),
    [
        (PayloadType.KE, "001f00"),
        (PayloadType.NONCE, "00" * 15),
        (PayloadType.NONCE, "00" * 257),
        (PayloadType.ID_I, "010000"),
        (PayloadType.AUTH, "0e0000"),
        (PayloadType.NOTIFY, "000040"),
        (PayloadType.NOTIFY, "03044009 c0ffee"),
        (PayloadType.DELETE, "03040002 c0ffee01"),
        (PayloadType.DELETE, "03040001 c0ffee0102"),
        (PayloadType.DELETE, "03080001 c0ffee01c0ffee01"),
        (PayloadType.DELETE, "01080001 c0ffee01c0ffee01"),
        (PayloadType.DELETE, "0304ffff" + "00" * 4 * (MAX_DELETED + 1)),
    ],
)
def test_what_disagrees_with_itself_is_a_parse_error(type: int, octets: str) -> None:
    with pytest.raises(ParseError):
        decode(type, bytes.fromhex(octets))


def test_an_id_keeps_its_reserved_octets_and_says_what_it_names() -> None:
    # AUTH covers them; a peer that does not send zeros must still be understood (RFC 7296 2.15).
    payload = decode(PayloadType.ID_I, bytes.fromhex("01abcdef c0000201"))
    assert isinstance(payload, IdPayload)
    assert payload.body() == bytes.fromhex("01abcdefc0000201")
    assert payload.identity == Identity.of(ip_address("192.0.2.1"))
    assert str(payload) == "192.0.2.1"


def test_an_id_of_a_kind_we_do_not_understand_names_nothing() -> None:
    payload = IdPayload(PayloadType.ID_I, b"\x09\0\0\0\x30\0")
    assert payload.identity is None
    assert str(payload) == "ID type 9:3000"


def test_an_id_is_made_of_an_identity() -> None:
    null = Identity(IdentityKind.NULL, b"")
    assert IdPayload.of(PayloadType.ID_R, null) == IdPayload(PayloadType.ID_R, b"\x0d\0\0\0")


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"\1\0\0\0" + bytes((192, 0, 2, 1)), "192.0.2.1"),
        (b"\5\0\0\0" + bytes.fromhex("20010db8") + bytes(11) + b"\1", "2001:db8::1"),
        (b"\2\0\0\0gate.example", "@gate.example"),
        (b"\2\0\0\0Gate.EXAMPLE.", "@gate.example"),
        (b"\2\0\0\0_ike.a-1.example", "@_ike.a-1.example"),
        (b"\2\0\0\0" + b".".join([b"a" * 63] * 3) + b"." + b"b" * 61, None),
        (b"\x0d\0\0\0", "NULL:"),
    ],
)
def test_names_that_we_understand(octets: bytes, text: str | None) -> None:
    identity = IdPayload(PayloadType.ID_I, octets).identity
    assert identity is not None
    assert text is None or str(identity) == text


@pytest.mark.parametrize(
    "octets",
    [
        b"\1\0\0\0" + bytes(3),
        b"\1\0\0\0" + bytes(5),
        b"\1\0\0\0",
        b"\5\0\0\0" + bytes(4),
        b"\5\0\0\0" + bytes(17),
        b"\2\0\0\0",
        b"\2\0\0\0.",
        b"\2\0\0\0..",
        b"\2\0\0\0a..b",
        b"\2\0\0\0.a",
        b"\2\0\0\0a.example\0",
        b"\2\0\0\0a.example\r\n",
        b"\2\0\0\0a.example\n",
        b"\2\0\0\0\x1b[2Jexample",
        b"\2\0\0\0a example",
        b"\2\0\0\0\xc3\xa9.example",
        b"\2\0\0\0*.example",
        b"\2\0\0\0" + b"a" * 64,
        b"\2\0\0\0" + b"a." * 128,
        b"\x0d\0\0\0a",
        b"\3\0\0\0root@example",
    ],
)
def test_names_that_are_none(octets: bytes) -> None:
    payload = IdPayload(PayloadType.ID_I, octets)
    assert payload.identity is None
    assert str(payload).isprintable()


@given(st.binary(min_size=4, max_size=300))
def test_any_name_is_printable_and_the_same_when_said_again(octets: bytes) -> None:
    payload = IdPayload(PayloadType.ID_I, octets)
    assert str(payload).isprintable()
    if payload.identity is not None:
        assert IdPayload.of(PayloadType.ID_I, payload.identity).identity == payload.identity


def test_finding() -> None:
    initiator, responder = (TsPayload(type, ()) for type in (PayloadType.TS_I, PayloadType.TS_R))
    cookie, refused = NotifyPayload(NotifyType.COOKIE, b"c"), NotifyPayload(NotifyType.TS_UNACCEPTABLE)
    chain = (cookie, initiator, responder, refused)
    assert find(chain, TsPayload) is initiator
    assert find(chain, TsPayload, PayloadType.TS_R) is responder
    assert find(chain, NoncePayload) is None
    assert find_notify(chain, NotifyType.COOKIE) is cookie
    assert find_notify(chain, NotifyType.REKEY_SA) is None
    assert find_error(chain) is refused
    assert find_error(chain[:3]) is None
