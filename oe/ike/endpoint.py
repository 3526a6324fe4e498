"""The IKE engine: any number of IKE SAs, driven by five verbs. Pure: no clock, no sockets, no chance of its own.

    handle(input, now)   something happened outside
    expire(now)          the time of `deadline` has come
    deadline()           when `expire` is to be called next
    take()               what is to be done outside, in this order
    snapshot()           what stands, for people

What it owes the coordinator: each `Negotiate` ends in one `ChildReady` or one `NegotiationEnded`; each Child SA of a
`ChildReady` ends in one `ChildClosed`, unless the coordinator closed it itself. A failure inside one IKE SA, even one
of our own making, ends that IKE SA and no other.
"""

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import count

from oe.errors import ParseError
from oe.ike.channel import drop, end_child, enqueue, repeat_if_due
from oe.ike.child import Child
from oe.ike.context import Context
from oe.ike.crypto import Entropy
from oe.ike.exchanges.ike_sa_init import begin, send_request
from oe.ike.exchanges.informational import Liveness, close_child, delete_ike, delete_unheard
from oe.ike.inbound import Inbound
from oe.ike.message import decode_header
from oe.ike.sa import Answer, IkeSa, Role, Timer
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.messages import (
    CheckLiveness,
    ChildInstalled,
    CloseChild,
    CloseEverything,
    DatagramReceived,
    IkeInput,
    IkeOutput,
    Negotiate,
    NegotiationEnded,
    OctetsSigned,
    OwnKeysChanged,
    PeerJudged,
    SpiReserved,
)
from oe.model import Address, Identity, PublicKey, Reason, SocketAddress

NOBODY = IPv4Address(0)
"""Stands for the remote address where there is none to blame: an answer to a ticket that is no longer known."""


@dataclass(frozen=True, slots=True)
class IkeSaRow:
    """One IKE SA as people see it."""

    local_spi: int
    remote_spi: int
    role: Role
    state: State
    local: SocketAddress
    remote: SocketAddress
    peer_identity: Identity | None
    peer_key: PublicKey | None
    since: float
    """When it began, monotonic seconds."""
    children: tuple[int, ...]


