"""Requests one after another, and how an IKE SA ends."""

from dataclasses import dataclass, field

from oe.ike.channel import drop, enqueue, finish_request, linger, repeat_if_due, respond, say_goodbye
from oe.ike.context import Context
from oe.ike.message import decode_message
from oe.ike.payloads import NotifyPayload, Payload
from oe.ike.registry import ExchangeType, NotifyType
from oe.ike.sa import IkeSa
from oe.ike.states import State
from oe.messages import SendDatagram
from oe.negotiation import ChildClosed, NegotiationEnded
from oe.reasons import Reason
from tests.ike.opening import open_sealed
from tests.ike.puppet import Puppet, played


@dataclass(slots=True)
class Asks:
    """A task that says what happened to it."""

    word: int | None = 40001
    heard: list[str] = field(default_factory=list)
    exchange = ExchangeType.INFORMATIONAL

    def payloads(self, now: float) -> tuple[Payload, ...] | None:
        return None if self.word is None else (NotifyPayload(NotifyType(self.word)),)

    def deadline(self, now: float) -> float:
        return now + 2.0

    def answered(self, payloads: tuple[Payload, ...], now: float) -> None:
        self.heard.append("answered")

    def unanswered(self, now: float) -> None:
        self.heard.append("unanswered")


def established() -> tuple[Context, IkeSa, Puppet]:
    _, host, puppet = played()
    puppet.establish()
    ctx = host.endpoint._ctx
    (sa,) = ctx.sas.values()
    return ctx, sa, puppet


def sent(ctx: Context, puppet: Puppet) -> list[tuple[int, int]]:
    """Message ID and notify of each request that waits in the output."""
    found: list[tuple[int, int]] = []
    for output in ctx.output:
        if isinstance(output, SendDatagram):
            message = decode_message(output.data)
            assert puppet.opening is not None
            payloads = open_sealed(message, puppet.opening)
            assert payloads is not None
            found += [(message.header.message_id, p.notify) for p in payloads if isinstance(p, NotifyPayload)]
    ctx.output.clear()
    return found


def test_one_request_at_a_time_in_their_order() -> None:
    ctx, sa, puppet = established()
    first, unneeded, second = Asks(40001), Asks(None), Asks(40002)
    for task in (first, unneeded, second):
        enqueue(ctx, sa, task, 0.0)
    assert sent(ctx, puppet) == [(0, 40001)]
    assert finish_request(sa) is first
    enqueue(ctx, sa, Asks(40003), 0.0)
    assert sent(ctx, puppet) == [(1, 40002)]
    assert sa.task is second


def test_a_request_is_repeated_octet_by_octet_and_given_up_and_the_next_goes() -> None:
    ctx, sa, puppet = established()
    first, second = Asks(40001), Asks(40002)
    enqueue(ctx, sa, first, 0.0)
    enqueue(ctx, sa, second, 0.0)
    repeat_if_due(ctx, sa, 0.5)
    one, again = (output.data for output in ctx.output if isinstance(output, SendDatagram))
    assert one == again
    ctx.output.clear()
    repeat_if_due(ctx, sa, 2.0)
    assert first.heard == ["unanswered"]
    assert sent(ctx, puppet) == [(1, 40002)]


def test_a_response_has_the_id_of_its_request_and_is_kept() -> None:
    ctx, sa, _ = established()
    sa.responses.begin()
    expected = sa.responses.expected
    respond(ctx, sa, ExchangeType.INFORMATIONAL, ())
    (output,) = ctx.output
    assert isinstance(output, SendDatagram)
    header = decode_message(output.data).header
    assert (header.message_id, header.is_response, header.from_initiator) == (expected, True, False)
    assert sa.responses.kept == (output.data,)


def ends(ctx: Context) -> list[Reason]:
    return [output.reason for output in ctx.output if isinstance(output, ChildClosed | NegotiationEnded)]


def test_a_dropped_ike_sa_leaves_nothing_in_the_books() -> None:
    ctx, sa, _ = established()
    enqueue(ctx, sa, Asks(), 0.0)
    drop(ctx, sa, Reason.LIVENESS_FAILED)
    assert ends(ctx) == [Reason.LIVENESS_FAILED]
    assert sa.state is State.GONE
    assert not ctx.sas
    assert not ctx.children
    assert not ctx.begun
    assert sa.deadline() is None


def test_a_lingering_one_has_only_its_last_answer() -> None:
    ctx, sa, _ = established()
    linger(ctx, sa, Reason.DELETED_BY_PEER, 100.0)
    assert ends(ctx) == [Reason.DELETED_BY_PEER]
    assert sa.deadline() == 100.0 + ctx.settings.linger
    assert not sa.children
    assert sa.responses.kept is not None


def test_goodbye_waits_for_the_request_under_way_and_is_said_once() -> None:
    ctx, sa, puppet = established()
    enqueue(ctx, sa, Asks(40001), 0.0)
    enqueue(ctx, sa, Asks(40002), 0.0)
    say_goodbye(ctx, sa, Asks(40009), Reason.LIFETIME_ENDED, "", 0.0)
    say_goodbye(ctx, sa, Asks(40010), Reason.LIFETIME_ENDED, "", 0.0)
    assert ends(ctx) == [Reason.LIFETIME_ENDED]
    assert sent(ctx, puppet) == [(0, 40001)]
    repeat_if_due(ctx, sa, 2.0)
    assert sent(ctx, puppet) == [(1, 40009)]
    assert not sa.queue
