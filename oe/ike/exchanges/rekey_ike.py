"""CREATE_CHILD_SA that rekeys the IKE SA, both roles (RFC 7296 1.3.2, 2.8, 2.8.2, 2.18).

    HDR, SK{SA(new SPIi), Ni, KEi}  ──▶
                          ◀──  HDR, SK{SA(new SPIr), Nr, KEr [, N(ADDITIONAL_KEY_EXCHANGE)]}
                     or   ◀──  HDR, SK{N(INVALID_KE_PAYLOAD | TEMPORARY_FAILURE | ...)}
    HDR, SK{KEi(1), N(ADDITIONAL_KEY_EXCHANGE)}  ──▶     IKE_FOLLOWUP_KE, where that was agreed (RFC 9370 2.2.4)
                          ◀──  HDR, SK{KEr(1)}
    new IKE SA, Message IDs from 0, with the Child SAs of the old one
    HDR(old), SK{D(IKE)}            ──▶
                          ◀──  HDR(old), SK{}

Where both ask at once there are two new ones. Until it is clear to us which of them stays, the Child SAs stay where
they are: our answer comes, or the peer uses its own, or deletes the old one.
"""

from dataclasses import dataclass, field

from oe.errors import ParseError
from oe.ike.channel import enqueue, respond, respond_malformed
from oe.ike.context import Context
from oe.ike.exchanges.child_sa import refusal
from oe.ike.exchanges.informational import GiveToken, delete_ike, give_up
from oe.ike.exchanges.new_child import MAX_GROUPS, NONCE_OCTETS
from oe.ike.kem import Decapsulation, encapsulate
from oe.ike.kex import KeyExchange, agree
from oe.ike.keymat import IkeKeys, derive_rekeyed_ike
from oe.ike.payloads import (
    DeletePayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    find,
    find_error,
    find_notify,
)
from oe.ike.proposals import (
    IKE_ADDITIONAL,
    IKE_GROUPS,
    accept_ike,
    choose_ike,
    invalid_ke,
    offer_ike,
    refusals,
    requested_group,
)
from oe.ike.recovery import keep_token, own_token
from oe.ike.registry import ExchangeType, KeyExchangeId, NotifyType, PrfId, ProtocolId
from oe.ike.sa import Halfway, IkeSa, Role, Timer
from oe.ike.states import State
from oe.ike.succession import make_heir, pause, succeed
from oe.model import Secret
from oe.reasons import Reason

_SPI_OCTETS = 8
_LINK_OCTETS = 8


def _keys(old: IkeSa, half: Halfway, more: Secret | None) -> IkeKeys:
    if old.keys is None:
        raise RuntimeError("an established IKE SA without keys")
    chosen = half.chosen
    return derive_rekeyed_ike(old.keys, chosen.prf, chosen.encryption_bits, half.shared, half.nonces, half.spis, more)


def _prf(sa: IkeSa) -> PrfId | None:
    return None if sa.keys is None else sa.keys.prf


