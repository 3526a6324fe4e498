"""One IKE SA: who its ends are, what they agreed, what is under way, and when something is to be done next."""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from oe.ike.child import Child
from oe.ike.crypto import SkCipher
from oe.ike.fragments import Fragmentation, Reassembly
from oe.ike.intauth import IntAuth
from oe.ike.kex import KeyExchange
from oe.ike.keymat import IkeKeys
from oe.ike.nat import Nat
from oe.ike.payloads import Payload, SaPayload
from oe.ike.proposals import ChosenIke
from oe.ike.registry import ExchangeType, HashId, KeyExchangeId
from oe.ike.states import STEPS, State, Step
from oe.ike.window import Requests, Responses
from oe.messages import ChildInstalled, OctetsSigned, SpiReserved
from oe.model import Address, Anonymity, Identity, PublicKey, Secret, SocketAddress
from oe.negotiation import Negotiate, PeerJudged
from oe.reasons import Reason

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
    CONFIRM = "confirm"
    """As responder: whether the peer has our answer, and so the IKE SA, is asked if it was not heard since."""
    HURRY = "hurry"
    """A negotiation does not wait any longer for this one: the peer may have forgotten it."""
    REKEY = "rekey"
    """We ask for its successor."""
    LIFETIME = "lifetime"
    """The end of its life, whatever became of its rekey."""
    FOLLOWUP = "followup"
    """By now the peer has gone on with the rekey that it began, or it never will (RFC 9370 2.2.4)."""
    LINGER = "linger"
    """A lingering one is forgotten."""
    REASSEMBLY = "reassembly"
    """Fragments whose others did not come are forgotten."""
    KEEPALIVE = "keepalive"
    """The NAT before us is reminded of our mapping."""


class Role(StrEnum):
    """Who sent IKE_SA_INIT. It decides whose SPI stands first and whose keys are whose, for all exchanges to come."""

    INITIATOR = "initiator"
    RESPONDER = "responder"


class IllegalStepError(RuntimeError):
    """A step that the table does not know: a mistake in our own code."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A negotiation that an established IKE SA shall make a Child SA for."""

    negotiation: Negotiate
    until: float
    """Then it goes elsewhere: the peer may have forgotten this IKE SA."""


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
    additional: KeyExchangeId | None = None
    """Method of the key exchange in IKE_INTERMEDIATE; None: IKE_AUTH comes next."""
    int_auth: IntAuth = field(default_factory=IntAuth)
    """What IKE_INTERMEDIATE added to the octets that AUTH covers."""


