"""Applications: each sends datagrams, and echoes those that it gets."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random

from oe.model import Address, HostPair
from tests.simulation.clock import Clock
from tests.simulation.frames import Packet


@dataclass(slots=True)
class Traffic:
    """`send(packet)` gives a packet to the machine that its source is behind."""

    clock: Clock
    random: Random
    send: Callable[[Packet], None]
    asked: dict[int, float] = field(default_factory=dict)
    """Datagrams without an echo so far, and when they were sent."""
    echoed: dict[HostPair, float] = field(default_factory=dict)
    """When the last echo came, by the pair as the asker names it."""
    round_trips: int = 0
    until: float = 0.0
    """Beyond it nobody begins to talk."""
    breaks: tuple[tuple[float, float], ...] = ()
    """Nobody begins to talk from the first of these times to the second."""
    moved: dict[Address, Address] = field(default_factory=dict)
    """New addresses of hosts, by the first ones."""
    _ids: Iterator[int] = field(default_factory=lambda: count(1))

    def talk(self, pair: HostPair, pause: float) -> None:
        """The source talks to the destination, with pauses of about `pause` seconds, as long as there is traffic."""
        now = self.clock.now
        if now >= self.until:
            return
        again = now + pause * (0.5 + self.random.random())
        silence = next((end for start, end in self.breaks if start <= now < end), None)
        if silence is None:
            self.ask(self.by_now(pair))
        else:
            again = silence + 0.2 * self.random.random()
        self.clock.at(again, lambda: self.talk(pair, pause))

    def by_now(self, pair: HostPair) -> HostPair:
        """The same two, where they live now."""
        return HostPair(*(self.moved.get(address, address) for address in (pair.source, pair.destination)))

    def ask(self, pair: HostPair) -> int:
        """Send one datagram; its id."""
        packet = Packet(next(self._ids), pair)
        self.asked[packet.id] = self.clock.now
        self.send(packet)
        return packet.id

    def receive(self, packet: Packet) -> None:
        """A datagram reached its destination."""
        if packet.answers is None:
            self.send(Packet(next(self._ids), packet.pair.reversed, packet.id))
        elif self.asked.pop(packet.answers, None) is not None:
            self.round_trips += 1
            self.echoed[packet.pair.reversed] = self.clock.now
