"""The table of pairs, and what the kernel is told about each.

The order of commands is the promise. A decision goes into the kernel before held packets are let go, so that no second
packet is trapped behind them; it is taken out before the SAs behind it, so that the trap is closed when they go.
"""

from collections.abc import Iterator

from oe.gateway.context import Context
from oe.gateway.pairs import Failure, Pair
from oe.messages import Decide, Drop, Release, Undecide
from oe.model import Group, HeldPacket, HostPair, PairState, PairStatus, Reason, Verdict
from oe.policy.flow import FlowEvent, next_state
from oe.policy.outcome import decide
from oe.policy.select import select
from oe.trap.holds import HoldTable

VERDICTS = {
    PairState.PROTECTED: Verdict.PROTECTED,
    PairState.CLEAR: Verdict.CLEAR,
    PairState.BLOCKED: Verdict.BLOCKED,
}
"""What the kernel does with the packets of a pair; states that are not here keep their packets trapped."""

_FALLBACKS = {
    PairState.CLEAR: FlowEvent.DECIDED_CLEAR,
    PairState.BLOCKED: FlowEvent.DECIDED_BLOCKED,
    PairState.HELD: FlowEvent.DECIDED_HOLD,
}


class Decisions:
    """Every pair that is known, its state, and its held packets."""

    def __init__(self, context: Context, holds: HoldTable) -> None:
        self._context = context
        self._holds = holds
        self._pairs: dict[HostPair, Pair] = {}

    # --- the table ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(tuple(self._pairs.values()))

    def find(self, key: HostPair) -> Pair | None:
        return self._pairs.get(key)

    def enter(self, key: HostPair, now: float) -> Pair:
        """The record of a pair, made if there is none."""
        pair = self._pairs.get(key)
        if pair is None:
            pair = self._pairs[key] = Pair(key, select(self._context.policies, key.destination).group, now)
        return pair

    def status(self) -> tuple[PairStatus, ...]:
        return tuple(
            pair.status(self._holds.held(pair.pair), self._holds.lost(pair.pair)) for pair in self._pairs.values()
        )

    # --- packets -----------------------------------------------------------------------------------------------

    def hold(self, packet: HeldPacket, now: float) -> None:
        """Keep a packet of a pair that is being set up, or drop it for want of room."""
        full = self._holds.hold(packet, now)
        if full is not None:
            self._drop((packet,), full)

    def holds(self, pair: Pair) -> bool:
        """Packets of the pair wait."""
        return self._holds.held(pair.pair) > 0

    def let_go(self, packets: tuple[HeldPacket, ...], pair: Pair, verdict: Verdict) -> None:
        """Give packets the verdict of their pair."""
        if verdict is Verdict.BLOCKED:
            self._drop(packets, pair.reason)
        elif packets:
            ids = tuple(packet.id for packet in packets)
            self._context.emit(Release(ids, verdict, pair.group is Group.PRIVATE))

    def expire_holds(self, now: float) -> None:
        """Drop what has waited too long."""
        self._drop(self._holds.expire(now), Reason.HOLD_DEADLINE)

    def _drop(self, packets: tuple[HeldPacket, ...], reason: Reason) -> None:
        if packets:
            self._context.reasons[reason] += len(packets)
            self._context.emit(Drop(tuple(packet.id for packet in packets), reason))

    # --- decisions ---------------------------------------------------------------------------------------------

    def move(self, pair: Pair, event: FlowEvent, now: float) -> None:
        """One step of the pair's state machine; the table in `oe.policy.flow` says what is legal."""
        before = pair.state
        pair.state = next_state(before, event)
        if pair.state is not before:
            pair.since = now

    def protect(self, pair: Pair, lifetime: float, now: float) -> None:
        """An outbound SA of the pair is in place."""
        self.move(pair, FlowEvent.CHILD_INSTALLED, now)
        self._context.timers.cancel(("expiry", pair.pair))
        self._put(pair, Verdict.PROTECTED, lifetime, now)

    def fall_back(self, pair: Pair, failure: Failure, answer_lifetime: float | None, now: float) -> None:
        """Nothing encrypts this pair: what its group says then (`oe.policy.outcome`)."""
        pair.reason, pair.detail = failure.reason, failure.detail
        settings = self._context.settings.groups[pair.group]
        outcome = decide(
            pair.group,
            failure.reason,
            pair.grade,
            settings,
            answer_lifetime,
            authenticated=failure.authenticated,
        )
        self.move(pair, _FALLBACKS[outcome.state], now)
        if outcome.downgrade:
            grade = str(pair.grade)
            self._context.note("warning", "pair-downgraded", pair=pair.pair, reason=failure.reason, grade=grade)
        self._context.timers.set(("expiry", pair.pair), now + outcome.lifetime)
        if outcome.verdict is not None:
            self._put(pair, outcome.verdict, outcome.lifetime, now)
        else:
            pair.expires = now + outcome.lifetime

    def repeat(self, now: float) -> None:
        """Tell the kernel every decision once more, each for what is left of its time."""
        for pair in self._pairs.values():
            self._repeat(pair, now)

    def regroup(self, pair: Pair, group: Group, now: float) -> None:
        """A pair whose decision stays belongs to another group: whether it fails closed is the kernel's business."""
        if pair.group is not group:
            pair.group = group
            self._repeat(pair, now)

    def _repeat(self, pair: Pair, now: float) -> None:
        verdict = VERDICTS.get(pair.state) if pair.state is not None else None
        left = pair.expires - now if pair.expires is not None else 0.0
        if verdict is not None and left > 0:
            self._context.emit(Decide(pair.pair, verdict, left, pair.group is Group.PRIVATE))

    def _put(self, pair: Pair, verdict: Verdict, lifetime: float, now: float) -> None:
        pair.expires = now + lifetime
        self._context.emit(Decide(pair.pair, verdict, lifetime, pair.group is Group.PRIVATE))
        waiting = self._holds.lose if verdict is Verdict.BLOCKED else self._holds.take
        self.let_go(waiting(pair.pair), pair, verdict)
        told = {"pair": pair.pair, "group": pair.group, "reason": pair.reason, "lifetime": round(lifetime, 1)}
        if pair.detail:
            told["detail"] = pair.detail
        self._context.note("info", f"pair-{verdict}", **told)

    def forget(self, pair: Pair, event: FlowEvent, now: float, why: Reason) -> None:
        """Back to the trap: no decision, no record. Packets that are still held are dropped, `why` says the reason."""
        was_decided = pair.state in VERDICTS
        self.move(pair, event, now)
        for kind in ("expiry", "retry", "attempt", "grace", "succession"):
            self._context.timers.cancel((kind, pair.pair))
        if was_decided:
            self._context.emit(Undecide(pair.pair))
        self._drop(self._holds.forget(pair.pair), why)
        self._pairs.pop(pair.pair, None)

    def release_all(self, pair: Pair) -> None:
        """On an orderly stop: what is held goes as its group says when nobody is there to encrypt."""
        packets = self._holds.take(pair.pair)
        if pair.group is Group.PRIVATE:
            self._drop(packets, Reason.STOPPING)
        else:
            self.let_go(packets, pair, Verdict.CLEAR)
