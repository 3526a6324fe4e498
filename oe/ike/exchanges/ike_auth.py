"""IKE_AUTH as initiator, and what both roles do with the Child SA that it makes (RFC 7296 1.2, 2.15, 2.21.2).

    HDR, SK{IDi, [N(INITIAL_CONTACT),] AUTH, SAi2, TSi, TSr}  ──▶
                                    ◀──  HDR, SK{IDr, AUTH, SAr2, TSi, TSr}
                               or   ◀──  HDR, SK{IDr, AUTH, N(TS_UNACCEPTABLE | ...)}   no Child SA
                               or   ◀──  HDR, SK{N(AUTHENTICATION_FAILED)}              no IKE SA

Our request needs two answers from outside, a signature and an SPI, in whichever order they come.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from oe.ike.auth import choose_scheme, is_null_auth, null_auth, signed_octets, verify, wrap
from oe.ike.channel import drop, end_negotiation, enqueue
from oe.ike.child import Origin, exact_pair, selectors
from oe.ike.context import Context
from oe.ike.exchanges.child_sa import Installation, Terms, complete, directions_of, make_child, refusal
from oe.ike.exchanges.informational import complain, delete_ike, delete_unheard
from oe.ike.payloads import (
    AuthPayload,
    IdPayload,
    Payload,
    SaPayload,
    TsPayload,
    find,
    find_error,
)
from oe.ike.proposals import accept_esp, offer_esp
from oe.ike.reach import keep_mapping
from oe.ike.recovery import hear_initial_contact, initial_contact, keep_token, own_token
from oe.ike.registry import AuthMethod, ExchangeType, NotifyType, PayloadType
from oe.ike.sa import Answer, IkeSa, Role, Timer
from oe.ike.states import State, Step
from oe.ike.succession import start_life
from oe.messages import OctetsSigned, ReserveSpi, SignOctets, SpiReserved
from oe.model import ID_NULL, Anonymity, PublicKey, SignatureScheme
from oe.negotiation import Negotiate, NegotiationEnded
from oe.reasons import Reason


class Missing(StrEnum):
    """An answer from outside that a message waits for; they come in any order."""

    VERDICT = "verdict"
    SIGNATURE = "signature"
    SPI = "spi"
    INBOUND = "inbound"


# --- both roles ------------------------------------------------------------------------------------------------


def choose_own_key(ctx: Context, sa: IkeSa) -> tuple[PublicKey, SignatureScheme] | None:
    """The first of our keys with which we can sign so that the peer can verify."""
    hashes = sa.agreed[0].peer_hashes
    for key in ctx.own_keys_at.get(sa.local.address, ctx.own_keys):
        if (scheme := choose_scheme(key, hashes)) is not None:
            return key, scheme
    return None


def octets_of(sa: IkeSa, identity: IdPayload, *, of_initiator: bool) -> bytes:
    """What the AUTH payload of one end covers: its own IKE_SA_INIT message and the other's nonce."""
    agreement, keys = sa.agreed
    (first, second), (ni, nr), added = agreement.messages, agreement.nonces, agreement.int_auth.octets
    if of_initiator:
        return signed_octets(first, nr, keys.prf, keys.sk_pi, identity, added)
    return signed_octets(second, ni, keys.prf, keys.sk_pr, identity, added)


def stay_anonymous(sa: IkeSa, identity: IdPayload, *, of_initiator: bool) -> AuthPayload:
    """Our AUTH payload when we do not say who we are (RFC 7619)."""
    _, keys = sa.agreed
    sk_p = keys.sk_pi if of_initiator else keys.sk_pr
    return null_auth(keys.prf, sk_p, octets_of(sa, identity, of_initiator=of_initiator))


def is_anonymous(sa: IkeSa, auth: AuthPayload, identity: IdPayload, *, of_initiator: bool) -> bool:
    """The peer does not say who it is, but it is the one that we exchanged keys with."""
    _, keys = sa.agreed
    sk_p = keys.sk_pi if of_initiator else keys.sk_pr
    return is_null_auth(auth, keys.prf, sk_p, octets_of(sa, identity, of_initiator=of_initiator))


def establish(ctx: Context, sa: IkeSa, now: float) -> None:
    """Both ends are authenticated: from now on `sa` lives its full life."""
    sa.advance(Step.AUTHENTICATED)
    sa.established = now
    ctx.no_longer_half_open(sa)
    sa.timers.pop(Timer.SETUP, None)
    start_life(ctx, sa, now)
    if sa.role is Role.RESPONDER:
        sa.timers[Timer.CONFIRM] = now + ctx.settings.confirm_after
    keep_mapping(ctx, sa, now)


