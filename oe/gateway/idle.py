"""Tunnels that nobody uses are taken down (RFC 4322 asks for it; FreeS/WAN looked at the same times).

    installed ── 30 s ── baseline ── 30 s ── first look ── `idle` ── look ── `idle` ── look ...

A look finds out whether a packet went either way since the one before. Packets that made us set the tunnel up do not
count at the first look: a single exchange, never continued, must not cost state for long. The next packet after that
is a first packet again.
"""

from collections.abc import Callable

from oe.gateway.context import Context
from oe.gateway.pairs import Pair

FIRST_LOOK = 60.0
"""Seconds after the installation, unless looks are made more often anyway. Its second half is what is looked at."""


class Idle:
    """Looks at protected pairs. `close(pair, now)` takes one down."""

    def __init__(self, context: Context, close: Callable[[Pair, float], None]) -> None:
        self._context = context
        self._close = close
        self._first = min(FIRST_LOOK, context.settings.idle)

    def begin(self, pair: Pair, now: float) -> None:
        """A pair has become protected. A rekey is no new beginning."""
        pair.looked = None
        self._look_later(pair, now + self._first / 2)

    def look(self, pair: Pair, now: float) -> None:
        """The time of a look has come."""
        last, read_at = pair.looked, pair.traffic.read_at
        if read_at is None or (last is not None and last[1] == read_at):
            # Counters are read at a pace of their own. Those that were looked at already tell nothing new.
            self._look_later(pair, now + self._first / 2)
            return
        pair.looked = pair.traffic.packets, read_at
        if last is None:
            self._look_later(pair, now + self._first / 2)
        elif pair.looked[0] == last[0] and self._is_fresh(read_at, now):
            self._close(pair, now)
        else:
            self._look_later(pair, now + self._context.settings.idle)

    def _is_fresh(self, read_at: float, now: float) -> bool:
        """Counters that could not be read lately say nothing about traffic."""
        return now - read_at <= max(self._context.settings.liveness, self._first / 4)

    def _look_later(self, pair: Pair, at: float) -> None:
        self._context.timers.set(("idle", pair.pair), at)
