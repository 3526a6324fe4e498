"""Child SAs: which traffic selectors make one, and what an IKE SA remembers of each of its own.

A Child SA of `oe` carries exactly one host pair, all protocols and ports. Nothing is narrowed: nobody can prove by
per-address records that he may speak for more than an address (RFC 4322), so an offer of more is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from oe.ike.payloads import TrafficSelector, TsPayload
from oe.ike.registry import PayloadType
from oe.ike.states import CHILD_STEPS, ChildState, ChildStep
from oe.model import Address, ChildSa, HostPair
from oe.reasons import Reason

CROSSED = 5.0
"""Seconds. Of two Child SAs of one pair the second crossed the first if it began until then after the first was made:
its request was on its way, with repetitions. What begins later was begun by a peer that wants another one, or knows
nothing of the first any more."""


LEAST_MARGIN = 4.0
"""Seconds, where that is less than half of a lifetime: a round trip with a repetition, and the responder's change to
the new SA, which may come only with the end of the old one."""


class ChildTimer(StrEnum):
    """What a Child SA waits for."""

    REKEY = "rekey"
    """We ask for its successor."""
    DELETE = "delete"
    """Nothing needs it any more: it is deleted."""
    END = "end"
    """The end of its lifetime, whatever became of its rekey."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The exchange that made a Child SA."""

    we_initiated: bool
    nonces: tuple[bytes, bytes]
    begun: float
    """When we sent, or received, its first request: of IKE_SA_INIT or CREATE_CHILD_SA."""


@dataclass(slots=True, eq=False)
class Child:
    """A Child SA that was handed out with `ChildReady`; it ends with one `ChildClosed` or by the coordinator's word."""

    sa: ChildSa
    origin: Origin
    timers: dict[ChildTimer, float] = field(default_factory=dict)
    state: ChildState = ChildState.UP
    made: float | None = None
    """When its exchange was complete at our end; None: our answer has not left yet."""
    replaces: int | None = None
    """The Child SA that it succeeds."""
    successor: int | None = None
    """The one that succeeds it."""
    fate: Reason | None = None
    """Why it will be deleted, by us or by the peer; None: nothing is decided."""
    is_told: bool = False
    """The coordinator knows that it is over."""
    refusals: int = 0
    """How often in a row the peer did not want to rekey it."""

    def advance(self, step: ChildStep) -> None:
        """Take a step of the table; RuntimeError when there is none."""
        found = CHILD_STEPS.get((self.state, step))
        if found is None:
            raise RuntimeError(f"Child SA {self.sa.id} in state {self.state}: {step}")
        self.state = found[0]

    @property
    def is_closing(self) -> bool:
        return self.state is ChildState.CLOSING

    @property
    def is_in_use(self) -> bool:
        """It may carry packets of ours now and later."""
        return self.state in (ChildState.UP, ChildState.REKEYING) and self.fate is None

    @property
    def is_spare(self) -> bool:
        """One too many, and kept for as long as the peer may send in it."""
        is_up = self.state in (ChildState.UP, ChildState.REKEYING)
        return is_up and self.fate is Reason.REDUNDANT and ChildTimer.DELETE not in self.timers

    def is_due(self, timer: ChildTimer, now: float) -> bool:
        """The time that `timer` waits for has come."""
        at = self.timers.get(timer)
        return at is not None and at <= now

    def crosses(self, other: "Child") -> bool:
        """The second of these two, made for one pair between the same two ends, was begun without the first."""
        first, second = sorted((self, other), key=lambda child: child.origin.begun)
        return first.made is None or second.origin.begun < first.made + CROSSED

    def yields_to(self, other: "Child") -> bool:
        """Whether of these two this one goes: both ends say the same.

        Where they crossed it is the one with the lowest of the four nonces, octet by octet (RFC 7296 2.8.1).
        Otherwise it is the older one.
        """
        if self.crosses(other):
            return min(self.origin.nonces) < min(other.origin.nonces)
        return self.origin.begun < other.origin.begun


def exact_host(payload: TsPayload) -> Address | None:
    """The one address whose traffic the selectors mean, all of it; None when they mean more, less or several.

    The first selector may be the narrower one of the packet that started it (RFC 7296 2.9), as long as all stay
    within the one address.
    """
    if not payload.selectors:
        return None
    host = payload.selectors[0].first
    if any(selector.first != host or selector.last != host for selector in payload.selectors):
        return None
    return host if any(selector.covers(host) for selector in payload.selectors) else None


def exact_pair(ours: TsPayload, theirs: TsPayload) -> HostPair | None:
    """The host pair of two TS payloads in our orientation; None when one is not exact or the families differ."""
    source, destination = exact_host(ours), exact_host(theirs)
    if source is None or destination is None or source.version != destination.version:
        return None
    return HostPair(source, destination)


def selectors(pair: HostPair, *, we_initiate: bool) -> tuple[TsPayload, TsPayload]:
    """TSi and TSr for exactly `pair`."""
    ours, theirs = TrafficSelector.of(pair.source), TrafficSelector.of(pair.destination)
    first, second = (ours, theirs) if we_initiate else (theirs, ours)
    return TsPayload(PayloadType.TS_I, (first,)), TsPayload(PayloadType.TS_R, (second,))


def shortened(lifetime: float, jitter: float, entropy: Callable[[int], bytes]) -> float:
    """`lifetime` less a random share of up to `jitter` of it."""
    return lifetime * (1 - jitter * int.from_bytes(entropy(2), "big") / 0xFFFF)


def before_end(lifetime: float, margin: float) -> float | None:
    """How old an SA with that lifetime is when it is rekeyed: the share `margin` of it before its end; None: never."""
    if margin == 0:
        return None
    return lifetime - min(max(margin * lifetime, LEAST_MARGIN), lifetime / 2)
