import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from hypothesis import given
from hypothesis import strategies as st

from oe.errors import ParseError
from oe.ike.publickeys import MAX_RSA_BITS, load
from oe.model import KeyAlgorithm, PublicKey


def rsa(bits: int, exponent: bytes = b"\x01\0\1", lowest: int = 1) -> PublicKey:
    """Numbers of the right shape; nobody knows their factors."""
    modulus = (1 << bits - 1 | lowest).to_bytes((bits + 7) // 8, "big")
    return PublicKey(KeyAlgorithm.RSA, bytes((len(exponent),)) + exponent + modulus)


def point(curve: ec.EllipticCurve) -> bytes:
    public = ec.derive_private_key(7, curve).public_key()
    return public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)[1:]


@pytest.mark.parametrize("bits", [2048, 3072, MAX_RSA_BITS])
def test_rsa(bits: int) -> None:
    key = load(rsa(bits))
    assert isinstance(key, RSAPublicKey)
    assert (key.key_size, key.public_numbers().e) == (bits, 65537)


def test_rsa_with_a_long_exponent_field() -> None:
    # RFC 3110 2: a zero octet says that the length stands in the next two.
    data = rsa(2048).data
    long = PublicKey(KeyAlgorithm.RSA, b"\0\0\3" + data[1:])
    loaded = load(long)
    assert isinstance(loaded, RSAPublicKey)
    assert loaded.public_numbers().e == 65537


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_ecdsa(curve: ec.EllipticCurve) -> None:
    key = load(PublicKey(KeyAlgorithm.ECDSA, point(curve)))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == curve.name


def test_eddsa_of_rfc_8080_6_1() -> None:
    key = load(PublicKey(KeyAlgorithm.EDDSA, base64.b64decode("l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=")))
    assert isinstance(key, Ed25519PublicKey)


def test_a_key_is_loaded_once() -> None:
    key = PublicKey(KeyAlgorithm.EDDSA, Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw())
    assert load(key) is load(PublicKey(key.algorithm, bytes(key.data)))


@pytest.mark.parametrize(
    "key",
    [
        rsa(2047),
        rsa(MAX_RSA_BITS + 1),
        rsa(2048, lowest=0),
        rsa(2048, exponent=b"\1"),
        rsa(2048, exponent=b"\2"),
        rsa(2048, exponent=b"\x01\0\0"),
        rsa(2048, exponent=b"\xff" * 5),
        PublicKey(KeyAlgorithm.RSA, b""),
        PublicKey(KeyAlgorithm.RSA, b"\0"),
        PublicKey(KeyAlgorithm.RSA, b"\0\0\0"),
        PublicKey(KeyAlgorithm.RSA, b"\3\1\0"),
        PublicKey(KeyAlgorithm.ECDSA, bytes(64)),
        PublicKey(KeyAlgorithm.ECDSA, point(ec.SECP256R1())[:-1]),
        PublicKey(KeyAlgorithm.ECDSA, b"\4" + point(ec.SECP256R1())),
        PublicKey(KeyAlgorithm.EDDSA, bytes(31)),
        PublicKey(KeyAlgorithm.EDDSA, bytes(57)),
    ],
)
def test_what_is_no_key_is_a_parse_error(key: PublicKey) -> None:
    with pytest.raises(ParseError):
        load(key)


@given(st.sampled_from(KeyAlgorithm), st.binary(max_size=300))
def test_garbage_is_a_key_or_a_parse_error(algorithm: KeyAlgorithm, data: bytes) -> None:
    try:
        load(PublicKey(algorithm, data))
    except ParseError:
        return
