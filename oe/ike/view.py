"""An IKE SA as people see it: who its ends are and what they agreed, without a secret."""

from dataclasses import dataclass
from functools import lru_cache

from oe.ike.nat import Nat
from oe.ike.registry import KeyExchangeId, PrfId, Registry
from oe.ike.sa import IkeSa, Role, Timer
from oe.ike.states import State
from oe.model import Anonymity, Identity, PublicKey, SocketAddress

_CURVES = {KeyExchangeId.CURVE25519: "X25519", KeyExchangeId.ECP_256: "P-256", KeyExchangeId.ECP_384: "P-384"}
"""Those that everybody calls otherwise than IANA does."""


@dataclass(frozen=True, slots=True)
class Suite:
    """The algorithms of an IKE SA, by the names that people use: AES-GCM-256, HMAC-SHA2-512, X25519, ML-KEM-768."""

    encryption: str
    prf: str
    key_exchange: str
    additional_key_exchange: str | None
    """None: none was agreed."""


@dataclass(frozen=True, slots=True)
class IkeSaRow:
    """One IKE SA."""

    local_spi: int
    remote_spi: int
    """0: the peer has not said it yet."""
    role: Role
    state: State
    local: SocketAddress
    remote: SocketAddress
    nat: Nat
    peer_identity: Identity | None
    """Expected or claimed, as long as `authentication` is None."""
    peer_key: PublicKey | None
    """What proved it."""
    authentication: Anonymity | None
    """How the peer was authenticated; None: not yet."""
    suite: Suite | None
    """None: not agreed yet."""
    since: float
    """When it began, by IKE_SA_INIT or as the successor of another, monotonic seconds."""
    rekey: float | None
    """When we ask for its successor, monotonic seconds; None: not of our own accord, or it is asked for already."""
    children: tuple[int, ...]


def view(sa: IkeSa) -> IkeSaRow:
    """What people may know of `sa`."""
    chosen = sa.chosen
    return IkeSaRow(
        sa.local_spi,
        sa.remote_spi,
        sa.role,
        sa.state,
        sa.local,
        sa.remote,
        sa.nat,
        sa.peer_identity,
        sa.peer_key,
        sa.anonymity if sa.established is not None else None,
        _suite(chosen.encryption_bits, chosen.prf, chosen.group, chosen.additional) if chosen is not None else None,
        sa.created,
        sa.timers.get(Timer.REKEY),
        tuple(sa.children),
    )


# There may be very many IKE SAs, looked at while packets wait; their suites are few.
@lru_cache(maxsize=64)
def _suite(bits: int, prf: PrfId, group: KeyExchangeId, additional: KeyExchangeId | None) -> Suite:
    more = None if additional is None else _spoken(additional)
    return Suite(f"AES-GCM-{bits}", _spoken(prf), _CURVES.get(group) or _spoken(group), more)


def _spoken(algorithm: Registry) -> str:
    return algorithm.name.replace("_", "-")
