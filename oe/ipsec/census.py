"""The counters of all the kernel's SAs, read a piece at a time: with many SAs a reading takes seconds."""

from collections.abc import Callable
from functools import partial

from oe.errors import KernelError
from oe.ipsec import xfrm_wire as wire
from oe.ipsec.model import Loop
from oe.ipsec.netlink import NETLINK_XFRM, Walk
from oe.ipsec.operations import SaKey

Traffic = tuple[int, int]
"""Packets and octets."""

Told = Callable[[dict[SaKey, Traffic] | KernelError], None]


class Census:
    """What each SA of the kernel has carried, foreign ones included. One piece is read in a turn of the loop."""

    def __init__(self) -> None:
        self._walk = Walk(NETLINK_XFRM)
        self._loop: Loop | None = None
        self._seen: dict[SaKey, Traffic] = {}

    def begin(self, loop: Loop, told: Told) -> None:
        """Count, and tell. Who asks while a reading is under way is told its result, in the place of who asked before.

        Raises KernelError.
        """
        if self._loop is None:
            self._seen = {}
            self._walk.begin(wire.GETSA, b"", "SAs")
            self._loop = loop
        loop.add_reader(self._walk.fileno(), partial(self._read, told))

    def close(self) -> None:
        """A reading under way ends, and nobody is told."""
        self._end()
        self._walk.close()

    def _read(self, told: Told) -> None:
        try:
            messages, more = self._walk.receive()
        except KernelError as error:
            self._end()
            told(error)
            return
        for message in messages:
            sa = wire.decode_sa(message.body)
            if sa is not None:
                self._seen[sa.key] = sa.packets, sa.octets
        if not more:
            self._end()
            told(self._seen)

    def _end(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._walk.fileno())
            self._loop = None
