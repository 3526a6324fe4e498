"""An IKE SA as a channel: requests one after another, each request of the peer answered once, and how it all ends."""

from oe.ike.context import Context
from oe.ike.message import Header, seal
from oe.ike.payloads import Payload
from oe.ike.registry import ExchangeType
from oe.ike.sa import IkeSa, Role, Task, Timer
from oe.ike.states import State, Step
from oe.ike.window import Due
from oe.messages import ChildClosed, NegotiationEnded, SendDatagram
from oe.model import Reason

# --- messages --------------------------------------------------------------------------------------------------


def send(ctx: Context, sa: IkeSa, octets: bytes) -> None:
    """Send a datagram to the peer of `sa`."""
    ctx.emit(SendDatagram(sa.local, sa.remote, octets))


def header(sa: IkeSa, exchange: ExchangeType, message_id: int, *, is_response: bool) -> Header:
    """The header of a message of ours."""
    is_initiator = sa.role is Role.INITIATOR
    first, second = (sa.local_spi, sa.remote_spi) if is_initiator else (sa.remote_spi, sa.local_spi)
    return Header(first, second, exchange, is_response, is_initiator, message_id)


def enqueue(ctx: Context, sa: IkeSa, task: Task, now: float) -> None:
    """Start `task` when those before it are done."""
    sa.queue.append(task)
    start_next(ctx, sa, now)


def start_next(ctx: Context, sa: IkeSa, now: float) -> None:
    """Send the request of the next task that still has something to ask, unless one is under way."""
    while sa.requests.pending is None and sa.queue:
        task = sa.queue.popleft()
        payloads = task.payloads(now)
        if payloads is None:
            continue
        head = header(sa, task.exchange, sa.requests.next_id, is_response=False)
        octets = seal(head, payloads, sa.sealing)
        sa.task = task
        sa.requests.start(octets, now, ctx.settings.retransmit_interval, task.deadline(now))
        send(ctx, sa, octets)


def finish_request(sa: IkeSa) -> Task | None:
    """The request under way is over; says whose it was."""
    task, sa.task = sa.task, None
    sa.requests.finish()
    return task


def repeat_if_due(ctx: Context, sa: IkeSa, now: float) -> None:
    """Send the request under way again, or give it up, as its timer says."""
    due = sa.requests.due(now)
    if due is Due.AGAIN and sa.requests.pending is not None:
        send(ctx, sa, sa.requests.pending.octets)
    elif due is Due.GIVE_UP and (task := finish_request(sa)) is not None:
        task.unanswered(now)
        start_next(ctx, sa, now)


def respond(ctx: Context, sa: IkeSa, exchange: ExchangeType, payloads: tuple[Payload, ...]) -> None:
    """Answer the peer's request that is under way; the answer is kept for repetitions of it."""
    octets = seal(header(sa, exchange, sa.responses.expected, is_response=True), payloads, sa.sealing)
    sa.responses.finish(octets)
    send(ctx, sa, octets)


# --- ends ------------------------------------------------------------------------------------------------------


def end_negotiation(ctx: Context, sa: IkeSa, reason: Reason, detail: str, *, authenticated: bool) -> None:
    """Tell the coordinator that what it asked of `sa` came to nothing, if it still waits for that."""
    if sa.negotiation is not None:
        ctx.emit(NegotiationEnded(sa.negotiation.ticket, reason, detail, authenticated))
        sa.negotiation = None


def end_child(ctx: Context, sa: IkeSa, child_id: int, reason: Reason | None) -> None:
    """Forget a Child SA and, unless the coordinator knows (`reason` None), tell it."""
    child = sa.children.pop(child_id, None)
    if child is None:
        return
    del ctx.children[child_id]
    if reason is not None and not child.is_closing:
        ctx.emit(ChildClosed(child_id, reason))


def _end_everything(ctx: Context, sa: IkeSa, reason: Reason, detail: str) -> None:
    end_negotiation(ctx, sa, reason, detail, authenticated=sa.established is not None)
    for child_id in tuple(sa.children):
        end_child(ctx, sa, child_id, reason)
    ctx.withdraw(sa)
    sa.queue.clear()
    sa.timers.clear()


def drop(ctx: Context, sa: IkeSa, reason: Reason, detail: str = "") -> None:
    """`sa` is over, without a word to the peer. Its negotiation and Child SAs end with `reason`."""
    _end_everything(ctx, sa, reason, detail)
    finish_request(sa)
    sa.advance(Step.DROPPED)
    ctx.forget(sa)


def linger(ctx: Context, sa: IkeSa, reason: Reason, now: float) -> None:
    """`sa` is over and the peer has been answered so; the answer is kept for a while."""
    _end_everything(ctx, sa, reason, "")
    finish_request(sa)
    sa.advance(Step.LAST_ANSWER_SENT)
    sa.timers[Timer.LINGER] = now + ctx.settings.linger


def say_goodbye(ctx: Context, sa: IkeSa, goodbye: Task, reason: Reason, detail: str, now: float) -> None:
    """`sa` is over for us; `goodbye` tells the peer when a request under way is answered. `goodbye` then drops it."""
    if sa.state is State.CLOSING:
        return
    _end_everything(ctx, sa, reason, detail)
    sa.advance(Step.GOODBYE_SENT)
    enqueue(ctx, sa, goodbye, now)
