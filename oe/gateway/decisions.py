"""The table of pairs, and what the kernel is told about each.

The order of commands is the promise. A decision goes into the kernel before held packets are let go, so that no second
packet is trapped behind them; it is taken out before the SAs behind it, so that the trap is closed when they go.
"""

from collections.abc import Collection, Iterator

from oe.gateway.context import Context
from oe.gateway.pairs import Failure, Pair
from oe.messages import Decide, Drop, Release, Undecide
from oe.model import Address, Group, HeldPacket, HostPair, PairState, PairStatus, Verdict
from oe.policy.flow import FlowEvent, next_state
from oe.policy.outcome import AGE_LIMIT, FAILURES, SHORTEST, decide
from oe.policy.outcome import Failure as Class
from oe.policy.select import select
from oe.reasons import Reason
from oe.trap.holds import HoldTable

VERDICTS = {
    PairState.PROTECTED: Verdict.PROTECTED,
    PairState.CLEAR: Verdict.CLEAR,
    PairState.BLOCKED: Verdict.BLOCKED,
}
"""What the kernel does with the packets of a pair; states that are not here keep their packets trapped."""

POLICY_ALONE = {
    Group.CLEAR: Verdict.CLEAR,
    Group.CLEAR_OR_PRIVATE: Verdict.CLEAR,
    Group.BLOCK: Verdict.BLOCKED,
}
"""Groups whose packets are never trapped. One may still arrive from before a policy change."""

_OWN_FAULTS = frozenset(reason for reason, failure in FAILURES.items() if failure is Class.OWN_CREDENTIALS)

_FALLBACKS = {
    PairState.CLEAR: FlowEvent.DECIDED_CLEAR,
    PairState.BLOCKED: FlowEvent.DECIDED_BLOCKED,
    PairState.HELD: FlowEvent.DECIDED_HOLD,
}


REMEMBERED = 120.0
"""Seconds for which a clear decision that is over may still be renewed."""

SA_MARGIN = 5.0
"""Seconds that a protecting decision outlives the last SA behind it. Their ends are events, and may be late; the
decision is to be taken back, not to run out."""

_TIMERS = ("expiry", "retry", "attempt", "grace", "succession", "sweep", "idle", "evidence")


class Decisions:
    """Every pair that is known, its state, and its held packets."""

    def __init__(self, context: Context, holds: HoldTable) -> None:
        self._context = context
        self._holds = holds
        self._pairs: dict[HostPair, Pair] = {}
        self._told: set[tuple[Reason, Address]] = set()
        """Faults of our own that were told already, by reason and source."""

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

    @property
    def pairs(self) -> Collection[HostPair]:
        """Those that are known."""
        return self._pairs.keys()

    def row(self, pair: Pair) -> PairStatus:
        """What is known of it now."""
        return pair.status(self._holds.held(pair.pair), self._holds.lost(pair.pair))

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
        """An outbound SA of the pair is in place: its first, or one more."""
        level = "debug" if pair.state is PairState.PROTECTED else "info"
        self.move(pair, FlowEvent.CHILD_INSTALLED, now)
        self._context.timers.cancel(("expiry", pair.pair))
        self._told -= {(reason, pair.pair.source) for reason in _OWN_FAULTS}
        self._put(pair, Verdict.PROTECTED, lifetime, now, level)

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
        before = pair.state
        self.move(pair, _FALLBACKS[outcome.state], now)
        if outcome.downgrade:
            self._tell_downgrade(pair, failure.reason)
        lifetime = outcome.lifetime
        if outcome.state is not PairState.CLEAR:
            pair.clear_since = None
        elif before is PairState.CLEAR and pair.clear_since is not None:
            lifetime = max(min(lifetime, pair.clear_since + AGE_LIMIT - now), SHORTEST)
        else:
            pair.clear_since = now
        was_decided = before in VERDICTS and not pair.lapsed
        pair.lapsed = False
        self._context.timers.set(("expiry", pair.pair), now + lifetime)
        if outcome.verdict is not None:
            self._put(pair, outcome.verdict, lifetime, now, "debug" if before is pair.state else "info")
            return
        pair.expires = now + lifetime
        if was_decided:
            # Nothing takes its place in the kernel: packets are to be trapped again.
            self._context.emit(Undecide(pair.pair))

    def lapse(self, pair: Pair, now: float) -> bool:
        """A decision's time is over. True if it was clear and a packet may still renew it: the record is kept as long
        again as the decision stood, within bounds."""
        if pair.state is not PairState.CLEAR or pair.clear_since is None or pair.lapsed or pair.expires is None:
            return False
        limit = pair.clear_since + AGE_LIMIT
        if now + SHORTEST >= limit:
            return False
        self.move(pair, FlowEvent.LAPSED, now)
        pair.lapsed = True
        stood = min(max(pair.expires - pair.decided, SHORTEST), REMEMBERED)
        self._context.emit(Undecide(pair.pair))
        self._context.timers.set(("expiry", pair.pair), min(now + stood, limit))
        return True

    def renew(self, pair: Pair, now: float) -> None:
        """A packet of a pair whose clear decision lapsed: let it pass, for as long as looking again takes."""
        pair.lapsed = False
        lifetime = 2 * self._context.settings.setup_budget
        self._context.timers.set(("expiry", pair.pair), now + lifetime)
        self._put(pair, Verdict.CLEAR, lifetime, now, "debug")

    def _tell_downgrade(self, pair: Pair, reason: Reason) -> None:
        """A fault of ours concerns every pair alike: told once, until it is mended."""
        level, cause = "warning", (reason, pair.pair.source)
        if reason in _OWN_FAULTS:
            level = "debug" if cause in self._told else "warning"
            self._told.add(cause)
        self._context.note(level, "pair-downgraded", pair=pair.pair, reason=reason, grade=str(pair.grade))

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
        margin = SA_MARGIN if verdict is Verdict.PROTECTED else 0.0
        if verdict is not None and left + margin > 0:
            self._context.emit(Decide(pair.pair, verdict, left + margin, pair.group is Group.PRIVATE))

    def _put(self, pair: Pair, verdict: Verdict, lifetime: float, now: float, level: str) -> None:
        pair.decided, pair.expires = now, now + lifetime
        margin = SA_MARGIN if verdict is Verdict.PROTECTED else 0.0
        self._context.emit(Decide(pair.pair, verdict, lifetime + margin, pair.group is Group.PRIVATE))
        waiting = self._holds.lose if verdict is Verdict.BLOCKED else self._holds.take
        self.let_go(waiting(pair.pair), pair, verdict)
        told = {"pair": pair.pair, "group": pair.group, "reason": pair.reason, "lifetime": round(lifetime, 1)}
        if pair.detail:
            told["detail"] = pair.detail
        self._context.note(level, f"pair-{verdict}", **told)

    def forget(self, pair: Pair, event: FlowEvent, now: float, why: Reason) -> None:
        """Back to the trap: no decision, no record. Packets that are still held are dropped, `why` says the reason."""
        was_decided = pair.state in VERDICTS and not pair.lapsed
        self.move(pair, event, now)
        for kind in _TIMERS:
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
