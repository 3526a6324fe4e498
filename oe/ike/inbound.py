"""A datagram's way in: from octets of anybody to a request or a response of an IKE SA's peer.

Each gate lets it through or names the `Reason` why not:

    whole IKEv2 message? ─ IKE_SA_INIT request ─▶ admitted? ─▶ well formed? ─▶ answer_begin
            └─ IKE SA known? ─ response ─▶ to the request under way? ─▶ genuine? ─▶ its task
                       └─ request ─▶ in sequence? ─▶ heard in this state? ─▶ genuine? ─▶ its responder
"""

from oe.errors import ParseError
from oe.ike.admission import Bucket
from oe.ike.channel import finish_request, respond, send, start_next
from oe.ike.context import Context
from oe.ike.exchanges import RESPONDERS
from oe.ike.exchanges.ike_auth_responder import refuse
from oe.ike.exchanges.ike_sa_init import answer_begin, hear_answer
from oe.ike.message import (
    MAJOR_VERSION,
    Header,
    Message,
    decode_message,
    decode_plain,
    encode_message,
    open_octets,
)
from oe.ike.payloads import NotifyPayload, Payload
from oe.ike.registry import ExchangeType, NotifyType
from oe.ike.rules import Violation, check
from oe.ike.sa import IkeSa, Role
from oe.ike.states import HEARD, State, Step
from oe.ike.window import Arrival
from oe.messages import DatagramReceived, SendDatagram
from oe.model import Reason


