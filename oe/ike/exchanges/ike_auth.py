"""IKE_AUTH as initiator, and what both roles do with the Child SA that it makes (RFC 7296 1.2, 2.15, 2.21.2).

    HDR, SK{IDi, [N(INITIAL_CONTACT),] AUTH, SAi2, TSi, TSr}  ──▶
                                    ◀──  HDR, SK{IDr, AUTH, SAr2, TSi, TSr}
                               or   ◀──  HDR, SK{IDr, AUTH, N(TS_UNACCEPTABLE | ...)}   no Child SA
                               or   ◀──  HDR, SK{N(AUTHENTICATION_FAILED)}              no IKE SA

Our request needs two answers from outside, a signature and an SPI, in whichever order they come.
"""

from dataclasses import dataclass, field
from enum import Flag, auto

from oe.ike.auth import choose_scheme, signed_octets, verify, wrap
from oe.ike.channel import drop, end_negotiation, enqueue
from oe.ike.child import Child, exact_pair, selectors, shortened
from oe.ike.context import Context
from oe.ike.exchanges.informational import close_child, complain, delete_ike, delete_unheard
from oe.ike.keymat import derive_child, esp_sas
from oe.ike.payloads import (
    AuthPayload,
    IdPayload,
    NotifyPayload,
    Payload,
    SaPayload,
    TsPayload,
    find,
    find_error,
)
from oe.ike.proposals import ChosenEsp, accept_esp, offer_esp
from oe.ike.registry import ExchangeType, NotifyType, PayloadType
from oe.ike.sa import Answer, IkeSa, Role, Timer
from oe.ike.states import State, Step
from oe.messages import ChildInstalled, ChildReady, Negotiate, OctetsSigned, ReserveSpi, SignOctets, SpiReserved
from oe.model import ChildSa, Directions, HostPair, Mode, PublicKey, Reason, SignatureScheme


class Missing(Flag):
    """Answers from outside that a message waits for; they come in any order."""

    NOTHING = 0
    VERDICT = auto()
    SIGNATURE = auto()
    SPI = auto()
    INBOUND = auto()


# --- both roles ------------------------------------------------------------------------------------------------


def choose_own_key(ctx: Context, sa: IkeSa) -> tuple[PublicKey, SignatureScheme] | None:
    """The first of our keys with which we can sign so that the peer can verify."""
    hashes = sa.agreed[0].peer_hashes
    for key in ctx.own_keys:
        if (scheme := choose_scheme(key, hashes)) is not None:
            return key, scheme
    return None


def octets_of(sa: IkeSa, identity: IdPayload, *, of_initiator: bool) -> bytes:
    """What the AUTH payload of one end covers: its own IKE_SA_INIT message and the other's nonce."""
    agreement, keys = sa.agreed
    if of_initiator:
        return signed_octets(agreement.messages[0], agreement.nonces[1], keys.prf, keys.sk_pi, identity)
    return signed_octets(agreement.messages[1], agreement.nonces[0], keys.prf, keys.sk_pr, identity)


def establish(ctx: Context, sa: IkeSa, now: float) -> None:
    """Both ends are authenticated: from now on `sa` lives its full life."""
    sa.advance(Step.AUTHENTICATED)
    sa.established = now
    ctx.no_longer_half_open(sa)
    sa.timers.pop(Timer.SETUP, None)
    sa.timers[Timer.LIFETIME] = now + shortened(ctx.settings.ike_lifetime, ctx.settings.lifetime_jitter, ctx.entropy)


def make_child(
    ctx: Context, sa: IkeSa, pair: HostPair, chosen: ChosenEsp, inbound_spi: int, now: float, *, fail_closed: bool
) -> Child:
    """The Child SA of this IKE_AUTH, entered in the books."""
    agreement, keys = sa.agreed
    we_initiate = sa.role is Role.INITIATOR
    material = derive_child(keys, chosen.cipher, agreement.nonces, None)
    inbound, outbound = esp_sas(material, chosen.cipher, we_initiate, inbound_spi, chosen.spi)
    lifetime = shortened(ctx.settings.child_lifetime, ctx.settings.lifetime_jitter, ctx.entropy)
    child = Child(
        ChildSa(
            id=next(ctx.child_ids),
            pair=pair,
            local=sa.local.address,
            remote=sa.remote.address,
            inbound=inbound,
            outbound=outbound,
            esn=chosen.esn,
            mode=Mode.TUNNEL,
            encapsulation=None,
            lifetime=lifetime,
            fail_closed=fail_closed,
            octets=int(shortened(ctx.settings.child_octets, ctx.settings.lifetime_jitter, ctx.entropy)),
        ),
        now + lifetime,
    )
    sa.children[child.sa.id] = child
    ctx.children[child.sa.id] = (sa, child)
    return child


@dataclass(slots=True)
class Installation:
    """Waits for the last directions of a Child SA to be in place."""

    ctx: Context
    sa: IkeSa
    child: Child

    def ask(self, directions: Directions, negotiation: int | None) -> None:
        ticket = self.ctx.ticket(self.sa, self)
        self.ctx.emit(ChildReady(ticket, self.child.sa, directions, negotiation, self.sa.peer_key))

    def answer(self, answer: Answer, now: float) -> None:
        if isinstance(answer, ChildInstalled) and answer.reason is not None and not self.child.is_closing:
            close_child(self.ctx, self.sa, self.child, Reason.INSTALL_FAILED, now)


# --- initiator -------------------------------------------------------------------------------------------------


