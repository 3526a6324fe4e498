"""Who may make us work before it has proved anything (RFC 7296 2.6, RFC 8019 4).

A peer that begins is held against three gauges. Where the worst of them says busy, it must first come back with a
cookie; where one is full, it meets silence, whoever it is:

    half-open IKE SAs          in all, of its prefix, of its source
    key exchanges              with its source, of late
    failed authentications     from its source, of late

No key exchange, and so no look into DNS either, happens before that. What we begin ourselves is not held against the
peer: whoever shares an address with a troublemaker is still reached by us.
"""

from collections.abc import Callable

from oe.ike.cookies import Cookies
from oe.ike.limits import Bounds, Bucket, HalfOpen, Levels, Strain, source_of
from oe.ike.settings import IkeSettings
from oe.model import Address, SocketAddress
from oe.reasons import Reason

STRAY_ANSWERS_AT_ONCE = 4
"""Unprotected answers to one source."""


class Admission:
    """The gauges of an engine, and its cookies."""

    __slots__ = (
        "_begun",
        "_begun_bounds",
        "_failure_bounds",
        "_failures",
        "_settings",
        "_strays",
        "_strays_in_all",
        "cookies",
        "half_open",
    )

    def __init__(self, settings: IkeSettings, entropy: Callable[[int], bytes]) -> None:
        self._settings = settings
        self.cookies = Cookies(entropy, settings.cookie_secret_lifetime)
        self.half_open = HalfOpen(
            Bounds(settings.cookie_threshold, settings.half_open_limit),
            Bounds.sharing(settings.half_open_limit_per_prefix),
            Bounds.sharing(settings.half_open_limit_per_source),
        )
        self._begun = Levels(settings.handshakes_per_second, entropy(16))
        self._begun_bounds = Bounds.sharing(settings.handshakes_at_once)
        self._failures = Levels(settings.failures_per_second, entropy(16))
        self._failure_bounds = Bounds.sharing(settings.failures_at_once)
        self._strays = Levels(settings.stray_answers_per_source, entropy(16))
        self._strays_in_all = Bucket(settings.stray_answers_per_second)

    @property
    def patience(self) -> float:
        """Seconds that a peer which begins now may take to be authenticated."""
        settings = self._settings
        return settings.half_open_lifetime_under_attack if self.half_open.is_busy else settings.half_open_lifetime

    def judge(self, remote: SocketAddress, spi: int, nonce: bytes, cookie: bytes | None, now: float) -> Reason | None:
        """May the initiator behind `remote` cost us a key exchange? `spi`, `nonce` and `cookie` are what it sent.

        None: yes. COOKIE_DEMANDED, INVALID_COOKIE: once it comes back with `cookies.make`. Any other reason: no.
        """
        source = source_of(remote.address)
        gauges = (
            (self.half_open.strain(remote.address), Reason.TOO_MANY_HALF_OPEN),
            (self._begun_bounds.strain(self._begun.of(source, now)), Reason.TOO_MANY_HANDSHAKES),
            (self._failure_bounds.strain(self._failures.of(source, now)), Reason.TOO_MANY_FAILURES),
        )
        strain, reason = max(gauges)
        if strain is Strain.FULL:
            return reason
        if strain is Strain.CALM or (cookie is not None and self.cookies.is_good(cookie, remote, spi, nonce, now)):
            return None
        return Reason.COOKIE_DEMANDED if cookie is None else Reason.INVALID_COOKIE

    def enter(self, address: Address, now: float) -> None:
        """A key exchange was done with a peer at `address`; it is half open until `leave`."""
        self.half_open.enter(address)
        self.spent(address, now)

    def spent(self, address: Address, now: float) -> None:
        """A key exchange was paid for in the name of `address`, whatever came of it."""
        self._begun.add(source_of(address), now)

    def may_exchange(self, address: Address, now: float) -> bool:
        """Whether a peer that has an IKE SA with us may cost us one more key exchange; if so, it does."""
        if self._begun_bounds.strain(self._begun.of(source_of(address), now)) is Strain.FULL:
            return False
        self.spent(address, now)
        return True

    def leave(self, address: Address) -> None:
        self.half_open.leave(address)

    def failed(self, address: Address, now: float) -> None:
        """Who began from `address` did not prove its identity. It is no forged address: it had our key share."""
        self._failures.add(source_of(address), now)

    def may_answer_stray(self, address: Address, now: float) -> bool:
        """Whether an unprotected answer may go there. Anybody can make us send those, anywhere."""
        source = source_of(address)
        if self._strays.of(source, now) > STRAY_ANSWERS_AT_ONCE - 1 or not self._strays_in_all.take(now):
            return False
        self._strays.add(source, now)
        return True
