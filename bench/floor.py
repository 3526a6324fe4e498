"""The cryptography of a responder's handshake and nothing else: no implementation on these primitives can be faster.

Per handshake: one signature and one verification, an X25519 key pair and its exchange, the PRF calls of RFC 7296 2.14,
2.15 and 2.17, and four AEAD operations under two new keys.
"""

import hmac
import os
from collections.abc import Callable, Sequence
from time import thread_time_ns

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

from oe.model import SignatureScheme

_HASHES = {
    SignatureScheme.RSA_PSS_SHA256: SHA256(),
    SignatureScheme.RSA_PSS_SHA384: SHA384(),
    SignatureScheme.RSA_PSS_SHA512: SHA512(),
}
PRF_CALLS = 1 + 5 + 2 + 2
"""SKEYSEED; SK_d to SK_pr, 264 octets in blocks of 64; one for each end's AUTH; 72 octets of KEYMAT."""
_PRF_INPUT = bytes(64 + 80 + 1)
"""The usual prf+ step with SHA-512: the block before, both nonces and SPIs, a number."""
_SK_OVERHEAD = 28 + 4 + 8 + 16
"""Header, generic header, IV and tag: octets of a sealed message that are not encrypted."""


class Floor:
    """The operations, ready to be timed."""

    def __init__(
        self,
        private: rsa.RSAPrivateKey,
        peer: rsa.RSAPrivateKey,
        scheme: SignatureScheme,
        sizes: Sequence[tuple[int, int]],
    ) -> None:
        """`sizes`: octets of request and response of IKE_SA_INIT, IKE_AUTH and the delete, as the engine has them."""
        digest = _HASHES[scheme]
        pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
        mine, theirs = (bytes(size + 32 + 64) for size in reversed(sizes[0]))
        by_peer, verifier = peer.sign(theirs, pss, digest), peer.public_key()
        public = X25519PrivateKey.generate().public_key().public_bytes_raw()
        opened = [_sealed(request) for request, _ in sizes[1:]]
        plain = [bytes(response - _SK_OVERHEAD) for _, response in sizes[1:]]

        def x25519() -> None:
            ours = X25519PrivateKey.from_private_bytes(os.urandom(32))
            ours.public_key().public_bytes_raw()
            ours.exchange(X25519PublicKey.from_public_bytes(public))

        def prf() -> None:
            for _ in range(PRF_CALLS):
                hmac.digest(_KEY, _PRF_INPUT, "sha512")

        def aead() -> None:
            sealing, opening = AESGCM(_KEY), AESGCM(_KEY)
            for sealed in opened:
                opening.decrypt(_NONCE, sealed, _HEADER)
            for octets in plain:
                sealing.encrypt(_NONCE, octets, _HEADER)

        self.operations: dict[str, Callable[[], object]] = {
            "RSA-2048 signature": lambda: private.sign(mine, pss, digest),
            "RSA-2048 verification": lambda: verifier.verify(by_peer, theirs, pss, digest),
            "X25519 key pair and exchange": x25519,
            "PRF, 10 calls": prf,
            "AES-GCM, 2 keys, 4 messages": aead,
        }

    def measure(self, times: int) -> dict[str, float]:
        """Microseconds of CPU for each, mean of `times`."""
        return {name: _mean(operation, times) for name, operation in self.operations.items()}


_KEY, _NONCE, _HEADER = bytes(32), bytes(12), bytes(32)


def _sealed(message: int) -> bytes:
    return AESGCM(_KEY).encrypt(_NONCE, bytes(message - _SK_OVERHEAD), _HEADER)


def _mean(operation: Callable[[], object], times: int) -> float:
    started = thread_time_ns()
    for _ in range(times):
        operation()
    return (thread_time_ns() - started) / times / 1000
