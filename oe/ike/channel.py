"""An IKE SA as a channel: requests one after another, each request of the peer answered once, and how it all ends."""

from oe.ike.child import Child, ChildTimer
from oe.ike.context import Context
from oe.ike.fragments import Reassembly, cut_again, seal_message
from oe.ike.message import Header
from oe.ike.payloads import NotifyPayload, Payload
from oe.ike.registry import ExchangeType, NotifyType
from oe.ike.sa import IkeSa, Role, Task, Timer
from oe.ike.states import ChildState, ChildStep, State, Step
from oe.ike.window import Due
from oe.messages import SendDatagram
from oe.model import SocketAddress
from oe.negotiation import ChildClosed, NegotiationEnded
from oe.reasons import Reason

# --- messages --------------------------------------------------------------------------------------------------


UNANSWERED = 2
"""Repetitions in vain after which a message is sent in smaller fragments."""


def send(ctx: Context, sa: IkeSa, *datagrams: bytes) -> None:
    """Send a message, or all its fragments, to the peer of `sa`."""
    for datagram in datagrams:
        ctx.emit(SendDatagram(sa.local, sa.remote, datagram))


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
    while sa.requests.pending is None and sa.queue and not sa.is_unconfirmed:
        task = sa.queue.popleft()
        payloads = task.payloads(now)
        if payloads is None:
            continue
        head = header(sa, task.exchange, sa.requests.next_id, is_response=False)
        datagrams = seal_message(head, payloads, sa.sealing, sa.fragmentation)
        sa.task = task
        sa.deleted_early.clear()
        sa.requests.start(datagrams, now, ctx.settings.retransmit_interval, task.deadline(now))
        send(ctx, sa, *datagrams)


def finish_request(sa: IkeSa) -> Task | None:
    """The request under way is over; says whose it was."""
    task, sa.task = sa.task, None
    sa.requests.finish()
    return task


def repeat_if_due(ctx: Context, sa: IkeSa, now: float) -> None:
    """Send the request under way again, or give it up, as its timer says."""
    due = sa.requests.due(now)
    if due is Due.AGAIN and (pending := sa.requests.pending) is not None:
        if pending.repetitions >= UNANSWERED and sa.fragmentation.shrink(pending.datagrams):
            smaller = cut_again(pending.datagrams, sa.sealing, sa.fragmentation)
            sa.requests.replace(smaller, now, ctx.settings.retransmit_interval)
        send(ctx, sa, *pending.datagrams)
    elif due is Due.GIVE_UP and (task := finish_request(sa)) is not None:
        task.unanswered(now)
        start_next(ctx, sa, now)


def respond(ctx: Context, sa: IkeSa, exchange: ExchangeType, payloads: tuple[Payload, ...]) -> None:
    """Answer the peer's request that is under way; the answer is kept for repetitions of it."""
    head = header(sa, exchange, sa.responses.expected, is_response=True)
    datagrams = seal_message(head, payloads, sa.sealing, sa.fragmentation)
    sa.responses.finish(datagrams)
    sa.answered_with = sa.ciphers
    _send_back(ctx, sa.asked_from or (sa.local, sa.remote), *datagrams)


def _send_back(ctx: Context, way: tuple[SocketAddress, SocketAddress], *datagrams: bytes) -> None:
    for datagram in datagrams:
        ctx.emit(SendDatagram(*way, datagram))


def respond_malformed(ctx: Context, sa: IkeSa, exchange: ExchangeType, now: float) -> None:
    """Answer a request that made no sense. That ends the IKE SA at both ends, without a Delete (RFC 7296 2.21.3)."""
    respond(ctx, sa, exchange, (NotifyPayload(NotifyType.INVALID_SYNTAX),))
    linger(ctx, sa, Reason.INVALID_SYNTAX, now)


def respond_again(ctx: Context, sa: IkeSa, way: tuple[SocketAddress, SocketAddress]) -> None:
    """The peer asks once more what was answered: our answer was lost, perhaps because it is too large.

    `way`: between which sockets the question came. Anybody may repeat it: nothing else goes there.
    """
    kept = sa.responses.kept
    if kept is None:
        return
    sa.responses.repetitions += 1
    if sa.responses.repetitions >= UNANSWERED:
        sa.fragmentation.shrink(kept)
    sealing = sa.sealing if sa.answered_with is None else sa.answered_with[0]
    sa.responses.kept = cut_again(kept, sealing, sa.fragmentation)
    _send_back(ctx, way, *sa.responses.kept)


def forget_fragments(sa: IkeSa, *those: Reassembly) -> None:
    """Give up messages of the peer that are in the making: those, or all."""
    for reassembly in those or sa.incoming:
        reassembly.forget()
    if all(reassembly.message_id is None for reassembly in sa.incoming):
        sa.timers.pop(Timer.REASSEMBLY, None)


# --- ends ------------------------------------------------------------------------------------------------------


def end_negotiation(ctx: Context, sa: IkeSa, reason: Reason, detail: str, *, authenticated: bool) -> None:
    """Tell the coordinator that what it asked of `sa` came to nothing, if it still waits for that."""
    if sa.negotiation is not None:
        ctx.emit(NegotiationEnded(sa.negotiation.ticket, reason, detail, authenticated))
        sa.negotiation = None


def end_child(ctx: Context, sa: IkeSa, child_id: int, reason: Reason | None) -> None:
    """Forget a Child SA and, unless the coordinator knows (`reason` None), tell it."""
    child = sa.children.get(child_id)
    if child is None:
        return
    ctx.forget_child(sa, child)
    keep_predecessor(ctx, sa, child)
    _keep_spare(ctx, sa, child)
    if reason is not None and not child.is_told:
        is_deleted = reason in (Reason.DELETED_BY_PEER, Reason.SUPERSEDED)
        ctx.emit(ChildClosed(child_id, child.fate or reason if is_deleted else reason))


def keep_predecessor(ctx: Context, sa: IkeSa, child: Child) -> None:
    """`child` comes to nothing: the one that it was to succeed goes on, if it is still there, and is rekeyed again."""
    old = sa.children.get(child.replaces) if child.replaces is not None else None
    if old is not None and old.state is ChildState.REPLACED and old.successor == child.sa.id:
        old.advance(ChildStep.REKEY_FAILED)
        old.successor, old.fate = None, None
        old.timers.pop(ChildTimer.DELETE, None)
        old.timers[ChildTimer.REKEY] = (child.made or 0.0) + ctx.settings.rekey_pause


def _keep_spare(ctx: Context, sa: IkeSa, gone: Child) -> None:
    """Where `gone` was the last one in use of its pair, one that was redundant beside it is not any more."""
    others = ctx.same_pair(sa, gone)
    spare = next((other for other in reversed(others) if other.is_spare), None)
    if spare is None or any(other.is_in_use for other in others):
        return
    spare.fate = None
    if ctx.settings.rekey_margin:
        spare.timers.setdefault(ChildTimer.REKEY, 0.0)  # Its time came meanwhile, and was let pass.
    ctx.touched.append(ctx.children[spare.sa.id][0])


def _end_everything(ctx: Context, sa: IkeSa, reason: Reason, detail: str) -> None:
    end_negotiation(ctx, sa, reason, detail, authenticated=sa.is_proved)
    for wanted in sa.wanted.values():
        ctx.postpone(wanted.negotiation, 0.0)  # At once, on another IKE SA.
    sa.wanted.clear()
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
    sa.is_unconfirmed = False  # The last word waits for nobody.
    sa.advance(Step.GOODBYE_SENT)
    enqueue(ctx, sa, goodbye, now)
