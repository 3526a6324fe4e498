"""CREATE_CHILD_SA as initiator: a further Child SA, or the successor of one (RFC 7296 1.3.1, 1.3.3, 2.8).

    HDR, SK{[N(REKEY_SA),] SA, Ni, KEi, TSi, TSr}  ──▶
                                         ◀──  HDR, SK{SA, Nr, [KEr,] TSi, TSr}
                                    or   ◀──  HDR, SK{N(INVALID_KE_PAYLOAD)}   again, with another group
                                    or   ◀──  HDR, SK{N(TEMPORARY_FAILURE)}    again, after a pause
                                    or   ◀──  HDR, SK{N(...)}                  no Child SA

We offer forward secrecy, and the same without it: a peer that wants none has keys that come from the IKE SA's. A new
Child SA that nobody waits for any more is deleted again.
"""

from dataclasses import dataclass, field

from oe.ike.channel import end_child, enqueue
from oe.ike.child import Child, ChildTimer, Origin, exact_pair, selectors
from oe.ike.context import Context
from oe.ike.exchanges.child_sa import Installation, Terms, complete, directions_of, make_child, refusal
from oe.ike.exchanges.informational import DeleteSpi, close_child, doubt_others, give_up
from oe.ike.kex import KeyExchange, agree
from oe.ike.payloads import (
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    TsPayload,
    find,
    find_error,
)
from oe.ike.proposals import IKE_GROUPS, accept_esp, offer_esp_with_pfs, requested_group
from oe.ike.registry import ExchangeType, KeyExchangeId, NotifyType, PayloadType, ProtocolId
from oe.ike.sa import Answer, IkeSa, Timer, Wanted
from oe.ike.states import ChildState, ChildStep, State
from oe.ike.succession import pause
from oe.messages import ReserveSpi, SpiReserved
from oe.model import HostPair
from oe.negotiation import Negotiate, NegotiationEnded
from oe.reasons import Reason

NONCE_OCTETS = 32
"""RFC 7296 2.10: at least 16, and half the key size of the PRF."""
MAX_GROUPS = 3
"""How many KE groups are tried in one attempt."""


def want_child(ctx: Context, sa: IkeSa, negotiation: Negotiate, now: float) -> None:
    """Have a Child SA made in `sa` for `negotiation`; half of the time that is left stays for a new IKE SA."""
    until = now + (negotiation.deadline - now) / 2
    sa.wanted[negotiation.ticket] = Wanted(negotiation, until)
    sa.timers[Timer.HURRY] = min(until, sa.timers.get(Timer.HURRY, until))
    _start(CreateChild(ctx, sa, negotiation.pair, negotiation.fail_closed, negotiation=negotiation))


def rekey_child(ctx: Context, sa: IkeSa, child: Child) -> None:
    """Have a successor of `child` made, unless that is under way or there is one."""
    child.timers.pop(ChildTimer.REKEY, None)
    if sa.state is State.ESTABLISHED and child.state is ChildState.UP and child.is_in_use:
        _start(CreateChild(ctx, sa, child.sa.pair, child.sa.fail_closed, old=child))


def hurry(ctx: Context, sa: IkeSa, now: float) -> None:
    """Negotiations that have waited long enough for `sa` go elsewhere."""
    leave(ctx, sa, now, tuple(ticket for ticket, wanted in sa.wanted.items() if wanted.until <= now))


def leave(ctx: Context, sa: IkeSa, now: float, tickets: tuple[int, ...] | None = None) -> None:
    """These negotiations, or all, do not wait for `sa` any longer, of whose peer nothing is heard."""
    for ticket in tuple(sa.wanted) if tickets is None else tickets:
        sa.is_doubted = True
        ctx.postpone(sa.wanted.pop(ticket).negotiation, now)
    if sa.is_doubted:
        doubt_others(ctx, sa, now)
    sa.timers.pop(Timer.HURRY, None)
    if sa.wanted:
        sa.timers[Timer.HURRY] = min(wanted.until for wanted in sa.wanted.values())


def _start(task: "CreateChild") -> None:
    ctx, sa = task.ctx, task.sa
    ctx.emit(ReserveSpi(ctx.ticket(sa, task), sa.local.address, sa.remote.address))


