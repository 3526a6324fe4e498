"""The userspace back end: ESP in this process, for kernels that have none.

marked packet → rule → TUN ──read── outbound SA of its pair ──seal── raw socket → peer
peer → raw socket ── SPI ── inbound SA ──open, check── TUN → kernel: deliver or forward

Where there is a NAT on the way, IKE's socket on port 4500 takes the raw socket's place (RFC 3948).
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from oe.errors import KernelError
from oe.ipsec.allowance import Allowance
from oe.ipsec.coalesce import coalesce
from oe.ipsec.esp import InboundEsp, OutboundEsp, addresses_octets, addresses_of
from oe.ipsec.esp_socket import EspSocket
from oe.ipsec.model import FIRST_SPI, PACKETS, BackendEvent, BackendName, Loop, Marks, Timer, UdpSockets
from oe.ipsec.shield import Shield
from oe.ipsec.succession import Succession
from oe.ipsec.tun import Tun
from oe.messages import ChildExpired, PeerMoved
from oe.model import Address, ChildCounters, ChildSa, Directions, Encapsulation, Mode, SocketAddress
from oe.reasons import Reason

_DRAIN = 64
"""Packets handled before other things of the event loop have their turn."""

_RESERVATION = 30.0

_UNFIT = "only tunnel mode, and ESP in UDP only with the sockets for it"


@dataclass(slots=True)
class _Outlet:
    """Where packets of a pair leave."""

    child: int
    esp: OutboundEsp
    allowance: Allowance
    send: Callable[[bytes], bool]


@dataclass(slots=True)
class _Entrance:
    """Where packets of a pair arrive."""

    child: int
    esp: InboundEsp
    allowance: Allowance


@dataclass(slots=True)
class _Inlet:
    """A local address and the inbound SAs that end there, by SPI."""

    socket: EspSocket
    entrances: dict[int, _Entrance]


@dataclass(slots=True)
class _Placed:
    """What is in place of one Child SA."""

    child: ChildSa
    end: Timer
    entrance: _Entrance | None = None
    outlet: _Outlet | None = None
    is_soft: bool = False
    """A successor was asked for."""


class UserspaceBackend:
    """See `oe.ipsec.model.Backend`."""

    name = BackendName.USERSPACE
    modes = frozenset({Mode.TUNNEL})
    encapsulates = True

    _loop: Loop
    _on_event: Callable[[BackendEvent], None]

    def __init__(
        self, device: str = "oe0", marks: Marks | None = None, entropy: Callable[[int], bytes] = os.urandom
    ) -> None:
        """Makes the device, so that what the machine lacks shows at once. Raises MachineLacks."""
        self._marks = marks or Marks()
        self._entropy = entropy
        self._tun = Tun(device)
        self._shield = Shield(self._marks)
        self._placed: dict[int, _Placed] = {}
        self._inlets: dict[Address, _Inlet] = {}
        self._succession: Succession[bytes, _Outlet] = Succession()
        self._outlets: dict[bytes, _Outlet] = {}
        self._reserved: dict[int, float] = {}
        self._udp: UdpSockets | None = None
        self._seen_at: dict[int, SocketAddress] = {}
        """Child SAs whose peer sends from elsewhere than agreed, and that was reported."""
        self._arrived: list[bytes] = []
        """Inner packets that the kernel is about to get."""
        self._drops: Counter[Reason] = Counter()
        self._is_started = False

    @property
    def tunnel_interface(self) -> str:
        return self._tun.name

    @property
    def tunnel_mtu(self) -> int:
        return self._tun.mtu

    def join(self, sockets: UdpSockets) -> None:
        self._udp = sockets
        sockets.deliver_esp(self._take_from_udp)

    def start(self, loop: Loop, on_event: Callable[[BackendEvent], None]) -> None:
        self._loop, self._on_event = loop, on_event
        self._is_started = True
        self._shield.raise_over(self._tun.index)
        loop.add_reader(self._tun.fileno(), self._drain_tun)

    def reserve_spi(self, local: Address, remote: Address) -> int:
        now = self._loop.time()
        for spi in [spi for spi, until in self._reserved.items() if until <= now]:
            del self._reserved[spi]
        while True:
            spi = int.from_bytes(self._entropy(4), "big")
            if spi >= FIRST_SPI and spi not in self._reserved and not self._in_use(spi):
                self._reserved[spi] = now + _RESERVATION
                return spi

    def install(self, child: ChildSa, directions: Directions) -> None:
        self._check(child, directions)
        # Whatever may fail is behind us when the first table changes.
        inlet = self._inlet(child)
        placed = self._placed.get(child.id)
        if placed is None:
            placed = self._placed[child.id] = _Placed(child, self._end_of(child))
        if directions is not Directions.OUTBOUND:
            esp = InboundEsp(child.inbound, child.esn, child.pair)
            placed.entrance = _Entrance(child.id, esp, Allowance(child.octets, None))
            inlet.entrances[child.inbound.spi] = placed.entrance
            self._reserved.pop(child.inbound.spi, None)
        if directions is not Directions.INBOUND:
            allowance = Allowance(child.octets, None if child.esn else PACKETS)
            sealer = OutboundEsp(child.outbound, child.esn)
            placed.outlet = _Outlet(child.id, sealer, allowance, self._way(child))
            place = addresses_octets(child.pair.source, child.pair.destination)
            self._succession.claim(place, child.id, placed.outlet)
            self._outlets[place] = placed.outlet

    def remove(self, child: int) -> None:
        placed = self._placed.pop(child, None)
        if placed is None:
            return
        placed.end.cancel()
        self._seen_at.pop(child, None)
        pair = placed.child.pair
        if placed.entrance is not None:
            del self._inlets[placed.child.local].entrances[placed.child.inbound.spi]
        place = addresses_octets(pair.source, pair.destination)
        self._succession.resign(place, child)
        successor = self._succession.holder(place)
        if successor is None:
            self._outlets.pop(place, None)
        else:
            self._outlets[place] = successor

    def move(self, child: int, remote: Address, encapsulation: Encapsulation | None) -> None:
        placed = self._placed.get(child)
        if placed is None:
            return
        moved = replace(placed.child, remote=remote, encapsulation=encapsulation)
        self._check_fit("move", moved)
        placed.child = moved
        self._seen_at.pop(child, None)
        if placed.outlet is not None:
            placed.outlet.send = self._way(moved)

    def count(self, then: Callable[[Iterator[ChildCounters] | KernelError], None]) -> None:
        placed = tuple(self._placed.items())
        then(ChildCounters(child, *_totals(one.entrance), *_totals(one.outlet)) for child, one in placed)

    def statistics(self) -> Mapping[Reason, int]:
        return dict(self._drops)

    def close(self) -> None:
        self._arrived.clear()
        for child in list(self._placed):
            self.remove(child)
        for inlet in self._inlets.values():
            self._loop.remove_reader(inlet.socket.fileno())
            inlet.socket.close()
        self._inlets.clear()
        if self._is_started:
            self._loop.remove_reader(self._tun.fileno())
        self._shield.lower()
        self._shield.close()
        self._tun.close()

    # --- packets ---------------------------------------------------------------------------------------------

    def _drain_tun(self) -> None:
        """Packets that the kernel led into the tunnel."""
        for _ in range(_DRAIN):
            try:
                packet = self._tun.read()
            except OSError:
                # The device is gone, and would be readable for ever. Now the routes decide, as if we were dead.
                self._loop.remove_reader(self._tun.fileno())
                return
            if packet is None:
                return
            outlet = self._outlets.get(addresses_of(packet))
            if outlet is None:
                if not _is_multicast(packet):
                    self._drops[Reason.NO_OUTBOUND_SA] += 1
                continue
            esp = outlet.esp.seal(packet)
            if isinstance(esp, Reason):
                self._drops[esp] += 1
            elif not outlet.send(esp):
                self._drops[Reason.ESP_NOT_SENT] += 1
            if outlet.esp.octets >= outlet.allowance.octets or outlet.esp.packets >= outlet.allowance.packets:
                self._wear(outlet)

    def _drain_inlet(self, inlet: _Inlet) -> None:
        """ESP from the network."""
        for _ in range(_DRAIN):
            esp = inlet.socket.receive()
            if esp is None:
                break
            self._take(inlet, esp)
        self._deliver()

    def _take_from_udp(self, local: SocketAddress, remote: SocketAddress, esp: bytes) -> None:
        """ESP in UDP. It may tell where the peer is before IKE does."""
        inlet = self._inlets.get(local.address)
        if inlet is None:
            self._drops[Reason.ESP_UNKNOWN_SPI] += 1
            return
        if not self._arrived:
            # What the socket has besides goes with it.
            self._loop.call_soon(self._deliver)
        taken = self._take(inlet, esp)
        placed = self._placed.get(taken) if taken is not None else None
        if taken is None or placed is None:
            return
        known = placed.child.encapsulation
        if known is None or remote == SocketAddress(placed.child.remote, known.remote_port):
            self._seen_at.pop(taken, None)
        elif self._seen_at.get(taken) != remote:
            self._seen_at[taken] = remote
            self._loop.call_soon(partial(self._on_event, PeerMoved(taken, remote)))

    def _take(self, inlet: _Inlet, esp: bytes) -> int | None:
        """The Child SA that a packet from the network came through, if it was genuine and fresh."""
        entrance = inlet.entrances.get(int.from_bytes(esp[:4], "big"))
        if entrance is None:
            self._drops[Reason.ESP_UNKNOWN_SPI] += 1
            return None
        packet = entrance.esp.open(esp)
        if isinstance(packet, Reason):
            self._drops[packet] += 1
            return None
        if packet:
            self._arrived.append(packet)
        if entrance.esp.octets >= entrance.allowance.octets:
            self._wear(entrance)
        return entrance.child

    def _deliver(self) -> None:
        """What arrived goes to the kernel, in few packets."""
        arrived, self._arrived = self._arrived, []
        for packet in coalesce(arrived):
            if not self._tun.write(packet):
                self._drops[Reason.PACKET_MALFORMED] += 1

    # --- Child SAs -------------------------------------------------------------------------------------------

    def _check(self, child: ChildSa, directions: Directions) -> None:
        """Raise KernelError for what cannot be carried or is there already."""
        subject = f"Child SA {child.pair}"
        self._check_fit("install", child)
        placed = self._placed.get(child.id)
        inlet = self._inlets.get(child.local)
        if directions is not Directions.OUTBOUND and inlet is not None and child.inbound.spi in inlet.entrances:
            raise KernelError("install", subject, errno.EEXIST, f"inbound SPI {child.inbound.spi:08x} is in use")
        if directions is not Directions.INBOUND and placed is not None and placed.outlet is not None:
            raise KernelError("install", subject, errno.EEXIST, "the outbound SA is in place already")

    def _check_fit(self, operation: str, child: ChildSa) -> None:
        unfit = child.mode not in self.modes or (child.encapsulation is not None and self._udp is None)
        if unfit:
            raise KernelError(operation, f"Child SA {child.pair}", errno.EOPNOTSUPP, _UNFIT)

    def _way(self, child: ChildSa) -> Callable[[bytes], bool]:
        """What sends ESP to the peer of a Child SA."""
        ports = child.encapsulation
        if ports is None or self._udp is None:
            socket, remote = self._inlet(child).socket, str(child.remote)
            return lambda esp: socket.send(esp, remote)
        local = SocketAddress(child.local, ports.local_port)
        return self._udp.carrier(local, SocketAddress(child.remote, ports.remote_port))

    def _inlet(self, child: ChildSa) -> _Inlet:
        inlet = self._inlets.get(child.local)
        if inlet is None:
            try:
                socket = EspSocket(child.local, self._marks.exempt)
            except OSError as error:
                text = error.strerror or "failed"
                raise KernelError("open ESP socket for", str(child.local), error.errno or 0, text) from error
            inlet = self._inlets[child.local] = _Inlet(socket, {})
            self._loop.add_reader(socket.fileno(), partial(self._drain_inlet, inlet))
        return inlet

    def _end_of(self, child: ChildSa) -> Timer:
        return self._loop.call_at(self._loop.time() + child.lifetime, partial(self._expire, child.id))

    def _wear(self, half: _Outlet | _Entrance) -> None:
        """A half has carried a good part of what it may, or all. Told later: packets are being worked on."""
        if half.allowance.is_spent(half.esp.octets, half.esp.packets):
            self.remove(half.child)
            self._loop.call_soon(partial(self._on_event, ChildExpired(half.child, hard=True)))
        else:
            self._loop.call_soon(partial(self._soften, half.child))

    def _soften(self, child: int) -> None:
        placed = self._placed.get(child)
        if placed is not None and not placed.is_soft:
            placed.is_soft = True
            self._on_event(ChildExpired(child, hard=False))

    def _expire(self, child: int) -> None:
        self.remove(child)
        self._on_event(ChildExpired(child, hard=True))

    def _in_use(self, spi: int) -> bool:
        return any(spi in inlet.entrances for inlet in self._inlets.values())


def _totals(half: _Entrance | _Outlet | None) -> tuple[int, int]:
    return (0, 0) if half is None else (half.esp.packets, half.esp.octets)


def _is_multicast(packet: bytes) -> bool:
    """What the kernel says by itself on any interface; or not even an IP packet."""
    version = packet[0] >> 4 if packet else 0
    return (version == 6 and packet[24:25] == b"\xff") or (version == 4 and packet[16:17] >= b"\xe0")
