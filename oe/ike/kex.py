"""Key exchange methods: X25519, NIST curves, MODP groups, each built from entropy that comes in.

Same entropy, same key pair: two endpoints in a test replay exactly.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from cryptography.hazmat.primitives.asymmetric import dh, ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.utils import CryptographyDeprecationWarning

from oe.errors import ParseError
from oe.ike.crypto import Entropy
from oe.ike.payloads import KePayload
from oe.ike.registry import KeyExchangeId
from oe.model import Secret

_Agree = Callable[[bytes], bytes]
"""From the peer's public value to the shared secret; ValueError when that value is not a good one."""
_Half = tuple[bytes, _Agree]


@dataclass(frozen=True, slots=True)
class KeyExchange:
    """Our half of one key exchange: to be used for one IKE SA or Child SA and then forgotten."""

    group: KeyExchangeId
    public: bytes
    """Key Exchange Data for our KE payload."""
    _agree: _Agree = field(repr=False)

    @classmethod
    def generate(cls, group: KeyExchangeId, entropy: Entropy) -> "KeyExchange":
        """A fresh key pair of a group of `KEY_EXCHANGES`."""
        return cls(group, *KEY_EXCHANGES[group](entropy))

    def shared(self, peer_public: bytes) -> Secret:
        """g^ir as RFC 7296 2.14 takes it. Raises `ParseError` when the peer's octets are no good public value."""
        try:
            return Secret(self._agree(peer_public))
        except ValueError:
            text = f"{len(peer_public)} octets are not a public value of {self.group.name}"
            raise ParseError("KE payload", text) from None


def agree(ours: KeyExchange, theirs: KePayload | None) -> Secret | None:
    """g^ir under an IKE SA; None when the peer's KE payload is missing, of another group or no good public value."""
    if theirs is None or theirs.group != ours.group:
        return None
    try:
        return ours.shared(theirs.data)
    except ParseError:
        return None


# --- X25519: RFC 8031 2, RFC 7748 5 -----------------------------------------------------------------------------


def _x25519(entropy: Entropy) -> _Half:
    private = X25519PrivateKey.from_private_bytes(entropy(32))

    def agree(peer: bytes) -> bytes:
        # The library refuses the all-zero result, as RFC 8031 2 demands.
        return private.exchange(X25519PublicKey.from_public_bytes(peer))

    return private.public_key().public_bytes_raw(), agree


# --- NIST curves: RFC 5903; a public value is x || y, the secret is x --------------------------------------------


def _scalar(octets: bytes, order: int) -> int:
    """1 to order - 1. Eight octets more than the order has make the bias vanish (FIPS 186-5 A.2.1)."""
    return int.from_bytes(octets, "big") % (order - 1) + 1


def _ecp(curve: ec.EllipticCurve, order: int, entropy: Entropy) -> _Half:
    size = (curve.key_size + 7) // 8
    private = ec.derive_private_key(_scalar(entropy(size + 8), order), curve)
    ours = private.public_key().public_numbers()

    def agree(peer: bytes) -> bytes:
        if len(peer) != 2 * size:
            raise ValueError(len(peer))
        # Refuses points that are not on the curve.
        return private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\x04" + peer))

    return ours.x.to_bytes(size, "big") + ours.y.to_bytes(size, "big"), agree


_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P384_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973

# --- MODP: RFC 3526, RFC 7296 3.4 --------------------------------------------------------------------------------


def _pi(bits: int) -> int:
    """floor(2^bits * pi) by Machin's formula, with 64 bits to spare."""
    one = 1 << bits + 64

    def arctan_of_inverse(x: int) -> int:
        power = total = one // x
        odd, sign = 1, 1
        while power:
            power //= x * x
            odd += 2
            sign = -sign
            total += sign * (power // odd)
        return total

    return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239)) >> 64


@contextmanager
def _deprecated_ffdh() -> Iterator[None]:
    # The library announces the end of finite-field DH with every object. Peers that begin with MODP-2048 exist, and
    # its constant-time 0.3 ms stands against 3 ms of `pow`, which any stranger could make us spend twice.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        yield


class _Modp:
    """One group: p = 2^n - 2^(n-64) - 1 + 2^64 * (floor(2^(n-130) pi) + c), generator 2 (RFC 3526 3 and 4)."""

    def __init__(self, bits: int, c: int, exponent_octets: int) -> None:
        """`exponent_octets`: of the secret exponent, twice the strength that RFC 3526 8 estimates for the group."""
        prime = 2**bits - 2 ** (bits - 64) - 1 + 2**64 * (_pi(bits - 130) + c)
        self._octets = bits // 8
        self._exponent_octets = exponent_octets
        with _deprecated_ffdh():
            self._parameters = dh.DHParameterNumbers(prime, 2)
            self._two = dh.DHPublicNumbers(2, self._parameters)
            self._generator = self._two.public_key()

    def __call__(self, entropy: Entropy) -> _Half:
        exponent = int.from_bytes(entropy(self._exponent_octets), "big") | 1 << 8 * self._exponent_octets - 1
        with _deprecated_ffdh():
            # A private key cannot be had from the exponent alone; the public value given here is never looked at.
            # Ours is then the exchange with the generator as the peer's: 2^x, in constant time, padded to n bits.
            private = dh.DHPrivateNumbers(exponent, self._two).private_key()
            public = private.exchange(self._generator)

        def agree(peer: bytes) -> bytes:
            if len(peer) != self._octets:
                raise ValueError(len(peer))
            with _deprecated_ffdh():
                # Refuses 0, 1, p - 1 and what is beyond p; p is a safe prime, no other small subgroup exists.
                numbers = dh.DHPublicNumbers(int.from_bytes(peer, "big"), self._parameters)
                return private.exchange(numbers.public_key())

        return public, agree


KEY_EXCHANGES: dict[KeyExchangeId, Callable[[Entropy], _Half]] = {
    KeyExchangeId.CURVE25519: _x25519,
    KeyExchangeId.ECP_256: partial(_ecp, ec.SECP256R1(), _P256_ORDER),
    KeyExchangeId.ECP_384: partial(_ecp, ec.SECP384R1(), _P384_ORDER),
    KeyExchangeId.MODP_3072: _Modp(3072, 1690314, 36),
    KeyExchangeId.MODP_2048: _Modp(2048, 124476, 32),
}
"""The groups that we can do, best liked first."""
