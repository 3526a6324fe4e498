"""What an operator or a test may set for the IKE engine. All times are seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IkeSettings:
    """Timers and limits of the IKE engine; the defaults are the product's."""

    additional_key_exchange: bool = True
    """Offer and prefer ML-KEM beside the classical key exchange (RFC 9370); it costs a round trip."""
    retransmit_interval: float = 0.5
    """Pause before a request is sent again; it doubles each time, up to 4 s (RFC 7296 2.4)."""
    request_patience: float = 15.0
    """How long a request on an established IKE SA waits for its response: then the peer is taken for dead. A rekey that
    wants an additional key exchange waits as long for the request of that."""
    liveness_tries: int = 4
    """How often a liveness check is sent, pauses doubling, before its silence ends the IKE SA."""

    half_open_lifetime: float = 10.0
    """How long a peer that began may take to be authenticated."""
    half_open_lifetime_under_attack: float = 6.0
    """The same while a COOKIE is demanded of everybody (RFC 8019 4.1): one repetition of a patient peer still fits."""
    half_open_limit: int = 2000
    """IKE SAs of peers not authenticated yet, in all; beyond it new peers meet silence."""
    half_open_limit_per_prefix: int = 200
    """The same for one site: an IPv4 /24, an IPv6 /48. From a quarter of it on, a COOKIE is demanded there."""
    half_open_limit_per_source: int = 20
    """The same for one source: an IPv4 address, an IPv6 /64. From a quarter of it on, a COOKIE is demanded there."""
    cookie_threshold: int = 100
    """From this many half-open IKE SAs on, a COOKIE is demanded of everybody before state is made (RFC 7296 2.6)."""
    cookie_secret_lifetime: float = 60.0
    """How often the cookies' secret changes; the one before it stays good as long again."""
    handshakes_per_second: float = 20.0
    """Key exchanges that one source may ask us for in the long run; beyond it meets silence."""
    handshakes_at_once: int = 100
    """How far it may be ahead of that. From a quarter of it on, a COOKIE is demanded."""
    failures_per_second: float = 0.2
    """How fast failed authentications of one source are forgotten."""
    failures_at_once: int = 10
    """From this many on it meets silence; from a quarter of it on, a COOKIE is demanded."""
    stray_answers_per_second: float = 50.0
    """Bound on unprotected answers to messages for no IKE SA of ours: INVALID_IKE_SPI, INVALID_MAJOR_VERSION."""
    stray_answers_per_source: float = 2.0
    """The same for one source, four at once."""

    ike_lifetime: float = 8 * 3600.0
    """An IKE SA is deleted at this age, less the jitter, if it could not be rekeyed."""
    child_lifetime: float = 3600.0
    """A Child SA is deleted at this age, less the jitter, if it could not be rekeyed."""
    # 2**32 blocks under one AES key: they can be told from random ones with an advantage of 2**64 / 2**129 = 2**-65.
    child_octets: int = 64 << 30
    """A Child SA is deleted when it has carried so many octets one way, less the jitter: 64 GiB. At three quarters it
    is rekeyed."""
    lifetime_jitter: float = 0.1
    """Share of a lifetime that chance may take off, so that SAs made together do not end together."""
    rekey_margin: float = 0.1
    """How long before its end an SA is rekeyed: share of what the jitter left of its lifetime; 0: SAs just end."""
    rekey_pause: float = 10.0
    """Pause before a refused rekey is tried again, and up to as much by chance."""
    collision_pause: float = 0.25
    """The same after TEMPORARY_FAILURE; it doubles up to `rekey_pause` (RFC 7296 2.25)."""
    children_per_pair: int = 8
    """Child SAs of one pair that a peer may have at a time; more of them are refused with NO_ADDITIONAL_SAS."""
    succession_grace: float = 2.0
    """How long a Child SA that has a successor, or is one too many, still receives before it is deleted."""
    confirm_after: float = 1.0
    """As responder: when a peer of which nothing came since our IKE_AUTH answer is asked whether it has it."""
    confirm_tries: int = 3
    """How often that is asked, pauses doubling, before silence ends the IKE SA; and of a peer that was silent in
    another one."""
    confirm_tries_beside: int = 2
    """The same where it takes the place of one that crossed it and that the peer has for sure: asked sooner, too."""
    childless_lifetime: float = 5.0
    """How long an IKE SA without a Child SA is kept."""
    reassembly_patience: float = 10.0
    """How long fragments of a message wait for the others (RFC 7383 2.6)."""
    nat_port: int = 4500
    """UDP port of IKE and ESP where there is a NAT on the way, ours and the peer's."""
    nat_keepalive: float = 10.0
    """Behind a NAT: if nothing was sent for so long, a keepalive is (RFC 3948 4)."""
    linger: float = 10.0
    """How long a finished IKE SA still answers repetitions of the peer's last request."""
