"""Which published keys are whole, and which of those are strong enough."""

from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from oe.dnskeys.keys import weakness
from oe.errors import ParseError
from oe.model import KeyAlgorithm, PublicKey

MODULUS = b"\x80" + b"\x11" * 255
E = b"\x01\x00\x01"


def of_rsa(exponent: bytes, modulus: bytes, prefix: bytes | None = None) -> PublicKey:
    return PublicKey(KeyAlgorithm.RSA, (prefix or bytes([len(exponent)])) + exponent + modulus)


def test_real_keys_are_good() -> None:
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    assert weakness(of_rsa(E, numbers.n.to_bytes(256, "big"))) is None
    for curve in (ec.SECP256R1(), ec.SECP384R1()):
        point = ec.generate_private_key(curve).public_key()
        octets = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        assert weakness(PublicKey(KeyAlgorithm.ECDSA, octets)) is None
    raw = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert weakness(PublicKey(KeyAlgorithm.EDDSA, raw)) is None


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (of_rsa(E, b"\x7f" + b"\x11" * 255), "2047 bits"),
        (of_rsa(E, b"\x80" + b"\x11" * 127), "1024 bits"),
        (of_rsa(E, b"\x01" + b"\x11" * 1024), "8193 bits"),
        (of_rsa(b"\x03" + b"\x01" * 4, MODULUS), "exponent of 34 bits"),
        (PublicKey(KeyAlgorithm.EDDSA, bytes(57)), "Ed448"),
    ],
)
def test_weak_keys_say_why(key: PublicKey, why: str) -> None:
    assert why in (weakness(key) or "")


@pytest.mark.parametrize(
    "key",
    [
        of_rsa(b"\x03", b"\xff" * 256),
        of_rsa(E, b"\xff" * 1024),
        of_rsa(b"\x01" + b"\x01" * 4, MODULUS),
        of_rsa(E, MODULUS, prefix=b"\x00\x00\x03"),
    ],
)
def test_the_limits_are_inside(key: PublicKey) -> None:
    assert weakness(key) is None


@pytest.mark.parametrize(
    "key",
    [
        of_rsa(E, b""),
        of_rsa(b"", MODULUS, prefix=b"\x00\x00\x00"),
        of_rsa(E, b"\x00" + MODULUS),
        of_rsa(b"\x00" + E, MODULUS),
        of_rsa(b"\x01", MODULUS),
        of_rsa(b"\x02", MODULUS),
        of_rsa(E, MODULUS[:-1] + b"\x10"),
        of_rsa(E, b"", prefix=b"\xff"),
        PublicKey(KeyAlgorithm.RSA, b""),
        PublicKey(KeyAlgorithm.ECDSA, b""),
        PublicKey(KeyAlgorithm.ECDSA, bytes(63)),
        PublicKey(KeyAlgorithm.ECDSA, bytes(64)),
        PublicKey(KeyAlgorithm.ECDSA, b"\xff" * 64),
        PublicKey(KeyAlgorithm.ECDSA, bytes(95)),
        PublicKey(KeyAlgorithm.ECDSA, bytes(96)),
        PublicKey(KeyAlgorithm.ECDSA, b"\xff" * 96),
        PublicKey(KeyAlgorithm.EDDSA, bytes(31)),
    ],
)
def test_what_is_no_key(key: PublicKey) -> None:
    with pytest.raises(ParseError):
        weakness(key)


@given(st.sampled_from(list(KeyAlgorithm)), st.binary(max_size=300))
def test_nothing_but_a_parse_error_escapes(algorithm: KeyAlgorithm, data: bytes) -> None:
    with suppress(ParseError):
        weakness(PublicKey(algorithm, data))
