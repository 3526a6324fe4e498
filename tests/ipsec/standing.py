"""An event loop that stands still."""

from collections.abc import Callable, Iterator

from oe.errors import KernelError
from oe.ipsec.model import Backend, BackendEvent
from oe.model import ChildCounters


class StandingLoop:
    """A loop that nobody runs: time is a number, readers and timers are kept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.readers: dict[int, Callable[[], object]] = {}

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object], /) -> "StandingLoop":
        return self

    def call_soon(self, callback: Callable[[], object], /) -> "StandingLoop":
        return self

    def cancel(self) -> None:
        """As a timer: nothing to stop."""

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: int, /) -> bool:
        return self.readers.pop(fd, None) is not None


def ignore(_event: BackendEvent) -> None:
    """For a back end whose events do not matter."""


def counted(backend: Backend, loop: StandingLoop) -> tuple[ChildCounters, ...]:
    """What `Backend.count` tells after the turns that it takes; `loop` is the back end's."""
    told: list[Iterator[ChildCounters] | KernelError] = []
    readers = set(loop.readers)
    backend.count(told.append)
    while not told:
        for descriptor in loop.readers.keys() - readers:
            loop.readers[descriptor]()
    [answer] = told
    assert not isinstance(answer, KernelError)
    return tuple(answer)
