"""IKE_INTERMEDIATE: an additional key exchange before anybody says who he is (RFC 9242, RFC 9370 2.2.2).

    HDR, SK{KEi(1)}  ──▶
                     ◀──  HDR, SK{KEr(1)}

Both messages are protected by the keys of IKE_SA_INIT; those of both exchanges together protect IKE_AUTH and what
follows. So identities, too, stay hidden from somebody who records today and breaks one of the two exchanges tomorrow.
It happens exactly once, and only if IKE_SA_INIT agreed on it: a peer that has proved nothing can make us do no more.
"""

from dataclasses import dataclass, replace

from oe.errors import ParseError
from oe.ike.channel import drop, enqueue, header, respond
from oe.ike.context import Context
from oe.ike.exchanges.ike_auth import start_auth
from oe.ike.exchanges.ike_auth_responder import refuse
from oe.ike.intauth import sent
from oe.ike.kem import Decapsulation, encapsulate
from oe.ike.keymat import derive_additional
from oe.ike.payloads import KePayload, NotifyPayload, Payload, find, find_error
from oe.ike.registry import ExchangeType, KeyExchangeId, NotifyType
from oe.ike.sa import IkeSa, Role
from oe.ike.states import State, Step
from oe.model import Secret
from oe.negotiation import Negotiate
from oe.reasons import Reason

_INTERMEDIATE = ExchangeType.IKE_INTERMEDIATE


def _method(sa: IkeSa) -> KeyExchangeId:
    method = sa.agreed[0].additional
    if method is None:
        raise RuntimeError("IKE_INTERMEDIATE without an additional key exchange that was agreed")
    return method


def _strengthen(sa: IkeSa, shared: Secret, request: bytes, response: bytes) -> None:
    """The exchange is over: enter it into what AUTH covers, and go on with its keys."""
    agreement, keys = sa.agreed
    int_auth = agreement.int_auth.extended(keys, request, response)
    spis = (sa.local_spi, sa.remote_spi) if sa.role is Role.INITIATOR else (sa.remote_spi, sa.local_spi)
    stronger = derive_additional(keys, shared, agreement.nonces, spis)
    sa.secure(stronger, replace(agreement, int_auth=int_auth))
    sa.heard = b""


# --- initiator -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class IntermediateInitiator:
    """Our request with a public value, until the peer's answer gives the secret."""

    ctx: Context
    sa: IkeSa
    negotiation: Negotiate
    ours: Decapsulation
    request: bytes = b""
    """As AUTH covers it."""
    exchange = _INTERMEDIATE

    def payloads(self, now: float) -> tuple[Payload, ...] | None:
        payloads = (KePayload(self.ours.method, self.ours.public),)
        head = header(self.sa, _INTERMEDIATE, self.sa.requests.next_id, is_response=False)
        self.request = sent(head, payloads)
        return payloads

    def deadline(self, now: float) -> float:
        return self.negotiation.deadline

    def unanswered(self, now: float) -> None:
        drop(self.ctx, self.sa, Reason.NEGOTIATION_TIMEOUT, "no answer to IKE_INTERMEDIATE")

    def answered(self, payloads: tuple[Payload, ...], now: float) -> None:
        if self.sa.state is not State.INTERMEDIATE:
            return
        key = find(payloads, KePayload)
        if key is None or key.group != self.ours.method:
            error = find_error(payloads)
            text = error.notify.name if error is not None else "IKE_INTERMEDIATE without the key exchange agreed on"
            drop(self.ctx, self.sa, Reason.PEER_REFUSED, text)
            return
        try:
            shared = self.ours.shared(key.data)
        except ParseError as error:
            drop(self.ctx, self.sa, Reason.PEER_REFUSED, str(error))
            return
        _strengthen(self.sa, shared, self.request, self.sa.heard)
        self.sa.advance(Step.KEYS_AGREED)
        start_auth(self.ctx, self.sa, now)


def start_intermediate(ctx: Context, sa: IkeSa, now: float) -> None:
    """IKE_SA_INIT agreed on an additional key exchange: ask for it."""
    if sa.negotiation is None:
        drop(ctx, sa, Reason.SUPERSEDED, "nobody waits for this negotiation")
        return
    ours = Decapsulation.generate(_method(sa), ctx.entropy)
    enqueue(ctx, sa, IntermediateInitiator(ctx, sa, sa.negotiation, ours), now)


# --- responder -------------------------------------------------------------------------------------------------


def respond_intermediate(ctx: Context, sa: IkeSa, payloads: tuple[Payload, ...], now: float) -> None:
    """Answer the peer's public value at once. Its repetitions are still under the keys from before."""
    method, key = _method(sa), find(payloads, KePayload)
    syntax = NotifyPayload(NotifyType.INVALID_SYNTAX)
    if key is None or key.group != method:
        refuse(ctx, sa, syntax, "IKE_INTERMEDIATE without the key exchange agreed on", now, _INTERMEDIATE)
        return
    try:
        public, shared = encapsulate(method, key.data)
    except ParseError as error:
        refuse(ctx, sa, syntax, str(error), now, _INTERMEDIATE)
        return
    answer = (KePayload(method, public),)
    response = sent(header(sa, _INTERMEDIATE, sa.responses.expected, is_response=True), answer)
    respond(ctx, sa, _INTERMEDIATE, answer)
    _strengthen(sa, shared, sa.heard, response)
    sa.advance(Step.INTERMEDIATE_ANSWERED)
