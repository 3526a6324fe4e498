"""Stateless cookies: an initiator shows that it receives at its address before it costs us anything (RFC 7296 2.6)."""

import hmac
from collections.abc import Callable
from hashlib import sha256

from oe.model import SocketAddress

COOKIE_OCTETS = 33
"""One for the secret's number, 32 of HMAC-SHA-256; RFC 7296 2.6 allows 1 to 64."""


class Cookies:
    """Stateless cookies: they bind the initiator's address, SPI and nonce to a secret of ours that changes.

    Cookie = <number of the secret> | HMAC(secret, IPi | port | SPIi | Ni), after RFC 7296 2.6.
    """

    __slots__ = ("_entropy", "_lifetime", "_made", "_number", "_secrets")

    def __init__(self, entropy: Callable[[int], bytes], lifetime: float) -> None:
        """`lifetime`: seconds until the secret changes; cookies of the one before it stay good as long again."""
        self._entropy = entropy
        self._lifetime = lifetime
        self._number = 0
        self._made: float | None = None
        self._secrets: dict[int, bytes] = {}

    def _rotate(self, now: float) -> None:
        if self._made is not None and now - self._made < self._lifetime:
            return
        keep_previous = self._made is not None and now - self._made < 2 * self._lifetime
        previous = {self._number: self._secrets[self._number]} if keep_previous else {}
        self._number = (self._number + 1) % 256
        self._secrets = {**previous, self._number: self._entropy(32)}
        self._made = now

    @staticmethod
    def _digest(secret: bytes, remote: SocketAddress, spi: int, nonce: bytes) -> bytes:
        # Of these only the nonce is of variable length, and it comes last: the octets are unambiguous per family.
        octets = remote.address.packed + remote.port.to_bytes(2, "big") + spi.to_bytes(8, "big") + nonce
        return hmac.digest(secret, octets, sha256)

    def make(self, remote: SocketAddress, spi: int, nonce: bytes, now: float) -> bytes:
        """The cookie that the initiator behind `remote` must return; `spi` and `nonce` are its own."""
        self._rotate(now)
        return bytes([self._number]) + self._digest(self._secrets[self._number], remote, spi, nonce)

    def is_good(self, cookie: bytes, remote: SocketAddress, spi: int, nonce: bytes, now: float) -> bool:
        """`cookie` is one that `make` gave for the same initiator, not too long ago."""
        self._rotate(now)
        if len(cookie) != COOKIE_OCTETS or (secret := self._secrets.get(cookie[0])) is None:
            return False
        return hmac.compare_digest(cookie[1:], self._digest(secret, remote, spi, nonce))
