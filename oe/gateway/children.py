"""Child SAs between the IKE engine and the kernel, and the pairs they protect."""

from collections.abc import Callable

from oe.gateway.candidates import Candidate
from oe.gateway.context import Context
from oe.gateway.decisions import Decisions
from oe.gateway.liveness import Liveness
from oe.gateway.outbound import Outbound
from oe.gateway.pairs import Pair
from oe.messages import (
    CheckLiveness,
    ChildInstalled,
    ChildReady,
    CloseChild,
    CountersRead,
    IkeInput,
    InstallChild,
    ReadCounters,
    RemoveChild,
)
from oe.model import ChildSa, Directions, HostPair, KeyAnswer, PairState, Reason, RecordKind
from oe.policy.flow import FlowEvent

GRACE = 0.03
"""Seconds between our IKE_AUTH answer and the first ESP of ours, when we have packets waiting for it."""

SUCCESSION = 1.0
"""Seconds for which a living SA goes on carrying a pair's packets when the peer has brought another."""


class Children:
    """`feed_ike(input, now)` hands something to the IKE engine and carries out what follows."""

    def __init__(
        self, context: Context, decisions: Decisions, outbound: Outbound, feed_ike: Callable[[IkeInput, float], None]
    ) -> None:
        self._context = context
        self._decisions = decisions
        self._outbound = outbound
        self._feed_ike = feed_ike
        self._pairs: dict[int, HostPair] = {}
        self._installs: dict[int, ChildReady] = {}
        self._liveness = Liveness(context.settings.liveness)
        self._stopping = False

    def ready(self, event: ChildReady, now: float) -> None:
        """The engine has keys; ask for the SAs.

        As responder, where another SA carries the pair's packets already, our outbound half waits: the peer cannot read
        it before it has our answer, while it reads the older one all the time (so too in a rekey, RFC 7296 2.8).
        A policy that changed while the peers negotiated is heard here, the last place before the kernel.
        """
        if self._outbound.is_overruled(event.negotiation) or not self._context.may_have_tunnel(event.child.pair):
            refused = ChildInstalled(event.ticket, event.child.id, event.directions, Reason.POLICY_CHANGED)
            self._context.reasons[Reason.POLICY_CHANGED] += 1
            self._feed_ike(refused, now)
            return
        pair = self._decisions.find(event.child.pair)
        if event.directions is Directions.OUTBOUND and pair is not None and pair.outbounds:
            pair.successor = event
            self._context.timers.set(("succession", pair.pair), now + SUCCESSION)
        else:
            self._ask(event)

    def succeed(self, pair: Pair) -> None:
        """Now the waiting outbound half, if there is one."""
        self._context.timers.cancel(("succession", pair.pair))
        if pair.successor is not None:
            self._ask(pair.successor)
            pair.successor = None

    def installed(self, event: ChildInstalled, now: float) -> None:
        """The back end answered."""
        ready = self._installs.pop(event.ticket, None)
        if ready is None:
            self._context.reasons[Reason.LATE_ANSWER] += 1
            return
        if event.reason is None and not self._stopping:
            self._adopt(ready, now)
        # The engine before the decision: a responder's answer leaves before we let packets go that need it.
        self._feed_ike(event, now)
        if event.reason is not None:
            self._context.reasons[event.reason] += 1
            self._context.note("error", "child-not-installed", pair=ready.child.pair, detail=event.detail)
        elif self._stopping:
            self._context.emit(RemoveChild(ready.child.id))
        elif event.directions is not Directions.INBOUND:
            self._complete(ready, now)

    def closed(self, child: int, reason: Reason, now: float) -> None:
        """A Child SA is over. Its predecessor of the same pair takes over; without one the trap shows through."""
        pair = self._pair_of(child)
        if pair is None:
            return
        self._context.note("info", "child-closed", pair=pair.pair, reason=reason, child=child)
        self._context.reasons[reason] += 1
        if pair.successor is not None and pair.successor.child.id == child:
            pair.successor = None
        if pair.state is PairState.PROTECTED and not set(pair.outbounds) - {child}:
            # The successor or the trap first: between the two commands a packet must find no open door.
            if pair.successor is not None:
                self.succeed(pair)
            else:
                self._decisions.forget(pair, FlowEvent.CHILD_CLOSED, now, reason)
        self._discard(pair, child)
        if pair.state is None and not pair.children:
            self._decisions.forget(pair, FlowEvent.FLUSHED, now, reason)

    def expired(self, child: int, now: float) -> None:
        """The kernel's lifetime for it ran out."""
        self._feed_ike(CloseChild(child, Reason.SA_EXPIRED), now)
        self.closed(child, Reason.SA_EXPIRED, now)

    def close_all(self, pair: Pair, reason: Reason, now: float) -> None:
        """End every Child SA of a pair whose decision is gone already."""
        for child in tuple(pair.children):
            self._feed_ike(CloseChild(child, reason), now)
            self._discard(pair, child)

    def stop(self) -> None:
        """From now on nothing new is taken in."""
        self._stopping = True

    def counted(self, event: CountersRead, now: float) -> None:
        for counters in event.counters:
            pair = self._pair_of(counters.child)
            if pair is None:
                continue
            if pair.protecting is not None and pair.protecting.id == counters.child:
                pair.counters = counters
            if self._liveness.doubts(counters, now):
                self._feed_ike(CheckLiveness(counters.child), now)
        self._count_later(now)

    def count(self) -> None:
        self._context.emit(ReadCounters())

    # --- inside ------------------------------------------------------------------------------------------------

    def _ask(self, ready: ChildReady) -> None:
        self._installs[ready.ticket] = ready
        self._context.emit(InstallChild(ready.ticket, ready.child, ready.directions))

    def _pair_of(self, child: int) -> Pair | None:
        key = self._pairs.get(child)
        return self._decisions.find(key) if key is not None else None

    def _adopt(self, ready: ChildReady, now: float) -> None:
        """Enter a Child SA under its pair; a responder's pair may be unknown so far."""
        pair = self._decisions.enter(ready.child.pair, now)
        pair.children[ready.child.id] = ready.child
        self._pairs[ready.child.id] = ready.child.pair

    def _complete(self, ready: ChildReady, now: float) -> None:
        """Both directions are in the kernel."""
        pair = self._pair_of(ready.child.id)
        if pair is None:
            return
        pair.outbounds[ready.child.id] = ready
        if ready.negotiation is None and self._decisions.holds(pair):
            # Both sides began at once. Our answer is on its way, and behind it the peer has a signature to verify
            # before it can read ESP: what waits here would overtake all that.
            self._context.timers.set(("grace", pair.pair), now + GRACE)
        else:
            self._protect(pair, ready, now)

    def grace_over(self, pair: Pair, now: float) -> None:
        """The peer has had its time, or nothing else is left to wait for."""
        if pair.carrier is not None:
            self._protect(pair, pair.carrier, now)

    def _protect(self, pair: Pair, ready: ChildReady, now: float) -> None:
        """From now on the pair's packets leave as ESP."""
        initiated = ready.negotiation is not None
        if pair.attempt is not None and pair.attempt.negotiation == ready.negotiation:
            pair.candidate = pair.attempt.current
        self._outbound.abandon(pair)
        for kind in ("retry", "grace"):
            self._context.timers.cancel((kind, pair.pair))
        pair.key, pair.counters = ready.peer_key, None
        pair.retries, pair.detail = 0, ""
        pair.reason = Reason.PROTECTED_AS_INITIATOR if initiated else Reason.PROTECTED_AS_RESPONDER
        self._context.reasons[pair.reason] += 1
        self._decisions.protect(pair, ready.child.lifetime, now)
        self._count_later(now)
        if not initiated:
            self._learn_evidence(pair.pair, ready.child, now)

    def _learn_evidence(self, key: HostPair, child: ChildSa, now: float) -> None:
        """What DNS says of a pair that the peer brought: for people. The answer was judged already and is cached."""

        def learnt(answer: KeyAnswer, _now: float) -> None:
            pair = self._decisions.find(key)
            if pair is not None and pair.protecting is child:
                kind = next((one.kind for one in answer.delegations), RecordKind.IPSECKEY)
                pair.grade = answer.grade
                pair.candidate = Candidate(child.remote, (), answer.grade, kind)

        self._context.look_up(key.destination, now + self._context.settings.setup_budget, learnt)

    def _discard(self, pair: Pair, child: int) -> None:
        pair.children.pop(child, None)
        pair.outbounds.pop(child, None)
        self._pairs.pop(child, None)
        self._liveness.forget(child)
        self._context.emit(RemoveChild(child))
        if not self._pairs:
            self._context.timers.cancel(("counters", None))

    def _count_later(self, now: float) -> None:
        """Counters are read twice in a liveness time, while there is anything to count."""
        if self._pairs:
            self._context.timers.set(("counters", None), now + self._context.settings.liveness / 2)
