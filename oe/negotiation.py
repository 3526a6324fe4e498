"""What the coordinator and the IKE engine say to each other. As `oe.messages`: frozen values, tickets, deadlines."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from oe.messages import (
    ChildInstalled,
    DatagramReceived,
    KeepMapping,
    Note,
    OctetsSigned,
    PeerMoved,
    ReserveSpi,
    SendDatagram,
    SignOctets,
    SpiReserved,
)
from oe.model import (
    Address,
    Anonymity,
    ChildSa,
    Directions,
    Encapsulation,
    HostPair,
    Identity,
    PublicKey,
    SocketAddress,
)
from oe.reasons import Reason


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
class PeerExpected:
    """IKE → coordinator: whoever is at `remote` got a key exchange out of us and will soon say who it is. Not answered.

    It may never say so: nothing is proved but, under load, that it receives at this address.
    """

    remote: Address


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
class ChildRedundant:
    """IKE → coordinator: of Child SAs that crossed this one is one too many (RFC 7296 2.8.1).

    It goes on receiving: the peer may go by another rule, and send in this very one. Of ours it carries nothing where
    there is another. The coordinator closes it once the peer has shown that it sends in the other.
    """

    child: int
    is_ours: bool
    """We began it, and so are the first to close it."""


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
    at: Mapping[Address, tuple[PublicKey, ...]] = field(default_factory=dict)
    """Own addresses that have an order of their own."""


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
    | PeerExpected
    | JudgePeer
    | ChildReady
    | ChildRedundant
    | ChildMoved
    | NegotiationEnded
    | ChildClosed
    | Rejected
    | Note
)
