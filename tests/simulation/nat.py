"""A NAT in front of the host: UDP goes through under another address and port, anything else does not."""

from dataclasses import dataclass, field, replace
from random import Random

from oe.model import Address, SocketAddress
from tests.simulation.clock import Clock
from tests.simulation.frames import Frame

MAPPING_LIFETIME = 45.0
"""Seconds without a packet from inside; routers forget UDP after 30 to 300 of them."""


@dataclass(slots=True)
class NatBox:
    """Symmetric, the strictest kind: a mapping is for one socket inside and one outside."""

    clock: Clock
    random: Random
    inside: Address
    outside: Address
    _mappings: dict[int, tuple[int, SocketAddress]] = field(default_factory=dict)
    """By our port: the port inside, and the one socket that may use it."""
    _ports: dict[tuple[int, SocketAddress], tuple[int, float]] = field(default_factory=dict)
    """By port inside and socket outside: our port, and until when."""

    def leave(self, frame: Frame) -> Frame | None:
        """A frame from inside as the world sees it; None: it does not get through."""
        inside = frame.source.port
        if not inside:
            return None
        key = inside, frame.destination
        known = self._ports.get(key)
        port = known[0] if known is not None and known[1] > self.clock.now else self._new_port(key)
        self._ports[key] = port, self.clock.now + MAPPING_LIFETIME
        return replace(frame, source=SocketAddress(self.outside, port))

    def enter(self, frame: Frame) -> Frame | None:
        """A frame from the world as the host sees it; None: nobody inside asked for it."""
        found = self._mappings.get(frame.destination.port)
        if found is None or found[1] != frame.source or self._ports[found][1] <= self.clock.now:
            return None
        return replace(frame, destination=SocketAddress(self.inside, found[0]))

    def rebind(self) -> None:
        """It forgets, as after a power cut: the next packet of each flow comes from a new port."""
        self._mappings.clear()
        self._ports.clear()

    def _new_port(self, key: tuple[int, SocketAddress]) -> int:
        known = self._ports.get(key)
        if known is not None:
            self._mappings.pop(known[0], None)
        port = self.random.randrange(1024, 65536)
        while port in self._mappings:
            port = self.random.randrange(1024, 65536)
        self._mappings[port] = key
        return port
