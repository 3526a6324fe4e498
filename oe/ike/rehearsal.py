"""A handshake with ourselves, before the first packet needs one.

Two engines negotiate in memory, both with our own key. A crypto library that does not work on this machine, or a key
that cannot sign, shows now and by name; and the first real handshake finds every table built and every library loaded,
which it would otherwise pay for with some ten milliseconds.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count

from oe.errors import OeError
from oe.ike.endpoint import Endpoint
from oe.ike.settings import IkeSettings
from oe.messages import (
    ChildInstalled,
    DatagramReceived,
    OctetsSigned,
    ReserveSpi,
    SendDatagram,
    SignOctets,
    SpiReserved,
)
from oe.model import Address, ChildSa, Directions, HostPair, Identity, PublicKey, SignatureScheme, SocketAddress
from oe.negotiation import (
    ChildReady,
    CloseChild,
    IkeInput,
    IkeOutput,
    JudgePeer,
    Negotiate,
    NegotiationEnded,
    PeerJudged,
)
from oe.reasons import Reason

Sign = Callable[[PublicKey, SignatureScheme, bytes], bytes]

_ALICE, _BOB = ip_address("192.0.2.1"), ip_address("192.0.2.2")
"""RFC 5737: nobody has them, and no datagram leaves this process."""
_PORT = 500
_MOST_STEPS = 100
"""Far more than a handshake has; a rehearsal that goes on for longer has failed."""


class RehearsalFailed(OeError):
    """The handshake with ourselves came to nothing; the text says how far it came."""


@dataclass(slots=True)
class _Actor:
    """One side: an engine whose coordinator and kernel say yes to everything."""

    address: Address
    key: PublicKey
    sign: Sign
    engine: Endpoint
    children: list[ChildSa] = field(default_factory=list)
    failure: str = ""

    def answer(self, output: IkeOutput) -> IkeInput | None:
        match output:
            case SignOctets(ticket, key, scheme, octets):
                return OctetsSigned(ticket, self.sign(key, scheme, octets))
            case ReserveSpi(ticket):
                return SpiReserved(ticket, 0x1000 + ticket)
            case JudgePeer(ticket):
                return PeerJudged(ticket, (self.key,), None)
            case ChildReady(ticket, child, directions):
                if directions is not Directions.INBOUND:
                    self.children.append(child)
                return ChildInstalled(ticket, child.id, directions)
            case NegotiationEnded(reason=reason, detail=detail):
                self.failure = f"{reason}: {detail}"
        return None


def rehearse(key: PublicKey, sign: Sign, entropy: Callable[[int], bytes]) -> None:
    """Negotiate and delete a Child SA between two engines that both have `key`. Raises RehearsalFailed.

    `sign` is the key hand, and may raise OeError.
    """
    tickets, numbers = count(1), count(1)
    alice, bob = (
        _Actor(address, key, sign, Endpoint(IkeSettings(), (key,), entropy, lambda _: True, tickets, numbers))
        for address in (_ALICE, _BOB)
    )
    ends = {alice.address: alice, bob.address: bob}
    here, there = SocketAddress(_ALICE, _PORT), SocketAddress(_BOB, _PORT)
    pair, identities = HostPair(_ALICE, _BOB), (Identity.of(_ALICE), Identity.of(_BOB))
    start = Negotiate(next(tickets), pair, here, there, *identities, (key,), fail_closed=False, deadline=10.0)
    _play(ends, alice, start)
    if not (alice.children and bob.children):
        raise RehearsalFailed(f"no handshake with ourselves, key {key!r}: {alice.failure or 'it stopped half way'}")
    (ours,), (theirs,) = alice.children, bob.children
    if ours.outbound != theirs.inbound or ours.inbound != theirs.outbound:
        raise RehearsalFailed(f"a handshake with ourselves, key {key!r}, gave different keys on both sides")
    _play(ends, alice, CloseChild(ours.id, Reason.STOPPING))


def _play(ends: dict[Address, _Actor], actor: _Actor, first: IkeInput) -> None:
    """Feed one input and everything that follows from it, on both sides."""
    inputs: deque[tuple[_Actor, IkeInput]] = deque([(actor, first)])
    for _ in range(_MOST_STEPS):
        if not inputs:
            return
        actor, event = inputs.popleft()
        actor.engine.handle(event, 0.0)
        for output in actor.engine.take():
            if isinstance(output, SendDatagram):
                arrived = DatagramReceived(output.remote, output.local, output.data)
                inputs.append((ends[output.remote.address], arrived))
            elif (answer := actor.answer(output)) is not None:
                inputs.append((actor, answer))
