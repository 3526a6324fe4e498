"""Which tunnels carry traffic one way only?

A dead peer cannot say that it is dead; what shows is that we send and nothing comes back. Traffic both ways is proof
of life for free, so a busy tunnel costs no liveness message at all (RFC 7296 2.4).
"""

from dataclasses import dataclass

from oe.model import ChildCounters


@dataclass(slots=True)
class _Watch:
    inbound: int
    outbound: int
    read_at: float
    """When the counters were read last."""
    heard_at: float | None
    unanswered_since: float | None
    """When our first packet that nothing has answered since left, at the earliest."""


class Liveness:
    """Compares counters as they come in. `patience`: seconds of one-way traffic before the peer is asked."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._watches: dict[int, _Watch] = {}

    def forget(self, child: int) -> None:
        self._watches.pop(child, None)

    def hears(self, child: int, now: float) -> bool:
        """Something came in it lately."""
        watch = self._watches.get(child)
        return watch is not None and watch.heard_at is not None and now - watch.heard_at <= self._patience

    def doubts(self, counters: ChildCounters, now: float) -> bool:
        """Feed the counters of one Child SA; true when its peer should be asked now."""
        watch = self._watches.get(counters.child)
        if watch is None:
            watch = _Watch(0, 0, now, None, None)
            self._watches[counters.child] = watch
        heard = counters.inbound_packets != watch.inbound
        sent = counters.outbound_packets != watch.outbound
        watch.inbound, watch.outbound = counters.inbound_packets, counters.outbound_packets
        if heard:
            watch.heard_at, watch.unanswered_since = now, None
        elif sent and watch.unanswered_since is None:
            # It left somewhere between two readings; patience is to be the most that a dead peer costs, not the least.
            watch.unanswered_since = watch.read_at
        watch.read_at = now
        if watch.unanswered_since is None or now - watch.unanswered_since < self._patience:
            return False
        # Ask once, and not again before as much one-way time has passed anew.
        watch.unanswered_since = None
        return True