# --- initiator -------------------------------------------------------------------------------------------------


def start_auth(ctx: Context, sa: IkeSa, now: float) -> None:
    """Keys are agreed: gather what our IKE_AUTH request needs."""
    negotiation = sa.negotiation
    if negotiation is None:
        drop(ctx, sa, Reason.SUPERSEDED, "nobody waits for this negotiation")
        return
    found = None if negotiation.own_identity == ID_NULL else choose_own_key(ctx, sa)
    if found is None and negotiation.own_identity != ID_NULL and negotiation.anonymity is not Anonymity.ANONYMOUS:
        drop(ctx, sa, Reason.SIGNING_FAILED, "the peer can verify none of our signatures")
        return
    identity = IdPayload.of(PayloadType.ID_I, ID_NULL if found is None else negotiation.own_identity)
    auth = AuthInitiator(ctx, sa, negotiation, identity)
    if found is None:
        sa.own_anonymity = Anonymity.ANONYMOUS
        auth.auth = stay_anonymous(sa, identity, of_initiator=True)
        auth.missing = {Missing.SPI}
    else:
        key, auth.scheme = found
        octets = octets_of(sa, identity, of_initiator=True)
        ctx.emit(SignOctets(ctx.ticket(sa, auth), key, auth.scheme, octets))
    ctx.emit(ReserveSpi(ctx.ticket(sa, auth), sa.local.address, sa.remote.address))


