"""One IKE SA: who its ends are, what they agreed, what is under way, and when something is to be done next."""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from oe.ike.child import Child
from oe.ike.crypto import SkCipher
from oe.ike.kex import KeyExchange
from oe.ike.keymat import IkeKeys
from oe.ike.payloads import Payload, SaPayload
from oe.ike.registry import ExchangeType, HashId, KeyExchangeId
from oe.ike.states import STEPS, State, Step
from oe.ike.window import Requests, Responses
from oe.messages import ChildInstalled, Negotiate, OctetsSigned, PeerJudged, SpiReserved
from oe.model import Address, Identity, PublicKey, Reason, SocketAddress

Answer = OctetsSigned | SpiReserved | PeerJudged | ChildInstalled
"""What the outside answers to something that was asked with a ticket."""


class Asker(Protocol):
    """Waits for answers to tickets. It must look at the state of things again: they may have changed meanwhile."""

    def answer(self, answer: Answer, now: float) -> None: ...


class Task(Protocol):
    """An exchange that we start; it waits in the IKE SA's queue until no other request is under way."""

    exchange: ExchangeType

    def payloads(self, now: float) -> tuple[Payload, ...] | None:
        """What to ask, looked at when its turn comes; None when it need not be asked any more."""

    def deadline(self, now: float) -> float:
        """Until when to wait for the response, once sent."""

    def answered(self, payloads: tuple[Payload, ...], now: float) -> None:
        """The response came and was genuine; the next task goes when this returns."""

    def unanswered(self, now: float) -> None:
        """No response came until the deadline."""


class Timer(StrEnum):
    """What an IKE SA waits for, apart from its requests and its Child SAs' ends."""

    SETUP = "setup"
    """By now it must be established (or the negotiation is over)."""
    CHILDLESS = "childless"
    """An established IKE SA without a Child SA has no purpose any more."""
    LIFETIME = "lifetime"
    LINGER = "linger"
    """A lingering one is forgotten."""


class Role(StrEnum):
    """Who sent IKE_SA_INIT. It decides whose SPI stands first and whose keys are whose, for all exchanges to come."""

    INITIATOR = "initiator"
    RESPONDER = "responder"


class IllegalStepError(RuntimeError):
    """A step that the table does not know: a mistake in our own code."""


@dataclass(slots=True)
class Beginning:
    """An initiator's IKE_SA_INIT until it is answered for good."""

    nonce: bytes
    offer: SaPayload
    cookie: bytes | None = None
    """What the responder wants back in every request from now on."""
    sent: dict[KeyExchangeId, tuple[KeyExchange, bytes]] = field(default_factory=dict)
    """By group: our half, and the last request that carried it."""
    retries: int = 0
    """How often an answer made us ask in another form."""
    heard: tuple[Reason, str] | None = None
    """The last refusal that came. Nobody signed it: it only explains a silence."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What IKE_SA_INIT gave, for as long as IKE_AUTH needs it. Pairs are the initiator's, then the responder's."""

    nonces: tuple[bytes, bytes]
    messages: tuple[bytes, bytes]
    """Octet by octet as they were on the wire: AUTH covers them."""
    peer_hashes: frozenset[HashId]
    """What the peer can verify with."""


@dataclass(slots=True, eq=False)
class IkeSa:
    """The state of one IKE SA. Fields that a state does not know yet are None."""

    role: Role
    state: State
    local_spi: int
    local: SocketAddress
    remote: SocketAddress
    created: float
    """When we sent, or received, its IKE_SA_INIT request."""
    remote_spi: int = 0
    requests: Requests = field(default_factory=Requests)
    responses: Responses = field(default_factory=Responses)
    queue: deque[Task] = field(default_factory=deque)
    task: Task | None = None
    """The one whose protected request is under way."""
    timers: dict[Timer, float] = field(default_factory=dict)
    tickets: set[int] = field(default_factory=set)
    """What we asked the outside and wait for."""
    children: dict[int, Child] = field(default_factory=dict)
    negotiation: Negotiate | None = None
    """What the coordinator wants of it, until that is granted or has failed."""
    beginning: Beginning | None = None
    agreement: Agreement | None = None
    keys: IkeKeys | None = None
    ciphers: tuple[SkCipher, SkCipher] | None = None
    """For what we send and for what we receive."""
    peer_identity: Identity | None = None
    """Expected by an initiator; proved once ESTABLISHED."""
    peer_key: PublicKey | None = None
    """The key that proved it."""
    established: float | None = None
    counted_as: Address | None = None
    """As what source it stands in the half-open budget; None when it does not."""
    armed: float | None = None
    """For when the engine's timer is set."""
    known_as: tuple[SocketAddress, int] | None = None
    """As responder: where its IKE_SA_INIT request came from, and the initiator's SPI."""

    def advance(self, step: Step) -> None:
        """Take a step of the table; IllegalStepError when there is none."""
        found = STEPS.get((self.state, step))
        if found is None:
            raise IllegalStepError(f"{self.role} in state {self.state}: {step}")
        self.state = found[0]

    @property
    def is_only_begun(self) -> bool:
        """We sent IKE_SA_INIT and have not said yet who we are: the peer cannot have it among its established ones."""
        return self.role is Role.INITIATOR and self.requests.next_id <= 1

    @property
    def sealing(self) -> SkCipher:
        """For what we send, once keys are agreed."""
        return self._ciphers()[0]

    @property
    def opening(self) -> SkCipher:
        """For what we receive, once keys are agreed."""
        return self._ciphers()[1]

    def _ciphers(self) -> tuple[SkCipher, SkCipher]:
        if self.ciphers is None:
            raise IllegalStepError(f"{self.role} in state {self.state}: no keys yet")
        return self.ciphers

    @property
    def agreed(self) -> tuple[Agreement, IkeKeys]:
        """What IKE_AUTH works with."""
        if self.agreement is None or self.keys is None:
            raise IllegalStepError(f"{self.role} in state {self.state}: nothing agreed yet")
        return self.agreement, self.keys

    def secure(self, keys: IkeKeys, agreement: Agreement) -> None:
        """From now on messages are protected by `keys`."""
        self.keys, self.agreement = keys, agreement
        first, second = SkCipher(keys.sk_ei), SkCipher(keys.sk_er)
        self.ciphers = (first, second) if self.role is Role.INITIATOR else (second, first)

    def is_due(self, timer: Timer, now: float) -> bool:
        """The time that `timer` waits for has come."""
        at = self.timers.get(timer)
        return at is not None and at <= now

    def deadline(self) -> float | None:
        """When something is to be done next."""
        times = list(self.timers.values())
        times += [child.ends for child in self.children.values() if not child.is_closing]
        if (request := self.requests.deadline()) is not None:
            times.append(request)
        return min(times, default=None)
