"""IKE_SA_INIT: proposals, key shares, nonces; nothing in it is authenticated (RFC 7296 1.2, 2.6, 2.7).

    HDR(SPIi, 0), [N(COOKIE),] SAi1, KEi, Ni, N(NAT...), N(HASHES), N(INTERMEDIATE...)  ──▶
                          ◀──  HDR(SPIi, SPIr), SAr1, KEr, Nr, N(NAT...), N(HASHES), N(INTERMEDIATE...)
                     or   ◀──  HDR(SPIi, 0), N(COOKIE | INVALID_KE_PAYLOAD | an error)

Anybody who sees the request can forge the answer. A refusal is therefore counted and remembered as an explanation, but
we go on waiting for a better answer until the negotiation's deadline (RFC 7296 2.21.1).
"""

from oe.errors import ParseError
from oe.ike.auth import offer_hashes, read_hashes
from oe.ike.channel import header, send
from oe.ike.context import Context
from oe.ike.exchanges.ike_auth import start_auth
from oe.ike.exchanges.ike_intermediate import start_intermediate
from oe.ike.kex import KeyExchange
from oe.ike.keymat import derive_ike
from oe.ike.message import Header, Message, encode_message
from oe.ike.nat import Nat, announce
from oe.ike.payloads import (
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
from oe.ike.reach import float_ports, look_for_nat
from oe.ike.registry import ExchangeType, KeyExchangeId, NotifyType
from oe.ike.sa import Agreement, Beginning, IkeSa, Role, Timer
from oe.ike.states import State, Step
from oe.messages import DatagramReceived, SendDatagram
from oe.negotiation import Negotiate, PeerExpected
from oe.reasons import Reason

NONCE_OCTETS = 32
"""RFC 7296 2.10: at least 16, and half the key size of the PRF."""
MAX_RETRIES = 4
"""A COOKIE, another group, a COOKIE again because of that; one to spare. Forged answers must not make us busy."""
_INIT = ExchangeType.IKE_SA_INIT


def _common_notifies(sa: IkeSa, additional: tuple[KeyExchangeId, ...]) -> tuple[Payload, ...]:
    """What both halves of the exchange end with. `additional`: key exchanges that may follow."""
    spis = (sa.local_spi, sa.remote_spi) if sa.role is Role.INITIATOR else (sa.remote_spi, sa.local_spi)
    fragments = sa.role is Role.INITIATOR or sa.fragmentation.room is not None
    return (
        *announce(spis, sa.local, sa.remote),
        offer_hashes(),
        *((NotifyPayload(NotifyType.CHILDLESS_IKEV2_SUPPORTED),) if sa.role is Role.RESPONDER else ()),
        *((NotifyPayload(NotifyType.FRAGMENTATION_SUPPORTED),) if fragments else ()),
        *((NotifyPayload(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED),) if additional else ()),
    )


def _read_path(ctx: Context, sa: IkeSa, message: Message) -> None:
    """What the peer's half says of the way between us: NATs, and whether messages may come in fragments."""
    look_for_nat(sa, message.payloads, (message.header.initiator_spi, message.header.responder_spi))
    if find_notify(message.payloads, NotifyType.FRAGMENTATION_SUPPORTED) is not None:
        sa.fragmentation.agree(marked=sa.nat is not Nat.NOBODY or sa.local.port == ctx.settings.nat_port)


def _own_additional(ctx: Context) -> tuple[KeyExchangeId, ...]:
    """Methods of an additional key exchange that we would do."""
    return IKE_ADDITIONAL if ctx.settings.additional_key_exchange else ()


def _additional(ctx: Context, payloads: tuple[Payload, ...]) -> tuple[KeyExchangeId, ...]:
    """Those that we may agree on with the sender of these payloads (RFC 9370 2.2.1)."""
    is_known = find_notify(payloads, NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED) is not None
    return _own_additional(ctx) if is_known else ()


# --- initiator -------------------------------------------------------------------------------------------------


def begin(ctx: Context, negotiate: Negotiate, now: float) -> IkeSa:
    """An IKE SA for a negotiation, entered in the books; `send_request` is next."""
    sa = IkeSa(Role.INITIATOR, State.STARTED, ctx.new_spi(), negotiate.local, negotiate.remote, now)
    sa.negotiation = negotiate
    sa.peer_identity = negotiate.peer_identity
    sa.beginning = Beginning(ctx.entropy(NONCE_OCTETS), offer_ike(additional=_own_additional(ctx)))
    sa.timers[Timer.SETUP] = negotiate.deadline
    ctx.enter(sa)
    return sa


def send_request(ctx: Context, sa: IkeSa, now: float) -> None:
    """Send the first request of an IKE SA that `begin` made."""
    if sa.beginning is None:
        raise RuntimeError("IKE_SA_INIT is over")
    octets = _request(ctx, sa, sa.beginning, IKE_GROUPS[0])
    sa.requests.start((octets,), now, ctx.settings.retransmit_interval, sa.timers[Timer.SETUP])
    send(ctx, sa, octets)


def _request(ctx: Context, sa: IkeSa, beginning: Beginning, group: KeyExchangeId) -> bytes:
    """The request in its present form, with a key share of `group`: made once, sent again with a cookie."""
    key, _ = beginning.sent.get(group) or (KeyExchange.generate(group, ctx.entropy), b"")
    cookie = () if beginning.cookie is None else (NotifyPayload(NotifyType.COOKIE, beginning.cookie),)
    payloads = (
        *cookie,
        beginning.offer,
        KePayload(group, key.public),
        NoncePayload(beginning.nonce),
        *_common_notifies(sa, _own_additional(ctx)),
    )
    octets = encode_message(header(sa, _INIT, 0, is_response=False), payloads)
    beginning.sent.pop(group, None)  # The last entry is the form that was sent last.
    beginning.sent[group] = (key, octets)
    return octets


def hear_answer(ctx: Context, sa: IkeSa, message: Message, now: float) -> None:
    """An answer to our request, from the responder or from anybody. Raises `ParseError`; then nothing has changed."""
    beginning = sa.beginning
    if sa.state is not State.STARTED or beginning is None or not sa.requests.is_answered_by(message.header.message_id):
        ctx.reject(Reason.UNEXPECTED_MESSAGE, sa.remote.address, f"IKE_SA_INIT response in state {sa.state}")
        return
    payloads = message.payloads
    if find(payloads, SaPayload) is not None and message.header.responder_spi:
        _agree(ctx, sa, beginning, message, now)
    elif (cookie := find_notify(payloads, NotifyType.COOKIE)) is not None:
        group = next(reversed(beginning.sent))
        if 1 <= len(cookie.data) <= 64 and cookie.data != beginning.cookie:
            beginning.cookie = cookie.data
            _ask_again(ctx, sa, beginning, group, now)
    elif (invalid := find_notify(payloads, NotifyType.INVALID_KE_PAYLOAD)) is not None:
        wanted = requested_group(invalid, beginning.offer)
        if wanted is None:
            _remember(ctx, sa, beginning, Reason.NO_PROPOSAL_CHOSEN, "INVALID_KE_PAYLOAD for a group not offered")
        elif wanted not in beginning.sent:
            _ask_again(ctx, sa, beginning, wanted, now)
    elif (error := find_error(payloads)) is not None:
        refused = error.notify == NotifyType.NO_PROPOSAL_CHOSEN
        reason = Reason.NO_PROPOSAL_CHOSEN if refused else Reason.PEER_REFUSED
        _remember(ctx, sa, beginning, reason, f"{error.notify.name}, not authenticated")


def _ask_again(ctx: Context, sa: IkeSa, beginning: Beginning, group: KeyExchangeId, now: float) -> None:
    if beginning.retries == MAX_RETRIES:
        _remember(ctx, sa, beginning, Reason.PEER_REFUSED, "COOKIE and INVALID_KE_PAYLOAD without end")
        return
    beginning.retries += 1
    octets = _request(ctx, sa, beginning, group)
    sa.requests.replace((octets,), now, ctx.settings.retransmit_interval)
    send(ctx, sa, octets)


def _remember(ctx: Context, sa: IkeSa, beginning: Beginning, reason: Reason, detail: str) -> None:
    beginning.heard = (reason, detail)
    ctx.reject(Reason.UNAUTHENTICATED_NOTIFY, sa.remote.address, detail)


def _agree(ctx: Context, sa: IkeSa, beginning: Beginning, message: Message, now: float) -> None:
    """The full answer: compute keys and go on to IKE_AUTH."""
    answered, key, nonce = (find(message.payloads, cls) for cls in (SaPayload, KePayload, NoncePayload))
    if not (isinstance(answered, SaPayload) and isinstance(key, KePayload) and isinstance(nonce, NoncePayload)):
        ctx.reject(Reason.INVALID_SYNTAX, sa.remote.address, "IKE_SA_INIT response without SA, KE or nonce")
        return
    chosen = accept_ike(beginning.offer, answered)
    if chosen is not None and chosen.additional is not None and not _additional(ctx, message.payloads):
        chosen = None
    if chosen is None or key.group != chosen.group or key.group not in beginning.sent:
        _remember(ctx, sa, beginning, Reason.NO_PROPOSAL_CHOSEN, "the peer chose what was not offered")
        return
    ours, request = beginning.sent[key.group]
    nonces = (beginning.nonce, nonce.data)
    spis = (sa.local_spi, message.header.responder_spi)
    keys = derive_ike(chosen.prf, chosen.encryption_bits, ours.shared(key.data), nonces, spis)
    hashes = read_hashes(find_notify(message.payloads, NotifyType.SIGNATURE_HASH_ALGORITHMS))
    sa.remote_spi = message.header.responder_spi
    sa.chosen = chosen
    sa.secure(keys, Agreement(nonces, (request, message.octets), hashes, chosen.additional))
    _read_path(ctx, sa, message)
    float_ports(ctx, sa)
    sa.beginning = None
    sa.requests.finish()
    if chosen.additional is not None:
        sa.advance(Step.MORE_KEYS_AGREED)
        start_intermediate(ctx, sa, now)
        return
    sa.advance(Step.KEYS_AGREED)
    start_auth(ctx, sa, now)


# --- responder -------------------------------------------------------------------------------------------------


def answer_begin(ctx: Context, datagram: DatagramReceived, message: Message, now: float) -> IkeSa | None:
    """Answer an IKE_SA_INIT request; the IKE SA that it made, if it made one.

    What proves nothing makes no state: an answer that only asks for another request leaves no trace here.
    """
    local, remote, spi = datagram.local, datagram.remote, message.header.initiator_spi
    offered, key, nonce = (find(message.payloads, cls) for cls in (SaPayload, KePayload, NoncePayload))
    if not (isinstance(offered, SaPayload) and isinstance(key, KePayload) and isinstance(nonce, NoncePayload)):
        ctx.reject(Reason.INVALID_SYNTAX, remote.address, "IKE_SA_INIT request without SA, KE or nonce")
        return None
    if (known := ctx.begun.get((remote, spi))) is not None:
        _answer_again(ctx, known, message)
        return None
    if not _may_begin(ctx, datagram, message, nonce, now):
        return None
    additional = _additional(ctx, message.payloads)
    chosen = choose_ike(offered, key.group, additional)
    if chosen is None:
        why = refusals(offered, additional=additional)
        ctx.reject(Reason.NO_PROPOSAL_CHOSEN, remote.address, "; ".join(why))
        _answer_stateless(ctx, datagram, spi, NotifyPayload(NotifyType.NO_PROPOSAL_CHOSEN))
        return None
    if chosen.group != key.group:
        _answer_stateless(ctx, datagram, spi, invalid_ke(chosen.group))
        return None
    ours = KeyExchange.generate(chosen.group, ctx.entropy)
    try:
        shared = ours.shared(key.data)
    except ParseError:
        ctx.admission.spent(remote.address, now)
        raise
    sa = IkeSa(Role.RESPONDER, State.HALF_OPEN, ctx.new_spi(), local, remote, now, remote_spi=spi)
    _read_path(ctx, sa, message)
    nonces = (nonce.data, ctx.entropy(NONCE_OCTETS))
    share, notifies = KePayload(ours.group, ours.public), _common_notifies(sa, additional)
    answer = (chosen.answer(), share, NoncePayload(nonces[1]), *notifies)
    octets = encode_message(header(sa, _INIT, 0, is_response=True), answer)
    hashes = read_hashes(find_notify(message.payloads, NotifyType.SIGNATURE_HASH_ALGORITHMS))
    keys = derive_ike(chosen.prf, chosen.encryption_bits, shared, nonces, (spi, sa.local_spi))
    sa.chosen = chosen
    sa.secure(keys, Agreement(nonces, (message.octets, octets), hashes, chosen.additional))
    sa.responses.finish((octets,))
    sa.timers[Timer.SETUP] = now + ctx.admission.patience
    ctx.enter(sa)
    if chosen.additional is not None:
        sa.advance(Step.MORE_KEYS_AGREED)
    send(ctx, sa, octets)
    if Nat.PEER not in sa.nat:
        ctx.emit(PeerExpected(remote.address))
    return sa


def _answer_again(ctx: Context, sa: IkeSa, message: Message) -> None:
    """A second IKE_SA_INIT request of a known initiator: the same octets get the same answer, nothing else does."""
    is_begun = sa.state in (State.HALF_OPEN, State.INTERMEDIATE)
    if is_begun and sa.agreement is not None and sa.agreement.messages[0] == message.octets:
        send(ctx, sa, sa.agreement.messages[1])
    else:
        ctx.reject(Reason.UNEXPECTED_MESSAGE, sa.remote.address, f"IKE_SA_INIT request again in state {sa.state}")


def _may_begin(ctx: Context, datagram: DatagramReceived, message: Message, nonce: NoncePayload, now: float) -> bool:
    """There is room for one more, and under load the initiator has shown that it receives at its address."""
    remote, spi = datagram.remote, message.header.initiator_spi
    if ctx.stopping:
        ctx.reject(Reason.STOPPING, remote.address)
        return False
    given = find_notify(message.payloads, NotifyType.COOKIE)
    reason = ctx.admission.judge(remote, spi, nonce.data, None if given is None else given.data, now)
    if reason is None:
        return True
    ctx.reject(reason, remote.address)
    if reason in (Reason.COOKIE_DEMANDED, Reason.INVALID_COOKIE):
        cookie = ctx.admission.cookies.make(remote, spi, nonce.data, now)
        _answer_stateless(ctx, datagram, spi, NotifyPayload(NotifyType.COOKIE, cookie))
    return False


def _answer_stateless(ctx: Context, datagram: DatagramReceived, spi: int, notify: NotifyPayload) -> None:
    head = Header(spi, 0, _INIT, is_response=True, from_initiator=False, message_id=0)
    ctx.emit(SendDatagram(datagram.local, datagram.remote, encode_message(head, (notify,))))
