"""The anti-replay window of an inbound SA (RFC 4303 3.4.3) and the upper half of extended numbers (appendix A2)."""

from oe.ipsec.model import REPLAY_WINDOW

_LOW = 0xFFFF_FFFF


class ReplayWindow:
    """Which sequence numbers were seen: all up to the highest authenticated one, of which the last `size` matter.

        highest - size + 1          highest
                |#.###..#....########|  →  newer: always acceptable

    Bit 0 of the bitmap is the highest number seen. Number 0 counts as seen: senders start at 1.
    """

    __slots__ = ("_bitmap", "_mask", "esn", "highest", "size")

    def __init__(self, esn: bool, size: int = REPLAY_WINDOW) -> None:
        self.esn = esn
        self.size = size
        self.highest = 0
        self._bitmap = 1
        self._mask = (1 << size) - 1

    def infer(self, low: int) -> int:
        """The whole number whose low 32 bits arrived; negative for one from before the SA's first.

        With extended numbers (appendix A2.1) the upper half is the one that puts the packet into the window or, if
        none does, ahead of it: a number left of the window in this subspace is one right of it in the next.
        """
        if not self.esn:
            return low
        bottom = self.highest - self.size + 1
        candidate = (bottom & ~_LOW) | low
        return candidate if candidate >= bottom else candidate + _LOW + 1

    def may_accept(self, sequence: int) -> bool:
        """Whether a packet of this number is neither a replay nor too old. Changes nothing: it is not authentic yet."""
        behind = self.highest - sequence
        if behind < 0:
            return True
        return behind < self.size and sequence > 0 and not (self._bitmap >> behind) & 1

    def accept(self, sequence: int) -> None:
        """Note the number of an *authentic* packet that `may_accept` let through."""
        ahead = sequence - self.highest
        if ahead <= 0:
            self._bitmap |= 1 << -ahead
        else:
            # A jump across the whole window must not become a shift by billions of bits.
            self._bitmap = ((self._bitmap << ahead) | 1) & self._mask if ahead < self.size else 1
            self.highest = sequence
