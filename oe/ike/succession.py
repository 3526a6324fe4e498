"""One IKE SA takes over from another: the end of a rekey (RFC 7296 2.8, 2.18), and pauses between tries."""

from oe.ike.channel import start_next
from oe.ike.child import ChildTimer, before_end, shortened
from oe.ike.context import Context
from oe.ike.keymat import IkeKeys
from oe.ike.reach import keep_mapping
from oe.ike.sa import IkeSa, Role, Timer
from oe.ike.states import ChildState, ChildStep, State, Step

_OF_THE_LIVING = (Timer.CONFIRM, Timer.HURRY, Timer.REKEY, Timer.FOLLOWUP, Timer.LIFETIME, Timer.KEEPALIVE)


def make_heir(ctx: Context, old: IkeSa, role: Role, spis: tuple[int, int], keys: IkeKeys, now: float) -> IkeSa:
    """A successor of `old`, entered in the books and without Child SAs so far. `spis`: ours, then the peer's.

    Its window starts anew (RFC 7296 2.2); who the peer is and where, and what it can do, stays as it was.
    """
    heir = IkeSa(role, State.ESTABLISHED, spis[0], old.local, old.remote, now, remote_spi=spis[1])
    heir.secure(keys, None)
    heir.peer_identity, heir.peer_key, heir.fragmentation = old.peer_identity, old.peer_key, old.fragmentation
    heir.own_anonymity, heir.nat = old.own_anonymity, old.nat
    heir.established = now
    start_life(ctx, heir, now)
    heir.timers[Timer.CHILDLESS] = now + ctx.settings.request_patience
    ctx.enter(heir)
    ctx.touched.append(heir)
    return heir


def start_life(ctx: Context, sa: IkeSa, now: float) -> None:
    """When `sa` is to be rekeyed, and when it ends."""
    lifetime = shortened(ctx.settings.ike_lifetime, ctx.settings.lifetime_jitter, ctx.entropy)
    sa.timers[Timer.LIFETIME] = now + lifetime
    if (age := before_end(lifetime, ctx.settings.rekey_margin)) is not None:
        sa.timers[Timer.REKEY] = now + age


def succeed(ctx: Context, old: IkeSa, heir: IkeSa, now: float) -> None:
    """`heir` has the Child SAs of `old` from now on, and all that is still to be done for them."""
    old.rival, heir.inherits = None, None
    if old.state is not State.ESTABLISHED:
        return  # It ended meanwhile, and so did all that it had.
    for wanted in old.wanted.values():
        ctx.postpone(wanted.negotiation, now)
    old.wanted.clear()
    for child in old.children.values():
        # What waited in the queue of `old`, or was refused because of the rekey, is begun again.
        if child.state is ChildState.REKEYING:
            child.advance(ChildStep.REKEY_FAILED)
        if child.is_in_use and ctx.settings.rekey_margin:
            child.timers.setdefault(ChildTimer.REKEY, now)
        elif child.is_closing:
            child.timers[ChildTimer.DELETE] = now
    old.queue.clear()
    ctx.bequeath(old, heir)
    for timer in _OF_THE_LIVING:
        old.timers.pop(timer, None)
    old.timers[Timer.CHILDLESS] = now + ctx.settings.request_patience
    old.advance(Step.REKEYED)
    keep_mapping(ctx, heir, now)
    if heir.children:
        heir.timers.pop(Timer.CHILDLESS, None)
    old.heir = heir
    ctx.touched += (old, heir)


def confirm(ctx: Context, heir: IkeSa, now: float) -> None:
    """The peer has our answer: what was to be asked in `heir` is asked now."""
    heir.hear()
    start_next(ctx, heir, now)
    ctx.touched.append(heir)


def pause(ctx: Context, refusals: int, *, is_temporary: bool) -> float:
    """Seconds until what the peer refused is tried again, never the same at both ends.

    `refusals`: how many there were in a row, this one included; `is_temporary`: it was TEMPORARY_FAILURE.
    """
    longest = ctx.settings.rekey_pause
    base = min(longest, ctx.settings.collision_pause * 2 ** min(refusals - 1, 16)) if is_temporary else longest
    return shortened(2 * base, 0.5, ctx.entropy)
