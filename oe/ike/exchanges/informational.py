"""INFORMATIONAL: Deletes of Child and IKE SAs, liveness, late complaints (RFC 7296 1.4, 2.4, 2.21.2).

HDR, SK{}                        ──▶   is the peer alive?
                                 ◀──   HDR, SK{}
HDR, SK{D(ESP, our inbound SPI)} ──▶   a Child SA is over, both directions of it
                                 ◀──   HDR, SK{D(ESP, its inbound SPI)}
HDR, SK{D(IKE)}                  ──▶   all is over
                                 ◀──   HDR, SK{}
"""

from dataclasses import dataclass

from oe.ike.channel import drop, end_child, enqueue, finish_request, header, linger, respond, say_goodbye, send
from oe.ike.child import Child
from oe.ike.context import Context
from oe.ike.message import seal
from oe.ike.payloads import MAX_DELETED, DeletePayload, NotifyPayload, Payload, find_notify
from oe.ike.recovery import keep_token, own_token
from oe.ike.registry import ExchangeType, NotifyType, ProtocolId
from oe.ike.sa import IkeSa, Timer
from oe.ike.states import ChildStep, State
from oe.ike.succession import confirm, succeed
from oe.negotiation import ChildClosed
from oe.reasons import Reason


@dataclass(slots=True)
class Liveness:
    """Ask whether the peer lives. Its answer changes nothing, its silence ends the IKE SA."""

    ctx: Context
    sa: IkeSa
    tries: int
    """How often it is sent."""
    exchange = ExchangeType.INFORMATIONAL

    def payloads(self, now: float) -> tuple[Payload, ...] | None:
        return ()

    def deadline(self, now: float) -> float:
        # Sent at 0, 1, 3, 7, ... intervals; the last one gets its pause too.
        return now + self.ctx.settings.retransmit_interval * ((1 << self.tries) - 1)

    def answered(self, payloads: tuple[Payload, ...], now: float) -> None:
        pass

    def unanswered(self, now: float) -> None:
        give_up(self.ctx, self.sa, now)


@dataclass(slots=True)
class GiveToken:
    """Give the peer our crash token for an IKE SA that we made by a rekey (RFC 6290 4.3)."""

    ctx: Context
    sa: IkeSa
    exchange = ExchangeType.INFORMATIONAL

    def payloads(self, now: float) -> tuple[Payload, ...] | None:
        return own_token(self.ctx, self.sa) or None

    def deadline(self, now: float) -> float:
        return now + self.ctx.settings.request_patience

    def answered(self, payloads: tuple[Payload, ...], now: float) -> None:
        pass

    def unanswered(self, now: float) -> None:
        give_up(self.ctx, self.sa, now)


@dataclass(slots=True)
class DeleteChild:
    """Tell the peer that a Child SA is over."""

    ctx: Context
    sa: IkeSa
    child: Child
    exchange = ExchangeType.INFORMATIONAL

    def payloads(self, now: float) -> tuple[Payload, ...] | None:
        if self.child.sa.id not in self.sa.children:  # The peer's Delete crossed ours.
            return None
        return (DeletePayload(ProtocolId.ESP, (self.child.sa.inbound.spi,)),)

    def deadline(self, now: float) -> float:
        return now + self.ctx.settings.request_patience

    def answered(self, payloads: tuple[Payload, ...], now: float) -> None:
        end_child(self.ctx, self.sa, self.child.sa.id, Reason.SUPERSEDED)
        if self.sa.state is State.ESTABLISHED and not self.sa.children and not self.sa.is_needed:
            delete_ike(self.ctx, self.sa, Reason.SUPERSEDED, now)

    def unanswered(self, now: float) -> None:
        give_up(self.ctx, self.sa, now)


@dataclass(slots=True)
class DeleteSpi:
    """Tell the peer that a Child SA is over which it has made and we have not."""

    ctx: Context
    sa: IkeSa
    spi: int
    """Ours, of the half that would be inbound."""
    exchange = ExchangeType.INFORMATIONAL

    def payloads(self, now: float) -> tuple[Payload, ...] | None:
        return (DeletePayload(ProtocolId.ESP, (self.spi,)),)

    def deadline(self, now: float) -> float:
        return now + self.ctx.settings.request_patience

    def answered(self, payloads: tuple[Payload, ...], now: float) -> None:
        pass

    def unanswered(self, now: float) -> None:
        give_up(self.ctx, self.sa, now)


@dataclass(slots=True)
class Goodbye:
    """The last request of an IKE SA: its Delete, or what it died of."""

    ctx: Context
    sa: IkeSa
    word: Payload
    exchange = ExchangeType.INFORMATIONAL

    def payloads(self, now: float) -> tuple[Payload, ...] | None:
        return (self.word,)

    def deadline(self, now: float) -> float:
        return now + self.ctx.settings.request_patience

    def answered(self, payloads: tuple[Payload, ...], now: float) -> None:
        drop(self.ctx, self.sa, Reason.SUPERSEDED)

    def unanswered(self, now: float) -> None:
        give_up(self.ctx, self.sa, now)


DELETE_IKE = DeletePayload(ProtocolId.IKE)


def delete_ike(ctx: Context, sa: IkeSa, reason: Reason, now: float, detail: str = "") -> None:
    """End an established IKE SA with a Delete; its Child SAs end with `reason`."""
    say_goodbye(ctx, sa, Goodbye(ctx, sa, DELETE_IKE), reason, detail, now)