# --- initiator -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class RekeyIke:
    """Our request for a successor of an IKE SA."""

    ctx: Context
    sa: IkeSa
    groups: list[KeyExchangeId] = field(default_factory=lambda: [IKE_GROUPS[0]])
    """Tried so far; the last one is that of `kex`."""
    spi: int = 0
    nonce: bytes = b""
    kex: KeyExchange | None = None
    offer: SaPayload = field(default_factory=lambda: SaPayload(()))
    kem: Decapsulation | None = None
    half: Halfway | None = None
    """Agreed but for the additional key exchange: then `kem` is our half of that."""
    exchange: ExchangeType = ExchangeType.CREATE_CHILD_SA

    def payloads(self, now: float) -> tuple[Payload, ...] | None:
        ctx, sa = self.ctx, self.sa
        if sa.state is not State.ESTABLISHED:
            return None
        if self.half is not None and self.kem is not None:
            link = NotifyPayload(NotifyType.ADDITIONAL_KEY_EXCHANGE, self.half.link)
            return KePayload(self.kem.method, self.kem.public), link
        if sa.responses.is_under_way:
            # Perhaps for a Child SA: the peer would refuse us.
            sa.timers[Timer.REKEY] = now + pause(ctx, 1, is_temporary=True)
            return None
        self.spi, self.nonce = ctx.new_spi(), ctx.entropy(NONCE_OCTETS)
        sa.promised = self.spi
        self.kex = KeyExchange.generate(self.groups[-1], ctx.entropy)
        additional = IKE_ADDITIONAL if sa.is_hybrid else ()
        self.offer = offer_ike(IKE_GROUPS, self.spi.to_bytes(_SPI_OCTETS, "big"), additional, _prf(sa))
        return self.offer, NoncePayload(self.nonce), KePayload(self.kex.group, self.kex.public)

    def deadline(self, now: float) -> float:
        return now + self.ctx.settings.request_patience

    def unanswered(self, now: float) -> None:
        if self.sa.rival is not None:
            succeed(self.ctx, self.sa, self.sa.rival, now)
        give_up(self.ctx, self.sa, now)

    def answered(self, payloads: tuple[Payload, ...], now: float) -> None:
        ctx, sa, rival = self.ctx, self.sa, self.sa.rival
        if sa.state not in (State.ESTABLISHED, State.REPLACED):
            return
        half = self.half or self._agreed(payloads)
        if half is not None and self._goes_on(half):
            sa.queue.appendleft(self)
            return
        heir = None if half is None else self._heir(half, payloads, now)
        if sa.state is State.REPLACED or (heir is not None and rival is not None and _yields(heir, rival)):
            if rival is not None:
                succeed(ctx, sa, rival, now)
            if heir is not None:
                delete_ike(ctx, heir, Reason.REDUNDANT, now)
        elif heir is not None:
            if rival is not None:
                rival.inherits = None
            succeed(ctx, sa, heir, now)
            enqueue(ctx, heir, GiveToken(ctx, heir), now)
            delete_ike(ctx, sa, Reason.REKEYED, now)
        elif rival is not None:
            succeed(ctx, sa, rival, now)
        else:
            self._refused(payloads, now)

    def _goes_on(self, half: Halfway) -> bool:
        """The peer agreed to an additional key exchange: it is to be asked for next, before anything else."""
        method = half.chosen.additional
        if self.half is not None or method is None or not half.link or self.sa.state is not State.ESTABLISHED:
            return False
        self.half, self.kem = half, Decapsulation.generate(method, self.ctx.entropy)
        self.exchange = ExchangeType.IKE_FOLLOWUP_KE
        return True

    def _more(self, payloads: tuple[Payload, ...]) -> Secret | None:
        """What the additional key exchange gave."""
        key = find(payloads, KePayload)
        if self.kem is None or key is None or key.group != self.kem.method:
            return None
        try:
            return self.kem.shared(key.data)
        except ParseError:
            return None

    def _heir(self, half: Halfway, payloads: tuple[Payload, ...], now: float) -> IkeSa | None:
        """The new IKE SA, if the peer did all that it agreed to."""
        more = None if self.half is None else self._more(payloads)
        if (half.chosen.additional is not None) != (more is not None):
            return None
        heir = make_heir(self.ctx, self.sa, Role.INITIATOR, half.spis, _keys(self.sa, half, more), now)
        heir.nonces, heir.chosen = half.nonces, half.chosen
        keep_token(heir, payloads)
        return heir

    def _agreed(self, payloads: tuple[Payload, ...]) -> Halfway | None:
        """What the peer's answer to our first request says."""
        answered, nonce = find(payloads, SaPayload), find(payloads, NoncePayload)
        if answered is None or nonce is None or self.kex is None:
            return None
        chosen = accept_ike(self.offer, answered)
        if chosen is None or chosen.group != self.kex.group or len(chosen.spi) != _SPI_OCTETS:
            return None
        shared = agree(self.kex, find(payloads, KePayload))
        if shared is None:
            return None
        spis, nonces = (self.spi, int.from_bytes(chosen.spi, "big")), (self.nonce, nonce.data)
        link = find_notify(payloads, NotifyType.ADDITIONAL_KEY_EXCHANGE)
        return Halfway(chosen, shared, nonces, spis, b"" if link is None else link.data)

    def _refused(self, payloads: tuple[Payload, ...], now: float) -> None:
        error = find_error(payloads)
        is_wrong_group = error is not None and error.notify == NotifyType.INVALID_KE_PAYLOAD and self.half is None
        if error is not None and is_wrong_group and len(self.groups) < MAX_GROUPS:
            group = requested_group(error, self.offer)
            if group is not None and group not in self.groups:
                self.groups.append(group)
                enqueue(self.ctx, self.sa, self, now)
                return
        self.sa.refusals += 1
        is_temporary = error is not None and error.notify == NotifyType.TEMPORARY_FAILURE
        self.sa.timers[Timer.REKEY] = now + pause(self.ctx, self.sa.refusals, is_temporary=is_temporary)
        if not is_temporary:
            reason, detail = refusal(payloads, "IKE SA rekey with what was not offered")
            self.ctx.reject(reason, self.sa.remote.address, detail)


