"""Is a published key whole, and is it strong enough to be used?"""

from dataclasses import dataclass

from oe.errors import ParseError
from oe.model import KeyAlgorithm, PublicKey
from oe.wire import Reader

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
MAX_RSA_EXPONENT_BITS = 33
"""A verifier's work grows with the exponent; real ones have 17 bits."""

_ED25519_OCTETS = 32
_ED448_OCTETS = 57


@dataclass(frozen=True, slots=True)
class _Curve:
    """y² = x³ - 3x + b over the field of p elements (FIPS 186-4 D.1.2.3 and D.1.2.4)."""

    p: int
    b: int


_P256 = _Curve(
    2**256 - 2**224 + 2**192 + 2**96 - 1,
    0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
)
_P384 = _Curve(
    2**384 - 2**128 - 2**96 + 2**32 - 1,
    0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
)
_CURVES = {64: _P256, 96: _P384}
"""By octets of the key."""


def weakness(key: PublicKey) -> str | None:
    """Why a well-formed key is not used, None for a good one. Raises ParseError for one that is no key at all."""
    return _CHECKS[key.algorithm](key.data)


def _rsa(data: bytes) -> str | None:
    """RFC 3110 2: length of the exponent in 1 octet, or 0 and 2 octets; exponent; modulus; no leading zeros."""
    reader = Reader(data, "RSA key")
    length = reader.u8("exponent length") or reader.u16("long exponent length")
    exponent, modulus = reader.take(length, "exponent"), reader.rest()
    if not modulus or not modulus[0] or not exponent or not exponent[0]:
        raise ParseError("RSA key", "exponent or modulus is empty or begins with a zero octet")
    e, bits = int.from_bytes(exponent, "big"), 8 * len(modulus) - 8 + modulus[0].bit_length()
    if not e & 1 or not modulus[-1] & 1 or e < 3 or len(exponent) >= len(modulus):
        raise ParseError("RSA key", "exponent and modulus must be odd, the exponent from 3 to below the modulus")
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        return f"RSA key of {bits} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are used"
    if e.bit_length() > MAX_RSA_EXPONENT_BITS:
        return f"RSA exponent of {e.bit_length()} bits; at most {MAX_RSA_EXPONENT_BITS} are used"
    return None


def _ecdsa(data: bytes) -> str | None:
    """RFC 6605 4: x and y, 32 octets each for P-256 and 48 for P-384."""
    curve = _CURVES.get(len(data))
    if curve is None:
        raise ParseError("ECDSA key", f"{len(data)} octets instead of 64 or 96")
    half = len(data) // 2
    x, y = int.from_bytes(data[:half], "big"), int.from_bytes(data[half:], "big")
    if max(x, y) >= curve.p or (y * y - x * x * x + 3 * x - curve.b) % curve.p:
        raise ParseError("ECDSA key", f"not a point of the curve P-{8 * half}")
    return None


def _eddsa(data: bytes) -> str | None:
    """RFC 8080 3: the raw key; its length tells the curve."""
    if len(data) == _ED448_OCTETS:
        return "EdDSA key on Ed448; Ed25519 is used"
    if len(data) != _ED25519_OCTETS:
        raise ParseError("EdDSA key", f"{len(data)} octets instead of {_ED25519_OCTETS}")
    return None


_CHECKS = {KeyAlgorithm.RSA: _rsa, KeyAlgorithm.ECDSA: _ecdsa, KeyAlgorithm.EDDSA: _eddsa}
