"""The userspace back end: ESP in this process, for kernels that have none.

marked packet → rule → TUN ──read── outbound SA of its pair ──seal── raw socket → peer
peer → raw socket ── SPI ── inbound SA ──open, check── TUN → kernel: deliver or forward
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from oe.errors import KernelError
from oe.ipsec.esp import InboundEsp, OutboundEsp, addresses_octets, addresses_of
from oe.ipsec.esp_socket import EspSocket
from oe.ipsec.model import FIRST_SPI, SOFT_PACKETS, BackendName, Loop, Marks, Timer
from oe.ipsec.shield import Shield
from oe.ipsec.succession import Succession
from oe.ipsec.tun import Tun
from oe.messages import ChildExpired
from oe.model import Address, ChildCounters, ChildSa, Directions, Mode, Reason

_DRAIN = 64
"""Packets handled before other things of the event loop have their turn."""

_RESERVATION = 30.0


@dataclass(slots=True)
class _Outlet:
    """Where packets of a pair leave."""

    child: int
    esp: OutboundEsp
    socket: EspSocket
    remote: str


@dataclass(slots=True)
class _Inlet:
    """A local address and the inbound SAs that end there, by SPI."""

    socket: EspSocket
    sas: dict[int, InboundEsp]


@dataclass(slots=True)
class _Placed:
    """What is in place of one Child SA."""

    child: ChildSa
    timer: Timer
    inbound: InboundEsp | None = None
    outbound: OutboundEsp | None = None


class UserspaceBackend:
    """See `oe.ipsec.model.Backend`."""

    name = BackendName.USERSPACE
    modes = frozenset({Mode.TUNNEL})
    encapsulates = False

    _loop: Loop
    _on_event: Callable[[ChildExpired], None]

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
        self._drops: Counter[Reason] = Counter()

    @property
    def tunnel_interface(self) -> str:
        return self._tun.name

    @property
    def tunnel_mtu(self) -> int:
        return self._tun.mtu

    def start(self, loop: Loop, on_event: Callable[[ChildExpired], None]) -> None:
        self._loop, self._on_event = loop, on_event
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
            timer = self._loop.call_at(self._loop.time() + child.lifetime, partial(self._expire, child.id))
            placed = self._placed[child.id] = _Placed(child, timer)
        if directions is not Directions.OUTBOUND:
            placed.inbound = InboundEsp(child.inbound, child.esn, child.pair)
            inlet.sas[child.inbound.spi] = placed.inbound
            self._reserved.pop(child.inbound.spi, None)
        if directions is not Directions.INBOUND:
            placed.outbound = OutboundEsp(child.outbound, child.esn)
            place = addresses_octets(child.pair.source, child.pair.destination)
            outlet = _Outlet(child.id, placed.outbound, inlet.socket, str(child.remote))
            self._succession.claim(place, child.id, outlet)
            self._outlets[place] = outlet

    def remove(self, child: int) -> None:
        placed = self._placed.pop(child, None)
        if placed is None:
            return
        placed.timer.cancel()
        pair = placed.child.pair
        if placed.inbound is not None:
            del self._inlets[placed.child.local].sas[placed.child.inbound.spi]
        place = addresses_octets(pair.source, pair.destination)
        self._succession.resign(place, child)
        successor = self._succession.holder(place)
        if successor is None:
            self._outlets.pop(place, None)
        else:
            self._outlets[place] = successor

    def counters(self) -> tuple[ChildCounters, ...]:
        return tuple(
            ChildCounters(child, *_totals(placed.inbound), *_totals(placed.outbound))
            for child, placed in self._placed.items()
        )

    def statistics(self) -> Mapping[Reason, int]:
        return dict(self._drops)

    def close(self) -> None:
        for child in list(self._placed):
            self.remove(child)
        for inlet in self._inlets.values():
            self._loop.remove_reader(inlet.socket.fileno())
            inlet.socket.close()
        self._inlets.clear()
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
            elif not outlet.socket.send(esp, outlet.remote):
                self._drops[Reason.ESP_NOT_SENT] += 1
            if outlet.esp.packets == SOFT_PACKETS and not outlet.esp.esn:
                self._loop.call_soon(partial(self._on_event, ChildExpired(outlet.child, hard=False)))

    def _drain_inlet(self, inlet: _Inlet) -> None:
        """ESP from the network."""
        for _ in range(_DRAIN):
            esp = inlet.socket.receive()
            if esp is None:
                return
            sa = inlet.sas.get(int.from_bytes(esp[:4], "big"))
            if sa is None:
                self._drops[Reason.ESP_UNKNOWN_SPI] += 1
                continue
            packet = sa.open(esp)
            if isinstance(packet, Reason):
                self._drops[packet] += 1
            elif packet and not self._tun.write(packet):
                self._drops[Reason.PACKET_MALFORMED] += 1

    # --- Child SAs -------------------------------------------------------------------------------------------

    def _check(self, child: ChildSa, directions: Directions) -> None:
        """Raise KernelError for what cannot be carried or is there already."""
        subject = f"Child SA {child.pair}"
        if child.mode not in self.modes or child.encapsulation is not None:
            raise KernelError("install", subject, errno.EOPNOTSUPP, "only tunnel mode without UDP encapsulation")
        placed = self._placed.get(child.id)
        inlet = self._inlets.get(child.local)
        if directions is not Directions.OUTBOUND and inlet is not None and child.inbound.spi in inlet.sas:
            raise KernelError("install", subject, errno.EEXIST, f"inbound SPI {child.inbound.spi:08x} is in use")
        if directions is not Directions.INBOUND and placed is not None and placed.outbound is not None:
            raise KernelError("install", subject, errno.EEXIST, "the outbound SA is in place already")

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

    def _expire(self, child: int) -> None:
        self.remove(child)
        self._on_event(ChildExpired(child, hard=True))

    def _in_use(self, spi: int) -> bool:
        return any(spi in inlet.sas for inlet in self._inlets.values())


def _totals(sa: InboundEsp | OutboundEsp | None) -> tuple[int, int]:
    return (0, 0) if sa is None else (sa.packets, sa.octets)


def _is_multicast(packet: bytes) -> bool:
    """What the kernel says by itself on any interface; or not even an IP packet."""
    version = packet[0] >> 4 if packet else 0
    return (version == 6 and packet[24:25] == b"\xff") or (version == 4 and packet[16:17] >= b"\xe0")
