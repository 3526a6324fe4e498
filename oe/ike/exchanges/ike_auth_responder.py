"""IKE_AUTH as responder (RFC 7296 1.2, 2.15, 2.21.2; RFC 4322 for what a pair is).

    request ──▶ JudgePeer ──▶ verdict, signature good? ──▶ SignOctets, ReserveSpi ──▶ ChildReady(INBOUND)
            ──▶ in place: ChildReady(OUTBOUND), then the response leaves, IKE SA is established

Both SAs are asked for before the peer can use either: what its first packet provokes must find the way back protected,
however soon it comes. Packets that we hold leave only after the response, which makes the peer able to read them.
A refused identity ends the IKE SA; a refused pair does not, but without a Child SA it lives for a moment only.
"""

from dataclasses import dataclass

from oe.ike.auth import verify, wrap
from oe.ike.channel import drop, end_child, linger, respond
from oe.ike.child import Child, exact_pair, selectors
from oe.ike.context import Context
from oe.ike.exchanges.ike_auth import Installation, Missing, choose_own_key, establish, make_child, octets_of
from oe.ike.payloads import (
    AuthPayload,
    IdPayload,
    NotifyPayload,
    Payload,
    SaPayload,
    TsPayload,
    find,
    find_notify,
)
from oe.ike.proposals import ChosenEsp, choose_esp, refusals
from oe.ike.registry import ExchangeType, NotifyType, PayloadType
from oe.ike.sa import Answer, IkeSa, Timer
from oe.ike.states import Step
from oe.messages import (
    ChildInstalled,
    ChildReady,
    JudgePeer,
    OctetsSigned,
    PeerJudged,
    ReserveSpi,
    SignOctets,
    SpiReserved,
)
from oe.model import Directions, HostPair, Identity, Reason, SignatureScheme


def respond_auth(ctx: Context, sa: IkeSa, payloads: tuple[Payload, ...], now: float) -> None:
    """Work on the peer's IKE_AUTH request; the response leaves when all that it needs is there."""
    sa.advance(Step.AUTH_REQUESTED)
    identity, auth = find(payloads, IdPayload, PayloadType.ID_I), find(payloads, AuthPayload)
    offered = find(payloads, SaPayload)
    theirs, ours = find(payloads, TsPayload, PayloadType.TS_I), find(payloads, TsPayload, PayloadType.TS_R)
    claimed = identity.identity if identity is not None else None
    if identity is None or auth is None or claimed is None:
        refuse(ctx, sa, _UNAUTHENTICATED, f"no AUTH, or an identity we do not know: {identity}", now)
        return
    if offered is None or theirs is None or ours is None:
        refuse(ctx, sa, NotifyPayload(NotifyType.INVALID_SYNTAX), "IKE_AUTH request without SA, TSi or TSr", now)
        return
    contact = find_notify(payloads, NotifyType.INITIAL_CONTACT) is not None
    pair = exact_pair(ours, theirs)
    task = AuthResponder(ctx, sa, identity, claimed, auth, offered, pair, contact)
    if pair is None:
        text = ", ".join(str(selector) for selector in (*theirs.selectors, *ours.selectors))
        ctx.reject(Reason.TS_UNACCEPTABLE, sa.remote.address, text)
    # Whoever offers inexact selectors gets no pair, but is still judged as a peer: by that of the gateways.
    asked = pair or HostPair(sa.local.address, sa.remote.address)
    ctx.emit(JudgePeer(ctx.ticket(sa, task), sa.local, sa.remote, claimed, asked, sa.timers[Timer.SETUP]))


_UNAUTHENTICATED = NotifyPayload(NotifyType.AUTHENTICATION_FAILED)
_REASONS = {
    NotifyType.AUTHENTICATION_FAILED: Reason.PEER_AUTHENTICATION_FAILED,
    NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD: Reason.UNSUPPORTED_CRITICAL_PAYLOAD,
}


def refuse(ctx: Context, sa: IkeSa, notify: NotifyPayload, detail: str, now: float) -> None:
    """Answer with an error instead of AUTH: there is no IKE SA then (RFC 7296 2.21.2)."""
    reason = _REASONS.get(notify.notify, Reason.INVALID_SYNTAX)
    ctx.reject(reason, sa.remote.address, detail)
    respond(ctx, sa, ExchangeType.IKE_AUTH, (notify,))
    linger(ctx, sa, reason, now)


