"""What is known of each host pair."""

from dataclasses import dataclass, field

from oe.gateway.candidates import Candidate, Credentials
from oe.messages import ChildReady
from oe.model import (
    ChildCounters,
    ChildSa,
    Grade,
    Group,
    HostPair,
    KeyAnswer,
    PairState,
    PairStatus,
    PublicKey,
    Reason,
)


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
    answer: KeyAnswer | None = None
    credentials: Credentials | Reason | None = None
    candidates: list[Candidate] = field(default_factory=list)
    current: Candidate | None = None
    negotiation: int | None = None
    failure: Failure | None = None


@dataclass(slots=True)
class Pair:
    """The record of one host pair, from its first packet until its decision expires."""

    pair: HostPair
    group: Group
    since: float
    state: PairState | None = None
    reason: Reason = Reason.LOOKUP_UNDER_WAY
    detail: str = ""
    expires: float | None = None
    attempt: Attempt | None = None
    candidate: Candidate | None = None
    grade: Grade | None = None
    key: PublicKey | None = None
    children: dict[int, ChildSa] = field(default_factory=dict)
    """Child SAs whose inbound half is installed, oldest first."""
    outbounds: dict[int, ChildReady] = field(default_factory=dict)
    """By Child SA, those whose outbound half is installed too; the last one carries our packets."""
    successor: ChildReady | None = None
    """An outbound half that waits until the peer is sure to be ready for it."""
    counters: ChildCounters | None = None
    retries: int = 0

    @property
    def protecting(self) -> ChildSa | None:
        """The Child SA that carries our packets."""
        carrier = self.carrier
        return carrier.child if carrier is not None else None

    @property
    def carrier(self) -> ChildReady | None:
        """How it came to be."""
        return next(reversed(self.outbounds.values()), None)

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
            child=child,
            counters=self.counters,
            held=held,
            lost=lost,
        )
