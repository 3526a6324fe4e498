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
from ipaddress import IPv4Address
from itertools import count
from typing import TypeVarTuple

from oe.errors import ParseError
from oe.ike.channel import drop, end_child, enqueue, forget_fragments, repeat_if_due
from oe.ike.child import Child, ChildTimer
from oe.ike.context import Context
from oe.ike.crypto import Entropy
from oe.ike.exchanges.child_sa import end_retired, tries_to_confirm
from oe.ike.exchanges.ike_sa_init import begin, send_request
from oe.ike.exchanges.informational import Liveness, close_child, delete_ike, delete_unheard
from oe.ike.exchanges.new_child import hurry, rekey_child, want_child
from oe.ike.exchanges.rekey_ike import RekeyIke, abandon_rekey
from oe.ike.inbound import Inbound
from oe.ike.message import Header, decode_header
from oe.ike.reach import follow_esp, keep_mapping
from oe.ike.sa import Answer, IkeSa, Role, Timer
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.ike.view import IkeSaRow, view
from oe.messages import ChildInstalled, DatagramReceived, OctetsSigned, PeerMoved, SpiReserved
from oe.model import ID_NULL, Address, Anonymity, PublicKey, Secret
from oe.negotiation import (
    CheckLiveness,
    CloseChild,
    CloseEverything,
    IkeInput,
    IkeOutput,
    Negotiate,
    NegotiationEnded,
    OwnKeysChanged,
    PeerJudged,
    RekeyChild,
)
from oe.reasons import Reason

_Args = TypeVarTuple("_Args")

