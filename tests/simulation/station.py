"""One machine: the product's coordinator and IKE engine, and all that a daemon would stand between."""

from collections import deque
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from oe.gateway import Gateway, GatewaySettings, OwnSide
from oe.gateway.context import IkeEngine, Rules
from oe.ike.endpoint import Endpoint
from oe.ike.settings import IkeSettings
from oe.messages import (
    AddressesChanged,
    ChildExpired,
    ChildInstalled,
    ClearPacketRefused,
    Command,
    CountersRead,
    DatagramReceived,
    Decide,
    DecisionsLost,
    Drop,
    Event,
    Finish,
    FlushAsked,
    InstallChild,
    KeepMapping,
    LookUpKeys,
    MoveChild,
    Note,
    OctetsSigned,
    PacketTrapped,
    PeerMoved,
    ReadCounters,
    Release,
    RemoveChild,
    ReserveSpi,
    SendDatagram,
    SignOctets,
    SpiReserved,
    Started,
    StopAsked,
    Undecide,
)
from oe.model import Address, HeldPacket, KeyAlgorithm, Network, PublicKey, Secret, SocketAddress, Verdict
from oe.negotiation import ChildRedundant, IkeOutput
from oe.policy.groups import PolicySet
from oe.reasons import Reason
from oe.trap.holds import HoldTable
from tests.simulation.clock import Clock
from tests.simulation.frames import KEEPALIVE, Esp, Frame, Packet
from tests.simulation.kernel import Fell, Kernel
from tests.simulation.names import Resolver

QUEUE_DELAY = 0.0001
SIGNING_TIME = 0.0003
UDP = 17


class Witness(Protocol):
    """Who is shown everything before it happens."""

    def commanded(self, station: "Station", command: Command) -> None: ...
    def trapped(self, station: "Station", packet: Packet) -> None: ...
    def fell(self, station: "Station", packet: Packet, why: Fell) -> None: ...
    def delivered(self, station: "Station", packet: Packet) -> None: ...
    def happened(self, station: "Station", what: str) -> None: ...


class Outside(Protocol):
    """The rest of the world."""

    clock: Clock

    def carry(self, frame: Frame) -> None: ...
    def deliver(self, packet: Packet) -> None: ...


class Heedless:
    """An engine that does not say which of two Child SAs is redundant: none is deleted, and the youngest sends."""

    def __init__(self, engine: Endpoint) -> None:
        self.handle, self.expire, self.deadline = engine.handle, engine.expire, engine.deadline
        self._engine = engine

    def take(self) -> list[IkeOutput]:
        return [output for output in self._engine.take() if not isinstance(output, ChildRedundant)]


