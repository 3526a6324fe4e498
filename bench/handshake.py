"""Full IKEv2 handshakes between two engines in one process, with a stopwatch on each side.

    initiator                          responder
    IKE_SA_INIT            ──▶  ◀──
    IKE_AUTH               ──▶  ◀──    judged at once, signed inline with a real key, SAs "installed" at once
    INFORMATIONAL, delete  ──▶  ◀──
                                       the engine's own clean-up, when the finished IKE SA is forgotten

Only what an engine and its key hand do is timed; the datagrams are handed over while no stopwatch runs.
"""

import os
from collections import deque
from collections.abc import Iterator
from cProfile import Profile
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from itertools import count
from time import thread_time_ns

from cryptography.hazmat.primitives.asymmetric import rsa

from oe.ike.endpoint import Endpoint
from oe.ike.settings import IkeSettings
from oe.keystore import PUBLIC_EXPONENT, KeyStore
from oe.messages import (
    ChildInstalled,
    DatagramReceived,
    OctetsSigned,
    ReserveSpi,
    SendDatagram,
    SignOctets,
    SpiReserved,
)
from oe.model import HostPair, Identity, SignatureScheme, SocketAddress
from oe.negotiation import ChildReady, CloseChild, IkeInput, IkeOutput, JudgePeer, Negotiate, PeerJudged
from oe.reasons import Reason

CLASSICAL = IkeSettings(
    additional_key_exchange=False, linger=1.0, handshakes_per_second=1e6, handshakes_at_once=1_000_000
)
"""What the rivals do by themselves: X25519 alone, two exchanges. All of them come from one source."""


class Phase(StrEnum):
    """What a handshake's time goes to."""

    IKE_SA_INIT = "IKE_SA_INIT"
    IKE_AUTH = "IKE_AUTH"
    DELETE = "delete"
    CLEAN_UP = "clean-up"


@dataclass(slots=True)
class Side:
    """An engine with its key hand, and a coordinator and a kernel that say yes to everything at once."""

    address: SocketAddress
    private: rsa.RSAPrivateKey
    profile: Profile | None = None
    peer: "Side | None" = None
    spent: dict[Phase, int] = field(default_factory=lambda: dict.fromkeys(Phase, 0))
    """Nanoseconds of this thread's CPU, by phase."""
    children: list[int] = field(default_factory=list)
    scheme: SignatureScheme | None = None
    keys: KeyStore = field(init=False)
    endpoint: Endpoint = field(init=False)
    _tickets: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.keys = KeyStore((self.private,))
        self.endpoint = Endpoint(CLASSICAL, self.keys.public_keys, os.urandom, lambda _: True, self._tickets, count(1))

    def feed(self, first: IkeInput | None, now: float, phase: Phase) -> list[SendDatagram]:
        """Work off one input and all that follows from it; None: let time pass. The datagrams that are to be sent."""
        sent: list[SendDatagram] = []
        if self.profile is not None:
            self.profile.enable()
        started = thread_time_ns()
        if first is None:
            self.endpoint.expire(now)
        inputs = deque[IkeInput]() if first is None else deque([first])
        while True:
            while inputs:
                self.endpoint.handle(inputs.popleft(), now)
            for output in self.endpoint.take():
                if isinstance(output, SendDatagram):
                    sent.append(output)
                elif (answer := self._answer(output)) is not None:
                    inputs.append(answer)
            if not inputs:
                break
        self.spent[phase] += thread_time_ns() - started
        if self.profile is not None:
            self.profile.disable()
        return sent

    def _answer(self, output: IkeOutput) -> IkeInput | None:
        match output:
            case SignOctets(ticket, key, scheme, octets):
                self.scheme = scheme
                return OctetsSigned(ticket, self.keys.sign(key, scheme, octets))
            case ReserveSpi(ticket):
                return SpiReserved(ticket, 0x1000 + ticket)
            case JudgePeer(ticket):
                assert self.peer is not None
                return PeerJudged(ticket, self.peer.keys.public_keys, None)
            case ChildReady(ticket, child, directions):
                self.children.append(child.id)
                return ChildInstalled(ticket, child.id, directions)
        return None

    def negotiate(self) -> Negotiate:
        """The coordinator's word to begin with the peer."""
        assert self.peer is not None
        here, there = self.address.address, self.peer.address.address
        keys = self.peer.keys.public_keys
        pair, ids = HostPair(here, there), (Identity.of(here), Identity.of(there))
        return Negotiate(
            next(self._tickets), pair, self.address, self.peer.address, *ids, keys, fail_closed=False, deadline=1e12
        )


class Pair:
    """Two sides with an RSA-2048 key each, that can do handshakes one after the other."""

    def __init__(self, profile: Profile | None = None) -> None:
        """`profile` sees what the responder does, and nothing else."""
        self.initiator = Side(_socket("192.0.2.1"), _key())
        self.responder = Side(_socket("192.0.2.2"), _key(), profile)
        self.initiator.peer, self.responder.peer = self.responder, self.initiator
        self.sizes: list[tuple[int, int]] = []
        """Octets of each request and its response, in the last handshake."""
        self._now = 1000.0

    def run(self) -> None:
        """One handshake, its end, and the clean-up. Raises AssertionError when it was not one of three exchanges."""
        self.initiator.children.clear()
        self.sizes.clear()
        request = self.initiator.feed(self.initiator.negotiate(), self._now, Phase.IKE_SA_INIT)
        request = self._exchange(request, Phase.IKE_SA_INIT, Phase.IKE_AUTH)
        rest = self._exchange(request, Phase.IKE_AUTH, Phase.IKE_AUTH)
        assert not rest, "the handshake took more than two exchanges"
        assert len(self.initiator.children) == 1, "no Child SA"
        close = CloseChild(self.initiator.children[0], Reason.OPERATOR_FLUSH)
        self._exchange(self.initiator.feed(close, self._now, Phase.DELETE), Phase.DELETE, Phase.DELETE)
        self._now += CLASSICAL.linger + 1
        for side in (self.initiator, self.responder):
            side.feed(None, self._now, Phase.CLEAN_UP)
            assert not side.endpoint.snapshot(), "an IKE SA is left"

    def _exchange(self, requests: list[SendDatagram], phase: Phase, then: Phase) -> list[SendDatagram]:
        """Carry a request over and its response back; what the initiator sends `then`."""
        (request,) = requests
        (response,) = self.responder.feed(_arrived(request), self._now, phase)
        self.sizes.append((len(request.data), len(response.data)))
        return self.initiator.feed(_arrived(response), self._now, then)


def _arrived(datagram: SendDatagram) -> DatagramReceived:
    return DatagramReceived(datagram.remote, datagram.local, datagram.data)


def _socket(address: str) -> SocketAddress:
    return SocketAddress(ip_address(address), 500)


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(PUBLIC_EXPONENT, 2048)