DUE_AT_ONCE = 32
"""IKE SAs whose timers are seen to in one call of `expire`: packets in the trap wait meanwhile."""
NOBODY = IPv4Address(0)
"""Stands for the remote address where there is none to blame: an answer to a ticket that is no longer known."""


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
        crash_secret: Secret | None = None,
    ) -> None:
        """`own_keys`: best first, the first that the peer can verify is used. `admit`: whether to talk to an address
        that has no IKE SA yet. `tickets`, `child_ids`: sources of numbers that are unique in the daemon.
        `crash_secret`: the same after a crash as before (RFC 6290); without one peers get no token from us."""
        self._ctx = Context(settings, own_keys, entropy, tickets, child_ids, admit, crash_secret)
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
            case PeerMoved(child=child, remote=remote):
                self._with_child(child, lambda sa, _child, _now: follow_esp(self._ctx, sa, remote), now)
            case RekeyChild(child=child):
                self._with_child(child, lambda sa, child, _now: rekey_child(self._ctx, sa, child), now)
            case CloseChild(child=child):
                self._with_child(child, self._close_child, now)
            case CheckLiveness(child=child):
                self._with_child(child, self._check_liveness, now)
            case CloseEverything():
                self._close_everything(now)
            case OwnKeysChanged(keys=keys, at=at):
                self._ctx.own_keys, self._ctx.own_keys_at = keys, at
        self._resume(now)

    def expire(self, now: float) -> None:
        """Do what is due, or a part of it: `deadline` says whether some is left."""
        due: list[IkeSa] = []
        while self._timers and self._timers[0][0] <= now and len(due) < DUE_AT_ONCE:
            when, _, sa = heapq.heappop(self._timers)
            if sa.armed == when:
                sa.armed = None
                due.append(sa)
        for sa in due:
            self._contained(sa, self._expire, sa, now)
        self._resume(now)

    def deadline(self) -> float | None:
        """When to call `expire`, monotonic seconds; None: not before the next input."""
        while self._timers and self._timers[0][2].armed != self._timers[0][0]:
            heapq.heappop(self._timers)
        times = [postponed.at for postponed in self._ctx.postponed]
        times += [when for when, _, _ in self._timers[:1]]
        return min(times, default=None)

    def take(self) -> list[IkeOutput]:
        """What is to be done outside, in this order; the caller has it then."""
        output, self._ctx.output = self._ctx.output, []
        return output

    def snapshot(self) -> tuple[IkeSaRow, ...]:
        """All IKE SAs, oldest first."""
        return tuple(map(view, self._ctx.sas.values()))

    # --- containment and timers ---

    def _contained(self, sa: IkeSa | None, work: Callable[[*_Args], object], *args: *_Args) -> None:
        """Whatever goes wrong in `work` ends this IKE SA alone; afterwards its next deadline is known."""
        try:
            work(*args)
        except Exception as error:  # The one place: an engine with a mistake must go on serving its other peers.
            peer = "" if sa is None else str(sa.remote)
            self._ctx.note("error", "ike-sa-failed", ("peer", peer), ("error", repr(error)))
            if sa is not None and sa.state is not State.GONE:
                drop(self._ctx, sa, Reason.INTERNAL_ERROR, repr(error))
        finally:
            if sa is not None:
                self._arm(sa)
            while self._ctx.touched:
                self._arm(self._ctx.touched.pop())

    def _arm(self, sa: IkeSa) -> None:
        when = None if sa.state is State.GONE else sa.deadline()
        if when != sa.armed:
            sa.armed = when
            if when is not None:
                heapq.heappush(self._timers, (when, next(self._serial), sa))
            # An entry that was overtaken would keep an IKE SA that is gone, and its keys, until its time comes.
            if len(self._timers) > 16 + 2 * len(self._ctx.sas):
                self._timers = [entry for entry in self._timers if entry[2].armed == entry[0]]
                heapq.heapify(self._timers)

    def _expire(self, sa: IkeSa, now: float) -> None:
        ctx = self._ctx
        if sa.is_due(Timer.SETUP, now):
            self._setup_ended(sa)
        elif sa.is_due(Timer.LINGER, now):
            drop(ctx, sa, Reason.SUPERSEDED)
        elif sa.is_due(Timer.FOLLOWUP, now):
            abandon_rekey(ctx, sa)
        elif sa.is_due(Timer.REASSEMBLY, now):
            forget_fragments(sa)
        elif sa.is_due(Timer.KEEPALIVE, now):
            keep_mapping(ctx, sa, now)
        elif sa.is_due(Timer.LIFETIME, now):
            delete_ike(ctx, sa, Reason.LIFETIME_ENDED, now)
        elif sa.is_due(Timer.CHILDLESS, now):
            self._childless(sa, now)
        elif sa.is_due(Timer.REKEY, now):
            del sa.timers[Timer.REKEY]
            enqueue(ctx, sa, RekeyIke(ctx, sa), now)
        elif sa.is_due(Timer.CONFIRM, now):
            del sa.timers[Timer.CONFIRM]
            sa.is_unconfirmed = False
            self._ask(sa, tries_to_confirm(ctx, sa), now)
        elif sa.is_due(Timer.HURRY, now):
            hurry(ctx, sa, now)
        else:
            self._expire_children(sa, now)
            repeat_if_due(ctx, sa, now)

    def _childless(self, sa: IkeSa, now: float) -> None:
        if sa.is_needed:
            sa.timers[Timer.CHILDLESS] = now + self._ctx.settings.childless_lifetime
        else:
            delete_ike(self._ctx, sa, Reason.SUPERSEDED, now)

    def _expire_children(self, sa: IkeSa, now: float) -> None:
        for child in tuple(sa.children.values()):
            if child.is_due(ChildTimer.END, now):
                close_child(self._ctx, sa, child, Reason.LIFETIME_ENDED, now)
            elif child.is_due(ChildTimer.DELETE, now):
                end_retired(self._ctx, sa, child, now)
            elif child.is_due(ChildTimer.REKEY, now):
                rekey_child(self._ctx, sa, child)
            if sa.state is not State.ESTABLISHED:
                return

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
        self._contained(sa, self._receive, datagram, header, sa, now)

    def _receive(self, datagram: DatagramReceived, header: Header, sa: IkeSa | None, now: float) -> None:
        try:
            made = self._inbound.receive(datagram, header, sa, now)
            if made is not None:
                self._arm(made)
        except ParseError as error:
            self._ctx.reject(Reason.INVALID_SYNTAX, datagram.remote.address, str(error))

    def _answer(self, answer: Answer, now: float) -> None:
        found = self._ctx.claim(answer.ticket)
        if found is None:
            self._ctx.reject(Reason.LATE_ANSWER, NOBODY, type(answer).__name__)
            return
        sa, asker = found
        self._contained(sa, asker.answer, answer, now)

    def _negotiate(self, negotiate: Negotiate, now: float) -> None:
        if self._ctx.stopping:
            self._ctx.emit(NegotiationEnded(negotiate.ticket, Reason.STOPPING, "", authenticated=False))
            return
        standing = self._standing(negotiate)
        if standing is not None:
            self._contained(standing, want_child, self._ctx, standing, negotiate, now)
            return
        sa = begin(self._ctx, negotiate, now)
        self._contained(sa, send_request, self._ctx, sa, now)

    def _standing(self, negotiate: Negotiate) -> IkeSa | None:
        """An established IKE SA with the peer that a Child SA can be made in; the youngest of several."""
        known = self._ctx.with_identities(negotiate.local.address, negotiate.peer_identity)
        own = Anonymity.ANONYMOUS if negotiate.own_identity == ID_NULL else Anonymity.AUTHENTICATED
        good = (
            sa for sa in known if sa.takes_children and sa.peer_key in negotiate.peer_keys and sa.own_anonymity is own
        )
        return next(reversed(tuple(good)), None)

    def _resume(self, now: float) -> None:
        """Negotiations that found no IKE SA, or lost theirs, begin again; those that came to nothing end."""
        if not self._ctx.postponed:
            return
        waiting, self._ctx.postponed = self._ctx.postponed, []
        for postponed in waiting:
            negotiation = postponed.negotiation
            if postponed.at > now and not self._ctx.stopping:
                self._ctx.postponed.append(postponed)
            elif postponed.end is not None:
                self._ctx.emit(postponed.end)
            elif now >= negotiation.deadline:
                text = "no IKE SA in which the peer made a Child SA in time"
                ended = NegotiationEnded(negotiation.ticket, Reason.NEGOTIATION_TIMEOUT, text, authenticated=False)
                self._ctx.emit(ended)
            else:
                self._negotiate(negotiation, now)

    def _close_child(self, sa: IkeSa, child: Child, now: float) -> None:
        if sa.state is State.ESTABLISHED and child.made is not None:
            close_child(self._ctx, sa, child, None, now)
        else:
            # As responder, before our answer: the peer does not have it yet and will be refused.
            end_child(self._ctx, sa, child.sa.id, None)

    def _check_liveness(self, sa: IkeSa, child: Child, now: float) -> None:
        self._ask(sa, self._ctx.settings.liveness_tries, now)

    def _ask(self, sa: IkeSa, tries: int, now: float) -> None:
        """Whether the peer lives. A request that is under way asks the same question."""
        if sa.state is State.ESTABLISHED and sa.requests.pending is None and not sa.is_unconfirmed:
            enqueue(self._ctx, sa, Liveness(self._ctx, sa, tries), now)

    def _with_child(self, child_id: int, act: Callable[[IkeSa, Child, float], None], now: float) -> None:
        """Act on a Child SA of ours; it may be gone, with a `ChildClosed` that crossed the coordinator's word."""
        found = self._ctx.children.get(child_id)
        if found is not None:
            sa, child = found
            self._contained(sa, act, sa, child, now)

    def _close_everything(self, now: float) -> None:
        self._ctx.stopping = True
        for sa in tuple(self._ctx.sas.values()):
            self._contained(sa, self._stop, sa)

    def _stop(self, sa: IkeSa) -> None:
        if sa.state is State.ESTABLISHED:
            delete_unheard(self._ctx, sa)
        drop(self._ctx, sa, Reason.STOPPING)
