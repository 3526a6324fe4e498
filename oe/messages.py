"""The house's vocabulary: every event and every command that crosses a room's wall.

Events are past tense and flow inwards (daemon → gateway → engine); commands are imperative and flow outwards. An
engine that cannot know something asks with a command that carries a `ticket` and gets an event with the same ticket
back; an answer nobody waits for any more is counted as `Reason.LATE_ANSWER` and ignored. All are frozen values of
plain fields, so that they can cross a process boundary. `deadline`s are absolute monotonic seconds.
"""

from dataclasses import dataclass, field

from oe.model import (
    Address,
    ChildCounters,
    ChildSa,
    Directions,
    Encapsulation,
    HeldPacket,
    HostPair,
    KeyAnswer,
    PublicKey,
    SignatureScheme,
    SocketAddress,
    Verdict,
)
from oe.reasons import Reason

# --- events: what happened outside -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """Everything is open and in place; comes once, before every other event."""


@dataclass(frozen=True, slots=True)
class PacketTrapped:
    """A packet that no decision covers waits in a queue."""

    packet: HeldPacket


@dataclass(frozen=True, slots=True)
class ClearPacketRefused:
    """A clear packet from a `private` net was dropped at our door. It proves nothing; it may start a check.

    `pair` is in our orientation: the packet went from `destination` to `source`.
    """

    pair: HostPair


@dataclass(frozen=True, slots=True)
class KeysLookedUp:
    """Answer to `LookUpKeys`."""

    ticket: int
    answer: KeyAnswer


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """An IKE datagram, without the non-ESP marker of port 4500 (RFC 3948 2.2)."""

    local: SocketAddress
    remote: SocketAddress
    data: bytes


@dataclass(frozen=True, slots=True)
class OctetsSigned:
    """Answer to `SignOctets`; `signature` is None when the key hand failed."""

    ticket: int
    signature: bytes | None


@dataclass(frozen=True, slots=True)
class SpiReserved:
    """Answer to `ReserveSpi`."""

    ticket: int
    spi: int


@dataclass(frozen=True, slots=True)
class ChildInstalled:
    """Answer to `InstallChild`: the directions asked for are in the kernel, or (`reason` set) none of it is."""

    ticket: int
    child: int
    directions: Directions
    reason: Reason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ChildExpired:
    """A limit of a Child SA is reached. Hard, by time, octets or packets: its SAs are gone. Else it wants a successor:
    three quarters of the octets or packets are used up.

    Each comes once at most, and none after the hard one.
    """

    child: int
    hard: bool


@dataclass(frozen=True, slots=True)
class PeerMoved:
    """Authentic ESP in UDP of a Child SA came from another address or port than agreed (RFC 7296 2.23).

    Somebody on the way who repeats a packet faster than it travels can cause this too; a check by IKE tells.
    """

    child: int
    remote: SocketAddress


@dataclass(frozen=True, slots=True)
class CountersRead:
    """Answer to `ReadCounters`: of all Child SAs in place, in portions."""

    counters: tuple[ChildCounters, ...]
    is_last: bool = True


@dataclass(frozen=True, slots=True)
class DecisionsLost:
    """Somebody changed the trap, and it was put back without a single decision in it."""


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """The addresses to negotiate from are now these."""

    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class FlushAsked:
    """The operator wants decisions (and SAs) of a pair, or of all pairs, forgotten."""

    pair: HostPair | None


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Orderly stop: delete SAs at the peers, release or drop what is held, then `Finish`."""


Event = (
    Started
    | PacketTrapped
    | ClearPacketRefused
    | KeysLookedUp
    | DatagramReceived
    | OctetsSigned
    | SpiReserved
    | ChildInstalled
    | ChildExpired
    | PeerMoved
    | CountersRead
    | DecisionsLost
    | AddressesChanged
    | FlushAsked
    | StopAsked
)


# --- commands: what the outside shall do -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LookUpKeys:
    """Find who answers for `owner` and with what key. Answered by `KeysLookedUp`, at `deadline` at the latest."""

    ticket: int
    owner: Address
    deadline: float


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send an IKE message from one of our sockets; the sender adds the non-ESP marker on port 4500."""

    local: SocketAddress
    remote: SocketAddress
    data: bytes


@dataclass(frozen=True, slots=True)
class KeepMapping:
    """Keep a NAT's mapping alive: unless something went this way since the last `KeepMapping` for it, send a keepalive,
    one octet 0xFF without non-ESP marker (RFC 3948 2.3, 4)."""

    local: SocketAddress
    remote: SocketAddress


@dataclass(frozen=True, slots=True)
class SignOctets:
    """Sign with our private key that belongs to `key`. Answered by `OctetsSigned`."""

    ticket: int
    key: PublicKey
    scheme: SignatureScheme
    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReserveSpi:
    """Allocate an inbound ESP SPI for SAs from `remote` to `local`. Answered by `SpiReserved`."""

    ticket: int
    local: Address
    remote: Address


@dataclass(frozen=True, slots=True)
class InstallChild:
    """Install SAs and policies of a Child SA, all or nothing. Answered by `ChildInstalled`.

    Order inside: inbound SA, in and fwd policies, outbound SA, out policy.
    """

    ticket: int
    child: ChildSa
    directions: Directions


@dataclass(frozen=True, slots=True)
class RemoveChild:
    """Remove SAs and policies of a Child SA, whatever is left of it."""

    child: int


@dataclass(frozen=True, slots=True)
class MoveChild:
    """The peer of a Child SA is reached at another address or port now: update both its SAs in place. Not answered."""

    child: int
    remote: Address
    encapsulation: Encapsulation | None


@dataclass(frozen=True, slots=True)
class ReadCounters:
    """Answered by `CountersRead`."""


@dataclass(frozen=True, slots=True)
class Decide:
    """Put the decision for a pair into the kernel: further packets of it come to user space no more.

    It replaces an earlier decision of the pair in one step. `lifetime` in seconds; the kernel forgets it then.
    """

    pair: HostPair
    verdict: Verdict
    lifetime: float
    fail_closed: bool


@dataclass(frozen=True, slots=True)
class Undecide:
    """Take the decision for a pair out of the kernel: the pair's group traps its packets again."""

    pair: HostPair


@dataclass(frozen=True, slots=True)
class Release:
    """Let held packets go, in this order: in clear, or (`PROTECTED`) into the pair's tunnel."""

    packets: tuple[int, ...]
    verdict: Verdict
    fail_closed: bool


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop held packets."""

    packets: tuple[int, ...]
    reason: Reason


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log: past-tense event name and plain fields. Never carries secrets."""

    level: str
    """debug, info, warning or error."""
    event: str
    fields: tuple[tuple[str, str | int | float], ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to do after `StopAsked`."""


Command = (
    LookUpKeys
    | SendDatagram
    | KeepMapping
    | SignOctets
    | ReserveSpi
    | InstallChild
    | RemoveChild
    | MoveChild
    | ReadCounters
    | Decide
    | Undecide
    | Release
    | Drop
    | Note
    | Finish
)
