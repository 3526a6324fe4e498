"""Messages that belong to no IKE SA of ours, or to no version of ours: counted, and perhaps answered in clear.

Anybody can send them in anybody's name. An answer is therefore small, rare, and never an answer to an answer.
"""

from oe.ike.context import Context
from oe.ike.message import MAJOR_VERSION, Header, decode_message, encode_message
from oe.ike.payloads import NotifyPayload, Payload
from oe.ike.recovery import token_of_the_lost
from oe.ike.registry import NotifyType
from oe.messages import DatagramReceived, SendDatagram
from oe.reasons import Reason


def hear_other_version(ctx: Context, datagram: DatagramReceived, header: Header, now: float) -> None:
    """IKEv1 is Historic (RFC 9395) and gets no answer; whoever speaks a later one is told what we speak."""
    is_older = header.major_version < MAJOR_VERSION
    reason = Reason.IKEV1 if header.major_version == 1 else Reason.INVALID_MAJOR_VERSION
    ctx.reject(reason, datagram.remote.address, f"version {header.major_version}")
    if not is_older and _may_answer(ctx, datagram, header, now):
        answer(ctx, datagram, header, NotifyPayload(NotifyType.INVALID_MAJOR_VERSION))


def hear_stray(ctx: Context, datagram: DatagramReceived, header: Header, now: float) -> None:
    """A message of no IKE SA of ours: perhaps of one that we lost with a crash (RFC 7296 1.5, 2.21.4; RFC 6290).

    Raises `ParseError`.
    """
    message = decode_message(datagram.data, header)
    ctx.reject(Reason.UNKNOWN_IKE_SPI, datagram.remote.address, header.exchange.name)
    if _may_answer(ctx, datagram, header, now):
        lost = token_of_the_lost(ctx, message)
        answer(ctx, datagram, header, NotifyPayload(NotifyType.INVALID_IKE_SPI), *lost)


def answer_violation(
    ctx: Context, datagram: DatagramReceived, header: Header, notify: NotifyPayload, now: float
) -> None:
    """Say in clear what is wrong with a request that began no IKE SA, as far as that may be said."""
    if _may_answer(ctx, datagram, header, now):
        answer(ctx, datagram, header, notify)


def answer(ctx: Context, datagram: DatagramReceived, header: Header, *payloads: Payload) -> None:
    """An unprotected answer, with SPIs and Message ID of the request."""
    head = Header(
        header.initiator_spi,
        header.responder_spi,
        header.exchange,
        is_response=True,
        from_initiator=not header.from_initiator,
        message_id=header.message_id,
    )
    ctx.emit(SendDatagram(datagram.local, datagram.remote, encode_message(head, payloads)))


def _may_answer(ctx: Context, datagram: DatagramReceived, header: Header, now: float) -> bool:
    remote = datagram.remote.address
    return not header.is_response and ctx.admit(remote) and ctx.admission.may_answer_stray(remote, now)
