"""IKE_AUTH as responder (RFC 7296 1.2, 2.15, 2.21.2; RFC 4322 for what a pair is).

    request ──▶ JudgePeer ──▶ verdict, signature good? ──▶ SignOctets, ReserveSpi ──▶ ChildReady(INBOUND)
            ──▶ in place: ChildReady(OUTBOUND), then the response leaves, IKE SA is established

Both SAs are asked for before the peer can use either: what its first packet provokes must find the way back protected,
however soon it comes. Packets that we hold leave only after the response, which makes the peer able to read them.
A refused identity ends the IKE SA; a refused pair does not, but without a Child SA it lives for a moment only.
"""

from dataclasses import dataclass, field

from oe.ike.auth import verify, wrap
from oe.ike.channel import drop, end_child, linger, respond
from oe.ike.child import Child, Origin, exact_pair, selectors
from oe.ike.context import Context
from oe.ike.exchanges.child_sa import Installation, Terms, ask_install, complete, make_child
from oe.ike.exchanges.ike_auth import Missing, choose_own_key, establish, is_anonymous, octets_of, stay_anonymous
from oe.ike.nat import Nat
from oe.ike.payloads import (
    AuthPayload,
    IdPayload,
    NotifyPayload,
    Payload,
    SaPayload,
    TsPayload,
    find,
)
from oe.ike.proposals import ChosenEsp, choose_esp, refusals
from oe.ike.recovery import hear_initial_contact, initial_contact, keep_token, own_token
from oe.ike.registry import AuthMethod, ExchangeType, NotifyType, PayloadType
from oe.ike.sa import Answer, IkeSa, Timer
from oe.ike.states import Step
from oe.messages import ChildInstalled, OctetsSigned, ReserveSpi, SignOctets, SpiReserved
from oe.model import ID_NULL, Anonymity, Directions, HostPair, Identity, SignatureScheme
from oe.negotiation import JudgePeer, PeerJudged
from oe.reasons import Reason


def respond_auth(ctx: Context, sa: IkeSa, payloads: tuple[Payload, ...], now: float) -> None:
    """Work on the peer's IKE_AUTH request; the response leaves when all that it needs is there."""
    sa.advance(Step.AUTH_REQUESTED)
    identity, auth = find(payloads, IdPayload, PayloadType.ID_I), find(payloads, AuthPayload)
    offered = find(payloads, SaPayload)
    theirs, ours = find(payloads, TsPayload, PayloadType.TS_I), find(payloads, TsPayload, PayloadType.TS_R)
    claimed = _claimed(identity, auth)
    if identity is None or auth is None or claimed is None:
        refuse(ctx, sa, _UNAUTHENTICATED, f"no AUTH, or an identity we do not know: {identity}", now)
        return
    # All three of them are there, or none: the table of shapes sees to that.
    pair = None if ours is None or theirs is None else exact_pair(ours, theirs)
    task = AuthResponder(ctx, sa, identity, claimed, auth, offered, pair, payloads)
    if pair is None and ours is not None and theirs is not None:
        text = ", ".join(str(selector) for selector in (*theirs.selectors, *ours.selectors))
        ctx.reject(Reason.TS_UNACCEPTABLE, sa.remote.address, text)
    # Whoever offers inexact selectors, or none, gets no pair, but is still judged as a peer: by that of the gateways.
    asked = pair or HostPair(sa.local.address, sa.remote.address)
    deadline, nat = sa.timers[Timer.SETUP], sa.nat is not Nat.NOBODY
    ctx.emit(JudgePeer(ctx.ticket(sa, task), sa.local, sa.remote, claimed, asked, deadline, nat))


def _claimed(identity: IdPayload | None, auth: AuthPayload | None) -> Identity | None:
    """Whom the peer offers to prove that it is; None: nobody that could be asked about.

    Beside NULL authentication an identity means nothing, whatever it says (RFC 7619 2.2). ID_NULL under a signature
    would be signed by somebody whose key cannot be found.
    """
    if auth is not None and auth.method == AuthMethod.NULL:
        return ID_NULL
    claimed = identity.identity if identity is not None else None
    return None if claimed == ID_NULL else claimed


_UNAUTHENTICATED = NotifyPayload(NotifyType.AUTHENTICATION_FAILED)
_REASONS = {
    NotifyType.AUTHENTICATION_FAILED: Reason.PEER_AUTHENTICATION_FAILED,
    NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD: Reason.UNSUPPORTED_CRITICAL_PAYLOAD,
}


