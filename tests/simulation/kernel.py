"""A model of what one machine's kernel does for `oe`: the trap and its decisions, ESP, held packets.

    packet ─► decided? ─► by group ─► queue ─► (released with a mark) ─┐
                 └─ passed, shielded ─────────────────────────────────┴─► tunnel? ─► ESP
                                                                            └─────► floor? ─► in clear

Two back ends, as in `oe.ipsec`. XFRM: its policies find every packet of a protected pair, and a policy whose SA has
expired swallows it. Userspace: a tunnel takes what carries a mark, and dies with the daemon.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from random import Random
from typing import Protocol

from oe.ipsec.model import FIRST_SPI, SOFT, BackendName
from oe.ipsec.succession import Succession
from oe.model import Address, ChildCounters, ChildSa, Directions, Encapsulation, Group, HostPair, SocketAddress, Verdict
from oe.policy.groups import PolicySet
from oe.policy.select import select
from oe.trap.spec import Fate
from tests.simulation.clock import Clock
from tests.simulation.frames import Esp, Frame, Packet

PACKET_OCTETS = 84


class Fell(StrEnum):
    """Where a kernel dropped a packet."""

    REFUSED = "refused: decided, or group block"
    UNQUEUED = "private, and nobody listens to the queue"
    FLOOR = "stopped by the floor alone"
    NO_SA = "no outbound SA in the tunnel"
    QUEUE_DIED = "in the queue of a daemon that died"
    UNKNOWN_SPI = "ESP of an unknown SA"
    REPLAYED = "ESP seen before"
    OUTSIDE = "ESP with a packet of another pair"
    UNPROTECTED = "in clear, of a pair with an inbound policy"
    DOOR = "in clear, from a closed net"


BLACK_HOLES = frozenset({Fell.UNKNOWN_SPI, Fell.UNPROTECTED, Fell.DOOR})
"""The sender believed that the packet would be taken in."""


class Surroundings(Protocol):
    """Whom a kernel speaks to."""

    def send(self, frame: Frame) -> None: ...
    def trapped(self, packet: Packet) -> None: ...
    def refused_in_clear(self, packet: Packet) -> None: ...
    def deliver(self, packet: Packet) -> None: ...
    def expired(self, child: int, *, hard: bool) -> None: ...
    def moved(self, child: int, remote: SocketAddress) -> None: ...
    def fell(self, packet: Packet, why: Fell) -> None: ...


@dataclass(slots=True)
class Placed:
    """What is in place of one Child SA."""

    child: ChildSa
    inbound: bool = False
    outbound: bool = False
    is_dead: bool = False
    """XFRM: its SAs have expired, its policies stand until it is removed."""
    sends_since: float | None = None
    """When its outbound half was installed."""
    is_short: bool = False
    """It has asked for its successor."""
    received: int = 0
    sent: int = 0
    seen: set[int] = field(default_factory=set)


class Kernel:
    """`queue_listens` and `tunnel_stands` follow the daemon; all else is what commands made of it."""

    def __init__(
        self,
        clock: Clock,
        backend: BackendName,
        policies: PolicySet,
        random: Random,
        outside: Surroundings,
    ) -> None:
        self.backend = backend
        self.queue_listens = False
        self.tunnel_stands = False
        self.drops: Counter[Fell] = Counter()
        self.placed: dict[int, Placed] = {}
        self.decided: dict[HostPair, tuple[Fate, Verdict, float]] = {}
        self._clock = clock
        self.policies = policies
        self._random = random
        self._outside = outside
        self._inbound: dict[tuple[Address, int], Placed] = {}
        self._outlets: Succession[HostPair, Placed] = Succession()

    # --- commands ----------------------------------------------------------------------------------------------

    def decide(self, pair: HostPair, verdict: Verdict, lifetime: float, *, fail_closed: bool) -> None:
        fate = Fate.DENIED if verdict is Verdict.BLOCKED else Fate.PASSED
        if verdict is Verdict.PROTECTED and self.backend is BackendName.USERSPACE:
            fate = Fate.SHIELDED_CLOSED if fail_closed else Fate.SHIELDED_OPEN
        self.decided[pair] = fate, verdict, self._clock.now + lifetime

    def undecide(self, pair: HostPair) -> None:
        self.decided.pop(pair, None)

    def decision(self, pair: HostPair) -> tuple[Fate, Verdict] | None:
        """What stands for a pair now."""
        found = self.decided.get(pair)
        if found is not None and found[2] > self._clock.now:
            return found[0], found[1]
        self.decided.pop(pair, None)
        return None

    def verdict(self, pair: HostPair) -> Verdict | None:
        decision = self.decision(pair)
        return decision[1] if decision is not None else None

    def reserve_spi(self) -> int:
        while True:
            spi = self._random.getrandbits(32)
            if spi >= FIRST_SPI:
                return spi

    def install(self, child: ChildSa, directions: Directions) -> None:
        placed = self.placed.get(child.id)
        if placed is None:
            placed = self.placed[child.id] = Placed(child)
            self._clock.after(child.lifetime, lambda: self._expire(placed))
        if directions is not Directions.OUTBOUND:
            placed.inbound = True
            self._inbound[child.local, child.inbound.spi] = placed
        if directions is not Directions.INBOUND:
            placed.outbound, placed.sends_since = True, self._clock.now
            self._outlets.claim(child.pair, child.id, placed)

    def move(self, child: int, remote: Address, encapsulation: Encapsulation | None) -> None:
        placed = self.placed.get(child)
        if placed is not None:
            placed.child = replace(placed.child, remote=remote, encapsulation=encapsulation)

    def remove(self, child: int) -> None:
        placed = self.placed.pop(child, None)
        if placed is None:
            return
        self._inbound.pop((placed.child.local, placed.child.inbound.spi), None)
        self._outlets.resign(placed.child.pair, child)

    def outlet(self, pair: HostPair) -> Placed | None:
        """The Child SA that the pair's packets leave through."""
        return self._outlets.holder(pair)

    def outlets(self, pair: HostPair) -> list[Placed]:
        """All Child SAs of the pair that have an outbound half."""
        return [placed for placed in self.placed.values() if placed.outbound and placed.child.pair == pair]

    def counters(self) -> tuple[ChildCounters, ...]:
        return tuple(
            ChildCounters(
                id, placed.received, placed.received * PACKET_OCTETS, placed.sent, placed.sent * PACKET_OCTETS
            )
            for id, placed in self.placed.items()
        )

    def release(self, packet: Packet, *, into_tunnel: bool, fail_closed: bool) -> None:
        """A held packet goes on with a changed mark: route and policy are looked for again."""
        if into_tunnel and self.backend is BackendName.USERSPACE:
            self._enter_tunnel(packet, fail_closed=fail_closed)
        else:
            self._leave(packet)

    def lose(self, packet: Packet, why: Fell) -> None:
        self.drops[why] += 1
        self._outside.fell(packet, why)

    # --- the daemon's life -------------------------------------------------------------------------------------

    def daemon_died(self) -> None:
        """Whatever hangs on a process is gone; tables, and SAs of the kernel itself, stay."""
        self.queue_listens = self.tunnel_stands = False
        if self.backend is BackendName.USERSPACE:
            self.clear_sas()

    def daemon_starts(self) -> None:
        """The trap anew and without decisions, then what a crashed run left behind goes."""
        self.decided.clear()
        self.clear_sas()
        self.queue_listens = self.tunnel_stands = True

    def clear_sas(self) -> None:
        for child in tuple(self.placed):
            self.remove(child)

    def kill_sas(self) -> None:
        """As if all of them had expired. (A flush of the policies too would show the floor, which is for that.)"""
        for placed in self.placed.values():
            placed.is_dead = True

    # --- packets out -------------------------------------------------------------------------------------------

    def output(self, packet: Packet) -> None:
        """A packet of ours, or of a client, on its way out."""
        decision = self.decision(packet.pair)
        match decision[0] if decision is not None else None:
            case Fate.PASSED:
                self._leave(packet)
            case Fate.DENIED:
                self.lose(packet, Fell.REFUSED)
            case Fate.SHIELDED_CLOSED | Fate.SHIELDED_OPEN as fate:
                self._enter_tunnel(packet, fail_closed=fate is Fate.SHIELDED_CLOSED)
            case None:
                self._classify(packet)

    def _classify(self, packet: Packet) -> None:
        group = select(self.policies, packet.pair.destination).group
        if group is Group.BLOCK:
            self.lose(packet, Fell.REFUSED)
        elif group not in (Group.PRIVATE, Group.PRIVATE_OR_CLEAR):
            self._leave(packet)
        elif self.queue_listens:
            self._outside.trapped(packet)
        elif group is Group.PRIVATE:
            self.lose(packet, Fell.UNQUEUED)
        else:
            self._leave(packet)

    def _enter_tunnel(self, packet: Packet, *, fail_closed: bool) -> None:
        placed = self.outlet(packet.pair)
        if not self.tunnel_stands and not fail_closed:
            self._leave(packet)
        elif placed is None or placed.is_dead:
            self.lose(packet, Fell.NO_SA)
        else:
            self._seal(packet, placed)

    def _leave(self, packet: Packet) -> None:
        placed = self.outlet(packet.pair) if self.backend is BackendName.XFRM else None
        if placed is not None and placed.is_dead:
            self.lose(packet, Fell.NO_SA)
        elif placed is not None:
            self._seal(packet, placed)
        elif select(self.policies, packet.pair.destination).group is Group.PRIVATE:
            self.lose(packet, Fell.FLOOR)
        else:
            source, destination = packet.pair.source, packet.pair.destination
            self._outside.send(Frame(SocketAddress(source, 0), SocketAddress(destination, 0), packet))

    def _seal(self, packet: Packet, placed: Placed) -> None:
        child = placed.child
        placed.sent += 1
        ports = child.encapsulation
        frame = Frame(
            SocketAddress(child.local, ports.local_port if ports else 0),
            SocketAddress(child.remote, ports.remote_port if ports else 0),
            Esp(child.outbound.spi, child.outbound.key.octets, placed.sent, packet),
        )
        self._outside.send(frame)
        self._count(placed, placed.sent)

    # --- packets in --------------------------------------------------------------------------------------------

    def receive_esp(self, source: SocketAddress, local: Address, esp: Esp) -> None:
        placed = self._inbound.get((local, esp.spi))
        if placed is None or placed.is_dead or placed.child.inbound.key.octets != esp.key:
            self.lose(esp.packet, Fell.UNKNOWN_SPI)
        elif esp.sequence in placed.seen:
            self.lose(esp.packet, Fell.REPLAYED)
        elif esp.packet.pair != placed.child.pair.reversed:
            self.lose(esp.packet, Fell.OUTSIDE)
        else:
            placed.seen.add(esp.sequence)
            placed.received += 1
            self._count(placed, placed.received)
            ports = placed.child.encapsulation
            if ports is not None and source != SocketAddress(placed.child.remote, ports.remote_port):
                self._outside.moved(placed.child.id, source)
            self._outside.deliver(esp.packet)

    def receive_clear(self, packet: Packet) -> None:
        group = select(self.policies, packet.pair.source).group
        if group in (Group.PRIVATE, Group.BLOCK):
            self.lose(packet, Fell.DOOR)
            if group is Group.PRIVATE and self.queue_listens:
                self._outside.refused_in_clear(packet)
        elif self.backend is BackendName.XFRM and self._has_inbound_policy(packet.pair.reversed):
            self.lose(packet, Fell.UNPROTECTED)
        else:
            self._outside.deliver(packet)

    def _has_inbound_policy(self, pair: HostPair) -> bool:
        return any(placed.inbound and placed.child.pair == pair for placed in self.placed.values())

    # --- lifetimes ---------------------------------------------------------------------------------------------

    def _count(self, placed: Placed, packets: int) -> None:
        """One direction has carried so many packets: a successor is asked for, or it is the end."""
        octets, limit = packets * PACKET_OCTETS, placed.child.octets
        if limit is not None and octets >= limit:
            self._expire(placed)
        elif limit is not None and not placed.is_short and octets >= SOFT * limit:
            placed.is_short = True
            self._outside.expired(placed.child.id, hard=False)

    def _expire(self, placed: Placed) -> None:
        if self.placed.get(placed.child.id) is not placed:
            return
        placed.is_dead = True
        if self.backend is BackendName.USERSPACE:
            self.remove(placed.child.id)
        if self.queue_listens:
            self._outside.expired(placed.child.id, hard=True)
