"""From the octets of an IPSECKEY record to a key that can verify, within limits."""

from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from oe.errors import ParseError
from oe.model import KeyAlgorithm, PublicKey
from oe.wire import Reader

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
"""A verification costs about 0.2 ms then; what is beyond would be a lever for somebody who publishes keys."""
MAX_RSA_EXPONENT_BITS = 33
"""65537 is what the world uses; a modulus-sized exponent makes a verification as dear as a signature."""

VerifyingKey = RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey


@lru_cache(maxsize=4096)
def load(key: PublicKey) -> VerifyingKey:
    """The library's object for a key. Raises `ParseError`: form, point not on its curve, size out of limits."""
    try:
        match key.algorithm:
            case KeyAlgorithm.RSA:
                return _load_rsa(key.data)
            case KeyAlgorithm.ECDSA:
                return _load_ecdsa(key.data)
            case KeyAlgorithm.EDDSA:
                return Ed25519PublicKey.from_public_bytes(key.data)
    except ValueError:
        raise ParseError(f"{key.algorithm.name} key", f"{len(key.data)} octets are no key of this algorithm") from None


def _load_rsa(data: bytes) -> RSAPublicKey:
    """RFC 3110 2: exponent length in one octet, or a zero octet and two; exponent; modulus."""
    reader = Reader(data, "RSA key")
    length = reader.u8("exponent length") or reader.u16("exponent length")
    exponent = int.from_bytes(reader.take(length, "exponent"), "big")
    modulus = int.from_bytes(reader.rest(), "big")
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise ParseError("RSA key", f"modulus of {modulus.bit_length()} bits, must be {MIN_RSA_BITS} to {MAX_RSA_BITS}")
    if modulus % 2 == 0:
        raise ParseError("RSA key", "modulus is even")
    if exponent % 2 == 0 or exponent < 3 or exponent.bit_length() > MAX_RSA_EXPONENT_BITS:
        raise ParseError("RSA key", f"exponent of {exponent.bit_length()} bits is even, too small or too large")
    return RSAPublicNumbers(exponent, modulus).public_key()


def _load_ecdsa(data: bytes) -> ec.EllipticCurvePublicKey:
    """RFC 6605 4: x || y; the length says which curve."""
    curve = {64: ec.SECP256R1(), 96: ec.SECP384R1()}.get(len(data))
    if curve is None:
        raise ParseError("ECDSA key", f"{len(data)} octets, must be 64 (P-256) or 96 (P-384)")
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\x04" + data)
