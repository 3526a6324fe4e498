"""Packets that wait for the decision on their pair. Pure: it keeps books, the queue keeps the packets.

The first packets of a pair are worth most: a TCP SYN, the first datagram of an exchange. They are kept, and what comes
when a bound is reached is lost, with the bound's name as the reason. Every operation costs the same at one pair as at
a hundred thousand.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from oe.model import HeldPacket, HostPair
from oe.reasons import Reason


@dataclass(slots=True)
class _Pile:
    """What is known of one pair: the ids that wait, oldest first, and how many packets were lost."""

    waiting: deque[int] = field(default_factory=deque)
    lost: int = 0


class HoldTable:
    """Who waits, since when, and for whom there is no room.

    `per_pair` and `total` bound the packets held; `patience` is how long one may wait, in seconds. `now` is monotonic
    and never runs backwards between calls.
    """

    def __init__(self, *, per_pair: int, total: int, patience: float) -> None:
        self._per_pair = per_pair
        self._total = total
        self._patience = patience
        self._packets: OrderedDict[int, tuple[HeldPacket, float]] = OrderedDict()
        """By id, oldest first: as patience is the same for all, the first deadline is always in front."""
        self._piles: dict[HostPair, _Pile] = {}

    def __len__(self) -> int:
        """Packets held now."""
        return len(self._packets)

    def hold(self, packet: HeldPacket, now: float) -> Reason | None:
        """Keep `packet` until its pair is decided; or the reason why it cannot be kept and has to be dropped."""
        pile = self._piles.get(packet.pair)
        full = len(self._packets) >= self._total
        if pile is None:
            if full:
                # Nothing is remembered of a pair that never had a packet here: a flood of made-up addresses
                # must not grow the table beyond its bound.
                return Reason.HOLD_FULL
            pile = self._piles[packet.pair] = _Pile()
        if full or len(pile.waiting) >= self._per_pair:
            pile.lost += 1
            return Reason.HOLD_FULL if full else Reason.HOLD_PAIR_FULL
        pile.waiting.append(packet.id)
        self._packets[packet.id] = (packet, now + self._patience)
        return None

    def take(self, pair: HostPair) -> tuple[HeldPacket, ...]:
        """The pair's packets in the order of their arrival, to be released; they are held no more."""
        pile = self._piles.get(pair)
        if pile is None:
            return ()
        taken = tuple(self._packets.pop(id)[0] for id in pile.waiting)
        pile.waiting.clear()
        self._tidy(pair, pile)
        return taken

    def lose(self, pair: HostPair) -> tuple[HeldPacket, ...]:
        """The pair's packets, to be dropped: as `take`, and they count as lost."""
        taken = self.take(pair)
        if taken:
            self._piles.setdefault(pair, _Pile()).lost += len(taken)
        return taken

    def expire(self, now: float) -> tuple[HeldPacket, ...]:
        """The packets whose patience ended, oldest first, to be dropped; they count as lost."""
        expired = []
        while self._packets:
            packet, deadline = next(iter(self._packets.values()))
            if deadline > now:
                break
            del self._packets[packet.id]
            pile = self._piles[packet.pair]
            pile.waiting.popleft()
            pile.lost += 1
            expired.append(packet)
        return tuple(expired)

    def deadline(self) -> float | None:
        """When `expire` will have something to do; None while nothing is held."""
        return next(iter(self._packets.values()))[1] if self._packets else None

    def held(self, pair: HostPair) -> int:
        """Packets of the pair that are held now."""
        pile = self._piles.get(pair)
        return len(pile.waiting) if pile else 0

    def lost(self, pair: HostPair) -> int:
        """Packets of the pair that were lost since it is known here, that is since the last `forget`."""
        pile = self._piles.get(pair)
        return pile.lost if pile else 0

    def forget(self, pair: HostPair) -> tuple[HeldPacket, ...]:
        """Close the pair's books. The packets that it still held are returned, to be dropped."""
        taken = self.take(pair)
        self._piles.pop(pair, None)
        return taken

    def _tidy(self, pair: HostPair, pile: _Pile) -> None:
        """A pair that holds nothing and lost nothing needs no books."""
        if not pile.waiting and not pile.lost:
            del self._piles[pair]