@dataclass(slots=True)
class AuthResponder:
    """The peer's IKE_AUTH request, from its arrival to our response."""

    ctx: Context
    sa: IkeSa
    peer: IdPayload
    claimed: Identity
    auth: AuthPayload
    offered: SaPayload
    pair: HostPair | None
    """None: the selectors are not those of one host pair."""
    is_initial_contact: bool
    missing: Missing = Missing.VERDICT
    fail_closed: bool = False
    refused: NotifyType | None = None
    """Why there will be no Child SA."""
    scheme: SignatureScheme | None = None
    signature: bytes = b""
    esp: ChosenEsp | None = None
    spi: int = 0
    child: Child | None = None

    def answer(self, answer: Answer, now: float) -> None:
        match answer:
            case PeerJudged():
                self.missing &= ~Missing.VERDICT
                self._judged(answer, now)
            case OctetsSigned(signature=None):
                # Not the peer's fault, and no reason to refuse it for good: it may try again.
                self.ctx.reject(Reason.SIGNING_FAILED, self.sa.remote.address)
                drop(self.ctx, self.sa, Reason.SIGNING_FAILED)
            case OctetsSigned(signature=bytes(signature)):
                self.missing &= ~Missing.SIGNATURE
                self.signature = signature
                self._go_on(now)
            case SpiReserved(spi=spi):
                self.missing &= ~Missing.SPI
                self.spi = spi
                self._go_on(now)
            case ChildInstalled(reason=reason):
                self.missing &= ~Missing.INBOUND
                self._installed(reason, now)

    def _judged(self, verdict: PeerJudged, now: float) -> None:
        key = verify(self.auth, verdict.keys, octets_of(self.sa, self.peer, of_initiator=True))
        if key is None:
            text = f"{self.claimed}: the signature was made with none of {len(verdict.keys)} keys"
            refuse(self.ctx, self.sa, _UNAUTHENTICATED, text, now)
            return
        own = choose_own_key(self.ctx, self.sa)
        if own is None:
            text = "the peer can verify none of our signatures"
            refuse(self.ctx, self.sa, _UNAUTHENTICATED, text, now)
            return
        self.sa.peer_key = key
        self.ctx.identify(self.sa, self.claimed)
        self.fail_closed = verdict.fail_closed
        self._choose_child(verdict.refusal)
        own_key, self.scheme = own
        octets = octets_of(self.sa, self._own_identity(), of_initiator=False)
        self.missing |= Missing.SIGNATURE
        self.ctx.emit(SignOctets(self.ctx.ticket(self.sa, self), own_key, self.scheme, octets))
        if self.refused is None:
            self.missing |= Missing.SPI
            local, remote = self.sa.local.address, self.sa.remote.address
            self.ctx.emit(ReserveSpi(self.ctx.ticket(self.sa, self), local, remote))

    def _choose_child(self, refusal: Reason | None) -> None:
        remote = self.sa.remote.address
        self.esp = choose_esp(self.offered)
        if refusal is not None:
            self.ctx.reject(refusal, remote, f"{self.claimed} may not have {self.pair}")
        if self.pair is None or refusal is not None:
            self.refused = NotifyType.TS_UNACCEPTABLE
        elif self.esp is None:
            self.refused = NotifyType.NO_PROPOSAL_CHOSEN
            self.ctx.reject(Reason.NO_PROPOSAL_CHOSEN, remote, "; ".join(refusals(self.offered)))

    def _own_identity(self) -> IdPayload:
        return IdPayload.of(PayloadType.ID_R, Identity.of(self.sa.local.address))

    def _go_on(self, now: float) -> None:
        if self.missing:
            return
        if self.refused is None and self.child is None:
            self._ask_inbound(now)
        else:
            self._finish(now)

    def _ask_inbound(self, now: float) -> None:
        if self.pair is None or self.esp is None:
            raise RuntimeError("a Child SA without pair or algorithms was not refused")
        self.child = make_child(self.ctx, self.sa, self.pair, self.esp, self.spi, now, fail_closed=self.fail_closed)
        self.missing |= Missing.INBOUND
        ticket = self.ctx.ticket(self.sa, self)
        self.ctx.emit(ChildReady(ticket, self.child.sa, Directions.INBOUND, None, self.sa.peer_key))

    def _installed(self, failure: Reason | None, now: float) -> None:
        if self.child is not None and self.child.sa.id not in self.sa.children:
            # The coordinator closed it meanwhile: policy has changed.
            self.child, self.refused = None, NotifyType.TS_UNACCEPTABLE
        elif self.child is not None and failure is not None:
            end_child(self.ctx, self.sa, self.child.sa.id, Reason.INSTALL_FAILED)
            self.child, self.refused = None, NotifyType.NO_ADDITIONAL_SAS
        self._go_on(now)

    def _finish(self, now: float) -> None:
        if self.scheme is None:
            raise RuntimeError("a response without a signature")
        answer: tuple[Payload, ...]
        if self.child is not None and self.esp is not None:
            answer = (self.esp.answer(self.spi), *selectors(self.child.sa.pair, we_initiate=False))
        else:
            answer = (NotifyPayload(self.refused or NotifyType.NO_ADDITIONAL_SAS),)
        auth = wrap(self.scheme, self.signature)
        if self.child is not None:
            Installation(self.ctx, self.sa, self.child).ask(Directions.OUTBOUND, None)
        respond(self.ctx, self.sa, ExchangeType.IKE_AUTH, (self._own_identity(), auth, *answer))
        establish(self.ctx, self.sa, now)
        self.sa.agreement = None
        if self.child is None:
            self.sa.timers[Timer.CHILDLESS] = now + self.ctx.settings.childless_lifetime
        if self.is_initial_contact:
            self._replace_others()

    def _replace_others(self) -> None:
        """INITIAL_CONTACT: the peer knows of no other IKE SA between these two identities (RFC 7296 2.4).

        One that was established only after this one began is younger than the peer's memory loss: it crossed ours.
        """
        for other in self.ctx.with_identities(self.sa.local.address, self.claimed):
            if other is not self.sa and other.established is not None and other.established < self.sa.created:
                drop(self.ctx, other, Reason.REPLACED_BY_PEER)
