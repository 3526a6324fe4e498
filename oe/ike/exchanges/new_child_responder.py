"""CREATE_CHILD_SA as responder: a further Child SA, or the successor of one (RFC 7296 1.3.1, 1.3.3, 2.8).

    request ──▶ JudgePeer, unless it is a rekey ──▶ ReserveSpi ──▶ ChildReady(INBOUND)
            ──▶ in place: ChildReady(OUTBOUND), then the response leaves

A rekey is of what was granted; the coordinator closes what is granted no longer. Otherwise as in IKE_AUTH: what the
peer asks for is judged anew, and nothing of it is in use before both halves were asked for.
"""

from dataclasses import dataclass

from oe.ike.channel import end_child, respond, respond_malformed
from oe.ike.child import Child, Origin, exact_pair, selectors
from oe.ike.context import Context
from oe.ike.exchanges.child_sa import Installation, Terms, ask_install, complete, make_child
from oe.ike.exchanges.new_child import NONCE_OCTETS
from oe.ike.kex import KeyExchange, agree
from oe.ike.nat import Nat
from oe.ike.payloads import KePayload, NoncePayload, NotifyPayload, Payload, SaPayload, TsPayload, find
from oe.ike.proposals import IKE_GROUPS, ChosenEsp, choose_esp, invalid_ke, refusals
from oe.ike.registry import ExchangeType, NotifyType, PayloadType
from oe.ike.sa import Answer, IkeSa, Timer
from oe.ike.states import State
from oe.messages import ChildInstalled, ReserveSpi, SpiReserved
from oe.model import Anonymity, Directions, HostPair, Secret
from oe.negotiation import JudgePeer, PeerJudged
from oe.reasons import Reason


def respond_new_child(ctx: Context, sa: IkeSa, payloads: tuple[Payload, ...], old: Child | None, now: float) -> None:
    """Answer a request for a Child SA, now or later. `old`: the one that it shall succeed."""
    offered, nonce, key = find(payloads, SaPayload), find(payloads, NoncePayload), find(payloads, KePayload)
    theirs, ours = find(payloads, TsPayload, PayloadType.TS_I), find(payloads, TsPayload, PayloadType.TS_R)
    if offered is None or nonce is None or theirs is None or ours is None:
        raise RuntimeError("a request that the table of shapes lets in has them")
    pair = exact_pair(ours, theirs)
    if pair is None or (old is not None and pair != old.sa.pair):
        text = ", ".join(str(selector) for selector in (*theirs.selectors, *ours.selectors))
        refuse_child(ctx, sa, NotifyType.TS_UNACCEPTABLE, Reason.TS_UNACCEPTABLE, text, now)
        return
    if len(ctx.children_for(sa, pair)) >= ctx.settings.children_per_pair:
        refuse_child(ctx, sa, NotifyType.NO_ADDITIONAL_SAS, Reason.TOO_MANY_CHILDREN, str(pair), now)
        return
    esp = choose_esp(offered, None if key is None else key.group)
    if esp is None and key is None and (wanted := choose_esp(offered, IKE_GROUPS[0])) is not None:
        esp = wanted  # It insists on a key exchange and has sent none.
    if esp is None:
        refuse_child(
            ctx, sa, NotifyType.NO_PROPOSAL_CHOSEN, Reason.NO_PROPOSAL_CHOSEN, "; ".join(refusals(offered)), now
        )
        return
    if esp.group is not None and (key is None or key.group != esp.group):
        respond(ctx, sa, ExchangeType.CREATE_CHILD_SA, (invalid_ke(esp.group),))
        return
    task = NewChildResponder(ctx, sa, pair, esp, nonce.data, now, old)
    if esp.group is not None and not task.agree(key):
        ctx.reject(Reason.INVALID_SYNTAX, sa.remote.address, "no good public value in KE")
        respond_malformed(ctx, sa, ExchangeType.CREATE_CHILD_SA, now)
        return
    task.start(now)


def refuse_child(ctx: Context, sa: IkeSa, notify: NotifyType, reason: Reason, detail: str, now: float) -> None:
    """Answer with an error. The IKE SA stands (RFC 7296 1.3), for a while even without any Child SA."""
    ctx.reject(reason, sa.remote.address, detail)
    respond(ctx, sa, ExchangeType.CREATE_CHILD_SA, (NotifyPayload(notify),))
    if not sa.is_needed:
        sa.timers.setdefault(Timer.CHILDLESS, now + ctx.settings.childless_lifetime)


