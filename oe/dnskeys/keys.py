"""Is a published key whole, and is it strong enough to be used?"""

from oe.errors import ParseError
from oe.model import KeyAlgorithm, PublicKey
from oe.wire import Reader

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
MAX_RSA_EXPONENT_BITS = 64
"""A verifier's work grows with the exponent; real ones have 17 bits."""

_P256_OCTETS = 64
_P384_OCTETS = 96
_ED25519_OCTETS = 32
_ED448_OCTETS = 57

# The curve y² = x³ - 3x + b over the field of p elements (FIPS 186-4 D.1.2.3).
_P256_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


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
    """RFC 6605 4: x and y, 32 octets each for P-256."""
    if len(data) == _P384_OCTETS:
        return "ECDSA key on P-384; P-256 is used"
    if len(data) != _P256_OCTETS:
        raise ParseError("ECDSA key", f"{len(data)} octets instead of {_P256_OCTETS}")
    x, y = int.from_bytes(data[:32], "big"), int.from_bytes(data[32:], "big")
    if max(x, y) >= _P256_P or (y * y - x * x * x + 3 * x - _P256_B) % _P256_P:
        raise ParseError("ECDSA key", "not a point of the curve P-256")
    return None


def _eddsa(data: bytes) -> str | None:
    """RFC 8080 3: the raw key; its length tells the curve."""
    if len(data) == _ED448_OCTETS:
        return "EdDSA key on Ed448; Ed25519 is used"
    if len(data) != _ED25519_OCTETS:
        raise ParseError("EdDSA key", f"{len(data)} octets instead of {_ED25519_OCTETS}")
    return None


_CHECKS = {KeyAlgorithm.RSA: _rsa, KeyAlgorithm.ECDSA: _ecdsa, KeyAlgorithm.EDDSA: _eddsa}
