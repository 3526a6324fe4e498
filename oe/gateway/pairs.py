"""What is known of each host pair."""

from dataclasses import dataclass, field

from oe.gateway.candidates import Candidate, Credentials
from oe.model import (
    Anonymity,
    ChildCounters,
    ChildSa,
    Grade,
    Group,
    HostPair,
    KeyAnswer,
    PairState,
    PairStatus,
    PublicKey,
)
from oe.negotiation import ChildReady
from oe.reasons import Reason


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step of an attempt came to nothing."""

    reason: Reason
    detail: str
    authenticated: bool = False
    """The peer had proved who it is when it refused; silence and forged notifies prove nothing."""


@dataclass(slots=True)
class Attempt:
    """One try to protect a pair: two lookups side by side, then gateway after gateway until the budget is spent."""

    deadline: float
    background: bool
    """A decision stands already; only success changes it."""
    renews: bool = False
    """The decision that stands is an old one: whatever this attempt comes to replaces it."""
    answer: KeyAnswer | None = None
    credentials: Credentials | Reason | None = None
    candidates: list[Candidate] = field(default_factory=list)
    current: Candidate | None = None
    negotiation: int | None = None
    failure: Failure | None = None

    @property
    def is_for_want_of_ours(self) -> bool:
        """We ask a peer that publishes a key for an anonymous tunnel, because ours is not published."""
        return self.answer is not None and isinstance(self.credentials, Credentials) and self.credentials.is_anonymous


@dataclass(slots=True)
class Traffic:
    """What all Child SAs of a pair carried, those that are gone included: a rekey is no new beginning."""

    read_at: float | None = None
    """When the counters came last."""
    _latest: dict[int, ChildCounters] = field(default_factory=dict)
    _ended: ChildCounters | None = None

    def read(self, counters: ChildCounters, now: float) -> None:
        self._latest[counters.child] = counters
        self.read_at = now

    def end(self, child: int) -> None:
        """A Child SA is gone; what was read of it last stays in the sum."""
        counters = self._latest.pop(child, None)
        if counters is not None:
            self._ended = _sum(child, self._ended, counters)

    def of(self, child: int) -> ChildCounters | None:
        """The sums, under the name of the Child SA that carries the pair now; None before the first reading."""
        return _sum(child, self._ended, *self._latest.values())

    @property
    def packets(self) -> int:
        """Of both directions."""
        total = self.of(0)
        return 0 if total is None else total.inbound_packets + total.outbound_packets


def _sum(child: int, *parts: ChildCounters | None) -> ChildCounters | None:
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return ChildCounters(
        child,
        sum(part.inbound_packets for part in known),
        sum(part.inbound_octets for part in known),
        sum(part.outbound_packets for part in known),
        sum(part.outbound_octets for part in known),
    )


@dataclass(slots=True)
class Pair:
    """The record of one host pair, from its first packet until its decision expires."""

    pair: HostPair
    group: Group
    since: float
    state: PairState | None = None
    reason: Reason = Reason.LOOKUP_UNDER_WAY
    detail: str = ""
    decided: float = 0.0
    """When the kernel was told of the decision that stands."""
    expires: float | None = None
    attempt: Attempt | None = None
    candidate: Candidate | None = None
    grade: Grade | None = None
    children: dict[int, ChildSa] = field(default_factory=dict)
    """Child SAs whose inbound half is installed, oldest first."""
    outbounds: dict[int, ChildReady] = field(default_factory=dict)
    """By Child SA, those whose outbound half is installed too; the last one carries our packets."""
    successors: dict[int, ChildReady] = field(default_factory=dict)
    """By Child SA, outbound halves that wait until their peer is sure to be ready for them."""
    leaving: dict[int, float] = field(default_factory=dict)
    """Child SAs that are over and still in the kernel, and when they may go: not before a successor is in place."""
    traffic: Traffic = field(default_factory=Traffic)
    looked: tuple[int, float] | None = None
    """Packets of both directions at the last look for an idle tunnel, and when they were read; None: nobody looked."""
    retries: int = 0
    clear_since: float | None = None
    """When the pair was decided clear with its packets held, not merely renewed; None: it is not clear."""
    lapsed: bool = False
    """The clear decision is over and the kernel has forgotten it; a packet that comes soon renews it."""
    postponed: tuple[Failure, float | None] | None = None
    """A failure of ours that waits for the peer's own negotiation, with the seconds its DNS answer may be used."""

    @property
    def protecting(self) -> ChildSa | None:
        """The Child SA that carries our packets."""
        carrier = self.carrier
        return carrier.child if carrier is not None else None

    @property
    def carrier(self) -> ChildReady | None:
        """How it came to be."""
        return next(reversed(self.outbounds.values()), None)

    @property
    def key(self) -> PublicKey | None:
        """The key that authenticated the peer."""
        return self.carrier.peer_key if self.carrier is not None else None

    @property
    def anonymity(self) -> Anonymity | None:
        """How the peer is authenticated; None without a tunnel."""
        return self.carrier.anonymity if self.carrier is not None else None

    def status(self, held: int, lost: int) -> PairStatus:
        child = self.protecting
        peer = child.remote if child is not None else self.candidate.gateway if self.candidate is not None else None
        return PairStatus(
            pair=self.pair,
            group=self.group,
            state=self.state or PairState.HELD,
            reason=self.reason,
            detail=self.detail,
            since=self.since,
            expires=self.expires,
            peer=peer,
            key=self.key,
            key_source=self.candidate.source if self.candidate is not None else None,
            grade=self.grade,
            authentication=self.anonymity,
            child=child,
            counters=self.traffic.of(child.id) if child is not None else None,
            held=held,
            lost=lost,
        )
