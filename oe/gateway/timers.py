"""Named deadlines in one heap. Setting a name again replaces its deadline; 100,000 names stay cheap."""

from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)


class Timers(Generic[Name]):
    """Answers two questions: when is the next deadline, and which names are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Name]] = []
        self._live: dict[Name, int] = {}
        self._serial = count()

    def set(self, name: Name, at: float) -> None:
        """Call `name` due from `at` on; replaces an earlier deadline of that name."""
        serial = next(self._serial)
        self._live[name] = serial
        heappush(self._heap, (at, serial, name))
        # Replaced entries stay in the heap until they surface. Without this a name that is set again and again
        # with ever later deadlines would grow the heap for as long as the latest of them.
        if len(self._heap) > 64 + 4 * len(self._live):
            self._heap = [entry for entry in self._heap if self._live.get(entry[2]) == entry[1]]
            heapify(self._heap)

    def cancel(self, name: Name) -> None:
        """Forget `name`; unknown names are fine."""
        self._live.pop(name, None)

    def deadline(self) -> float | None:
        """The earliest deadline, None when nothing is set."""
        while self._heap and self._live.get(self._heap[0][2]) != self._heap[0][1]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[Name]:
        """Names whose deadline is not after `now`, earliest first; each is forgotten as it is yielded."""
        while (at := self.deadline()) is not None and at <= now:
            name = heappop(self._heap)[2]
            del self._live[name]
            yield name