def refuse(
    ctx: Context,
    sa: IkeSa,
    notify: NotifyPayload,
    detail: str,
    now: float,
    exchange: ExchangeType = ExchangeType.IKE_AUTH,
    reason: Reason | None = None,
) -> None:
    """Answer with an error instead of AUTH, or before it: there is no IKE SA then (RFC 7296 2.21.2).

    `reason`: where `notify` does not say enough.
    """
    reason = reason or _REASONS.get(notify.notify, Reason.INVALID_SYNTAX)
    ctx.reject(reason, sa.remote.address, detail)
    if reason is Reason.PEER_AUTHENTICATION_FAILED:
        ctx.admission.failed(sa.remote.address, now)
    respond(ctx, sa, exchange, (notify,))
    linger(ctx, sa, reason, now)


@dataclass(slots=True)
class AuthResponder:
    """The peer's IKE_AUTH request, from its arrival to our response."""

    ctx: Context
    sa: IkeSa
    peer: IdPayload
    claimed: Identity
    auth: AuthPayload
    offered: SaPayload | None
    """None: no Child SA is asked for (RFC 6023)."""
    pair: HostPair | None
    """None: the selectors are not those of one host pair."""
    request: tuple[Payload, ...]
    """All of it, for what it says beside the AUTH."""
    missing: set[Missing] = field(default_factory=lambda: {Missing.VERDICT})
    fail_closed: bool = False
    refused: NotifyType | None = None
    """Why there will be no Child SA."""
    scheme: SignatureScheme | None = None
    own_auth: AuthPayload | None = None
    esp: ChosenEsp | None = None
    spi: int = 0
    child: Child | None = None

    def answer(self, answer: Answer, now: float) -> None:
        match answer:
            case PeerJudged():
                self.missing.discard(Missing.VERDICT)
                self._judged(answer, now)
            case OctetsSigned(signature=None):
                # Not the peer's fault, and no reason to refuse it for good: it may try again.
                self.ctx.reject(Reason.SIGNING_FAILED, self.sa.remote.address)
                drop(self.ctx, self.sa, Reason.SIGNING_FAILED)
            case OctetsSigned(signature=bytes(signature)) if self.scheme is not None:
                self.missing.discard(Missing.SIGNATURE)
                self.own_auth = wrap(self.scheme, signature)
                self._go_on(now)
            case SpiReserved(spi=spi):
                self.missing.discard(Missing.SPI)
                self.spi = spi
                self._go_on(now)
            case ChildInstalled(reason=reason):
                self.missing.discard(Missing.INBOUND)
                self._installed(reason, now)

    def _judged(self, verdict: PeerJudged, now: float) -> None:
        failure = self._check_peer(verdict)
        if failure is not None:
            refuse(self.ctx, self.sa, _UNAUTHENTICATED, failure[1], now, reason=failure[0])
            return
        if not self._prove_ourselves():
            text = "the peer can verify none of our signatures"
            refuse(self.ctx, self.sa, _UNAUTHENTICATED, text, now)
            return
        self.ctx.identify(self.sa, self.claimed)
        self.fail_closed = verdict.fail_closed
        self._choose_child(verdict.refusal)
        if self._makes_child():
            self.missing.add(Missing.SPI)
            local, remote = self.sa.local.address, self.sa.remote.address
            self.ctx.emit(ReserveSpi(self.ctx.ticket(self.sa, self), local, remote))

    def _check_peer(self, verdict: PeerJudged) -> tuple[Reason, str] | None:
        """Whether the peer is authenticated well enough; if not, why."""
        failed = Reason.PEER_AUTHENTICATION_FAILED
        if self.claimed == ID_NULL:
            if verdict.anonymity is not Anonymity.ANONYMOUS:
                return Reason.ANONYMOUS_REFUSED, "the peer is anonymous"
            is_good = is_anonymous(self.sa, self.auth, self.peer, of_initiator=True)
            return None if is_good else (failed, "NULL authentication with other keys than ours")
        key = verify(self.auth, verdict.keys, octets_of(self.sa, self.peer, of_initiator=True))
        if key is None:
            return failed, f"{self.claimed}: the signature was made with none of {len(verdict.keys)} keys"
        self.sa.peer_key = key
        return None

    def _prove_ourselves(self) -> bool:
        """Have our AUTH made; False: there is none that the peer could take.

        We answer anonymously whom asks for it, and who is anonymous and can verify no signature of ours. What the peer
        may have depends on its AUTH, so that this costs us nothing.
        """
        wanted = find(self.request, IdPayload, PayloadType.ID_R)
        wants_nobody = wanted is not None and wanted.identity == ID_NULL
        found = None if wants_nobody else choose_own_key(self.ctx, self.sa)
        if found is not None:
            key, self.scheme = found
            octets = octets_of(self.sa, self._own_identity(), of_initiator=False)
            self.missing.add(Missing.SIGNATURE)
            self.ctx.emit(SignOctets(self.ctx.ticket(self.sa, self), key, self.scheme, octets))
            return True
        if not wants_nobody and self.claimed != ID_NULL:
            return False
        self.sa.own_anonymity = Anonymity.ANONYMOUS
        self.own_auth = stay_anonymous(self.sa, self._own_identity(), of_initiator=False)
        return True

    def _choose_child(self, refusal: Reason | None) -> None:
        remote = self.sa.remote.address
        if self.offered is None:
            return
        self.esp = choose_esp(self.offered)
        if refusal is not None:
            self.ctx.reject(refusal, remote, f"{self.claimed} may not have {self.pair}")
        if self.pair is None or refusal is not None:
            self.refused = NotifyType.TS_UNACCEPTABLE
        elif self.esp is None:
            self.refused = NotifyType.NO_PROPOSAL_CHOSEN
            self.ctx.reject(Reason.NO_PROPOSAL_CHOSEN, remote, "; ".join(refusals(self.offered)))
        elif len(self.ctx.children_for(self.sa, self.pair)) >= self.ctx.settings.children_per_pair:
            self.refused = NotifyType.NO_ADDITIONAL_SAS
            self.ctx.reject(Reason.TOO_MANY_CHILDREN, remote, str(self.pair))

    def _makes_child(self) -> bool:
        return self.offered is not None and self.refused is None

    def _own_identity(self) -> IdPayload:
        own = ID_NULL if self.scheme is None else Identity.of(self.sa.local.address)
        return IdPayload.of(PayloadType.ID_R, own)

    def _go_on(self, now: float) -> None:
        if self.missing:
            return
        if self._makes_child() and self.child is None:
            self._ask_inbound(now)
        else:
            self._finish(now)

    def _ask_inbound(self, now: float) -> None:
        if self.pair is None or self.esp is None:
            raise RuntimeError("a Child SA without pair or algorithms was not refused")
        agreed, _ = self.sa.agreed
        origin = Origin(False, agreed.nonces, self.sa.created)
        terms = Terms(self.pair, self.esp, self.spi, origin, fail_closed=self.fail_closed)
        self.child = make_child(self.ctx, self.sa, terms, now)
        self.missing.add(Missing.INBOUND)
        ask_install(self.ctx, self.sa, self.child, Directions.INBOUND, None, self)

    def _installed(self, failure: Reason | None, now: float) -> None:
        if self.child is not None and self.child.sa.id not in self.sa.children:
            # The coordinator closed it meanwhile: policy has changed.
            self.child, self.refused = None, NotifyType.TS_UNACCEPTABLE
        elif self.child is not None and failure is not None:
            end_child(self.ctx, self.sa, self.child.sa.id, Reason.INSTALL_FAILED)
            self.child, self.refused = None, NotifyType.NO_ADDITIONAL_SAS
        self._go_on(now)

    def _finish(self, now: float) -> None:
        if self.own_auth is None:
            raise RuntimeError("a response without AUTH")
        answer: tuple[Payload, ...] = ()
        if self.child is not None and self.esp is not None:
            answer = (self.esp.answer(self.spi), *selectors(self.child.sa.pair, we_initiate=False))
        elif self.offered is not None:
            answer = (NotifyPayload(self.refused or NotifyType.NO_ADDITIONAL_SAS),)
        if self.child is not None:
            Installation(self.ctx, self.sa, self.child).ask(Directions.OUTBOUND, None)
        own = self._own_identity()
        contact = initial_contact(self.ctx, self.sa, own.identity or ID_NULL, self.claimed)
        token = own_token(self.ctx, self.sa)
        respond(self.ctx, self.sa, ExchangeType.IKE_AUTH, (own, *contact, self.own_auth, *token, *answer))
        establish(self.ctx, self.sa, now)
        keep_token(self.sa, self.request)
        self.sa.agreement = None
        if self.child is None:
            self.sa.timers[Timer.CHILDLESS] = now + self.ctx.settings.childless_lifetime
        else:
            complete(self.ctx, self.sa, self.child, now)
        hear_initial_contact(self.ctx, self.sa, self.request)
