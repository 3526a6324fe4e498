"""The house's vocabulary: every event and every command that crosses a room's wall.

Events are past tense and flow inwards (daemon → gateway → engine); commands are imperative and flow outwards. An
engine that cannot know something asks with a command that carries a `ticket` and gets an event with the same ticket
back; an answer nobody waits for any more is counted as `Reason.LATE_ANSWER` and ignored. All are frozen values of
plain fields, so that they can cross a process boundary. `deadline`s are absolute monotonic seconds.
"""

from dataclasses import dataclass, field

from oe.model import (
    Address,
    Anonymity,
    ChildCounters,
    ChildSa,
    Directions,
    Encapsulation,
    HeldPacket,
    HostPair,
    Identity,
    KeyAnswer,
    PublicKey,
    Reason,
    SignatureScheme,
    SocketAddress,
    Verdict,
)

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
    """Answer to `ReadCounters`: all Child SAs in place."""

    counters: tuple[ChildCounters, ...]


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


# --- between the coordinator and the IKE engine ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Negotiate:
    """Coordinator → IKE: set up a Child SA for `pair` with the gateway at `remote`. Ends in `ChildReady` or
    `NegotiationEnded` with the same ticket, at `deadline` at the latest."""

    ticket: int
    pair: HostPair
    local: SocketAddress
    remote: SocketAddress
    own_identity: Identity
    peer_identity: Identity
    peer_keys: tuple[PublicKey, ...]
    """Any of them may verify the peer's signature (rollover)."""
    fail_closed: bool
    deadline: float
    anonymity: Anonymity = Anonymity.AUTHENTICATED
    """The lowest rank of authentication that will do of the peer: ANONYMOUS also takes NULL authentication (RFC 7619).

    Our own rank stands in `own_identity`: with one of kind NULL we authenticate by NULL, whatever the peer does.
    """


@dataclass(frozen=True, slots=True)
class JudgePeer:
    """IKE → coordinator: a peer claims an identity and wants a Child SA for `pair`. Answered by `PeerJudged`."""

    ticket: int
    local: SocketAddress
    remote: SocketAddress
    identity: Identity
    pair: HostPair
    """In our orientation: source is the address on our side (TSr), destination on the peer's (TSi)."""
    deadline: float
    nat: bool = False
    """There is a NAT between us: the address on the wire need not be the peer's own."""


@dataclass(frozen=True, slots=True)
class PeerJudged:
    """Coordinator → IKE: the keys that may authenticate the peer, and whether it may have the pair.

    No keys: AUTHENTICATION_FAILED, unless the peer may be anonymous. Keys (or that) and `refusal`: the IKE SA may
    stand, the pair is refused with TS_UNACCEPTABLE.
    """

    ticket: int
    keys: tuple[PublicKey, ...]
    refusal: Reason | None
    fail_closed: bool = False
    anonymity: Anonymity = Anonymity.AUTHENTICATED
    """The lowest rank that will do. ANONYMOUS only in answer to an identity of kind NULL: NULL authentication is
    enough then (RFC 7619)."""


@dataclass(frozen=True, slots=True)
class ChildReady:
    """IKE → coordinator: keys for a Child SA are agreed; install `directions` of it and report `ChildInstalled`.

    A responder asks for INBOUND first. When that is in place it asks for OUTBOUND with a second `ChildReady` and sends
    its answer, in this order; an initiator asks for BOTH. `negotiation` is the ticket of our `Negotiate`, None for a
    responder.
    """

    ticket: int
    child: ChildSa
    directions: Directions
    negotiation: int | None
    peer_key: PublicKey | None
    """The key that authenticated the peer; None for an anonymous one."""
    anonymity: Anonymity = Anonymity.AUTHENTICATED
    """How the peer of this Child SA's IKE SA is authenticated."""
    replaces: int | None = None
    """The Child SA that it succeeds: a rekey. Once it carries the traffic, the engine deletes the old one at the peer
    and says `ChildClosed` with `Reason.REKEYED`."""


@dataclass(frozen=True, slots=True)
class NegotiationEnded:
    """IKE → coordinator: our `Negotiate` came to nothing."""

    ticket: int
    reason: Reason
    detail: str
    authenticated: bool
    """The peer had proved its identity when it refused."""


@dataclass(frozen=True, slots=True)
class ChildClosed:
    """IKE → coordinator: a Child SA is over (deleted by the peer, replaced, its IKE SA dead); remove it."""

    child: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class ChildMoved:
    """IKE → coordinator: a fresh, authenticated message of the peer came from another address or port (RFC 7296 2.23).

    Its Child SAs follow, this one among them.
    """

    child: int
    remote: Address
    encapsulation: Encapsulation | None


@dataclass(frozen=True, slots=True)
class RekeyChild:
    """Coordinator → IKE: a Child SA runs short of sequence numbers or octets: make its successor.

    By time the engine rekeys on its own. Success is a `ChildReady` that `replaces` it. One that is under way is enough.
    """

    child: int


@dataclass(frozen=True, slots=True)
class CloseChild:
    """Coordinator → IKE: delete a Child SA at the peer; its IKE SA too when it was the last. Not answered."""

    child: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class CheckLiveness:
    """Coordinator → IKE: traffic of this Child SA goes one way only; ask the peer whether it lives.

    An answer changes nothing; silence ends in `ChildClosed` with `Reason.LIVENESS_FAILED`.
    """

    child: int


@dataclass(frozen=True, slots=True)
class CloseEverything:
    """Coordinator → IKE: delete every IKE SA at its peer (one message, no retry) and accept nothing new."""


@dataclass(frozen=True, slots=True)
class OwnKeysChanged:
    """Coordinator → IKE: from now on we prove ourselves with one of these keys, best first. SAs in place stay."""

    keys: tuple[PublicKey, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """IKE → coordinator: something was refused or ignored; for counters and the log."""

    reason: Reason
    remote: Address
    detail: str = ""


IkeInput = (
    Negotiate
    | DatagramReceived
    | OctetsSigned
    | SpiReserved
    | PeerJudged
    | ChildInstalled
    | PeerMoved
    | CloseChild
    | RekeyChild
    | CheckLiveness
    | CloseEverything
    | OwnKeysChanged
)
IkeOutput = (
    SendDatagram
    | KeepMapping
    | SignOctets
    | ReserveSpi
    | JudgePeer
    | ChildReady
    | ChildMoved
    | NegotiationEnded
    | ChildClosed
    | Rejected
    | Note
)