def _yields(one: IkeSa, other: IkeSa) -> bool:
    """Of two successors of one IKE SA, `one` goes: it has the lowest of the four nonces (RFC 7296 2.8.2)."""
    return min(one.nonces or ()) < min(other.nonces or ())


# --- responder -------------------------------------------------------------------------------------------------


def respond_rekey_ike(ctx: Context, sa: IkeSa, payloads: tuple[Payload, ...], now: float) -> None:
    """Answer the peer's request for a successor of `sa`."""
    offered, nonce, key = find(payloads, SaPayload), find(payloads, NoncePayload), find(payloads, KePayload)
    if offered is None or nonce is None:
        raise RuntimeError("a request that the table of shapes lets in has them")
    additional = IKE_ADDITIONAL if ctx.settings.additional_key_exchange else ()
    chosen = choose_ike(offered, None if key is None else key.group, additional, _prf(sa))
    if chosen is None or len(chosen.spi) != _SPI_OCTETS:
        why = refusals(offered, additional=additional)
        ctx.reject(Reason.NO_PROPOSAL_CHOSEN, sa.remote.address, "; ".join(why))
        _answer(ctx, sa, NotifyPayload(NotifyType.NO_PROPOSAL_CHOSEN))
        return
    if key is None or key.group != chosen.group:
        _answer(ctx, sa, invalid_ke(chosen.group))
        return
    if not ctx.admission.may_exchange(sa.remote.address, now):
        # Each leaves an IKE SA behind that goes only after a while.
        ctx.reject(Reason.TOO_MANY_HANDSHAKES, sa.remote.address, "IKE SA rekeys")
        _answer(ctx, sa, NotifyPayload(NotifyType.TEMPORARY_FAILURE))
        return
    kex = KeyExchange.generate(chosen.group, ctx.entropy)
    shared = agree(kex, key)
    if shared is None:
        ctx.reject(Reason.INVALID_SYNTAX, sa.remote.address, "no good public value in KE")
        respond_malformed(ctx, sa, ExchangeType.CREATE_CHILD_SA, now)
        return
    peer_spi, nonces = int.from_bytes(chosen.spi, "big"), (nonce.data, ctx.entropy(NONCE_OCTETS))
    own_spi = ctx.new_spi()
    link = b"" if chosen.additional is None else ctx.entropy(_LINK_OCTETS)
    half = Halfway(chosen, shared, nonces, (peer_spi, own_spi), link)
    offer = chosen.answer(own_spi.to_bytes(_SPI_OCTETS, "big"))
    answer = (offer, NoncePayload(nonces[1]), KePayload(kex.group, kex.public))
    if chosen.additional is None:
        _make_heir(ctx, sa, half, None, answer, now)
        return
    sa.halfway, sa.timers[Timer.FOLLOWUP] = half, now + ctx.settings.request_patience
    _answer(ctx, sa, *answer, NotifyPayload(NotifyType.ADDITIONAL_KEY_EXCHANGE, half.link))


