"""One IKE SA: who its ends are, what they agreed, what is under way, and when something is to be done next."""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from oe.ike.child import Child
from oe.ike.payloads import Payload
from oe.ike.registry import ExchangeType
from oe.ike.states import STEPS, State, Step
from oe.ike.window import Requests, Responses
from oe.messages import ChildInstalled, Negotiate, OctetsSigned, PeerJudged, SpiReserved
from oe.model import Address, Identity, PublicKey, SocketAddress

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
    peer_identity: Identity | None = None
    """Expected by an initiator; claimed at a responder, and proved once ESTABLISHED."""
    peer_key: PublicKey | None = None
    established: float | None = None

    def advance(self, step: Step) -> None:
        """Take a step of the table; IllegalStepError when there is none."""
        found = STEPS.get((self.state, step))
        if found is None:
            raise IllegalStepError(f"{self.role} in state {self.state}: {step}")
        self.state = found[0]

    def deadline(self) -> float | None:
        """When something is to be done next."""
        times = list(self.timers.values())
        times += [child.ends for child in self.children.values() if child.ends is not None]
        if (request := self.requests.deadline()) is not None:
            times.append(request)
        return min(times, default=None)
