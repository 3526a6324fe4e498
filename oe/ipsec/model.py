"""The back-end interface: what carries ESP for the daemon, be it the kernel's XFRM or this process over a TUN device.

A back end knows nothing of policy groups. It carries out `InstallChild`, `RemoveChild`, `ReserveSpi` and `ReadCounters`
of `oe.messages` and reports `ChildExpired` and `PeerMoved`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from oe.errors import KernelError
from oe.messages import ChildExpired, PeerMoved
from oe.model import Address, ChildCounters, ChildSa, Directions, Encapsulation, Mode, SocketAddress
from oe.reasons import Reason

REPLAY_WINDOW = 256
"""Packets; RFC 4303 3.4.3 asks for 64 where speed is expected, parallel paths and queues reorder by more."""

PACKETS = (1 << 32) - 1
"""Outbound packets that an SA without ESN has sequence numbers for."""

FIRST_SPI = 0x100
"""1-255 are reserved by IANA, 0 never goes on the wire (RFC 4303 2.1)."""


BackendEvent = ChildExpired | PeerMoved


SOFT = 0.75
"""Share of a hard limit in octets or packets at which an SA asks for its successor. Time is watched by who made it."""


class BackendName(StrEnum):
    """How ESP is carried; the value is that of `backend` in the configuration and in `oe status`."""

    XFRM = "xfrm"
    USERSPACE = "userspace"


class Timer(Protocol):
    """A call that will be made at its time unless it is cancelled."""

    def cancel(self) -> None: ...


class Loop(Protocol):
    """What a back end needs of an event loop; asyncio's loops have this form."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer: ...

    def call_soon(self, callback: Callable[[], object], /) -> Timer: ...

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> object: ...

    def remove_reader(self, fd: int, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Marks:
    """Packet mark bits shared with the trap."""

    exempt: int = 0x10000
    """On what the daemon itself sends: never trapped, never led into the tunnel."""
    shield_closed: int = 0x20000
    """Lead into the tunnel; without tunnel: nowhere."""
    shield_open: int = 0x40000
    """Lead into the tunnel; without tunnel: the ordinary way."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The back end that this machine can run, and one sentence why."""

    backend: BackendName
    why: str


class UdpSockets(Protocol):
    """IKE's sockets on port 4500, which ESP in UDP shares (RFC 3948). As `oe.ike.udp.UdpSockets`."""

    def leave_esp_to_kernel(self) -> None: ...

    def deliver_esp(self, deliver: Callable[[SocketAddress, SocketAddress, bytes], None], /) -> None: ...

    def carrier(self, local: SocketAddress, remote: SocketAddress, /) -> Callable[[bytes], bool]: ...


class Backend(Protocol):
    """Carries ESP for Child SAs.

    Where several Child SAs of one pair are in place, packets leave through the one whose outbound half was installed
    last, and arrive through any of them; when that one is removed, its predecessor takes over again.
    """

    @property
    def name(self) -> BackendName: ...

    @property
    def modes(self) -> frozenset[Mode]:
        """What it can carry; do not agree on anything else."""

    @property
    def encapsulates(self) -> bool:
        """It carries ESP in UDP (RFC 3948)."""

    @property
    def tunnel_interface(self) -> str | None:
        """The device that marked packets are led into and that decapsulated ones come from; None: XFRM does both."""

    @property
    def tunnel_mtu(self) -> int:
        """Octets of the largest packet that goes through `tunnel_interface` in one piece; 0 without such a device."""

    def join(self, sockets: UdpSockets) -> None:
        """Have ESP in UDP go through these sockets. Before the first `install`; raises MachineLacks."""

    def start(self, loop: Loop, on_event: Callable[[BackendEvent], None]) -> None:
        """Take away what a crashed run left behind, and be ready.

        Start the trap first, without decisions: until then packets of `private` pairs must not be let out by any.
        Raises MachineLacks or KernelError.
        """

    def reserve_spi(self, local: Address, remote: Address) -> int:
        """An inbound SPI for SAs from `remote` to `local` that nobody else uses, kept for 30 s. Raises KernelError."""

    def install(self, child: ChildSa, directions: Directions) -> None:
        """Put one half or both in place, all or nothing: raises KernelError after everything was taken back.

        The lifetime counts from the first half. After it, or when one direction has carried the octets or packets it
        may, `ChildExpired(hard=True)` is reported: the SAs are gone, and packets of the pair are *dropped* until
        `remove` is called, so that nothing leaves before it is decided anew. `ChildExpired(hard=False)` comes at three
        quarters of the octets or packets. Of time it says nothing: who knows the lifetime needs nobody to tell it.
        """

    def move(self, child: int, remote: Address, encapsulation: Encapsulation | None) -> None:
        """The peer of a Child SA in place is at another address or UDP port now: send there, and expect it from there.

        Sequence numbers, replay window, lifetimes and counters go on; nothing leaves in clear meanwhile. An unknown
        Child SA is ignored. Raises KernelError: EOPNOTSUPP, and nothing has changed; any other, and it is as after a
        hard expiry, though nothing reports that.
        """

    def remove(self, child: int) -> None:
        """Take away whatever is in place of a Child SA; an unknown one is ignored. Raises KernelError."""

    def count(self, then: Callable[[Iterator[ChildCounters] | KernelError], None]) -> None:
        """Read the counters of all Child SAs in place: `then` hears them, at once or some turns of the loop later.

        After `start`. The rows may be taken at leisure; a Child SA that came or went meanwhile may be missing. Who
        asks while a reading is under way hears its result, in the place of who asked before.
        """

    def statistics(self) -> Mapping[Reason, int]:
        """Packets dropped since the start, by reason."""

    def close(self) -> None:
        """Take everything away. Undo the trap's decisions first: what they marked as protected now leaves in clear."""
