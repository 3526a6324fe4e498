"""Gauges of what strangers cost us: half-open IKE SAs, events by source, a rate for all. Memory is fixed or bounded.

Each says how near something is to its limit, on one scale: calm, busy, full. From busy on a peer has to show that it
receives at its address; so that addresses that somebody made up fill a part of a limit only, and the rest of it is for
who can show so.
"""

from array import array
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2s
from struct import Struct

from oe.model import Address

UNPROVED_SHARE = 0.25
"""How much of the limit of a source or prefix may be used up in its name by anybody."""


class Strain(IntEnum):
    """How near a limit is."""

    CALM = 0
    BUSY = 1
    FULL = 2


@dataclass(frozen=True, slots=True)
class Bounds:
    """A limit: how many fit until it is `busy`, and until it is `full`."""

    busy: float
    full: float

    @classmethod
    def sharing(cls, limit: float) -> "Bounds":
        """The limit of one source or prefix; see `UNPROVED_SHARE`."""
        return cls(max(1.0, limit * UNPROVED_SHARE), limit)

    def strain(self, level: float) -> Strain:
        """What one more meets at this level. Between whole numbers a whole one must have room."""
        if level + 1 > self.full:
            return Strain.FULL
        return Strain.BUSY if level + 1 > self.busy else Strain.CALM


def source_of(address: Address) -> bytes:
    """What counts as one source: an IPv4 address, or the /64 that anyone with IPv6 has for himself."""
    return address.packed[:8] if address.version == 6 else address.packed


def prefix_of(address: Address) -> bytes:
    """What one site may have in all: a /24, or the /48 of which it gives out /64s (RFC 8019 4.2)."""
    return address.packed[:6] if address.version == 6 else address.packed[:3]


class HalfOpen:
    """How many IKE SAs of peers that are not authenticated exist: in all, by prefix, by source."""

    __slots__ = ("_bounds", "_by_prefix", "_by_source", "total")

    def __init__(self, in_all: Bounds, per_prefix: Bounds, per_source: Bounds) -> None:
        self._bounds = (in_all, per_prefix, per_source)
        self._by_prefix: Counter[bytes] = Counter()
        self._by_source: Counter[bytes] = Counter()
        self.total = 0

    def strain(self, address: Address) -> Strain:
        """What one more from this address meets: the worst of the three."""
        counts = (self.total, self._by_prefix[prefix_of(address)], self._by_source[source_of(address)])
        return max(bounds.strain(count) for bounds, count in zip(self._bounds, counts, strict=True))

    @property
    def is_busy(self) -> bool:
        """In all, whoever comes next."""
        return self._bounds[0].strain(self.total) is not Strain.CALM

    def enter(self, address: Address) -> None:
        self.total += 1
        self._by_prefix[prefix_of(address)] += 1
        self._by_source[source_of(address)] += 1

    def leave(self, address: Address) -> None:
        self.total -= 1
        for counter, key in ((self._by_prefix, prefix_of(address)), (self._by_source, source_of(address))):
            counter[key] -= 1
            if counter[key] == 0:
                del counter[key]


ROWS, COLUMNS = 4, 1024
_NUMBERS = Struct(f"={ROWS}H")


class Levels:
    """A leaky bucket for each of any number of sources, in a table of fixed size.

    A source has one cell in each row, chosen by a keyed hash that nobody outside can aim with; its level is the lowest
    of them (a count-min sketch). It may be taken for too high, where all its cells are shared with busy sources, never
    for too low, and it drains: whoever was too loud, or shares an address with him, is heard again.
    """

    __slots__ = ("_drain", "_key", "_levels", "_stamps")

    def __init__(self, drain: float, key: bytes) -> None:
        """`drain`: how much a level sinks in a second. `key`: 16 octets of chance."""
        self._drain = drain
        self._key = key
        self._levels = array("d", bytes(8 * ROWS * COLUMNS))
        self._stamps = array("d", bytes(8 * ROWS * COLUMNS))

    def _cells(self, source: bytes) -> tuple[int, ...]:
        numbers = _NUMBERS.unpack(blake2s(source, key=self._key, digest_size=_NUMBERS.size).digest())
        return tuple([row * COLUMNS + number % COLUMNS for row, number in enumerate(numbers)])

    def _lowest(self, cells: tuple[int, ...], now: float) -> float:
        levels, stamps, drain = self._levels, self._stamps, self._drain
        return max(0.0, min([levels[cell] - (now - stamps[cell]) * drain for cell in cells]))

    def of(self, source: bytes, now: float) -> float:
        """How many events of `source` have not drained away yet."""
        return self._lowest(self._cells(source), now)

    def add(self, source: bytes, now: float) -> None:
        """One more event of `source`."""
        cells = self._cells(source)
        raised = self._lowest(cells, now) + 1
        for cell in cells:
            # Cells that stand higher already do so for others, and are left to them.
            if self._levels[cell] - (now - self._stamps[cell]) * self._drain < raised:
                self._levels[cell], self._stamps[cell] = raised, now


class Bucket:
    """A token bucket: `rate` a second, a second's worth at once."""

    __slots__ = ("_filled", "_rate", "_tokens")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = max(1.0, rate)
        self._filled = 0.0

    def take(self, now: float) -> bool:
        """One token, if there is one."""
        self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
