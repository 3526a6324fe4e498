"""Messages, whole, cut and mutated; scapy reads ours as a second opinion."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oe.errors import ParseError
from oe.ike.crypto import SkCipher
from oe.ike.message import (
    HEADER_OCTETS,
    MAX_MESSAGE_OCTETS,
    Header,
    decode_header,
    decode_message,
    decode_plain,
    encode_message,
    open_octets,
    seal,
)
from oe.ike.payloads import (
    AuthPayload,
    DeletePayload,
    IdPayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    Proposal,
    SaPayload,
    TrafficSelector,
    Transform,
    TsPayload,
    UnknownPayload,
    VendorPayload,
)
from oe.ike.proposals import offer_esp, offer_ike
from oe.ike.registry import AuthMethod, ExchangeType, KeyExchangeId, NotifyType, PayloadType, ProtocolId, TransformType
from oe.model import ID_NULL, Identity, Secret
from tests.ike.opening import open_sealed
from tests.ike.strategies import chains, headers

KEY = Secret(bytes(range(36)))
HEADER = Header(0x0102030405060708, 0, ExchangeType.IKE_SA_INIT, False, True, 0)
INIT: tuple[Payload, ...] = (
    offer_ike(),
    KePayload(KeyExchangeId.CURVE25519, bytes(32)),
    NoncePayload(bytes(32)),
    NotifyPayload(NotifyType.SIGNATURE_HASH_ALGORITHMS, b"\0\2\0\3\0\4"),
)


@given(headers, chains)
def test_a_message_in_clear_decodes_to_what_was_encoded(header: Header, payloads: tuple[Payload, ...]) -> None:
    octets = encode_message(header, payloads)
    message = decode_message(octets)
    assert (message.header, message.payloads, message.sealed) == (header, payloads, None)
    assert message.octets is octets
    assert decode_header(octets) == header


@given(headers, chains)
def test_a_sealed_message_opens_to_what_was_sealed(header: Header, payloads: tuple[Payload, ...]) -> None:
    message = decode_message(seal(header, payloads, SkCipher(KEY)))
    assert (message.header, message.payloads) == (header, ())
    assert open_sealed(message, SkCipher(KEY)) == payloads


@given(chains, st.data())
def test_no_changed_octet_of_a_sealed_message_goes_unseen(payloads: tuple[Payload, ...], data: st.DataObject) -> None:
    octets = bytearray(seal(HEADER, payloads, SkCipher(KEY)))
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert open_sealed(decode_message(bytes(octets)), SkCipher(KEY)) is None
    except ParseError:
        return


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_garbage_is_a_value_or_a_parse_error(tail: bytes) -> None:
    for octets in (tail, encode_message(HEADER, ())[:16] + tail):
        sized = octets[:24] + len(octets).to_bytes(4, "big") + octets[28:]
        for attempt in (octets, sized):
            try:
                decode_message(attempt)
            except ParseError:
                continue


@settings(max_examples=300)
@given(chains, st.data())
def test_mutations_are_a_value_or_a_parse_error(payloads: tuple[Payload, ...], data: st.DataObject) -> None:
    octets = bytearray(encode_message(HEADER, payloads))
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_message(bytes(octets))
    except ParseError:
        return


def test_every_cut_of_a_message_is_a_parse_error() -> None:
    octets = encode_message(HEADER, INIT)
    for length in range(len(octets)):
        cut = octets[:length]
        with pytest.raises(ParseError):
            decode_message(cut)
        if length >= HEADER_OCTETS:
            with pytest.raises(ParseError):
                decode_message(cut[:24] + length.to_bytes(4, "big") + cut[28:])


def chain(first: int, octets: bytes) -> bytes:
    """A message around hand-made payloads."""
    return HEADER.encode(first, HEADER_OCTETS + len(octets)) + octets


@pytest.mark.parametrize("length", range(4))
@pytest.mark.parametrize("type", [PayloadType.VENDOR, PayloadType.NOTIFY, 200])
def test_a_payload_shorter_than_its_header_ends_the_walk(type: int, length: int) -> None:
    with pytest.raises(ParseError, match="payload: need -"):
        decode_message(chain(type, bytes((type, 0, 0, length))))


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (chain(PayloadType.VENDOR, b"\0\0\0\4\0"), "1 octets left over"),
        (chain(PayloadType.NONE, b"\0"), "1 octets left over"),
        (chain(PayloadType.VENDOR, b""), "generic header"),
        (chain(PayloadType.VENDOR, bytes((PayloadType.VENDOR, 0, 0, 4)) * 65), "more than 64 payloads"),
        (chain(PayloadType.SK, b"\0\0\0\4\0"), "0 octets, 1 are left"),
        (chain(PayloadType.SK, b"\0\0\0\5"), "1 octets, 0 are left"),
        (chain(PayloadType.SK, b"\0\0\0\0"), "-4 octets"),
        (b"\0" * 16 + bytes((0, 0x30, 34, 8)) + b"\0" * 7 + b"\x1c", "version 3"),
        (encode_message(HEADER, (VendorPayload(bytes(MAX_MESSAGE_OCTETS)),)), "message of"),
    ],
)
def test_what_disagrees_with_itself_is_a_parse_error(octets: bytes, what: str) -> None:
    with pytest.raises(ParseError, match=what):
        decode_message(octets)


def test_a_header_of_another_version_can_be_read_to_answer_it() -> None:
    octets = encode_message(Header(1, 2, ExchangeType(99), False, True, 7, 0x31), ())
    assert decode_header(octets).major_version == 3
    assert decode_header(octets).message_id == 7


def test_a_critical_unknown_payload_says_so() -> None:
    payload = UnknownPayload(PayloadType(200), True, b"x")
    assert decode_message(encode_message(HEADER, (payload,))).payloads == (payload,)


def test_opening_under_the_wrong_key_is_no_parse_error() -> None:
    message = decode_message(seal(HEADER, INIT, SkCipher(KEY)))
    assert open_sealed(message, SkCipher(Secret(bytes(36)))) is None


@pytest.mark.parametrize("size", range(24))
def test_an_encrypted_payload_too_short_for_iv_and_tag_fails_its_check(size: int) -> None:
    body = bytes(size)
    message = decode_message(chain(PayloadType.SK, bytes((0, 0, 0, 4 + size)) + body))
    assert open_sealed(message, SkCipher(KEY)) is None


def sealed_around(plain: bytes, first: int = PayloadType.VENDOR) -> bytes:
    """A sealed message whose plaintext is any octets: what a peer with the right keys may send."""
    length = 4 + 8 + len(plain) + 16
    start = HEADER.encode(PayloadType.SK, HEADER_OCTETS + length) + bytes((first, 0)) + length.to_bytes(2, "big")
    return start + SkCipher(KEY).seal(plain, start)


@pytest.mark.parametrize(
    ("plain", "what"),
    [
        (b"", "padding"),
        (b"\1", "padding"),
        (b"\0\0\0\4\5", "padding"),
        (b"\0\0\0\4\0\0", "left over"),
        (b"\0\0\0\0\0", "need -4"),
        (bytes((PayloadType.SK, 0, 0, 4)) + b"\0\0\0\4\0", "holds another one"),
    ],
)
def test_bad_contents_from_the_peer_itself_are_parse_errors(plain: bytes, what: str) -> None:
    with pytest.raises(ParseError, match=what):
        open_sealed(decode_message(sealed_around(plain)), SkCipher(KEY))


def test_padding_is_taken_off() -> None:
    message = decode_message(sealed_around(b"\0\0\0\6ab" + b"pad\3"))
    assert open_sealed(message, SkCipher(KEY)) == (VendorPayload(b"ab"),)


def test_payloads_before_the_encrypted_one_are_kept_apart() -> None:
    inside = b"\0\0\0\4"
    octets = bytes((PayloadType.SK, 0, 0, 5)) + b"v" + bytes((PayloadType.VENDOR, 0)) + (33).to_bytes(2, "big")
    start = HEADER.encode(PayloadType.VENDOR, HEADER_OCTETS + 5 + 33) + octets
    message = decode_message(start + SkCipher(KEY).seal(inside + b"\0", start))
    assert message.payloads == (VendorPayload(b"v"),)
    assert open_sealed(message, SkCipher(KEY)) == (VendorPayload(b""),)


def test_a_message_in_clear_cannot_be_opened() -> None:
    message = decode_message(encode_message(HEADER, INIT))
    for attempt in (open_sealed, open_octets):
        with pytest.raises(ParseError, match="no Encrypted payload"):
            attempt(message, SkCipher(KEY))


def test_a_fragment_opens_to_its_part_of_the_chain() -> None:
    # RFC 7383 2.5: number and total stand after the generic header and are authenticated with it.
    plain = b"\0\0\0\6ab\0"
    length = 4 + 4 + 8 + len(plain) + 16
    start = HEADER.encode(PayloadType.SKF, HEADER_OCTETS + length)
    start += bytes((PayloadType.VENDOR, 0)) + length.to_bytes(2, "big") + b"\0\1\0\2"
    message = decode_message(start + SkCipher(KEY).seal(plain, start))
    assert open_octets(message, SkCipher(KEY)) == plain[:-1]
    with pytest.raises(ParseError, match="no Encrypted payload"):
        open_sealed(message, SkCipher(KEY))
    tampered = bytearray(message.octets)
    tampered[HEADER_OCTETS + 5] = 2
    assert open_octets(decode_message(bytes(tampered)), SkCipher(KEY)) is None


@given(st.integers(0, 255), st.binary(max_size=100))
def test_decrypted_garbage_is_a_value_or_a_parse_error(first: int, plain: bytes) -> None:
    try:
        decode_plain(first, plain)
    except ParseError:
        return


def test_each_sealing_takes_another_iv() -> None:
    cipher = SkCipher(KEY)
    assert seal(HEADER, INIT, cipher) != seal(HEADER, INIT, cipher)


# --- second opinion --------------------------------------------------------------------------------------------


def scapy_layers(octets: bytes) -> list[Any]:
    ikev2 = pytest.importorskip("scapy.contrib.ikev2")
    packet = ikev2.IKEv2(octets)
    layers = []
    while packet:
        layers.append(packet)
        packet = packet.payload
    return layers


def test_scapy_reads_our_message_in_clear() -> None:
    header, sa, ke, nonce, notify = scapy_layers(encode_message(HEADER, INIT))
    assert header.init_SPI == HEADER.initiator_spi.to_bytes(8, "big")
    assert (header.exch_type, int(header.flags), header.version, header.length) == (34, 8, 0x20, len(header.original))
    assert (ke.group, ke.ke) == (31, bytes(32))
    assert nonce.nonce == bytes(32)
    assert (notify.type, notify.notify) == (16431, b"\0\2\0\3\0\4")
    transforms = []
    transform = sa.prop.trans
    while transform:
        transforms.append((transform.transform_type, transform.transform_id))
        transform = transform.payload
    assert transforms == [(t.kind, t.id) for t in offer_ike().proposals[0].transforms]


def test_scapy_finds_the_encrypted_payload() -> None:
    header, encrypted = scapy_layers(seal(HEADER, (offer_esp(0xC0FFEE),), SkCipher(KEY)))
    assert header.next_payload == PayloadType.SK
    assert encrypted.next_payload == PayloadType.SA
    assert encrypted.load == header.original[HEADER_OCTETS + 4 :]


def test_scapy_reads_our_authentication_payloads() -> None:
    host = ip_address("192.0.2.1")
    chain = (
        IdPayload.of(PayloadType.ID_I, Identity.of(host)),
        AuthPayload(AuthMethod.DIGITAL_SIGNATURE, b"signature"),
        offer_esp(0xC0FFEE),
        TsPayload(PayloadType.TS_I, (TrafficSelector.of(host),)),
        TsPayload(PayloadType.TS_R, (TrafficSelector.of(ip_address("2001:db8::1")),)),
        DeletePayload(ProtocolId.ESP, (0xC0FFEE, 0xC0FFEF)),
    )
    _, identity, auth, sa, ts_i, ts_r, delete = scapy_layers(encode_message(HEADER, chain))
    assert (identity.IDtype, identity.ID) == (1, "192.0.2.1")
    assert (auth.auth_type, auth.load) == (14, b"signature")
    assert (sa.prop.proto, sa.prop.SPIsize, sa.prop.SPI, sa.prop.trans_nb) == (3, 4, b"\0\xc0\xff\xee", 4)
    (v4,), (v6,) = ts_i.traffic_selector, ts_r.traffic_selector
    assert (v4.TS_type, v4.start_port, v4.end_port) == (7, 0, 65535)
    assert (v4.starting_address_v4, v4.ending_address_v4) == ("192.0.2.1", "192.0.2.1")
    assert (v6.TS_type, v6.starting_address_v6, v6.ending_address_v6) == (8, "2001:db8::1", "2001:db8::1")
    assert (delete.proto, delete.SPIsize, delete.SPInum) == (3, 4, 2)


def test_scapy_reads_our_hybrid_offer_and_share() -> None:
    chain = (offer_ike(additional=(KeyExchangeId.ML_KEM_768,)), KePayload(KeyExchangeId.ML_KEM_768, bytes(1184)))
    _, sa, ke = scapy_layers(encode_message(HEADER, chain))
    hybrid, plain = sa.prop, sa.prop.payload
    assert [(p.proposal, p.proto, p.trans_nb) for p in (hybrid, plain)] == [(1, 1, 11), (2, 1, 10)]
    last = hybrid.trans
    while last.payload:
        last = last.payload
    assert (last.transform_type, last.transform_id) == (6, 36)
    assert (ke.group, len(ke.ke)) == (36, 1184)


def test_scapy_reads_an_anonymous_identity() -> None:
    chain = (IdPayload.of(PayloadType.ID_R, ID_NULL), AuthPayload(AuthMethod.NULL, bytes(64)))
    _, identity, auth = scapy_layers(encode_message(HEADER, chain))
    assert (identity.IDtype, identity.length) == (13, 8)
    assert (auth.auth_type, auth.load) == (13, bytes(64))


def test_we_read_what_scapy_writes() -> None:
    ikev2 = pytest.importorskip("scapy.contrib.ikev2")
    transforms = ikev2.IKEv2_Transform(transform_type=1, transform_id=20, length=12, key_length=256)
    transforms /= ikev2.IKEv2_Transform(transform_type=2, transform_id=7)
    octets = bytes(
        ikev2.IKEv2(init_SPI=b"initiatr", exch_type=34, flags="Initiator")
        / ikev2.IKEv2_SA(prop=ikev2.IKEv2_Proposal(proposal=1, proto=1, trans_nb=2, trans=transforms))
        / ikev2.IKEv2_KE(group=31, ke=bytes(32))
        / ikev2.IKEv2_Nonce(nonce=bytes(32))
        / ikev2.IKEv2_Notify(type=16390, notify=b"cookie")
    )
    message = decode_message(octets)
    assert message.header == Header(int.from_bytes(b"initiatr", "big"), 0, ExchangeType.IKE_SA_INIT, False, True, 0)
    chosen = (Transform(TransformType.ENCRYPTION, 20, 256), Transform(TransformType.PRF, 7))
    assert message.payloads == (
        SaPayload((Proposal(1, ProtocolId.IKE, b"", chosen),)),
        KePayload(KeyExchangeId.CURVE25519, bytes(32)),
        NoncePayload(bytes(32)),
        NotifyPayload(NotifyType.COOKIE, b"cookie"),
    )


def test_we_read_the_authentication_that_scapy_writes() -> None:
    ikev2 = pytest.importorskip("scapy.contrib.ikev2")
    octets = bytes(
        ikev2.IKEv2(init_SPI=b"initiatr", resp_SPI=b"respondr", exch_type=43, flags="Initiator", id=1)
        / ikev2.IKEv2_KE(group=36, ke=bytes(1184))
        / ikev2.IKEv2_IDi(IDtype=2, ID=b"Gate.Example")
        / ikev2.IKEv2_IDr(IDtype=13, ID=b"")
        / ikev2.IKEv2_AUTH(auth_type=13, load=b"prf")
        / ikev2.IKEv2_Notify(type=16438)
    )
    message = decode_message(octets)
    assert (message.header.exchange, message.header.message_id) == (ExchangeType.IKE_INTERMEDIATE, 1)
    share, initiator, responder, auth, notify = message.payloads
    assert share == KePayload(KeyExchangeId.ML_KEM_768, bytes(1184))
    assert isinstance(initiator, IdPayload)
    assert isinstance(responder, IdPayload)
    assert (str(initiator), responder.identity) == ("@gate.example", ID_NULL)
    assert auth == AuthPayload(AuthMethod.NULL, b"prf")
    assert notify == NotifyPayload(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED)
