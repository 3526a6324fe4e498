import gc
from collections.abc import Iterator
from weakref import ref

import pytest

from oe.daemon.collector import calm


class Node:
    """Part of a cycle, by itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def calmed() -> Iterator[None]:
    thresholds = gc.get_threshold()
    calm()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("calmed")
def test_what_stood_before_is_not_searched_and_young_cycles_go() -> None:
    assert gc.get_freeze_count() > 0
    young = ref(Node())
    crowd = [[number] for number in range(100_000)]
    assert young() is None
    assert len(crowd) == 100_000


@pytest.mark.usefixtures("calmed")
def test_what_lasts_is_not_searched() -> None:
    searches = gc.get_stats()[2]["collections"]
    crowd = [[number] for number in range(500_000)]
    assert gc.get_stats()[2]["collections"] == searches
    assert len(crowd) == 500_000
