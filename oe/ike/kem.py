"""Key encapsulation as an additional key exchange: ML-KEM (FIPS 203; RFC 9370; draft-ietf-ipsecme-ikev2-mlkem).

    KEi(1) = encapsulation key  ──▶
                                ◀──  KEr(1) = ciphertext
    SK(1)  = the 32 octets that were encapsulated

The two halves differ, other than in a Diffie-Hellman exchange: only the initiator has a key pair, and the responder
needs its public half to begin.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
    MLKEM1024PrivateKey,
    MLKEM1024PublicKey,
)

from oe.errors import ParseError
from oe.ike.crypto import Entropy
from oe.ike.registry import KeyExchangeId
from oe.model import Secret

SEED_OCTETS = 64
"""FIPS 203 7.1: d | z."""

_Methods = tuple[
    type[MLKEM768PrivateKey] | type[MLKEM1024PrivateKey], type[MLKEM768PublicKey] | type[MLKEM1024PublicKey]
]
_KNOWN: dict[KeyExchangeId, _Methods] = {
    KeyExchangeId.ML_KEM_768: (MLKEM768PrivateKey, MLKEM768PublicKey),
    KeyExchangeId.ML_KEM_1024: (MLKEM1024PrivateKey, MLKEM1024PublicKey),
}


def _is_supported(method: KeyExchangeId) -> bool:
    """The library always has the names; the OpenSSL below it may be older than the algorithm."""
    try:
        _KNOWN[method][0].from_seed_bytes(bytes(SEED_OCTETS))
    except UnsupportedAlgorithm:
        return False
    return True


KEMS = tuple(method for method in _KNOWN if _is_supported(method))
"""The methods that this machine can do, best liked first; it may have none."""


@dataclass(frozen=True, slots=True)
class Decapsulation:
    """The initiator's half of one encapsulation: to be used once and then forgotten."""

    method: KeyExchangeId
    public: bytes
    """The encapsulation key: Key Exchange Data of our KE payload."""
    _open: Callable[[bytes], bytes] = field(repr=False)

    @classmethod
    def generate(cls, method: KeyExchangeId, entropy: Entropy) -> "Decapsulation":
        """A fresh key pair of a method of `KEMS`."""
        private = _KNOWN[method][0].from_seed_bytes(entropy(SEED_OCTETS))
        return cls(method, private.public_key().public_bytes_raw(), private.decapsulate)

    def shared(self, ciphertext: bytes) -> Secret:
        """What was encapsulated. Raises `ParseError` when the octets are of another length than a ciphertext.

        A ciphertext that was not made for this key gives a secret that nobody else has (FIPS 203 6.3): AUTH fails then.
        """
        try:
            return Secret(self._open(ciphertext))
        except ValueError:
            text = f"{len(ciphertext)} octets are not a ciphertext of {self.method.name}"
            raise ParseError("KE payload", text) from None


def encapsulate(method: KeyExchangeId, public: bytes) -> tuple[bytes, Secret]:
    """The responder's half, of a method of `KEMS`: ciphertext and secret for the initiator's encapsulation key.

    Raises `ParseError` when the octets are no encapsulation key (FIPS 203 7.2). The library takes its chance for it
    from the system: of all that an IKE SA draws, this alone does not replay from `Entropy`.
    """
    try:
        secret, ciphertext = _KNOWN[method][1].from_public_bytes(public).encapsulate()
    except ValueError:
        raise ParseError("KE payload", f"{len(public)} octets are not a public value of {method.name}") from None
    return ciphertext, Secret(secret)
