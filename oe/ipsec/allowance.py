"""How much one direction of a Child SA may carry."""

from math import inf

from oe.ipsec.model import SOFT


class Allowance:
    """Octets and packets until somebody has to look: at first as many as are soft, then all.

    Looking at two numbers is all that a packet costs: ask `is_spent` once the SA's have reached `octets` or `packets`.
    """

    __slots__ = ("_hard_octets", "_hard_packets", "octets", "packets")

    def __init__(self, octets: int | None, packets: int | None) -> None:
        """None: no limit."""
        self._hard_octets = inf if octets is None else octets
        self._hard_packets = inf if packets is None else packets
        self.octets = self._hard_octets * SOFT
        self.packets = self._hard_packets * SOFT

    def is_spent(self, octets: int, packets: int) -> bool:
        """Whether nothing may follow; if not, the next time to look is when it is."""
        self.octets, self.packets = self._hard_octets, self._hard_packets
        return octets >= self.octets or packets >= self.packets
