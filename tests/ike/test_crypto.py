"""PRF and AEAD against published vectors and against their definitions."""

from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from oe.ike.crypto import PRF_OCTETS, SkCipher, prf, prf_plus
from oe.ike.registry import PrfId
from oe.model import Secret


@pytest.mark.parametrize(
    ("id", "digest"),
    [
        (PrfId.HMAC_SHA2_256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (
            PrfId.HMAC_SHA2_384,
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
        ),
        (
            PrfId.HMAC_SHA2_512,
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
            "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        ),
    ],
)
def test_prf_vectors_of_rfc_4231_4_3(id: PrfId, digest: str) -> None:
    assert prf(id, b"Jefe", b"what do ya want for nothing?").hex() == digest


def hmac_by_definition(key: bytes, data: bytes) -> bytes:
    """RFC 2104 2, for keys not longer than a block."""
    padded = key.ljust(64, b"\0")
    inner = sha256(bytes(octet ^ 0x36 for octet in padded) + data).digest()
    return sha256(bytes(octet ^ 0x5C for octet in padded) + inner).digest()


def test_prf_plus_is_what_rfc_7296_2_13_defines() -> None:
    key, seed = b"key", b"seed"
    t1 = hmac_by_definition(key, seed + b"\1")
    t2 = hmac_by_definition(key, t1 + seed + b"\2")
    t3 = hmac_by_definition(key, t2 + seed + b"\3")
    assert prf_plus(PrfId.HMAC_SHA2_256, key, seed, 96) == t1 + t2 + t3


@given(st.sampled_from(sorted(PRF_OCTETS)), st.integers(0, 600))
def test_prf_plus_is_one_stream(id: PrfId, octets: int) -> None:
    assert prf_plus(id, b"k", b"s", octets) == prf_plus(id, b"k", b"s", 600)[:octets]


KEY = Secret(bytes(range(32)) + b"salt")


def test_the_nonce_is_salt_and_iv() -> None:
    # RFC 5282 4: the salt comes first, and is not sent.
    cipher = SkCipher(KEY)
    for number in range(3):
        sealed = cipher.seal(b"plain", b"associated")
        assert sealed[:8] == number.to_bytes(8, "big")
        assert sealed[8:] == AESGCM(KEY.octets[:32]).encrypt(b"salt" + sealed[:8], b"plain", b"associated")


def test_gcm_vector_of_the_gcm_specification() -> None:
    # McGrew and Viega, "The Galois/Counter Mode of Operation", test case 4; also in RFC 4106's algorithm.
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308")
    nonce = bytes.fromhex("cafebabefacedbaddecaf888")
    plain = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    associated = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    sealed = bytes.fromhex(
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
        "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
        "5bc94fbc3221a5db94fae95ae7121a47"
    )
    assert SkCipher(Secret(key + nonce[:4])).open(nonce[4:] + sealed, associated) == plain


@given(st.binary(max_size=100), st.binary(max_size=40), st.data())
def test_what_was_sealed_opens_and_what_was_changed_does_not(
    plain: bytes, associated: bytes, data: st.DataObject
) -> None:
    sealed = SkCipher(KEY).seal(plain, associated)
    assert SkCipher(KEY).open(sealed, associated) == plain
    assert SkCipher(KEY).open(sealed, associated + b"\0") is None
    changed = bytearray(sealed)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1
    assert SkCipher(KEY).open(bytes(changed), associated) is None
    assert SkCipher(KEY).open(sealed[: data.draw(st.integers(0, len(sealed) - 1))], associated) is None
