"""Counters of the Child SAs in place: read while there is anything to count, and looked at for dead peers."""

from collections.abc import Callable

from oe.gateway.context import Context
from oe.gateway.liveness import Liveness
from oe.gateway.pairs import Pair
from oe.messages import CountersRead, ReadCounters

LEAST_PAUSE = 10
"""How many times as long as a reading takes the pause before the next one is at least: where there are so many SAs that
it takes seconds, it is to be a tenth of the daemon's work at most."""

LONGEST_PAUSE = 30.0
"""Seconds up to which that counts: a machine that stood still for a minute is not slow."""


class Counting:
    """`pair_of(child)` finds the pair of a Child SA; `doubt(pair, child, now)` hears of one that is used one way."""

    def __init__(
        self,
        context: Context,
        pair_of: Callable[[int], Pair | None],
        doubt: Callable[[Pair, int, float], None],
    ) -> None:
        self._context = context
        self._pair_of = pair_of
        self._doubt = doubt
        self._liveness = Liveness(context.settings.liveness)
        self._is_due = False
        """A reading is asked for, or will be."""
        self._asked_at = 0.0
        self._took = 0.0
        """Seconds from the last question to its answer."""

    @property
    def pause(self) -> float:
        """Seconds between two readings: half a liveness time, if that is enough."""
        return max(self._context.settings.liveness / 2, min(LEAST_PAUSE * self._took, LONGEST_PAUSE))

    def begin(self, now: float) -> None:
        """There is something to count. However many pairs come, all are read at once."""
        if not self._is_due:
            self._is_due = True
            self._context.timers.set(("counters", None), now + self.pause)

    def end(self) -> None:
        """There is nothing left to count."""
        self._is_due = False
        self._context.timers.cancel(("counters", None))

    def ask(self, now: float) -> None:
        self._asked_at = now
        self._context.emit(ReadCounters())

    def read(self, event: CountersRead, now: float) -> None:
        """Counters came. After the last of them the caller begins again if there is still something to count."""
        if event.is_last:
            self._is_due, self._took = False, now - self._asked_at
        for counters in event.counters:
            pair = self._pair_of(counters.child)
            if pair is None:
                continue
            pair.traffic.read(counters, now)
            if self._liveness.doubts(counters, now):
                self._doubt(pair, counters.child, now)

    def hears(self, child: int, now: float) -> bool:
        """Something came in this Child SA lately."""
        return self._liveness.hears(child, now)

    def heard_at(self, child: int) -> float | None:
        """When counters were read that showed something new in this Child SA, the last time."""
        return self._liveness.heard_at(child)

    def forget(self, child: int) -> None:
        self._liveness.forget(child)
