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
    unanswered_since: float | None
    """When our first packet left that nothing has answered since."""


class Liveness:
    """Compares counters as they come in. `patience`: seconds of one-way traffic before the peer is asked."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._watches: dict[int, _Watch] = {}

    def forget(self, child: int) -> None:
        self._watches.pop(child, None)

    def doubts(self, counters: ChildCounters, now: float) -> bool:
        """Feed the counters of one Child SA; true when its peer should be asked now."""
        watch = self._watches.get(counters.child)
        if watch is None:
            watch = _Watch(0, 0, None)
            self._watches[counters.child] = watch
        heard = counters.inbound_packets != watch.inbound
        sent = counters.outbound_packets != watch.outbound
        watch.inbound, watch.outbound = counters.inbound_packets, counters.outbound_packets
        if heard:
            watch.unanswered_since = None
        elif sent and watch.unanswered_since is None:
            watch.unanswered_since = now
        if watch.unanswered_since is None or now - watch.unanswered_since < self._patience:
            return False
        # Ask once, and not again before as much one-way time has passed anew.
        watch.unanswered_since = None
        return True
