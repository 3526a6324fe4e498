"""Key exchange methods, built from entropy that comes in: X25519, NIST curves, MODP groups.

Same entropy, same key pair: two endpoints in a test replay exactly.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import dh, ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.utils import CryptographyDeprecationWarning

from oe.errors import ParseError
from oe.ike.crypto import Entropy
from oe.ike.registry import KeyExchangeId
from oe.model import Secret


class KeyExchange(Protocol):
    """Our half of a key exchange."""

    group: KeyExchangeId
    public: bytes
    """Key Exchange Data for our KE payload."""

    def shared(self, peer_public: bytes) -> Secret:
        """g^ir as RFC 7296 2.14 wants it. Raises `ParseError` when the peer's value is not a good public value."""