class Station:
    """`address` is the gateway's own, `served` the nets of its clients. It begins down; `start` starts the daemon."""

    kernel: Kernel
    resolver: Resolver

    def __init__(
        self,
        name: str,
        address: Address,
        served: tuple[Network, ...],
        settings: tuple[GatewaySettings, IkeSettings],
        policies: PolicySet,
        random: Random,
        outside: Outside,
        witness: Witness,
    ) -> None:
        self.name, self.address, self.served = name, address, served
        self.settings, self.ike_settings = settings
        self.policies = policies
        self.gateway: Gateway | None = None
        self.engine: Endpoint | None = None
        self.incarnation = 0
        self.is_stopping = False
        self.is_heedless = False
        self.crash_secret: Secret | None = None
        self.failing_installs = 0
        """So many of the next installations fail."""
        self.held: dict[int, Packet] = {}
        """Packets in the queue, by the number under which the daemon knows them."""
        self._random = random
        self._privates: dict[PublicKey, Ed25519PrivateKey] = {}
        self.keys: tuple[PublicKey, ...] = (self.make_key(),)
        self._outside = outside
        self._clock = outside.clock
        self._witness = witness
        self._events: deque[Event] = deque()
        self._working = False
        self._ring_at: float | None = None
        self._packet_ids = count(1)
        self._hands: dict[type, Callable[..., None]] = {
            LookUpKeys: self._look_up,
            SendDatagram: self._send,
            KeepMapping: lambda asked: self._outside.carry(Frame(asked.local, asked.remote, KEEPALIVE)),
            SignOctets: self._sign,
            ReserveSpi: lambda asked: self.feed(SpiReserved(asked.ticket, self.kernel.reserve_spi())),
            InstallChild: self._install,
            MoveChild: lambda asked: self.kernel.move(asked.child, asked.remote, asked.encapsulation),
            RemoveChild: lambda asked: self.kernel.remove(asked.child),
            ReadCounters: lambda _: self.feed(CountersRead(self.kernel.counters())),
            Decide: lambda asked: self.kernel.decide(
                asked.pair, asked.verdict, asked.lifetime, fail_closed=asked.fail_closed
            ),
            Undecide: lambda asked: self.kernel.undecide(asked.pair),
            Release: self._release,
            Drop: self._drop,
            Note: lambda _: None,
            Finish: lambda _: self._end(),
        }

    # --- the daemon's life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """A daemon that knows nothing but its configuration."""
        if self.gateway is not None:
            return
        self.incarnation += 1
        self.is_stopping = False
        self._witness.happened(self, "starts")
        self.kernel.daemon_starts()
        self.resolver.forget()
        tickets = count(1)
        own = OwnSide((self.address,), self.served, self.keys)
        entropy = self._random.randbytes

        def make_ike(admits: Callable[[Address], bool]) -> IkeEngine:
            self.engine = Endpoint(self.ike_settings, own.keys, entropy, admits, tickets, count(1), self.crash_secret)
            return Heedless(self.engine) if self.is_heedless else self.engine

        holds = HoldTable(per_pair=32, total=1000, patience=self.settings.setup_budget + 0.5)
        self.gateway = Gateway(self.settings, self.policies, own, make_ike, holds, tickets, entropy)
        self.feed(Started())

    @property
    def key(self) -> PublicKey:
        """The newest."""
        return self.keys[0]

    def make_key(self) -> PublicKey:
        """A new key pair, not in use so far; its public half."""
        private = Ed25519PrivateKey.from_private_bytes(self._random.randbytes(32))
        public = PublicKey(KeyAlgorithm.EDDSA, private.public_key().public_bytes_raw())
        self._privates[public] = private
        return public

    def crash(self) -> None:
        """The process is gone between two events; nobody is told."""
        if self.gateway is not None:
            self._witness.happened(self, "crashes")
            self._end()

    def stop(self) -> None:
        """As on SIGTERM."""
        if self.gateway is not None:
            self._witness.happened(self, "is asked to stop")
            self.is_stopping = True
            self.feed(StopAsked())

    def flush(self) -> None:
        if self.gateway is not None:
            self._witness.happened(self, "is flushed by its operator")
            self.resolver.forget()
            self.feed(FlushAsked(None))

    def lose_decisions(self) -> None:
        """Somebody flushed the trap; the keeper has put it back."""
        if self.gateway is not None:
            self._witness.happened(self, "loses its decisions")
            self.kernel.decided.clear()
            self.feed(DecisionsLost())

    def lose_sas(self) -> None:
        """Somebody flushed the kernel's SAs and policies; the back end notices."""
        if self.gateway is not None:
            self._witness.happened(self, "loses its SAs")
            lost = tuple(self.kernel.placed)
            self.kernel.kill_sas()
            for child in lost:
                self.expired(child, hard=True)

    def reload(self, policies: PolicySet, keys: tuple[PublicKey, ...]) -> None:
        """The operator has changed the policy or the keys: first the trap, then the daemon."""
        if self.gateway is not None:
            self._witness.happened(self, f"reloads: {policies.entries[0].group}, {len(keys)} keys")
            self.policies = self.kernel.policies = policies
            self.keys = keys
            rules = Rules(policies, self.settings.groups, self.served, keys)
            self.gateway.adopt(rules, self._clock.now)
            self._carry_out()
            self._work(None)

    def move_to(self, address: Address) -> None:
        """The machine has this address instead of the one before."""
        self._witness.happened(self, f"moves to {address}")
        self.address = address
        if self.gateway is not None:
            self.feed(AddressesChanged((address,)))

    def _end(self) -> None:
        self.gateway = self.engine = self._ring_at = None
        self._events.clear()
        held, self.held = self.held, {}
        for packet in held.values():
            self.kernel.lose(packet, Fell.QUEUE_DIED)
        self.kernel.daemon_died()

    # --- the loop, as in `oe.daemon.service` -------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        self._events.append(event)
        if not self._working:
            self._work(None)

    def later(self, seconds: float, event: Event) -> None:
        """The event comes, if the daemon that it is meant for still lives then."""
        incarnation = self.incarnation

        def come() -> None:
            if self.gateway is not None and self.incarnation == incarnation:
                self.feed(event)

        self._clock.after(seconds, come)

    def _work(self, ring: float | None) -> None:
        self._working = True
        try:
            if ring is not None and self.gateway is not None:
                self.gateway.expire(ring)
                self._carry_out()
            while self._events and self.gateway is not None:
                self.gateway.handle(self._events.popleft(), self._clock.now)
                self._carry_out()
        finally:
            self._working = False
        self._set_timer()

    def _carry_out(self) -> None:
        gateway = self.gateway
        for command in gateway.take() if gateway is not None else ():
            self._witness.commanded(self, command)
            self._hands[type(command)](command)

    def _set_timer(self) -> None:
        deadline = self.gateway.deadline() if self.gateway is not None else None
        if deadline is None or deadline == self._ring_at:
            return
        at = self._ring_at = max(deadline, self._clock.now)
        incarnation = self.incarnation

        def ring() -> None:
            if self.gateway is not None and self.incarnation == incarnation and self._ring_at == at:
                self._ring_at = None
                self._work(at)

        self._clock.at(at, ring)

    # --- hands -------------------------------------------------------------------------------------------------

    def _look_up(self, asked: LookUpKeys) -> None:
        incarnation = self.incarnation

        def come(event: Event) -> None:
            if self.gateway is not None and self.incarnation == incarnation:
                self.feed(event)

        self.resolver.look_up(asked, come)

    def _send(self, asked: SendDatagram) -> None:
        self._outside.carry(Frame(asked.local, asked.remote, asked.data))

    def _sign(self, asked: SignOctets) -> None:
        self.later(SIGNING_TIME, OctetsSigned(asked.ticket, self._privates[asked.key].sign(asked.octets)))

    def _install(self, asked: InstallChild) -> None:
        reason = None
        if self.failing_installs:
            self.failing_installs -= 1
            reason = Reason.INSTALL_FAILED
        else:
            self.kernel.install(asked.child, asked.directions)
        self.feed(ChildInstalled(asked.ticket, asked.child.id, asked.directions, reason))

    def _release(self, asked: Release) -> None:
        for id in asked.packets:
            into_tunnel = asked.verdict is Verdict.PROTECTED
            self.kernel.release(self.held.pop(id), into_tunnel=into_tunnel, fail_closed=asked.fail_closed)

    def _drop(self, asked: Drop) -> None:
        for id in asked.packets:
            del self.held[id]

    # --- what the kernel and the link say ----------------------------------------------------------------------

    def arrive(self, frame: Frame) -> None:
        match frame.load:
            case bytes() as octets:
                if self.gateway is not None and octets != KEEPALIVE:
                    self.feed(DatagramReceived(frame.destination, frame.source, octets))
            case Esp() as esp:
                self.kernel.receive_esp(frame.source, frame.destination.address, esp)
            case Packet() as packet:
                self.kernel.receive_clear(packet)

    def send(self, frame: Frame) -> None:
        self._outside.carry(frame)

    def deliver(self, packet: Packet) -> None:
        self._witness.delivered(self, packet)
        self._outside.deliver(packet)

    def fell(self, packet: Packet, why: Fell) -> None:
        self._witness.fell(self, packet, why)

    def trapped(self, packet: Packet) -> None:
        self._witness.trapped(self, packet)
        id = next(self._packet_ids)
        self.held[id] = packet
        forwarded = packet.pair.source != self.address
        self.later(QUEUE_DELAY, PacketTrapped(HeldPacket(id, packet.pair, UDP, 4000, 7, 84, 0, forwarded)))

    def refused_in_clear(self, packet: Packet) -> None:
        self.later(QUEUE_DELAY, ClearPacketRefused(packet.pair.reversed))

    def moved(self, child: int, remote: SocketAddress) -> None:
        self.later(0.0, PeerMoved(child, remote))

    def expired(self, child: int, *, hard: bool) -> None:
        self.later(0.0, ChildExpired(child, hard))