def start_auth(ctx: Context, sa: IkeSa, now: float) -> None:
    """Keys are agreed: gather what our IKE_AUTH request needs."""
    found = choose_own_key(ctx, sa)
    negotiation = sa.negotiation
    if found is None or negotiation is None:
        drop(ctx, sa, Reason.SIGNING_FAILED, "the peer can verify none of our signatures")
        return
    key, scheme = found
    auth = AuthInitiator(ctx, sa, negotiation, IdPayload.of(PayloadType.ID_I, negotiation.own_identity), scheme)
    octets = octets_of(sa, auth.identity, of_initiator=True)
    ctx.emit(SignOctets(ctx.ticket(sa, auth), key, scheme, octets))
    ctx.emit(ReserveSpi(ctx.ticket(sa, auth), sa.local.address, sa.remote.address))


@dataclass(slots=True)
class AuthInitiator:
    """Our IKE_AUTH request, from the first answer of the outside to the peer's response."""

    ctx: Context
    sa: IkeSa
    negotiation: Negotiate
    identity: IdPayload
    scheme: SignatureScheme
    missing: Missing = Missing.SIGNATURE | Missing.SPI
    auth: AuthPayload | None = None
    spi: int = 0
    offer: SaPayload = field(default_factory=lambda: SaPayload(()))
    exchange = ExchangeType.IKE_AUTH

    def answer(self, answer: Answer, now: float) -> None:
        match answer:
            case OctetsSigned(signature=None):
                drop(self.ctx, self.sa, Reason.SIGNING_FAILED)
                return
            case OctetsSigned(signature=bytes(signature)):
                self.auth = wrap(self.scheme, signature)
                self.missing &= ~Missing.SIGNATURE
            case SpiReserved(spi=spi):
                self.spi = spi
                self.missing &= ~Missing.SPI
        if not self.missing:
            enqueue(self.ctx, self.sa, self, now)

    def payloads(self, now: float) -> tuple[Payload, ...] | None:
        if self.auth is None:
            return None
        del self.sa.timers[Timer.SETUP]  # From now on the request has the deadline.
        self.offer = offer_esp(self.spi)
        others = self.ctx.with_identities(self.sa.local.address, self.negotiation.peer_identity)
        # RFC 7296 2.4: "the only IKE SA currently active" between the two identities. Those that only began do not
        # count: of several that begin together, as after a restart, the first to come so far says it.
        is_first = all(other is self.sa or other.is_only_begun for other in others)
        contact = (NotifyPayload(NotifyType.INITIAL_CONTACT),) if is_first else ()
        both = selectors(self.negotiation.pair, we_initiate=True)
        return (self.identity, *contact, self.auth, self.offer, *both)

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
        key = None
        if identity.identity == self.negotiation.peer_identity:
            octets = octets_of(self.sa, identity, of_initiator=False)
            key = verify(auth, self.negotiation.peer_keys, octets)
            text = f"the signature of {identity} was made with none of its {len(self.negotiation.peer_keys)} keys"
        else:
            text = f"the peer is {identity}, not {self.negotiation.peer_identity}"
        if key is None:
            self.ctx.reject(Reason.PEER_AUTHENTICATION_FAILED, self.sa.remote.address, text)
            reason = Reason.PEER_AUTHENTICATION_FAILED
            complain(self.ctx, self.sa, NotifyType.AUTHENTICATION_FAILED, reason, text, now)
            return
        self.sa.peer_key = key
        establish(self.ctx, self.sa, now)
        self._take_child(payloads, now)
        self.sa.agreement = None

    def _refused(self, payloads: tuple[Payload, ...]) -> None:
        """No AUTH: there is no IKE SA at the peer either (RFC 7296 2.21.2)."""
        error = find_error(payloads)
        if error is not None and error.notify == NotifyType.AUTHENTICATION_FAILED:
            drop(self.ctx, self.sa, Reason.WE_WERE_REFUSED, "AUTHENTICATION_FAILED")
        else:
            drop(self.ctx, self.sa, Reason.PEER_REFUSED, error.notify.name if error else "IKE_AUTH without AUTH")

    def _take_child(self, payloads: tuple[Payload, ...], now: float) -> None:
        chosen = find(payloads, SaPayload)
        ours, theirs = find(payloads, TsPayload, PayloadType.TS_I), find(payloads, TsPayload, PayloadType.TS_R)
        if chosen is None or ours is None or theirs is None:
            self._child_refused(payloads, now)
            return
        esp = accept_esp(self.offer, chosen)
        if esp is None or exact_pair(ours, theirs) != self.negotiation.pair:
            text = "the peer chose algorithms or selectors that were not offered"
            delete_ike(self.ctx, self.sa, Reason.PEER_REFUSED, now, text)
            return
        negotiation, self.sa.negotiation = self.negotiation, None
        child = make_child(self.ctx, self.sa, negotiation.pair, esp, self.spi, now, fail_closed=negotiation.fail_closed)
        Installation(self.ctx, self.sa, child).ask(Directions.BOTH, negotiation.ticket)

    def _child_refused(self, payloads: tuple[Payload, ...], now: float) -> None:
        """The peer is who it is but does not want the pair. The IKE SA is kept for a moment: it will delete it."""
        error = find_error(payloads)
        name = error.notify.name if error is not None else "IKE_AUTH without a Child SA"
        known = {
            NotifyType.TS_UNACCEPTABLE: Reason.TS_UNACCEPTABLE,
            NotifyType.NO_PROPOSAL_CHOSEN: Reason.NO_PROPOSAL_CHOSEN,
        }
        reason = known.get(error.notify, Reason.PEER_REFUSED) if error is not None else Reason.PEER_REFUSED
        end_negotiation(self.ctx, self.sa, reason, name, authenticated=True)
        self.sa.timers[Timer.CHILDLESS] = now + self.ctx.settings.childless_lifetime
