"""Key exchange, PRF and AEAD of an IKE SA. All chance comes in as `entropy`; only the algorithms are the library's."""

import hmac
from collections.abc import Callable
from itertools import count

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from oe.ike.registry import PrfId
from oe.model import Secret

Entropy = Callable[[int], bytes]
"""From a number of octets to that many unpredictable ones."""

SK_IV_OCTETS = 8
SK_TAG_OCTETS = 16
SK_SALT_OCTETS = 4

_PRF_HASHES = {PrfId.HMAC_SHA2_256: "sha256", PrfId.HMAC_SHA2_384: "sha384", PrfId.HMAC_SHA2_512: "sha512"}
PRF_OCTETS = {PrfId.HMAC_SHA2_256: 32, PrfId.HMAC_SHA2_384: 48, PrfId.HMAC_SHA2_512: 64}
"""Output, and preferred key size, of the PRFs we know (RFC 4868)."""


def prf(id: PrfId, key: bytes, data: bytes) -> bytes:
    """`prf(key, data)` of RFC 7296 2.13; `id` is one of `PRF_OCTETS`."""
    return hmac.digest(key, data, _PRF_HASHES[id])


def prf_plus(id: PrfId, key: bytes, seed: bytes, octets: int) -> bytes:
    """The first `octets` of prf+ (RFC 7296 2.13): T1 | T2 | ..., Tn = prf(key, Tn-1 | seed | n), n one octet."""
    digest = _PRF_HASHES[id]
    block = b""
    stream = bytearray()
    for number in range(1, -(-octets // PRF_OCTETS[id]) + 1):
        block = hmac.digest(key, block + seed + number.to_bytes(1, "big"), digest)
        stream += block
    return bytes(stream[:octets])


class SkCipher:
    """AES-GCM-16 for one direction of an IKE SA (RFC 5282): the key, its salt and the IVs that were used up.

    Nonce = salt | IV. The IV counts up from 0 and is never taken twice (RFC 5282 3.1): one object per key.
    """

    __slots__ = ("_aead", "_ivs", "_salt")

    def __init__(self, key: Secret) -> None:
        """`key`: AES key of 16 or 32 octets, then the salt of 4."""
        self._aead = AESGCM(key.octets[:-SK_SALT_OCTETS])
        self._salt = key.octets[-SK_SALT_OCTETS:]
        self._ivs = count()

    def seal(self, plain: bytes, associated: bytes) -> bytes:
        """IV | ciphertext | tag."""
        iv = next(self._ivs).to_bytes(SK_IV_OCTETS, "big")
        return iv + self._aead.encrypt(self._salt + iv, plain, associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes | None:
        """What was sealed; None when key, octets or associated data are not those of the sender."""
        if len(sealed) < SK_IV_OCTETS + SK_TAG_OCTETS:
            return None
        try:
            return self._aead.decrypt(self._salt + sealed[:SK_IV_OCTETS], sealed[SK_IV_OCTETS:], associated)
        except InvalidTag:
            return None
