"""Child SAs between the IKE engine and the kernel, and the pairs they protect.

A pair may have several at a time: both sides began at once, or one succeeds the other. All of them receive; the one
whose outbound half was installed last sends. The engine says which of them are too many; `oe.gateway.spares` when those
may go.
"""

from collections.abc import Callable
from dataclasses import replace
from math import inf

from oe.gateway.context import Context
from oe.gateway.counting import Counting
from oe.gateway.decisions import Decisions
from oe.gateway.evidence import Evidence
from oe.gateway.idle import Idle
from oe.gateway.installs import Installs
from oe.gateway.outbound import Outbound
from oe.gateway.pairs import Pair
from oe.gateway.spares import Spares
from oe.messages import ChildExpired, ChildInstalled, CountersRead, MoveChild, RemoveChild
from oe.model import Anonymity, Directions, HostPair, PairState
from oe.negotiation import CheckLiveness, ChildMoved, ChildReady, ChildRedundant, CloseChild, IkeInput, RekeyChild
from oe.policy.flow import FlowEvent
from oe.reasons import Reason

GRACE = 0.03
"""Seconds between our IKE_AUTH answer and the first ESP of ours, when we have packets waiting for it."""

LINGER = 1.0
"""Seconds for which an SA that has its successor still receives: what the peer had sent in it may be on its way."""

LINGERING = frozenset({Reason.REKEYED, Reason.REDUNDANT, Reason.DELETED_BY_PEER, Reason.LIFETIME_ENDED})
"""Ends in peace."""

SUCCESSION = 1.0
"""Seconds for which a living SA goes on carrying a pair's packets when the peer has brought another."""