class Inbound:
    """The gates. `ParseError` may leave its methods: the octets made no sense, and nothing has changed."""

    __slots__ = ("_ctx", "_strays")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._strays = Bucket(ctx.settings.stray_answers_per_second)

    def owner(self, header: Header) -> IkeSa | None:
        """The IKE SA that a message claims to belong to. The sender's flag says which SPI is ours."""
        sa = self._ctx.sas.get(header.responder_spi if header.from_initiator else header.initiator_spi)
        if sa is None or (sa.role is Role.INITIATOR) == header.from_initiator:
            return None
        their_spi = header.initiator_spi if header.from_initiator else header.responder_spi
        return sa if sa.remote_spi in (0, their_spi) else None

    def receive(self, datagram: DatagramReceived, header: Header, sa: IkeSa | None, now: float) -> IkeSa | None:
        """Act on a datagram; `header` and `sa` are what `decode_header` and `owner` say of it.

        Says which IKE SA it made, if it made one.
        """
        if header.major_version != MAJOR_VERSION:
            self._other_version(datagram, header, now)
        elif header.exchange == ExchangeType.IKE_SA_INIT and not header.is_response:
            return self._begin(datagram, header, now)
        elif sa is None:
            self._stray(datagram, header, now)
        elif header.is_response:
            self._response(sa, decode_message(datagram.data, header), now)
        else:
            self._request(sa, datagram, decode_message(datagram.data, header), now)
        return None

    # --- messages of nobody we know ---

    def _begin(self, datagram: DatagramReceived, header: Header, now: float) -> IkeSa | None:
        ctx, remote = self._ctx, datagram.remote.address
        if not ctx.admit(remote):
            ctx.reject(Reason.NOT_ADMITTED, remote)
            return None
        if header.responder_spi or header.message_id or not header.from_initiator or not header.initiator_spi:
            ctx.reject(Reason.UNEXPECTED_MESSAGE, remote, "IKE_SA_INIT request that is no first message")
            return None
        message = decode_message(datagram.data, header)
        violation = check(header.exchange, False, False, message.payloads)
        if violation is not None:
            ctx.reject(violation.reason, remote, violation.text)
            if violation.notify == NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD:
                self._answer_stray(datagram, header, NotifyPayload(violation.notify, violation.data), now)
            return None
        return answer_begin(ctx, datagram, message, now)

    def _other_version(self, datagram: DatagramReceived, header: Header, now: float) -> None:
        """IKEv1 is Historic (RFC 9395) and gets no answer; whoever speaks a later one is told what we speak."""
        self._ctx.reject(Reason.INVALID_MAJOR_VERSION, datagram.remote.address, f"version {header.major_version}")
        if header.major_version > MAJOR_VERSION:
            self._answer_stray(datagram, header, NotifyPayload(NotifyType.INVALID_MAJOR_VERSION), now)

    def _stray(self, datagram: DatagramReceived, header: Header, now: float) -> None:
        """A message of no IKE SA of ours: perhaps of one that we lost with a crash (RFC 7296 1.5, 2.21.4)."""
        self._ctx.reject(Reason.UNKNOWN_IKE_SPI, datagram.remote.address, header.exchange.name)
        self._answer_stray(datagram, header, NotifyPayload(NotifyType.INVALID_IKE_SPI), now)

    def _answer_stray(self, datagram: DatagramReceived, header: Header, notify: NotifyPayload, now: float) -> None:
        """Answer in clear, if it is a request of somebody whom we talk to, and not too often."""
        if header.is_response or not self._ctx.admit(datagram.remote.address) or not self._strays.take(now):
            return
        head = Header(
            header.initiator_spi,
            header.responder_spi,
            header.exchange,
            is_response=True,
            from_initiator=not header.from_initiator,
            message_id=header.message_id,
        )
        self._ctx.emit(SendDatagram(datagram.local, datagram.remote, encode_message(head, (notify,))))

    # --- messages of an IKE SA ---

    def _response(self, sa: IkeSa, message: Message, now: float) -> None:
        ctx, header = self._ctx, message.header
        if header.exchange == ExchangeType.IKE_SA_INIT:
            violation = check(header.exchange, True, False, message.payloads)
            if violation is not None:
                ctx.reject(violation.reason, sa.remote.address, violation.text)
            else:
                hear_answer(ctx, sa, message, now)
            return
        if message.sealed is None:
            ctx.reject(Reason.UNAUTHENTICATED_NOTIFY, sa.remote.address, f"{header.exchange.name} response in clear")
            return
        if sa.task is None or sa.task.exchange != header.exchange or not sa.requests.is_answered_by(header.message_id):
            text = f"{header.exchange.name} response {header.message_id} that nobody waits for"
            ctx.reject(Reason.UNEXPECTED_MESSAGE, sa.remote.address, text)
            return
        found = self._open(sa, message)
        if found is None:
            return
        if isinstance(found, Violation):
            # It is the peer's answer, only of no use: the exchange is over, and the task finds nothing in it.
            ctx.reject(found.reason, sa.remote.address, found.text)
            found = ()
        task = finish_request(sa)
        if task is not None:
            task.answered(found, now)
            start_next(ctx, sa, now)

    def _request(self, sa: IkeSa, datagram: DatagramReceived, message: Message, now: float) -> None:
        ctx, header = self._ctx, message.header
        arrival = sa.responses.classify(header.message_id)
        if arrival is Arrival.UNDER_WAY:
            return
        if arrival in (Arrival.OLD, Arrival.AHEAD):
            text = f"{header.exchange.name} request {header.message_id}, {sa.responses.expected} is expected"
            ctx.reject(Reason.INVALID_MESSAGE_ID, sa.remote.address, text)
            return
        if arrival is Arrival.NEW and header.exchange not in HEARD[sa.state]:
            text = f"{header.exchange.name} request in state {sa.state}"
            ctx.reject(Reason.UNEXPECTED_MESSAGE, sa.remote.address, text)
            return
        found = self._open(sa, message)
        if found is None:
            return
        if arrival is Arrival.REPEATED:
            if sa.responses.kept is not None:
                send(ctx, sa, sa.responses.kept)
            return
        if sa.state is State.HALF_OPEN and datagram.remote.address == sa.remote.address:
            # An initiator behind a NAT goes on from port 4500 (RFC 7296 2.23).
            sa.local, sa.remote = datagram.local, datagram.remote
        if isinstance(found, Violation):
            self._violated(sa, header, found, now)
        else:
            sa.responses.begin()
            RESPONDERS[header.exchange](ctx, sa, found, now)

    def _open(self, sa: IkeSa, message: Message) -> tuple[Payload, ...] | Violation | None:
        """What the peer itself wrote, or what is wrong with that; None: it was not the peer who wrote it."""
        if message.sealed is None or message.sealed.is_fragment:
            text = f"{message.header.exchange.name} without an Encrypted payload"
            self._ctx.reject(Reason.UNEXPECTED_MESSAGE, sa.remote.address, text)
            return None
        try:
            plain = open_octets(message, sa.opening)
            if plain is None:
                self._ctx.reject(Reason.INTEGRITY_CHECK_FAILED, sa.remote.address, message.header.exchange.name)
                return None
            payloads = decode_plain(message.sealed.first, plain)
        except ParseError as error:
            return Violation(Reason.INVALID_SYNTAX, NotifyType.INVALID_SYNTAX, b"", str(error))
        return check(message.header.exchange, message.header.is_response, True, payloads) or payloads

    def _violated(self, sa: IkeSa, header: Header, violation: Violation, now: float) -> None:
        """Tell the peer what is wrong with its request. Only an IKE SA that does not stand yet ends of it."""
        if sa.state is State.HALF_OPEN:
            sa.advance(Step.AUTH_REQUESTED)
            refuse(self._ctx, sa, NotifyPayload(violation.notify, violation.data), violation.text, now)
        else:
            self._ctx.reject(violation.reason, sa.remote.address, violation.text)
            respond(self._ctx, sa, header.exchange, (NotifyPayload(violation.notify, violation.data),))
