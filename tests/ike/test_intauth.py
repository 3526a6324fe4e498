"""IntAuth: the octets of RFC 9242 figure 1, whole or in fragments, and the chain of prf over them."""

import hmac
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.ike.crypto import SkCipher
from oe.ike.fragments import Fragmentation, Reassembly, seal_message
from oe.ike.intauth import IntAuth, received, sent
from oe.ike.keymat import derive_ike
from oe.ike.message import Header, Message, decode_message, encode_chain, open_octets, seal
from oe.ike.payloads import KePayload, Payload
from oe.ike.registry import ExchangeType, KeyExchangeId, PrfId
from oe.model import Secret
from tests.ike.strategies import chains

HEADER = Header(0x0102030405060708, 0x1112131415161718, ExchangeType.IKE_INTERMEDIATE, False, True, 1)
KEYS = derive_ike(PrfId.HMAC_SHA2_256, 128, Secret(b"g^ir"), (b"i" * 32, b"r" * 32), (1, 2))
SHARE = (KePayload(KeyExchangeId.ML_KEM_768, b"\x11" * 1184),)


def sealing() -> SkCipher:
    return SkCipher(KEYS.sk_ei)


def opened(octets: bytes) -> tuple[Message, bytes]:
    message = decode_message(octets)
    plain = open_octets(message, sealing())
    assert plain is not None
    return message, plain


def test_octets_of_figure_1() -> None:
    share = KePayload(KeyExchangeId.ML_KEM_768, bytes.fromhex("aabb"))
    assert sent(HEADER, (share,)).hex(" ", -4) == (
        "01020304 05060708 11121314 15161718 "  # both SPIs
        "2e202b08 00000001 0000002a "  # SK, 2.0, IKE_INTERMEDIATE, initiator; Message ID; 28 + 4 + 10 octets
        "2200000e "  # KE inside; 4 + 10 octets
        "0000000a 00240000 aabb"
    )


def test_an_empty_message_has_no_second_part() -> None:
    assert sent(HEADER, ()).hex().endswith("00000020" + "00000004")


@given(chains)
def test_both_ends_cover_the_same_octets(payloads: tuple[Payload, ...]) -> None:
    assert received(*opened(seal(HEADER, payloads, sealing()))) == sent(HEADER, payloads)


@given(chains, st.integers(100, 1200))
def test_fragments_make_no_difference(payloads: tuple[Payload, ...], room: int) -> None:
    payloads = (*SHARE, *payloads)
    pieces = seal_message(HEADER, payloads, sealing(), Fragmentation(4, room))
    assert len(pieces) > 1
    reassembly, whole = Reassembly(), None
    for octets in reversed(pieces):
        message, plain = opened(octets)
        assert message.sealed is not None
        assert message.sealed.place is not None
        whole = reassembly.put(message, message.sealed, message.sealed.place, plain)
    assert whole is not None
    assert received(whole.message, whole.octets) == sent(HEADER, payloads)


def test_what_the_peer_wrote_into_reserved_fields_counts() -> None:
    first, chain = encode_chain(SHARE)
    plain = sent(HEADER, SHARE)
    odd = plain[:17] + b"\x21" + plain[18:19] + b"\x0f" + plain[20:29] + b"\x80" + plain[30:]
    message = decode_message(seal(HEADER, SHARE, sealing()))
    octets = bytearray(message.octets)
    octets[17], octets[19], octets[29] = 0x21, 0x0F, 0x80  # minor version, reserved flags, critical bit
    assert received(replace(message, octets=bytes(octets)), chain) == odd
    assert first == 34


def test_without_a_sealed_part_there_is_nothing_to_cover() -> None:
    message = replace(decode_message(seal(HEADER, SHARE, sealing())), sealed=None)
    with pytest.raises(RuntimeError):
        received(message, b"")


def test_the_chain_of_prf() -> None:
    def prf(key: Secret, data: bytes) -> bytes:
        return hmac.digest(key.octets, data, "sha256")

    assert IntAuth().octets == b""
    later = derive_ike(PrfId.HMAC_SHA2_256, 128, Secret(b"other"), (b"i" * 32, b"r" * 32), (1, 2))
    once = IntAuth().extended(KEYS, b"request 1", b"response 1")
    i1, r1 = prf(KEYS.sk_pi, b"request 1"), prf(KEYS.sk_pr, b"response 1")
    assert once.octets == i1 + r1 + bytes((0, 0, 0, 2))
    twice = once.extended(later, b"request 2", b"response 2")
    i2, r2 = prf(later.sk_pi, i1 + b"request 2"), prf(later.sk_pr, r1 + b"response 2")
    assert twice.octets == i2 + r2 + bytes((0, 0, 0, 3))