CROSSED_SUCCESSION = 3.0
"""The same where both sides began at once, which shows by the living one being as young as that: one of the two will be
gone soon, and until then each side sends in the one that it has begun to send in."""


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
        self._installs = Installs(context)
        self._counting = Counting(context, self._pair_of, self._doubt)
        self._spares = Spares(context, self._counting, self._pair_of, self._close_redundant, self._make_younger)
        self._idle = Idle(context, self._put_to_rest)
        self._evidence = Evidence(context, decisions.find, self._withdraw, self._improve)
        self._stopping = False

    def ready(self, event: ChildReady, now: float) -> None:
        """The engine has keys; ask for the SAs.

        Where another SA carries the pair's packets already, or is about to, an outbound half that comes alone waits.
        As responder, because the peer cannot read it before it has our answer, while it reads the older one all the
        time (so too in a rekey, RFC 7296 2.8); of a redundant one, until the other is over.
        A policy that changed while the peers negotiated is heard here, the last place before the kernel.
        """
        pair = self._decisions.find(event.child.pair)
        refused = self._refusal(pair, event)
        if refused is not None:
            self._context.reasons[refused] += 1
            self._feed_ike(ChildInstalled(event.ticket, event.child.id, event.directions, refused), now)
        elif event.directions is Directions.OUTBOUND and pair is not None and self._is_carried(pair):
            pair.successors[event.child.id] = event
            is_young = pair.state is not PairState.PROTECTED or now - pair.decided < CROSSED_SUCCESSION
            crossed = event.replaces is None and is_young
            if event.child.id not in self._spares:
                wait = CROSSED_SUCCESSION if crossed else SUCCESSION
                self._context.timers.set(("succession", pair.pair), now + wait)
        else:
            self._installs.ask(event)

    def redundant(self, event: ChildRedundant, now: float) -> None:
        """The engine has one too many, of two that crossed; perhaps it is about to hand it out."""
        self._spares.enter(event, now)
        pair = self._pair_of(event.child)
        if pair is not None and event.child in pair.outbounds and set(pair.successors) - {event.child}:
            # It is the other one then that waits for its peer to have our answer, and need not wait for anything else.
            self._context.timers.set(("succession", pair.pair), now + SUCCESSION)

    def _refusal(self, pair: Pair | None, event: ChildReady) -> Reason | None:
        may_have = self._context.may_have_tunnel(event.child.pair, event.anonymity)
        if self._outbound.is_overruled(event.negotiation) or not may_have:
            return Reason.POLICY_CHANGED
        return Reason.ANONYMOUS_REFUSED if pair is not None and _is_outranked(pair, event) else None

    def _is_carried(self, pair: Pair, *, without: int | None = None) -> bool:
        """An SA of the pair sends, or will as soon as it is in the kernel."""
        return bool(set(pair.outbounds) - {without}) or self._installs.bring(pair.pair)

    def succeed(self, pair: Pair, *, is_last: bool = False) -> None:
        """Now the outbound halves that wait; the last to come will send. Those of redundant ones are for the case that
        there are no others: `is_last`."""
        self._context.timers.cancel(("succession", pair.pair))
        waiting = [ready for ready in pair.successors.values() if ready.child.id not in self._spares]
        for ready in waiting or (tuple(pair.successors.values()) if is_last else ()):
            del pair.successors[ready.child.id]
            self._installs.ask(ready)

    def installed(self, event: ChildInstalled, now: float) -> None:
        """The back end answered."""
        answered = self._installs.answered(event.ticket)
        if answered is None:
            self._context.reasons[Reason.LATE_ANSWER] += 1
            return
        ready, is_wanted = answered
        is_known = event.directions is not Directions.OUTBOUND or event.child in self._pairs
        is_wanted = is_wanted and is_known and not self._stopping
        if event.reason is None and is_wanted:
            self._adopt(ready, now)
        pair = self._decisions.find(ready.child.pair)
        # The engine before the decision: a responder's answer leaves before we let packets go that need it.
        self._feed_ike(event, now)
        if event.reason is not None:
            self._context.reasons[event.reason] += 1
            self._context.note("error", "child-not-installed", pair=ready.child.pair, detail=event.detail)
        elif not is_wanted:
            self._context.emit(RemoveChild(ready.child.id))
        elif event.directions is not Directions.INBOUND:
            self._complete(ready, now)
        if pair is not None:
            self._settle(pair, event.reason or Reason.SUPERSEDED, now)

    def closed(self, child: int, reason: Reason, now: float) -> None:
        """A Child SA is over. Its predecessor of the same pair takes over; without one the trap shows through."""
        self._installs.end(child)
        self._spares.forget(child)
        pair = self._pair_of(child)
        if pair is None:
            return
        pair.successors.pop(child, None)
        # Of a rekey or a crossed set-up people need not hear: the pair goes on.
        goes_on = bool(pair.successors) or self._is_carried(pair, without=child)
        level = "debug" if goes_on else "info"
        self._context.note(level, "child-closed", pair=pair.pair, reason=reason, child=child)
        self._context.reasons[reason] += 1
        if not set(pair.outbounds) - {child}:
            self.succeed(pair, is_last=not self._installs.bring(pair.pair))
        is_carrier = pair.protecting is not None and pair.protecting.id == child
        if is_carrier:
            # The back end sends with the newest that is left: that must not be one of those that linger.
            pair.leaving = dict.fromkeys(pair.leaving, now)
        may_linger = goes_on and reason in LINGERING and not is_carrier
        self._discard(pair, child, now + LINGER if may_linger else now)
        self._settle(pair, reason, now)
        if pair.state is None and not pair.children:
            self._decisions.forget(pair, FlowEvent.FLUSHED, now, reason)
            self._sweep(pair, inf)

    def expired(self, event: ChildExpired, now: float) -> None:
        """The back end's lifetime ran out; or, softly, few sequence numbers or octets are left to send with."""
        child = event.child
        if event.hard:
            self._feed_ike(CloseChild(child, Reason.SA_EXPIRED), now)
            self.closed(child, Reason.SA_EXPIRED, now)
            return
        pair = self._pair_of(child)
        if pair is not None and child in pair.outbounds:
            self._feed_ike(RekeyChild(child), now)

    def asked_for(self, key: HostPair, now: float) -> None:
        """Somebody claims to be the peer of a pair that has a tunnel already: it may have forgotten that one.

        A claim proves nothing, but it is worth a question; while a tunnel is young both sides merely began at once.
        """
        pair = self._decisions.find(key)
        child = pair.protecting if pair is not None else None
        if pair is not None and child is not None and now - pair.decided >= CROSSED_SUCCESSION:
            self._feed_ike(CheckLiveness(child.id), now)

    def moved(self, event: ChildMoved) -> None:
        """The peer's address changed, as the engine knows for sure."""
        pair = self._pair_of(event.child)
        if pair is None:
            return
        sa = replace(pair.children[event.child], remote=event.remote, encapsulation=event.encapsulation)
        pair.children[event.child] = sa
        if event.child in pair.outbounds:
            pair.outbounds[event.child] = replace(pair.outbounds[event.child], child=sa)
        if event.child in pair.successors:
            pair.successors[event.child] = replace(pair.successors[event.child], child=sa)
        self._context.emit(MoveChild(event.child, event.remote, event.encapsulation))
        self._context.note("info", "peer-moved", pair=pair.pair, peer=event.remote)

    def close_all(self, pair: Pair, reason: Reason, now: float) -> None:
        """End every Child SA of a pair whose decision is gone already."""
        self._end_all(pair, reason, now)
        self._sweep(pair, inf)

    def lingered(self, child: int) -> None:
        """The time is over for which a Child SA still received after its pair was put to rest."""
        self._context.emit(RemoveChild(child))

    def stop(self) -> None:
        """From now on nothing new is taken in."""
        self._stopping = True

    def counted(self, event: CountersRead, now: float) -> None:
        self._counting.read(event, now)
        if not event.is_last:
            return
        self._spares.look(now)
        if self._pairs:
            self._counting.begin(now)

    def count(self, now: float) -> None:
        self._counting.ask(now)

    def due(self, kind: str, pair: Pair, now: float) -> None:
        """A timer of a pair rings; perhaps one that is no concern of ours."""
        if kind == "succession":
            self.succeed(pair)
        elif kind == "sweep":
            self._settle(pair, Reason.SUPERSEDED, now)
        elif kind == "idle" and pair.state is PairState.PROTECTED:
            self._idle.look(pair, now)
        elif kind == "evidence" and pair.state is PairState.PROTECTED:
            self._evidence.ask(pair, now)

    # --- inside ------------------------------------------------------------------------------------------------

    def _doubt(self, pair: Pair, child: int, now: float) -> None:
        """We send in this Child SA and hear nothing in it.

        If another gateway of the same destination is heard meanwhile, that one is the way to send as well: two tunnels
        used one way each would be doubted for ever. With one gateway, which of two SAs stays is the engine's decision.
        """
        sa = pair.children[child]
        heard = [other for other in pair.outbounds.values() if other.child.remote != sa.remote]
        if any(self._counting.hears(other.child.id, now) for other in heard):
            self._close_redundant(child, now)
        else:
            self._feed_ike(CheckLiveness(child), now)

    def _make_younger(self, child: int, now: float) -> None:
        """Its successor is to have what another one carries. The peer is silent in it: does it have it at all?"""
        self._feed_ike(CheckLiveness(child), now)
        self._feed_ike(RekeyChild(child), now)

    def _close_redundant(self, child: int, now: float) -> None:
        self._feed_ike(CloseChild(child, Reason.REDUNDANT), now)
        self.closed(child, Reason.REDUNDANT, now)

    def _pair_of(self, child: int) -> Pair | None:
        key = self._pairs.get(child)
        return self._decisions.find(key) if key is not None else None

    def _adopt(self, ready: ChildReady, now: float) -> None:
        """Enter a Child SA under its pair; a responder's pair may be unknown so far."""
        pair = self._decisions.enter(ready.child.pair, now)
        pair.children.setdefault(ready.child.id, ready.child)
        self._pairs[ready.child.id] = ready.child.pair

    def _complete(self, ready: ChildReady, now: float) -> None:
        """Both directions are in the kernel."""
        pair = self._pair_of(ready.child.id)
        if pair is None:
            return
        pair.outbounds[ready.child.id] = replace(ready, child=pair.children[ready.child.id])
        if ready.negotiation is None and self._decisions.holds(pair):
            # Both sides began at once. Our answer is on its way, and behind it the peer has a signature to verify
            # before it can read ESP: what waits here would overtake all that.
            self._context.timers.set(("grace", pair.pair), now + GRACE)
        else:
            self._protect(pair, ready, now)
        self._displace_anonymous(pair, ready, now)

    def grace_over(self, pair: Pair, now: float) -> None:
        """The peer has had its time, or nothing else is left to wait for."""
        if pair.carrier is not None:
            self._protect(pair, pair.carrier, now)

    def _protect(self, pair: Pair, ready: ChildReady, now: float) -> None:
        """From now on the pair's packets leave as ESP, in this Child SA."""
        answer = pair.attempt.answer if pair.attempt is not None else None
        if pair.attempt is not None and pair.attempt.negotiation == ready.negotiation:
            pair.candidate = pair.attempt.current
        self._outbound.abandon(pair)
        for kind in ("retry", "grace"):
            self._context.timers.cancel((kind, pair.pair))
        pair.retries, pair.detail, pair.postponed = 0, "", None
        pair.clear_since, pair.lapsed = None, False
        was_protected = pair.state is PairState.PROTECTED
        if ready.replaces is None:
            initiated = ready.negotiation is not None
            pair.reason = Reason.PROTECTED_AS_INITIATOR if initiated else Reason.PROTECTED_AS_RESPONDER
            self._context.reasons[pair.reason] += 1
        self._decisions.protect(pair, ready.child.lifetime, now)
        self._counting.begin(now)
        if not was_protected:
            self._idle.begin(pair, now)
        if ready.replaces is None:
            self._evidence.begin(pair, answer if ready.negotiation is not None else None, now)

    def _displace_anonymous(self, pair: Pair, ready: ChildReady, now: float) -> None:
        """Beside a tunnel with somebody known there is none with somebody unknown."""
        if ready.anonymity is Anonymity.ANONYMOUS:
            return
        for other in tuple(pair.outbounds.values()):
            if other.anonymity is Anonymity.ANONYMOUS:
                self._feed_ike(CloseChild(other.child.id, Reason.SUPERSEDED), now)
                self.closed(other.child.id, Reason.SUPERSEDED, now)

    def _withdraw(self, pair: Pair, detail: str, now: float) -> None:
        self._take_down(pair, FlowEvent.WITHDRAWN, Reason.DELEGATION_WITHDRAWN, detail, now)

    def _improve(self, pair: Pair, now: float) -> None:
        if pair.attempt is None:
            self._outbound.start(pair, now, background=True)

    def _put_to_rest(self, pair: Pair, now: float) -> None:
        """A tunnel that nobody uses; but just now the peer may have sent in it, not knowing that it is over."""
        self._untie(pair, FlowEvent.IDLED, Reason.IDLE, "", now)
        self._end_all(pair, Reason.IDLE, now)
        for child in pair.leaving:
            self._context.timers.set(("linger", child), now + LINGER)
        pair.leaving.clear()

    def _take_down(self, pair: Pair, event: FlowEvent, why: Reason, detail: str, now: float) -> None:
        """End a living tunnel of our own will: the trap first, then what it led to."""
        self._untie(pair, event, why, detail, now)
        self.close_all(pair, why, now)

    def _untie(self, pair: Pair, event: FlowEvent, why: Reason, detail: str, now: float) -> None:
        """No packet is led into the tunnels of this pair any more; its next one is trapped."""
        self._context.reasons[why] += 1
        self._context.note("info", "pair-closed", pair=pair.pair, reason=why, detail=detail)
        self._outbound.abandon(pair)
        self._decisions.forget(pair, event, now, why)

    def _end_all(self, pair: Pair, reason: Reason, now: float) -> None:
        """The engine deletes them; `pair.leaving` tells which are still in the kernel."""
        for child in tuple(pair.children):
            self._feed_ike(CloseChild(child, reason), now)
            self._discard(pair, child, now)

    def _settle(self, pair: Pair, why: Reason, now: float) -> None:
        """An SA of the pair is over, or one that was on its way has come or failed: what may leave the kernel now?

        The successor or the trap first: between two commands a packet must find no open door.
        """
        if pair.state is PairState.PROTECTED and not pair.outbounds:
            if self._installs.bring(pair.pair):
                return
            self._decisions.forget(pair, FlowEvent.CHILD_CLOSED, now, why)
            if pair.children:
                # Of another SA the first half is in place: it will come, or be taken back.
                self._decisions.enter(pair.pair, now).children.update(pair.children)
            self._sweep(pair, inf)
        self._sweep(pair, now)

    def _sweep(self, pair: Pair, now: float) -> None:
        """Take those out of the kernel whose time has come; infinity: all."""
        for child in [child for child, at in pair.leaving.items() if at <= now]:
            del pair.leaving[child]
            self._context.emit(RemoveChild(child))
        if pair.leaving:
            self._context.timers.set(("sweep", pair.pair), min(pair.leaving.values()))

    def _discard(self, pair: Pair, child: int, at: float) -> None:
        """Strike a Child SA from the books; `_sweep` takes it out of the kernel, not before `at`."""
        pair.children.pop(child, None)
        pair.outbounds.pop(child, None)
        pair.traffic.end(child)
        self._pairs.pop(child, None)
        self._counting.forget(child)
        self._spares.forget(child)
        pair.leaving[child] = at
        if not self._pairs:
            self._counting.end()


def _is_outranked(pair: Pair, ready: ChildReady) -> bool:
    """An anonymous peer came to a pair that somebody authenticated protects."""
    carrier = pair.carrier
    return carrier is not None and ready.anonymity < carrier.anonymity