@dataclass(frozen=True, slots=True)
class Halfway:
    """A rekey of the IKE SA that still wants its additional key exchange (RFC 9370 2.2.4).

    Pairs are of the end that asked for the rekey, then of the other.
    """

    chosen: ChosenIke
    shared: Secret
    """Of the first key exchange."""
    nonces: tuple[bytes, bytes]
    spis: tuple[int, int]
    """Of the successor."""
    link: bytes
    """By what the responder knows it again."""


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
    fragmentation: Fragmentation = field(init=False)
    incoming: tuple[Reassembly, Reassembly] = field(default_factory=lambda: (Reassembly(), Reassembly()))
    """Fragments of the peer's request and of its response."""
    nat: Nat = Nat.NOBODY
    asked_from: tuple[SocketAddress, SocketAddress] | None = None
    """Between which sockets the peer's last request came; its answer goes back the same way (RFC 7296 2.11)."""
    queue: deque[Task] = field(default_factory=deque)
    task: Task | None = None
    """The one whose protected request is under way."""
    timers: dict[Timer, float] = field(default_factory=dict)
    tickets: set[int] = field(default_factory=set)
    """What we asked the outside and wait for."""
    children: dict[int, Child] = field(default_factory=dict)
    negotiation: Negotiate | None = None
    """What the coordinator wants of it, until that is granted or has failed."""
    wanted: dict[int, Wanted] = field(default_factory=dict)
    """By ticket, negotiations that wait for a Child SA of it, once established."""
    deleted_early: set[int] = field(default_factory=set)
    """SPIs that the peer deleted while a request of ours was under way, and that we do not know: perhaps of a Child SA
    whose CREATE_CHILD_SA answer was lost and is still to come."""
    is_full: bool = False
    """The peer wants no further Child SA in it (NO_ADDITIONAL_SAS)."""
    is_doubted: bool = False
    """A request of ours has waited for long; no new one is entrusted to it until the peer is heard again."""
    nonces: tuple[bytes, bytes] | None = None
    """Of the rekey that made it: those of its initiator, then of its responder. None: it is the first."""
    promised: int = 0
    """Our SPI in the successor that we asked for last; the peer may have that one before we do."""
    heir: "IkeSa | None" = None
    """Its successor, once that has its Child SAs."""
    is_unconfirmed: bool = False
    """The peer asked for it and may not have our answer yet: nothing is asked in it before the peer is heard, which
    would otherwise show the token of an IKE SA that it is about to have (RFC 6290 9.2)."""
    inherits: "IkeSa | None" = None
    """Its predecessor, while it is not decided whether it is this one that takes over."""
    rival: "IkeSa | None" = None
    """The successor that the peer made while we asked for another one; which of them it is, is not decided."""
    refusals: int = 0
    """How often in a row the peer did not want to rekey it."""
    beginning: Beginning | None = None
    chosen: ChosenIke | None = None
    """Its algorithms; of a successor those of the rekey that made it."""
    agreement: Agreement | None = None
    keys: IkeKeys | None = None
    ciphers: tuple[SkCipher, SkCipher] | None = None
    """For what we send and for what we receive."""
    peer_identity: Identity | None = None
    """Expected by an initiator; proved once ESTABLISHED."""
    peer_key: PublicKey | None = None
    """The key that proved it; None for an anonymous one (RFC 7619)."""
    own_anonymity: Anonymity = Anonymity.AUTHENTICATED
    """How we are authenticated to it."""
    halfway: Halfway | None = None
    """A rekey that the peer asked for."""
    heard: bytes = b""
    """The peer's last genuine IKE_INTERMEDIATE message as AUTH covers it (`intauth.received`)."""
    answered_with: tuple[SkCipher, SkCipher] | None = None
    """The ciphers of the answer that is kept and of the request that it answers; an additional key exchange gives
    others to all messages that follow."""
    crash_token: Secret | None = None
    """The peer's, of quick crash detection (RFC 6290)."""
    established: float | None = None
    counted_as: Address | None = None
    """As what source it stands in the half-open budget; None when it does not."""
    armed: float | None = None
    """For when the engine's timer is set."""
    known_as: tuple[SocketAddress, int] | None = None
    """As responder: where its IKE_SA_INIT request came from, and the initiator's SPI."""

    def __post_init__(self) -> None:
        self.fragmentation = Fragmentation(self.local.address.version)

    def advance(self, step: Step) -> None:
        """Take a step of the table; IllegalStepError when there is none."""
        found = STEPS.get((self.state, step))
        if found is None:
            raise IllegalStepError(f"{self.role} in state {self.state}: {step}")
        self.state = found[0]

    @property
    def anonymity(self) -> Anonymity:
        """How its peer is authenticated, once ESTABLISHED."""
        return Anonymity.ANONYMOUS if self.peer_key is None else Anonymity.AUTHENTICATED

    @property
    def is_proved(self) -> bool:
        """ESTABLISHED, now or once, with a peer that proved its identity; an anonymous one never did."""
        return self.established is not None and self.peer_key is not None

    @property
    def is_hybrid(self) -> bool:
        """An additional key exchange belongs to its keys, and shall to those of its successor."""
        return self.chosen is not None and self.chosen.additional is not None

    @property
    def is_only_begun(self) -> bool:
        """We sent IKE_SA_INIT and have not said yet who we are: the peer cannot have it among its established ones."""
        return self.role is Role.INITIATOR and self.requests.next_id <= 1 and self.established is None

    @property
    def takes_children(self) -> bool:
        """A further Child SA can be asked for."""
        return self.state is State.ESTABLISHED and not self.is_full and not self.is_doubted

    @property
    def is_needed(self) -> bool:
        """It has a Child SA that lasts, or is about to get one."""
        has_one = any(not child.is_closing for child in self.children.values())
        return has_one or bool(self.wanted) or self.responses.is_under_way

    def hear(self) -> None:
        """A fresh message of the peer came: it lives, and has this IKE SA."""
        self.is_doubted = self.is_unconfirmed = False
        self.timers.pop(Timer.CONFIRM, None)

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

    def secure(self, keys: IkeKeys, agreement: Agreement | None) -> None:
        """From now on messages are protected by `keys`; `agreement`: IKE_AUTH comes next."""
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
        for child in self.children.values():
            times += child.timers.values()
        if (request := self.requests.deadline()) is not None:
            times.append(request)
        return min(times, default=None)