@dataclass(slots=True)
class NewChildResponder:
    """The peer's request, from its arrival to our response."""

    ctx: Context
    sa: IkeSa
    pair: HostPair
    esp: ChosenEsp
    peer_nonce: bytes
    begun: float
    old: Child | None
    kex: KeyExchange | None = None
    shared: Secret | None = None
    fail_closed: bool = False
    spi: int = 0
    nonce: bytes = b""
    child: Child | None = None

    def agree(self, key: KePayload | None) -> bool:
        """Our half of the key exchange; False: the peer's is no good."""
        if key is None:
            return False
        self.kex = KeyExchange.generate(key.group, self.ctx.entropy)
        self.shared = agree(self.kex, key)
        return self.shared is not None

    def start(self, now: float) -> None:
        sa = self.sa
        if self.old is not None:
            self.fail_closed = self.old.sa.fail_closed
            self._reserve()
        elif sa.peer_identity is not None:
            until = now + self.ctx.settings.half_open_lifetime
            ticket = self.ctx.ticket(sa, self)
            nat = sa.nat is not Nat.NOBODY
            self.ctx.emit(JudgePeer(ticket, sa.local, sa.remote, sa.peer_identity, self.pair, until, nat))

    def _reserve(self) -> None:
        local, remote = self.sa.local.address, self.sa.remote.address
        self.ctx.emit(ReserveSpi(self.ctx.ticket(self.sa, self), local, remote))

    def answer(self, answer: Answer, now: float) -> None:
        if self.sa.state is not State.ESTABLISHED:
            self._too_late()
            return
        match answer:
            case PeerJudged():
                self._judged(answer, now)
            case SpiReserved(spi=spi):
                self._ask_inbound(spi, now)
            case ChildInstalled(reason=reason):
                self._installed(reason, now)

    def _too_late(self) -> None:
        """The IKE SA ended meanwhile, or has a successor. A peer that goes by RFC 7296 2.25 never meets this."""
        if self.child is not None and (found := self.ctx.children.get(self.child.sa.id)) is not None:
            end_child(self.ctx, found[0], self.child.sa.id, Reason.SUPERSEDED)
        if self.sa.state is State.REPLACED:
            refused = NotifyPayload(NotifyType.TEMPORARY_FAILURE)
            respond(self.ctx, self.sa, ExchangeType.CREATE_CHILD_SA, (refused,))

    def _judged(self, verdict: PeerJudged, now: float) -> None:
        reason = verdict.refusal
        if reason is None and self.sa.peer_key is None and verdict.anonymity is not Anonymity.ANONYMOUS:
            reason = Reason.ANONYMOUS_REFUSED
        elif reason is None and self.sa.peer_key is not None and self.sa.peer_key not in verdict.keys:
            reason = Reason.NOT_DELEGATED  # The key that proved who the peer is has no say for this pair.
        if reason is not None:
            text = f"{self.sa.peer_identity} may not have {self.pair}"
            refuse_child(self.ctx, self.sa, NotifyType.TS_UNACCEPTABLE, reason, text, now)
            return
        self.fail_closed = verdict.fail_closed
        self._reserve()

    def _ask_inbound(self, spi: int, now: float) -> None:
        old = self.old
        if old is not None and (old.sa.id not in self.sa.children or old.is_closing):
            refuse_child(
                self.ctx,
                self.sa,
                NotifyType.CHILD_SA_NOT_FOUND,
                Reason.SUPERSEDED,
                "closed while its successor was made",
                now,
            )
            return
        self.spi, self.nonce = spi, self.ctx.entropy(NONCE_OCTETS)
        origin = Origin(False, (self.peer_nonce, self.nonce), self.begun)
        terms = Terms(self.pair, self.esp, spi, origin, self.shared, self.fail_closed, old)
        self.child = make_child(self.ctx, self.sa, terms, now)
        ask_install(self.ctx, self.sa, self.child, Directions.INBOUND, None, self)

    def _installed(self, failure: Reason | None, now: float) -> None:
        sa, child = self.sa, self.child
        if child is None or child.sa.id not in sa.children:
            refuse_child(
                self.ctx, sa, NotifyType.TS_UNACCEPTABLE, Reason.SUPERSEDED, f"{self.pair} is not wanted any more", now
            )
            return
        if failure is not None:
            end_child(self.ctx, sa, child.sa.id, Reason.INSTALL_FAILED)
            refuse_child(self.ctx, sa, NotifyType.TEMPORARY_FAILURE, Reason.INSTALL_FAILED, str(self.pair), now)
            return
        Installation(self.ctx, sa, child).ask(Directions.OUTBOUND, None)
        key = () if self.kex is None else (KePayload(self.kex.group, self.kex.public),)
        both = selectors(self.pair, we_initiate=False)
        respond(
            self.ctx,
            sa,
            ExchangeType.CREATE_CHILD_SA,
            (self.esp.answer(self.spi), NoncePayload(self.nonce), *key, *both),
        )
        complete(self.ctx, sa, child, now)
