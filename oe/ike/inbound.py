"""A datagram's way in: from octets of anybody to a request or a response of an IKE SA's peer.

Each gate lets it through or names the `Reason` why not:

    whole IKEv2 message? ─ IKE_SA_INIT request ─▶ admitted? ─▶ well formed? ─▶ answer_begin
            └─ IKE SA known? ─ response ─▶ to the request under way? ─▶ genuine? ─▶ its task
                       └─ request ─▶ in sequence? ─▶ heard in this state? ─▶ genuine? ─▶ its responder
"""

from oe.errors import ParseError
from oe.ike.channel import (
    drop,
    finish_request,
    forget_fragments,
    respond,
    respond_again,
    respond_malformed,
    start_next,
)
from oe.ike.context import Context
from oe.ike.crypto import SkCipher
from oe.ike.exchanges import RESPONDERS
from oe.ike.exchanges.ike_auth_responder import refuse
from oe.ike.exchanges.ike_sa_init import answer_begin, hear_answer
from oe.ike.exchanges.informational import Liveness, doubt_others
from oe.ike.exchanges.new_child import leave
from oe.ike.exchanges.rekey_ike import hear_heir
from oe.ike.fragments import Plain
from oe.ike.intauth import received
from oe.ike.message import (
    MAJOR_VERSION,
    Header,
    Message,
    decode_message,
    decode_plain,
    open_octets,
)
from oe.ike.payloads import NotifyPayload, Payload, find_notify
from oe.ike.reach import follow
from oe.ike.recovery import hear_in_clear
from oe.ike.registry import ExchangeType, NotifyType
from oe.ike.rules import Violation, check
from oe.ike.sa import IkeSa, Role, Timer
from oe.ike.states import HEARD, State
from oe.ike.strays import answer_violation, hear_other_version, hear_stray
from oe.ike.window import Arrival
from oe.messages import DatagramReceived
from oe.reasons import Reason


