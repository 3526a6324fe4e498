"""Of Child SAs that crossed, those that are one too many: kept for as long as the peer may send in them.

Two of us agree which one is redundant, and both send in the other. Other products go by other rules, mostly by age. Two
ends that send in different ones understand each other; but an end that loses the one that it sends in may not notice
for long. So it is watched where the peer sends, from a liveness time after they were made on:

    in the other one, and no more in this one ── this one is closed, by who began it; else by us `PATIENCE` later
    in this one only ── the other one is rekeyed: a successor is younger than both, and the engine ends this one
    in neither ── both are kept: nothing is known, and nothing lost
"""

from collections.abc import Callable
from dataclasses import dataclass

from oe.gateway.context import Context
from oe.gateway.counting import Counting
from oe.gateway.pairs import Pair
from oe.negotiation import ChildRedundant

PATIENCE = 5.0
"""Seconds that the peer has to close what it began, before we do."""


@dataclass(slots=True)
class _Spare:
    since: float
    is_ours: bool
    is_overtaken: bool = False
    """A younger one was asked for."""


class Spares:
    """`close(child, now)` ends one; `make_younger(child, now)` has another one rekeyed."""

    def __init__(
        self,
        context: Context,
        counting: Counting,
        pair_of: Callable[[int], Pair | None],
        close: Callable[[int, float], None],
        make_younger: Callable[[int, float], None],
    ) -> None:
        self._context = context
        self._counting = counting
        self._pair_of = pair_of
        self._close = close
        self._make_younger = make_younger
        self._spares: dict[int, _Spare] = {}

    def __contains__(self, child: int) -> bool:
        return child in self._spares

    def enter(self, event: ChildRedundant, now: float) -> None:
        """The engine says that one is redundant."""
        self._spares[event.child] = _Spare(now, event.is_ours)

    def forget(self, child: int) -> None:
        self._spares.pop(child, None)

    def look(self, now: float) -> None:
        """Counters have been read."""
        for child, spare in tuple(self._spares.items()):
            pair = self._pair_of(child)
            carrier = pair.protecting if pair is not None else None
            if carrier is not None and carrier.id != child:
                self._judge(child, spare, carrier.id, now)

    def _judge(self, child: int, spare: _Spare, carrier: int, now: float) -> None:
        # Two pauses: what the last reading in it shows came after whatever the peer changed.
        patience = max(self._context.settings.liveness, 2 * self._counting.pause)
        settled = spare.since + patience
        here, there = self._heard_at(child), self._heard_at(carrier)
        closing = max(settled, here + patience) + (0.0 if spare.is_ours else PATIENCE)
        if there >= closing:
            self._close(child, now)
        elif here >= settled > there and not spare.is_overtaken:
            spare.is_overtaken = True
            self._make_younger(carrier, now)

    def _heard_at(self, child: int) -> float:
        heard_at = self._counting.heard_at(child)
        return 0.0 if heard_at is None else heard_at
