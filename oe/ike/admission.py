"""Who may make us work before they have proved anything: cookies, half-open budget, rate bound (RFC 7296 2.6)."""

import hmac
from collections import Counter
from collections.abc import Callable
from hashlib import sha256

from oe.model import Address, SocketAddress

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


def source_of(address: Address) -> bytes:
    """What counts as one source: an IPv4 address, or the /64 that anyone with IPv6 has for himself."""
    return address.packed[:8] if address.version == 6 else address.packed


class HalfOpen:
    """How many IKE SAs of peers that are not authenticated exist, in all and per source."""

    __slots__ = ("_by_source", "_limit", "_limit_per_source", "total")

    def __init__(self, limit: int, limit_per_source: int) -> None:
        self._limit = limit
        self._limit_per_source = limit_per_source
        self._by_source: Counter[bytes] = Counter()
        self.total = 0

    def has_room(self, address: Address) -> bool:
        return self.total < self._limit and self._by_source[source_of(address)] < self._limit_per_source

    def enter(self, address: Address) -> None:
        self.total += 1
        self._by_source[source_of(address)] += 1

    def leave(self, address: Address) -> None:
        source = source_of(address)
        self.total -= 1
        self._by_source[source] -= 1
        if self._by_source[source] == 0:
            del self._by_source[source]


class Bucket:
    """A token bucket: `rate` a second, a second's worth at once."""

    __slots__ = ("_filled", "_rate", "_tokens")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = max(1.0, rate)
        self._filled = 0.0

    def take(self, now: float) -> bool:
        """One token, if there is one."""
        self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
