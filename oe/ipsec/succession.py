"""Who holds a place that only one can hold at a time, and who held it before: Child SAs of one pair in a rekey."""

from collections.abc import Collection, Iterator
from typing import Generic, TypeVar

Place = TypeVar("Place")
Holding = TypeVar("Holding")


class Succession(Collection[Place], Generic[Place, Holding]):
    """For every place the Child SAs that want it, oldest first; the youngest holds it."""

    __slots__ = ("_claims",)

    def __init__(self) -> None:
        self._claims: dict[Place, dict[int, Holding]] = {}

    def __contains__(self, place: object) -> bool:
        """Whether anybody wants the place."""
        return place in self._claims

    def __iter__(self) -> Iterator[Place]:
        return iter(self._claims)

    def __len__(self) -> int:
        return len(self._claims)

    def holder(self, place: Place, without: int | None = None) -> Holding | None:
        """What holds the place, or would hold it if Child SA `without` were gone; None where nobody wants it."""
        claims = self._claims.get(place, {})
        return next((holding for child, holding in reversed(claims.items()) if child != without), None)

    def claim(self, place: Place, child: int, holding: Holding) -> None:
        """The Child SA takes the place over."""
        claims = self._claims.setdefault(place, {})
        claims.pop(child, None)
        claims[child] = holding

    def alter(self, place: Place, child: int, holding: Holding) -> None:
        """What the Child SA wants there is another thing now; its rank stays."""
        self._claims[place][child] = holding

    def resign(self, place: Place, child: int) -> None:
        """The Child SA wants the place no more; its predecessor, if there is one, holds it again."""
        claims = self._claims.get(place, {})
        claims.pop(child, None)
        if not claims:
            self._claims.pop(place, None)