def finish_rekey_ike(ctx: Context, sa: IkeSa, payloads: tuple[Payload, ...], now: float) -> None:
    """Answer the peer's public value of the additional key exchange that its rekey of `sa` still wants."""
    link, key = find_notify(payloads, NotifyType.ADDITIONAL_KEY_EXCHANGE), find(payloads, KePayload)
    half = _take_halfway(sa)
    if half is None or link is None or link.data != half.link:
        ctx.reject(Reason.UNEXPECTED_MESSAGE, sa.remote.address, "IKE_FOLLOWUP_KE for no rekey that is under way")
        _answer(ctx, sa, NotifyPayload(NotifyType.STATE_NOT_FOUND), exchange=ExchangeType.IKE_FOLLOWUP_KE)
        return
    method = half.chosen.additional
    try:
        if method is None or key is None or key.group != method:
            raise ParseError("KE payload", "not of the method that was agreed")
        public, more = encapsulate(method, key.data)
    except ParseError as error:
        ctx.reject(Reason.INVALID_SYNTAX, sa.remote.address, str(error))
        respond_malformed(ctx, sa, ExchangeType.IKE_FOLLOWUP_KE, now)
        return
    _make_heir(ctx, sa, half, more, (KePayload(method, public),), now)


def _take_halfway(sa: IkeSa) -> Halfway | None:
    sa.timers.pop(Timer.FOLLOWUP, None)
    half, sa.halfway = sa.halfway, None
    return half


def abandon_rekey(ctx: Context, sa: IkeSa) -> None:
    """The peer began to rekey `sa` and did not go on: its secrets are not kept for that any longer."""
    _take_halfway(sa)
    ctx.reject(Reason.REKEY_ABANDONED, sa.remote.address, "no IKE_FOLLOWUP_KE request came")


def _make_heir(
    ctx: Context, sa: IkeSa, half: Halfway, more: Secret | None, answer: tuple[Payload, ...], now: float
) -> None:
    """All is agreed: make the successor and answer the request that made it so."""
    peer_spi, own_spi = half.spis
    heir = make_heir(ctx, sa, Role.RESPONDER, (own_spi, peer_spi), _keys(sa, half, more), now)
    heir.nonces, heir.chosen, heir.is_unconfirmed = half.nonces, half.chosen, True
    heir.timers[Timer.CONFIRM] = now + ctx.settings.request_patience / 2
    exchange = ExchangeType.CREATE_CHILD_SA if more is None else ExchangeType.IKE_FOLLOWUP_KE
    _answer(ctx, sa, *answer, *own_token(ctx, heir), exchange=exchange)
    if isinstance(sa.task, RekeyIke):
        sa.rival, heir.inherits = heir, sa
    else:
        succeed(ctx, sa, heir, now)


def _answer(ctx: Context, sa: IkeSa, *payloads: Payload, exchange: ExchangeType = ExchangeType.CREATE_CHILD_SA) -> None:
    respond(ctx, sa, exchange, payloads)


def hear_heir(ctx: Context, heir: IkeSa, payloads: tuple[Payload, ...], now: float) -> None:
    """A request of the peer came in one of two successors of an IKE SA. Unless it deletes it, the peer has decided."""
    is_deleted = any(isinstance(one, DeletePayload) and one.protocol == ProtocolId.IKE for one in payloads)
    if heir.inherits is not None and not is_deleted:
        succeed(ctx, heir.inherits, heir, now)