def delete_unheard(ctx: Context, sa: IkeSa) -> None:
    """Send a Delete that is not repeated and whose answer nobody waits for; the caller drops `sa` next."""
    finish_request(sa)
    head = header(sa, ExchangeType.INFORMATIONAL, sa.requests.next_id, is_response=False)
    send(ctx, sa, seal(head, (DELETE_IKE,), sa.sealing))


def give_up(ctx: Context, sa: IkeSa, now: float) -> None:
    """Nothing is heard of the peer of `sa`: that ends, and its others are asked whether they live."""
    if sa.state is not State.CLOSING:
        # Perhaps only its answers are lost: then it should not go on sending into nothing.
        delete_unheard(ctx, sa)
    drop(ctx, sa, Reason.LIVENESS_FAILED)
    doubt_others(ctx, sa, now)


def doubt_others(ctx: Context, sa: IkeSa, now: float) -> None:
    """What happened to `sa` may have happened to all that the peer had: it is asked in each of its other IKE SAs, and
    none of them is entrusted with anything new before it answers."""
    if sa.peer_identity is None:
        return
    for other in ctx.with_identities(sa.local.address, sa.peer_identity):
        same = other is not sa and other.remote.address == sa.remote.address
        if same and other.state is State.ESTABLISHED and not other.is_doubted:
            other.is_doubted = True
            if other.requests.pending is None:
                enqueue(ctx, other, Liveness(ctx, other, ctx.settings.confirm_tries), now)
            ctx.touched.append(other)


def complain(ctx: Context, sa: IkeSa, notify: NotifyType, reason: Reason, detail: str, now: float) -> None:
    """As initiator: end an IKE SA whose responder did not prove who it is, and say so (RFC 7296 2.21.2)."""
    say_goodbye(ctx, sa, Goodbye(ctx, sa, NotifyPayload(notify)), reason, detail, now)


def close_child(ctx: Context, sa: IkeSa, child: Child, reason: Reason | None, now: float) -> None:
    """End a Child SA with a Delete; the last one takes the IKE SA with it. `reason` None: the coordinator knows."""
    if reason is not None and not child.is_told:
        ctx.emit(ChildClosed(child.sa.id, reason))
    child.is_told = True
    if child.is_closing:
        return
    child.timers.clear()
    child.advance(ChildStep.DELETED)
    if sa.is_needed:
        enqueue(ctx, sa, DeleteChild(ctx, sa, child), now)
    else:
        delete_ike(ctx, sa, Reason.SUPERSEDED, now)


def retire_child(ctx: Context, sa: IkeSa, child: Child, now: float) -> None:
    """End a Child SA whose place another has taken. The coordinator hears of it when the peer sends nothing into it
    any more: with the answer to the Delete."""
    child.timers.clear()
    if not child.is_closing:  # It may be, when a Delete of it waited for its turn in a predecessor of `sa`.
        child.advance(ChildStep.DELETED)
    enqueue(ctx, sa, DeleteChild(ctx, sa, child), now)


def respond_informational(ctx: Context, sa: IkeSa, payloads: tuple[Payload, ...], now: float) -> None:
    """Answer the peer's INFORMATIONAL request."""
    keep_token(sa, payloads)
    deletes = [payload for payload in payloads if isinstance(payload, DeletePayload)]
    if sa.rival is not None and any(delete.protocol == ProtocolId.IKE for delete in deletes):
        # The peer did not see that we asked for a successor too: its own is the one (RFC 7296 2.8.2).
        succeed(ctx, sa, sa.rival, now)
    if find_notify(payloads, NotifyType.AUTHENTICATION_FAILED) is not None:
        respond(ctx, sa, ExchangeType.INFORMATIONAL, ())
        linger(ctx, sa, Reason.WE_WERE_REFUSED, now)
    elif any(delete.protocol == ProtocolId.IKE for delete in deletes):
        respond(ctx, sa, ExchangeType.INFORMATIONAL, ())
        if sa.heir is not None:
            confirm(ctx, sa.heir, now)
        linger(ctx, sa, Reason.DELETED_BY_PEER, now)
    else:
        gone = _children_of(sa, deletes)
        _remember_early(sa, deletes)
        # In an answer to a Delete that crossed ours our half is not named again (RFC 7296 1.4.1).
        ours = tuple(child.sa.inbound.spi for child in gone if not child.is_closing)
        for child in gone:
            end_child(ctx, sa, child.sa.id, Reason.DELETED_BY_PEER)
        respond(ctx, sa, ExchangeType.INFORMATIONAL, (DeletePayload(ProtocolId.ESP, ours),) if ours else ())
        if gone and not sa.is_needed:
            sa.timers.setdefault(Timer.CHILDLESS, now + ctx.settings.childless_lifetime)


def _remember_early(sa: IkeSa, deletes: list[DeletePayload]) -> None:
    """Keep SPIs that nobody has so far, if one that has them may be on its way to us."""
    if sa.requests.pending is not None and len(sa.deleted_early) < MAX_DELETED:
        sa.deleted_early.update(spi for delete in deletes for spi in delete.spis[:MAX_DELETED])


def _children_of(sa: IkeSa, deletes: list[DeletePayload]) -> list[Child]:
    """The Child SAs whose peer's half is deleted: it names the SPIs that it receives with, ours to send with.

    SPIs of Child SAs gone already are passed over: crossed Deletes (RFC 7296 1.4.1).
    """
    spis = {spi for delete in deletes if delete.protocol == ProtocolId.ESP for spi in delete.spis}
    return [child for child in sa.children.values() if child.sa.outbound.spi in spis]