@dataclass(slots=True)
class AuthInitiator:
    """Our IKE_AUTH request, from the first answer of the outside to the peer's response."""

    ctx: Context
    sa: IkeSa
    negotiation: Negotiate
    identity: IdPayload
    """Ours."""
    scheme: SignatureScheme | None = None
    """None: we stay anonymous."""
    missing: set[Missing] = field(default_factory=lambda: {Missing.SIGNATURE, Missing.SPI})
    auth: AuthPayload | None = None
    spi: int = 0
    offer: SaPayload = field(default_factory=lambda: SaPayload(()))
    exchange = ExchangeType.IKE_AUTH

    def answer(self, answer: Answer, now: float) -> None:
        match answer:
            case OctetsSigned(signature=None):
                drop(self.ctx, self.sa, Reason.SIGNING_FAILED)
                return
            case OctetsSigned(signature=bytes(signature)) if self.scheme is not None:
                self.auth = wrap(self.scheme, signature)
                self.missing.discard(Missing.SIGNATURE)
            case SpiReserved(spi=spi):
                self.spi = spi
                self.missing.discard(Missing.SPI)
        if not self.missing:
            enqueue(self.ctx, self.sa, self, now)

    def payloads(self, now: float) -> tuple[Payload, ...] | None:
        if self.auth is None:
            return None
        del self.sa.timers[Timer.SETUP]  # From now on the request has the deadline.
        self.offer = offer_esp(self.spi)
        negotiation = self.negotiation
        own = negotiation.own_identity if self.scheme is not None else ID_NULL
        contact = initial_contact(self.ctx, self.sa, own, negotiation.peer_identity)
        both = selectors(self.negotiation.pair, we_initiate=True)
        return (self.identity, *contact, *self._wanted(), self.auth, *own_token(self.ctx, self.sa), self.offer, *both)

    def _wanted(self) -> tuple[Payload, ...]:
        """IDr, which asks for one of the peer's identities: none, where we have no key to know it by."""
        may_be_nobody = self.negotiation.anonymity is Anonymity.ANONYMOUS
        wants_nobody = may_be_nobody and not self.negotiation.peer_keys
        return (IdPayload.of(PayloadType.ID_R, ID_NULL),) if wants_nobody else ()

    def deadline(self, now: float) -> float:
        return self.negotiation.deadline

    def unanswered(self, now: float) -> None:
        # Perhaps only the answer was lost and the peer now sends into an SA that we do not have.
        delete_unheard(self.ctx, self.sa)
        drop(self.ctx, self.sa, Reason.NEGOTIATION_TIMEOUT, "no answer to IKE_AUTH")

    def answered(self, payloads: tuple[Payload, ...], now: float) -> None:
        if self.sa.state is not State.AUTHENTICATING:
            return
        auth, identity = find(payloads, AuthPayload), find(payloads, IdPayload, PayloadType.ID_R)
        if auth is None or identity is None:
            self._refused(payloads)
            return
        failure = self._judge(auth, identity)
        if failure is not None:
            reason, text = failure
            self.ctx.reject(reason, self.sa.remote.address, text)
            complain(self.ctx, self.sa, NotifyType.AUTHENTICATION_FAILED, reason, text, now)
            return
        establish(self.ctx, self.sa, now)
        keep_token(self.sa, payloads)
        hear_initial_contact(self.ctx, self.sa, payloads)
        self._take_child(payloads, now)
        self.sa.agreement = None

    def _judge(self, auth: AuthPayload, identity: IdPayload) -> tuple[Reason, str] | None:
        """Whether the peer is authenticated well enough; if not, why."""
        wanted = self.negotiation
        if auth.method == AuthMethod.NULL:
            if wanted.anonymity is not Anonymity.ANONYMOUS:
                return Reason.ANONYMOUS_REFUSED, f"the peer is anonymous, not {wanted.peer_identity}"
            if not is_anonymous(self.sa, auth, identity, of_initiator=False):
                return Reason.PEER_AUTHENTICATION_FAILED, "NULL authentication with other keys than ours"
            self.ctx.identify(self.sa, ID_NULL)
            return None
        if identity.identity != wanted.peer_identity:
            return Reason.PEER_AUTHENTICATION_FAILED, f"the peer is {identity}, not {wanted.peer_identity}"
        key = verify(auth, wanted.peer_keys, octets_of(self.sa, identity, of_initiator=False))
        if key is None:
            text = f"the signature of {identity} was made with none of its {len(wanted.peer_keys)} keys"
            return Reason.PEER_AUTHENTICATION_FAILED, text
        self.sa.peer_key = key
        return None

    def _refused(self, payloads: tuple[Payload, ...]) -> None:
        """No AUTH: there is no IKE SA at the peer either (RFC 7296 2.21.2)."""
        error = find_error(payloads)
        if error is not None and error.notify == NotifyType.AUTHENTICATION_FAILED:
            if self.ctx.is_crossed(self.sa, self.negotiation.pair):
                # Perhaps it refuses ours only because it prefers its own, which is on its way.
                end = NegotiationEnded(
                    self.negotiation.ticket, Reason.WE_WERE_REFUSED, error.notify.name, authenticated=False
                )
                self.sa.negotiation = None
                self.ctx.postpone(self.negotiation, self.negotiation.deadline, end)
            drop(self.ctx, self.sa, Reason.WE_WERE_REFUSED, "AUTHENTICATION_FAILED")
        else:
            drop(self.ctx, self.sa, Reason.PEER_REFUSED, error.notify.name if error else "IKE_AUTH without AUTH")

    def _take_child(self, payloads: tuple[Payload, ...], now: float) -> None:
        chosen = find(payloads, SaPayload)
        ours, theirs = find(payloads, TsPayload, PayloadType.TS_I), find(payloads, TsPayload, PayloadType.TS_R)
        # A responder that cannot install what it chose may still show it, beside the error.
        if chosen is None or ours is None or theirs is None or find_error(payloads) is not None:
            self._child_refused(payloads, now)
            return
        esp = accept_esp(self.offer, chosen)
        if esp is None or exact_pair(ours, theirs) != self.negotiation.pair:
            text = "the peer chose algorithms or selectors that were not offered"
            delete_ike(self.ctx, self.sa, Reason.PEER_REFUSED, now, text)
            return
        negotiation, self.sa.negotiation = self.negotiation, None
        agreed, _ = self.sa.agreed
        origin = Origin(True, agreed.nonces, self.sa.created)
        terms = Terms(negotiation.pair, esp, self.spi, origin, fail_closed=negotiation.fail_closed)
        child = make_child(self.ctx, self.sa, terms, now)
        complete(self.ctx, self.sa, child, now)
        Installation(self.ctx, self.sa, child).ask(directions_of(child), negotiation.ticket)

    def _child_refused(self, payloads: tuple[Payload, ...], now: float) -> None:
        """The peer is who it is but does not want the pair. The IKE SA is kept for a moment: it will delete it."""
        reason, name = refusal(payloads, "IKE_AUTH without a Child SA")
        end_negotiation(self.ctx, self.sa, reason, name, authenticated=self.sa.is_proved)
        self.sa.timers[Timer.CHILDLESS] = now + self.ctx.settings.childless_lifetime
