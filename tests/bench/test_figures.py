"""Spreads, and how they are written."""

import pytest

from bench.figures import Spread


def test_a_spread_has_median_extremes_and_count() -> None:
    spread = Spread.of([3.0, 1.0, 10.0])
    assert (spread.min, spread.median, spread.max, spread.count) == (1.0, 3.0, 10.0, 3)
    assert spread.cells(1) == ("1.0", "3.0", "10.0")
    assert spread.plain() == {"median": 3.0, "min": 1.0, "max": 10.0, "count": 3}


def test_nothing_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])