class Endpoint:
    """See the module's text."""

    def __init__(
        self,
        settings: IkeSettings,
        own_keys: tuple[PublicKey, ...],
        entropy: Entropy,
        admit: Callable[[Address], bool],
        tickets: Iterator[int],
        child_ids: Iterator[int],
    ) -> None:
        """`own_keys`: best first, the first that the peer can verify is used. `admit`: whether to talk to an address
        that has no IKE SA yet. `tickets`, `child_ids`: sources of numbers that are unique in the daemon."""
        self._ctx = Context(settings, own_keys, entropy, tickets, child_ids, admit)
        self._inbound = Inbound(self._ctx)
        self._timers: list[tuple[float, int, IkeSa]] = []
        self._serial = count()

    # --- the verbs ---

    def handle(self, input: IkeInput, now: float) -> None:
        """Something happened outside. Nothing is raised, whatever a datagram holds."""
        match input:
            case DatagramReceived():
                self._datagram(input, now)
            case OctetsSigned() | SpiReserved() | PeerJudged() | ChildInstalled():
                self._answer(input, now)
            case Negotiate():
                self._negotiate(input, now)
            case CloseChild(child=child):
                self._with_child(child, self._close_child, now)
            case CheckLiveness(child=child):
                self._with_child(child, self._check_liveness, now)
            case CloseEverything():
                self._close_everything(now)
            case OwnKeysChanged(keys=keys):
                self._ctx.own_keys = keys

    def expire(self, now: float) -> None:
        """Do what is due."""
        due: list[IkeSa] = []
        while self._timers and self._timers[0][0] <= now:
            when, _, sa = heapq.heappop(self._timers)
            if sa.armed == when:
                sa.armed = None
                due.append(sa)
        for sa in due:
            with self._contained(sa):
                self._expire(sa, now)

    def deadline(self) -> float | None:
        """When to call `expire`, monotonic seconds; None: not before the next input."""
        while self._timers and self._timers[0][2].armed != self._timers[0][0]:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def take(self) -> list[IkeOutput]:
        """What is to be done outside, in this order; the caller has it then."""
        output, self._ctx.output = self._ctx.output, []
        return output

    def snapshot(self) -> tuple[IkeSaRow, ...]:
        """All IKE SAs, oldest first."""
        return tuple(
            IkeSaRow(
                sa.local_spi,
                sa.remote_spi,
                sa.role,
                sa.state,
                sa.local,
                sa.remote,
                sa.peer_identity,
                sa.peer_key,
                sa.created,
                tuple(sa.children),
            )
            for sa in self._ctx.sas.values()
        )

    # --- containment and timers ---

    @contextmanager
    def _contained(self, sa: IkeSa | None) -> Iterator[None]:
        """Whatever goes wrong inside ends this IKE SA alone; afterwards its next deadline is known."""
        try:
            yield
        except Exception as error:  # The one place: an engine with a mistake must go on serving its other peers.
            peer = "" if sa is None else str(sa.remote)
            self._ctx.note("error", "ike-sa-failed", ("peer", peer), ("error", repr(error)))
            if sa is not None and sa.state is not State.GONE:
                drop(self._ctx, sa, Reason.INTERNAL_ERROR, repr(error))
        finally:
            if sa is not None:
                self._arm(sa)

    def _arm(self, sa: IkeSa) -> None:
        when = None if sa.state is State.GONE else sa.deadline()
        if when != sa.armed:
            sa.armed = when
            if when is not None:
                heapq.heappush(self._timers, (when, next(self._serial), sa))

    def _expire(self, sa: IkeSa, now: float) -> None:
        ctx = self._ctx
        if sa.is_due(Timer.SETUP, now):
            self._setup_ended(sa)
        elif sa.is_due(Timer.LINGER, now):
            drop(ctx, sa, Reason.SUPERSEDED)
        elif sa.is_due(Timer.LIFETIME, now):
            delete_ike(ctx, sa, Reason.LIFETIME_ENDED, now)
        elif sa.is_due(Timer.CHILDLESS, now):
            delete_ike(ctx, sa, Reason.SUPERSEDED, now)
        else:
            for child in [child for child in sa.children.values() if child.ends <= now]:
                close_child(ctx, sa, child, Reason.LIFETIME_ENDED, now)
            repeat_if_due(ctx, sa, now)

    def _setup_ended(self, sa: IkeSa) -> None:
        """The peer had its time to be authenticated."""
        reason, detail = Reason.NEGOTIATION_TIMEOUT, f"not established in time, {sa.state}"
        if sa.beginning is not None:
            reason, detail = sa.beginning.heard or (Reason.PEER_SILENT, "no answer to IKE_SA_INIT")
        if sa.role is Role.RESPONDER:
            self._ctx.reject(reason, sa.remote.address, detail)
        drop(self._ctx, sa, reason, detail)

    # --- inputs ---

    def _datagram(self, datagram: DatagramReceived, now: float) -> None:
        """The one way in for octets of others: what does not parse is counted here and changes nothing."""
        remote = datagram.remote.address
        try:
            header = decode_header(datagram.data)
        except ParseError as error:
            self._ctx.reject(Reason.INVALID_SYNTAX, remote, str(error))
            return
        sa = self._inbound.owner(header)
        with self._contained(sa):
            try:
                made = self._inbound.receive(datagram, header, sa, now)
                if made is not None:
                    self._arm(made)
            except ParseError as error:
                self._ctx.reject(Reason.INVALID_SYNTAX, remote, str(error))

    def _answer(self, answer: Answer, now: float) -> None:
        found = self._ctx.claim(answer.ticket)
        if found is None:
            self._ctx.reject(Reason.LATE_ANSWER, NOBODY, type(answer).__name__)
            return
        sa, asker = found
        with self._contained(sa):
            asker.answer(answer, now)

    def _negotiate(self, negotiate: Negotiate, now: float) -> None:
        if self._ctx.stopping:
            self._ctx.emit(NegotiationEnded(negotiate.ticket, Reason.STOPPING, "", authenticated=False))
            return
        sa = begin(self._ctx, negotiate, now)
        with self._contained(sa):
            send_request(self._ctx, sa, now)

    def _close_child(self, sa: IkeSa, child: Child, now: float) -> None:
        if sa.state is State.ESTABLISHED:
            close_child(self._ctx, sa, child, None, now)
        else:
            # As responder, before our answer: the peer does not have it yet and will be refused.
            end_child(self._ctx, sa, child.sa.id, None)

    def _check_liveness(self, sa: IkeSa, child: Child, now: float) -> None:
        # A request that is under way asks the same question.
        if sa.state is State.ESTABLISHED and sa.requests.pending is None:
            enqueue(self._ctx, sa, Liveness(self._ctx, sa), now)

    def _with_child(self, child_id: int, act: Callable[[IkeSa, Child, float], None], now: float) -> None:
        """Act on a Child SA of ours; it may be gone, with a `ChildClosed` that crossed the coordinator's word."""
        found = self._ctx.children.get(child_id)
        if found is not None:
            sa, child = found
            with self._contained(sa):
                act(sa, child, now)

    def _close_everything(self, now: float) -> None:
        self._ctx.stopping = True
        for sa in tuple(self._ctx.sas.values()):
            with self._contained(sa):
                if sa.state is State.ESTABLISHED:
                    delete_unheard(self._ctx, sa)
                drop(self._ctx, sa, Reason.STOPPING)
