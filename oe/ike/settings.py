"""What an operator or a test may set for the IKE engine. All times are seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IkeSettings:
    """Timers and limits of the IKE engine; the defaults are the product's."""

    retransmit_interval: float = 0.5
    """Pause before a request is sent again; it doubles each time (RFC 7296 2.4)."""
    request_patience: float = 15.0
    """How long a request on an established IKE SA waits for its response: then the peer is taken for dead."""
    liveness_tries: int = 4
    """How often a liveness check is sent, pauses doubling, before its silence ends the IKE SA."""

    half_open_lifetime: float = 10.0
    """How long a peer that began may take to be authenticated."""
    half_open_limit: int = 2000
    """IKE SAs of peers not authenticated yet, in all; beyond it new peers meet silence."""
    half_open_limit_per_source: int = 20
    """The same for one address of a peer."""
    cookie_threshold: int = 100
    """From this many half-open IKE SAs on, a COOKIE is demanded before state is made (RFC 7296 2.6)."""
    cookie_secret_lifetime: float = 60.0
    """How often the cookies' secret changes; the one before it stays good as long again."""
    stray_answers_per_second: float = 10.0
    """Bound on unprotected answers to messages for no IKE SA of ours: INVALID_IKE_SPI, INVALID_MAJOR_VERSION."""

    ike_lifetime: float = 8 * 3600.0
    """An IKE SA is deleted at this age."""
    child_lifetime: float = 3600.0
    """A Child SA is deleted at this age, less the jitter."""
    # 2**32 blocks under one AES key: they can be told from random ones with an advantage of 2**64 / 2**129 = 2**-65.
    child_octets: int = 64 << 30
    """A Child SA is deleted when it has carried so many octets one way, less the jitter: 64 GiB."""
    lifetime_jitter: float = 0.1
    """Share of a lifetime that chance may take off, so that SAs made together do not end together."""
    childless_lifetime: float = 5.0
    """How long an IKE SA without a Child SA is kept."""
    linger: float = 10.0
    """How long a finished IKE SA still answers repetitions of the peer's last request."""
