"""Figures that were measured several times, and how they are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console

_WIDE = 140
"""Columns where the output is no terminal: nothing is cut off."""


def console() -> Console:
    """Standard output, for tables."""
    made = Console(highlight=False)
    if not made.is_terminal:
        made.width = _WIDE
    return made


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, smallest and largest of some measurements, all in one unit."""

    median: float
    min: float
    max: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """ValueError when there are no values."""
        if not values:
            raise ValueError("nothing was measured")
        return cls(median(values), min(values), max(values), len(values))

    def plain(self, digits: int = 3) -> dict[str, float]:
        """As JSON values."""
        return {
            "median": round(self.median, digits),
            "min": round(self.min, digits),
            "max": round(self.max, digits),
            "count": self.count,
        }

    def cells(self, digits: int = 2) -> tuple[str, str, str]:
        """Smallest, median, largest, as a table shows them."""
        return f"{self.min:.{digits}f}", f"{self.median:.{digits}f}", f"{self.max:.{digits}f}"
