"""Which tunnels carry traffic one way only?

A dead peer cannot say that it is dead; what shows is that we send and nothing comes back. Traffic both ways is proof
of life for free, so a busy tunnel costs no liveness message at all (RFC 7296 2.4). Some traffic is one way by nature:
a peer that lives, and sends nothing all the same, is asked less and less often.
"""

from dataclasses import dataclass

from oe.model import ChildCounters

BACK_OFF = 8
"""By how much patience grows, doubling with each question, until something comes in."""


@dataclass(slots=True)
class _Watch:
    patience: float
    inbound: int
    outbound: int
    read_at: float
    """When the counters were read last."""
    heard_at: float | None
    unanswered_since: float | None
    """When our first packet that nothing has answered since left, at the earliest."""


class Liveness:
    """Compares counters as they come in. `patience`: seconds of one-way traffic before the peer is asked first."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._watches: dict[int, _Watch] = {}

    def forget(self, child: int) -> None:
        self._watches.pop(child, None)

    def heard_at(self, child: int) -> float | None:
        """When counters came that showed something new in it, the last time."""
        watch = self._watches.get(child)
        return None if watch is None else watch.heard_at

    def hears(self, child: int, now: float) -> bool:
        """Something came in it lately."""
        heard_at = self.heard_at(child)
        return heard_at is not None and now - heard_at <= self._patience

    def doubts(self, counters: ChildCounters, now: float) -> bool:
        """Feed the counters of one Child SA; true when its peer should be asked now.

        Never with the reading that shows its first packet without an answer: that may just have left.
        """
        watch = self._watches.get(counters.child)
        if watch is None:
            watch = self._watches[counters.child] = _Watch(self._patience, 0, 0, now, None, None)
        heard = counters.inbound_packets != watch.inbound
        sent = counters.outbound_packets != watch.outbound
        watch.inbound, watch.outbound = counters.inbound_packets, counters.outbound_packets
        read_before, watch.read_at = watch.read_at, now
        if heard:
            watch.patience, watch.heard_at, watch.unanswered_since = self._patience, now, None
        elif watch.unanswered_since is None:
            if sent:
                # It left somewhere between two readings; patience is to be the most that a dead peer costs.
                watch.unanswered_since = read_before
        elif now - watch.unanswered_since >= watch.patience:
            # Ask once, and not again before more one-way time has passed anew.
            watch.unanswered_since = None
            watch.patience = min(2 * watch.patience, BACK_OFF * self._patience)
            return True
        return False
