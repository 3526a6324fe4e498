"""Agreement is agreement, and no collection hides from the count."""

from collections import deque
from dataclasses import dataclass, field

from oe.gateway.timers import Timers
from tests.simulation.rest import footprint


@dataclass
class Cellar:
    __module__ = "oe.somewhere"

    shelves: dict[str, list[int]] = field(default_factory=lambda: {"a": [1, 2], "b": [3]})
    queue: deque[int] = field(default_factory=lambda: deque([1]))
    settings: tuple[int, ...] = (1, 2, 3)


class Slotted:
    __module__ = "oe.somewhere"
    __slots__ = ("cellar", "itself")

    def __init__(self) -> None:
        self.cellar = Cellar()
        self.itself = self


def test_every_collection_is_counted_by_its_path() -> None:
    assert footprint(Slotted(), frozenset({"settings"})) == {
        ".cellar.shelves": 2,
        ".cellar.shelves[]": 3,
        ".cellar.queue": 1,
    }


def test_a_bound_method_leads_to_its_object() -> None:
    timers: Timers[str] = Timers()
    timers.set("one", 1.0)
    assert footprint(timers.cancel, frozenset())[".__self__._live"] == 1
