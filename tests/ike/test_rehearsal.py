import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from oe.errors import OeError
from oe.ike.rehearsal import RehearsalFailed, rehearse
from oe.keystore import KeyStore, PrivateKey
from oe.model import KeyAlgorithm, PublicKey, SignatureScheme

KEYS: dict[str, PrivateKey] = {
    "RSA-2048": rsa.generate_private_key(65537, 2048),
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize("name", KEYS)
def test_every_kind_of_key_passes(name: str) -> None:
    keys = KeyStore((KEYS[name],))
    rehearse(keys.public_keys[0], keys.sign, os.urandom)


def test_public_half_that_does_not_belong_to_the_private_one_shows() -> None:
    keys = KeyStore((KEYS["Ed25519"],))
    other = PublicKey(KeyAlgorithm.EDDSA, ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw())

    def sign(_key: PublicKey, scheme: SignatureScheme, octets: bytes) -> bytes:
        return keys.sign(keys.public_keys[0], scheme, octets)

    with pytest.raises(RehearsalFailed, match=other.fingerprint):
        rehearse(other, sign, os.urandom)


def test_key_hand_that_refuses_is_heard() -> None:
    keys = KeyStore((KEYS["Ed25519"],))
    other = PublicKey(KeyAlgorithm.EDDSA, bytes(32))
    with pytest.raises(OeError, match="no private key"):
        rehearse(other, keys.sign, os.urandom)
