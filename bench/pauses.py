"""Work of an event loop, and how long others have to wait for it meanwhile."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, thread_time
from typing import Self


@dataclass(frozen=True, slots=True)
class Work:
    """What takes many turns of the loop: seconds until it was done, and of CPU; its longest turn in ms, and the longest
    pause for the garbage collector, which may be a part of it."""

    seconds: float
    cpu: float
    longest: float
    collector: float

    def told(self) -> str:
        times = f"{self.seconds:.2f} s, {self.cpu:.2f} s of CPU"
        return f"{times}, longest turn {self.longest:.0f} ms (collector {self.collector:.0f})"


class Pauses:
    """For the length of the block: the longest pause for the garbage collector, since the last `take`; CPU time."""

    def __enter__(self) -> Self:
        self._longest = self._began = 0.0
        gc.callbacks.append(self._collecting)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._collecting)

    def _collecting(self, phase: str, _info: dict[str, int]) -> None:
        now = thread_time()
        if phase == "start":
            self._began = now
        else:
            self._longest = max(self._longest, now - self._began)

    def take(self) -> float:
        """Milliseconds."""
        longest, self._longest = self._longest, 0.0
        return longest * 1000


def until_done(ring: Callable[[], bool], pauses: Pauses) -> Work:
    """Call `ring` for as long as it says that more is to be done; each time is one turn."""
    pauses.take()
    began, cpu, longest, more = monotonic(), thread_time(), 0.0, True
    while more:
        turn = thread_time()
        more = ring()
        longest = max(longest, thread_time() - turn)
    return Work(monotonic() - began, thread_time() - cpu, longest * 1000, pauses.take())
