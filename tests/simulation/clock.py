"""Virtual time: one queue of events for the whole world. The same calls give the same order, always."""

import heapq
from collections.abc import Callable
from itertools import count

MANY_STEPS = 200_000
"""More than any scenario needs by far."""


class Clock:
    """`now` in seconds; it begins far from zero, so that no default time looks like a real one."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.steps = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()

    def at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (max(when, self.now), next(self._serial), act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.at(self.now + seconds, act)

    def run(self, until: float) -> None:
        """Let everything happen up to `until`."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, act = heapq.heappop(queue)
            self.steps += 1
            if self.steps > MANY_STEPS:
                raise RuntimeError(f"there is no rest: {self.steps} steps")
            act()
        self.now = until