class Inbound:
    """The gates. `ParseError` may leave its methods: the octets made no sense, and nothing has changed."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

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
            hear_other_version(self._ctx, datagram, header, now)
        elif header.exchange == ExchangeType.IKE_SA_INIT and not header.is_response:
            return self._begin(datagram, header, now)
        elif sa is None:
            hear_stray(self._ctx, datagram, header, now)
        elif header.is_response:
            self._response(sa, datagram, decode_message(datagram.data, header), now)
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
                answer_violation(ctx, datagram, header, NotifyPayload(violation.notify, violation.data), now)
            return None
        return answer_begin(ctx, datagram, message, now)

    # --- messages of an IKE SA ---

    def _response(self, sa: IkeSa, datagram: DatagramReceived, message: Message, now: float) -> None:
        ctx, header = self._ctx, message.header
        if header.exchange == ExchangeType.IKE_SA_INIT:
            violation = check(header.exchange, True, False, message.payloads)
            if violation is not None:
                ctx.reject(violation.reason, sa.remote.address, violation.text)
            else:
                hear_answer(ctx, sa, message, now)
            return
        if message.sealed is None:
            hear_in_clear(ctx, sa, message)
            if sa.state is State.GONE:
                doubt_others(ctx, sa, now)
            elif find_notify(message.payloads, NotifyType.INVALID_IKE_SPI) is not None:
                self._doubt(sa, header, now)
            return
        is_expected = sa.requests.is_answered_by(header.message_id)
        if sa.task is None or sa.task.exchange != header.exchange or not is_expected:
            text = f"{header.exchange.name} response {header.message_id} that nobody waits for"
            # The answer to a repetition, or a copy of one.
            is_late = not is_expected and header.message_id < sa.requests.next_id
            reason = Reason.LATE_ANSWER if is_late else Reason.UNEXPECTED_MESSAGE
            ctx.reject(reason, sa.remote.address, text)
            return
        found = self._open(sa, message, now)
        if found is None:
            return
        follow(ctx, sa, datagram.local, datagram.remote)
        sa.hear()
        if isinstance(found, Violation):
            # It is the peer's answer, only of no use: the exchange is over, and the task finds nothing in it.
            ctx.reject(found.reason, sa.remote.address, found.text)
            found = ()
        if sa.established is not None and find_notify(found, NotifyType.INVALID_SYNTAX) is not None:
            # The peer has it no longer, and needs no Delete to know that (RFC 7296 2.21.3).
            drop(ctx, sa, Reason.INVALID_SYNTAX, f"{header.exchange.name} request that the peer does not understand")
            return
        task = finish_request(sa)
        if task is not None:
            task.answered(found, now)
            start_next(ctx, sa, now)

    def _doubt(self, sa: IkeSa, header: Header, now: float) -> None:
        """Somebody says that the peer has forgotten `sa`. It proves nothing; but to find out takes no longer than a
        liveness check, and what can be done elsewhere need not wait for it (RFC 7296 2.21.4).

        What the peer may have to look something up for keeps its time: silence until then is no sign of death.
        """
        if sa.established is None or sa.task is None or not sa.requests.is_answered_by(header.message_id):
            return
        if sa.task.exchange != ExchangeType.CREATE_CHILD_SA:
            settings = self._ctx.settings
            sa.requests.hasten(now + settings.retransmit_interval * ((1 << settings.confirm_tries) - 1))
        leave(self._ctx, sa, now)

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
        if arrival is Arrival.REPEATED:
            self._repeated(sa, datagram, message, now)
            return
        found = self._open(sa, message, now)
        if found is None:
            return
        sa.asked_from = (datagram.local, datagram.remote)
        follow(ctx, sa, datagram.local, datagram.remote)
        sa.hear()
        if isinstance(found, Violation):
            self._violated(sa, header, found, now)
        else:
            hear_heir(ctx, sa, found, now)
            sa.responses.begin()
            RESPONDERS[header.exchange](ctx, sa, found, now)
            start_next(ctx, sa, now)

    def _repeated(self, sa: IkeSa, datagram: DatagramReceived, message: Message, now: float) -> None:
        """A request that was answered comes again. Of a fragmented one the first fragment says so (RFC 7383 2.6.1)."""
        place = message.sealed.place if message.sealed is not None else None
        if place is not None and place.number > 1:
            return
        try:
            genuine = self._plain(sa, message, None if sa.answered_with is None else sa.answered_with[1])
        except ParseError:
            genuine = b""  # The peer itself wrote it so, and was answered accordingly.
        if genuine is None:
            return
        if place is not None and place.total > 1:
            sa.fragmentation.follow(len(message.octets))
        respond_again(self._ctx, sa, (datagram.local, datagram.remote))
        if message.header.exchange == ExchangeType.IKE_AUTH:
            self._confirm_later(sa, now)

    def _confirm_later(self, sa: IkeSa, now: float) -> None:
        """The initiator lives, and had no answer so far: until then it can answer none of our questions either.

        A recording says the same for ever; it is believed for as long as an initiator may take.
        """
        settings = self._ctx.settings
        if sa.established is None or now > sa.established + settings.half_open_lifetime:
            return
        if Timer.CONFIRM in sa.timers:
            sa.timers[Timer.CONFIRM] = now + settings.confirm_after
        elif isinstance(sa.task, Liveness):
            sa.requests.start_over(now, settings.retransmit_interval, sa.task.deadline(now))

    def _open(self, sa: IkeSa, message: Message, now: float) -> tuple[Payload, ...] | Violation | None:
        """What the peer itself wrote, or what is wrong with that; None: it was not the peer who wrote it, or it is a
        fragment and others are missing."""
        try:
            whole = self._whole(sa, message, now)
            if whole is None:
                return None
            payloads = decode_plain(whole.first, whole.octets)
            if message.header.exchange == ExchangeType.IKE_INTERMEDIATE:
                sa.heard = received(whole.message, whole.octets)
        except ParseError as error:
            forget_fragments(sa, sa.incoming[message.header.is_response])
            return Violation(Reason.INVALID_SYNTAX, NotifyType.INVALID_SYNTAX, b"", str(error))
        return check(message.header.exchange, message.header.is_response, True, payloads) or payloads

    def _whole(self, sa: IkeSa, message: Message, now: float) -> Plain | None:
        """The content of a message's Encrypted payload, put together if it came in fragments."""
        header, sealed = message.header, message.sealed
        place = sealed.place if sealed is not None else None
        reassembly = sa.incoming[header.is_response]
        if place is not None and not reassembly.wants(header.message_id, place):
            return None
        plain = self._plain(sa, message)
        if plain is None or sealed is None:
            return None
        if place is None:
            forget_fragments(sa, reassembly)
            return Plain(message, sealed.first, plain)
        sa.timers.setdefault(Timer.REASSEMBLY, now + self._ctx.settings.reassembly_patience)
        whole = reassembly.put(message, sealed, place, plain)
        if whole is not None:
            forget_fragments(sa, reassembly)
            if place.total > 1:
                sa.fragmentation.follow(reassembly.largest)
        return whole

    def _plain(self, sa: IkeSa, message: Message, opening: SkCipher | None = None) -> bytes | None:
        """What stands in an SK or SKF payload, if it is the peer's. Raises `ParseError` when the peer sealed nonsense.

        `opening`: the cipher of a request that was answered before keys changed; None: the one of now.
        """
        name = message.header.exchange.name
        if message.sealed is None or (message.sealed.place is not None and sa.fragmentation.room is None):
            text = f"{name} without an Encrypted payload, or in fragments that were not agreed"
            self._ctx.reject(Reason.UNEXPECTED_MESSAGE, sa.remote.address, text)
            return None
        plain = open_octets(message, opening or sa.opening)
        if plain is None:
            self._ctx.reject(Reason.INTEGRITY_CHECK_FAILED, sa.remote.address, name)
        return plain

    def _violated(self, sa: IkeSa, header: Header, violation: Violation, now: float) -> None:
        """Tell the peer what is wrong with its request. An IKE SA that stands survives it only if it was well-formed,
        with a critical payload that we do not know (RFC 7296 2.21.3)."""
        if sa.state in (State.HALF_OPEN, State.INTERMEDIATE):
            notify = NotifyPayload(violation.notify, violation.data)
            refuse(self._ctx, sa, notify, violation.text, now, header.exchange)
            return
        self._ctx.reject(violation.reason, sa.remote.address, violation.text)
        if violation.notify == NotifyType.INVALID_SYNTAX:
            respond_malformed(self._ctx, sa, header.exchange, now)
        else:
            respond(self._ctx, sa, header.exchange, (NotifyPayload(violation.notify, violation.data),))