@dataclass(slots=True)
class CreateChild:
    """Our request, from the SPI that it needs to its answer."""

    ctx: Context
    sa: IkeSa
    pair: HostPair
    fail_closed: bool
    negotiation: Negotiate | None = None
    old: Child | None = None
    """The Child SA to be succeeded. Either this or `negotiation` is there."""
    groups: list[KeyExchangeId] = field(default_factory=lambda: [IKE_GROUPS[0]])
    """Tried so far; the last one is that of `kex`."""
    spi: int = 0
    nonce: bytes = b""
    kex: KeyExchange | None = None
    offer: SaPayload = field(default_factory=lambda: SaPayload(()))
    begun: float = 0.0
    exchange = ExchangeType.CREATE_CHILD_SA

    def answer(self, answer: Answer, now: float) -> None:
        if isinstance(answer, SpiReserved):
            self.spi = answer.spi
            enqueue(self.ctx, self.sa, self, now)

    def payloads(self, now: float) -> tuple[Payload, ...] | None:
        if self.sa.state is not State.ESTABLISHED or not self._is_wanted(ChildState.UP):
            return None
        rekey: tuple[Payload, ...] = ()
        if self.old is not None:
            self.old.advance(ChildStep.REKEY_SENT)
            spi = self.old.sa.inbound.spi.to_bytes(4, "big")
            rekey = (NotifyPayload(NotifyType.REKEY_SA, b"", ProtocolId.ESP, spi),)
        self.begun = now
        self.nonce = self.ctx.entropy(NONCE_OCTETS)
        self.kex = KeyExchange.generate(self.groups[-1], self.ctx.entropy)
        self.offer = offer_esp_with_pfs(self.spi, IKE_GROUPS)
        key = KePayload(self.kex.group, self.kex.public)
        return (*rekey, self.offer, NoncePayload(self.nonce), key, *selectors(self.pair, we_initiate=True))

    def _is_wanted(self, state: ChildState) -> bool:
        """Somebody waits for it: a negotiation, or a predecessor in this state."""
        if self.negotiation is not None:
            return self.negotiation.ticket in self.sa.wanted
        return self.old is not None and self.old.sa.id in self.sa.children and self.old.state is state

    def deadline(self, now: float) -> float:
        return now + self.ctx.settings.request_patience

    def unanswered(self, now: float) -> None:
        give_up(self.ctx, self.sa, now)

    def answered(self, payloads: tuple[Payload, ...], now: float) -> None:
        sa = self.sa
        if sa.state is not State.ESTABLISHED:
            return  # It is over, with all its Child SAs.
        terms = self._terms(payloads)
        if terms is None:
            self._refused(payloads, now)
            return
        child = make_child(self.ctx, sa, terms, now)
        if not self._is_wanted(ChildState.REKEYING):
            close_child(self.ctx, sa, child, None, now)
            return
        ticket = None
        if self.negotiation is not None:
            ticket = self.negotiation.ticket
            del sa.wanted[ticket]
        complete(self.ctx, sa, child, now)
        Installation(self.ctx, sa, child).ask(directions_of(child), ticket)

    def _terms(self, payloads: tuple[Payload, ...]) -> Terms | None:
        """What the peer took of our offer; None: nothing, or not of our offer, or it has deleted that already."""
        answered, nonce = find(payloads, SaPayload), find(payloads, NoncePayload)
        ours, theirs = find(payloads, TsPayload, PayloadType.TS_I), find(payloads, TsPayload, PayloadType.TS_R)
        if answered is None or nonce is None or ours is None or theirs is None or self.kex is None:
            return None
        esp = accept_esp(self.offer, answered)
        if esp is None or exact_pair(ours, theirs) != self.pair or esp.spi in self.sa.deleted_early:
            return None
        shared = None
        if esp.group is not None:
            shared = agree(self.kex, find(payloads, KePayload)) if esp.group == self.kex.group else None
            if shared is None:
                return None
        origin = Origin(True, (self.nonce, nonce.data), self.begun)
        return Terms(self.pair, esp, self.spi, origin, shared, self.fail_closed, self.old)

    # --- refusals ---

    def _refused(self, payloads: tuple[Payload, ...], now: float) -> None:
        error = find_error(payloads)
        notify = None if error is None else error.notify
        if notify is None:
            # The peer has a Child SA now, and it is not the one that we asked for.
            enqueue(self.ctx, self.sa, DeleteSpi(self.ctx, self.sa, self.spi), now)
        if self.old is not None:
            self._old_goes_on(self.old)
        if error is not None and notify == NotifyType.INVALID_KE_PAYLOAD and len(self.groups) < MAX_GROUPS:
            group = requested_group(error, self.offer)
            if group is not None and group not in self.groups:
                self.groups.append(group)
                enqueue(self.ctx, self.sa, self, now)
                return
        if self.old is not None:
            self._rekey_later(self.old, notify, now)
        elif self.negotiation is not None and self.sa.wanted.pop(self.negotiation.ticket, None) is not None:
            self._negotiation_refused(self.negotiation, payloads, notify, now)
        if not self.sa.children:
            self.sa.timers.setdefault(Timer.CHILDLESS, now + self.ctx.settings.childless_lifetime)

    def _old_goes_on(self, old: Child) -> None:
        if old.sa.id not in self.sa.children or old.state is not ChildState.REKEYING:
            return
        # Where the peer asked for a successor at the same time, that one is it.
        old.advance(ChildStep.REKEY_FAILED if old.successor is None else ChildStep.REKEYED)

    def _rekey_later(self, old: Child, notify: NotifyType | None, now: float) -> None:
        if old.sa.id not in self.sa.children or not old.is_in_use:
            return
        if notify == NotifyType.CHILD_SA_NOT_FOUND:
            end_child(self.ctx, self.sa, old.sa.id, Reason.DELETED_BY_PEER)
            return
        old.refusals += 1
        wait = pause(self.ctx, old.refusals, is_temporary=notify == NotifyType.TEMPORARY_FAILURE)
        old.timers[ChildTimer.REKEY] = now + wait

    def _negotiation_refused(
        self, negotiation: Negotiate, payloads: tuple[Payload, ...], notify: NotifyType | None, now: float
    ) -> None:
        if notify == NotifyType.NO_ADDITIONAL_SAS:
            self.sa.is_full = True
            self.ctx.postpone(negotiation, now)
        elif notify == NotifyType.TEMPORARY_FAILURE:
            self.ctx.postpone(negotiation, now + pause(self.ctx, 1, is_temporary=True))
        else:
            reason, detail = refusal(payloads, "CREATE_CHILD_SA with what was not offered")
            self.ctx.emit(NegotiationEnded(negotiation.ticket, reason, detail, authenticated=self.sa.is_proved))
