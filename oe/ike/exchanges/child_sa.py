"""What IKE_AUTH and CREATE_CHILD_SA do alike with a Child SA: make it, have it put in place, see that one is enough.

Which of two is one too many, both ends find out alone and alike (`Child.yields_to`), if the peer goes by our rule. It
may go by another one. Of two that crossed both are kept, therefore, until the coordinator sees in which the peer sends;
of two that did not, who began the older one deletes it a moment later: no peer sends in that.
"""

from dataclasses import dataclass

from oe.ike.channel import keep_predecessor
from oe.ike.child import Child, ChildTimer, Origin, before_end, shortened
from oe.ike.context import Context
from oe.ike.exchanges.informational import close_child, retire_child
from oe.ike.keymat import derive_child, esp_sas
from oe.ike.payloads import Payload, find_error
from oe.ike.proposals import ChosenEsp
from oe.ike.reach import encapsulation
from oe.ike.registry import NotifyType
from oe.ike.sa import Answer, Asker, IkeSa, Timer
from oe.ike.states import ChildState, ChildStep
from oe.messages import ChildInstalled
from oe.model import ChildSa, Directions, HostPair, Mode, Secret
from oe.negotiation import ChildReady, ChildRedundant
from oe.reasons import Reason


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed of a Child SA."""

    pair: HostPair
    esp: ChosenEsp
    inbound_spi: int
    origin: Origin
    shared: Secret | None = None
    """g^ir of a CREATE_CHILD_SA with KE payloads."""
    fail_closed: bool = False
    replaces: Child | None = None


def make_child(ctx: Context, sa: IkeSa, terms: Terms, now: float) -> Child:
    """A Child SA of `sa`, entered in the books."""
    if sa.keys is None:
        raise RuntimeError("a Child SA of an IKE SA without keys")
    cipher, origin = terms.esp.cipher, terms.origin
    material = derive_child(sa.keys, cipher, origin.nonces, terms.shared)
    inbound, outbound = esp_sas(material, cipher, origin.we_initiated, terms.inbound_spi, terms.esp.spi)
    settings = ctx.settings
    lifetime = shortened(settings.child_lifetime, settings.lifetime_jitter, ctx.entropy)
    child = Child(
        ChildSa(
            id=next(ctx.child_ids),
            pair=terms.pair,
            local=sa.local.address,
            remote=sa.remote.address,
            inbound=inbound,
            outbound=outbound,
            esn=terms.esp.esn,
            mode=Mode.TUNNEL,
            encapsulation=encapsulation(ctx, sa),
            lifetime=lifetime,
            fail_closed=terms.fail_closed,
            octets=int(shortened(settings.child_octets, settings.lifetime_jitter, ctx.entropy)),
        ),
        origin,
        {ChildTimer.END: now + lifetime},
        replaces=None if terms.replaces is None else terms.replaces.sa.id,
    )
    if (age := before_end(lifetime, settings.rekey_margin)) is not None:
        child.timers[ChildTimer.REKEY] = now + age
    ctx.enter_child(sa, child)
    return child


@dataclass(slots=True)
class Installation:
    """Waits for the last directions of a Child SA to be in place."""

    ctx: Context
    sa: IkeSa
    child: Child

    def ask(self, directions: Directions, negotiation: int | None) -> None:
        ask_install(self.ctx, self.sa, self.child, directions, negotiation, self)

    def answer(self, answer: Answer, now: float) -> None:
        # By now the Child SA may be gone, or belong to the successor of its IKE SA.
        found = self.ctx.children.get(self.child.sa.id)
        if not isinstance(answer, ChildInstalled) or found is None:
            return
        if answer.reason is not None:
            keep_predecessor(self.ctx, *found)
            close_child(self.ctx, *found, Reason.INSTALL_FAILED, now)
        elif answer.directions is Directions.INBOUND:
            self.ask(Directions.OUTBOUND, None)


def ask_install(
    ctx: Context, sa: IkeSa, child: Child, directions: Directions, negotiation: int | None, asker: Asker
) -> None:
    """Have a half of `child`, or both, put in place; `asker` hears of it."""
    ticket = ctx.ticket(sa, asker)
    ctx.emit(ChildReady(ticket, child.sa, directions, negotiation, sa.peer_key, sa.anonymity, child.replaces))


def directions_of(child: Child) -> Directions:
    """As initiator: what to put in place first of a Child SA that is complete. One that is redundant already receives,
    and when it will send is for the coordinator to say."""
    return Directions.INBOUND if child.is_spare else Directions.BOTH


# --- one is enough ---------------------------------------------------------------------------------------------


def complete(ctx: Context, sa: IkeSa, child: Child, now: float) -> None:
    """The exchange that made `child` is over at our end: see which Child SA is one too many now."""
    child.made = now
    sa.timers.pop(Timer.CHILDLESS, None)
    old = sa.children.get(child.replaces) if child.replaces is not None else None
    if old is not None:
        _retire(ctx, old, Reason.REKEYED, now, ours=False)
    for other in ctx.same_pair(sa, child):
        if other.made is None or not child.is_in_use:
            continue
        if other.is_spare and child.origin.begun > other.made + ctx.settings.succession_grace:
            # Younger than both of those that crossed: there is no rule by which a peer would go on to send in that one.
            _retire(ctx, other, Reason.REDUNDANT, now, ours=True)
        elif other.is_in_use:
            loser = child if child.yields_to(other) else other
            if child.crosses(other):
                loser.fate = Reason.REDUNDANT
                ctx.emit(ChildRedundant(loser.sa.id, loser.origin.we_initiated))
                _confirm_soon(ctx, other if loser is child else child, now)
            else:
                _retire(ctx, loser, Reason.REDUNDANT, now, ours=loser.origin.we_initiated)
    if old is None or old.is_closing:
        return
    if child.is_in_use:
        old.successor = child.sa.id
        if child.origin.we_initiated:
            _retire(ctx, old, Reason.REKEYED, now, ours=True)
    # Where we asked too, the answer to that is still to come.
    if old.state is ChildState.UP or (old.state is ChildState.REKEYING and child.origin.we_initiated):
        old.advance(ChildStep.REKEYED)


def _confirm_soon(ctx: Context, winner: Child, now: float) -> None:
    """We are about to send in `winner`. If the peer began it, it may have given that up when it answered us."""
    owner = ctx.children[winner.sa.id][0]
    if Timer.CONFIRM in owner.timers and not owner.is_unconfirmed:
        owner.timers[Timer.CONFIRM] = min(owner.timers[Timer.CONFIRM], now + ctx.settings.confirm_after / 4)
        ctx.touched.append(owner)


def tries_to_confirm(ctx: Context, sa: IkeSa) -> int:
    """How often the peer is asked whether it has `sa`: seldom where there is another Child SA for the same pair."""
    others = [other for child in sa.children.values() for other in ctx.same_pair(sa, child)]
    is_beside = len(sa.children) == 1 and any(other.is_spare for other in others)
    return ctx.settings.confirm_tries_beside if is_beside else ctx.settings.confirm_tries


def _retire(ctx: Context, child: Child, fate: Reason, now: float, *, ours: bool) -> None:
    """`child` goes, for that reason. It is `ours` to delete it, after the time of grace, or else the peer's; only a
    peer that has not done so for long is helped, each end at another time."""
    ctx.touched.append(ctx.children[child.sa.id][0])
    child.fate = fate
    child.timers.pop(ChildTimer.REKEY, None)
    patience = shortened(3 * ctx.settings.request_patience, 0.5, ctx.entropy)
    child.timers[ChildTimer.DELETE] = now + (ctx.settings.succession_grace if ours else patience)


def end_retired(ctx: Context, sa: IkeSa, child: Child, now: float) -> None:
    """The time has come to delete `child`, unless it is the last one of its pair after all."""
    has_heir = any(other.made is not None and other.is_in_use for other in ctx.same_pair(sa, child))
    if not child.is_closing and not has_heir:
        child.fate = None
        child.timers.pop(ChildTimer.DELETE)
        child.timers[ChildTimer.REKEY] = now + ctx.settings.rekey_pause
        if child.state is ChildState.REPLACED:
            child.advance(ChildStep.REKEY_FAILED)
            child.successor = None
    else:
        retire_child(ctx, sa, child, now)


# --- refusals --------------------------------------------------------------------------------------------------

_REASONS = {
    NotifyType.TS_UNACCEPTABLE: Reason.TS_UNACCEPTABLE,
    NotifyType.NO_PROPOSAL_CHOSEN: Reason.NO_PROPOSAL_CHOSEN,
}


def refusal(payloads: tuple[Payload, ...], otherwise: str) -> tuple[Reason, str]:
    """Why an authenticated peer made no Child SA, and the same for people; `otherwise`: where it did not say."""
    error = find_error(payloads)
    if error is None:
        return Reason.PEER_REFUSED, otherwise
    return _REASONS.get(error.notify, Reason.PEER_REFUSED), error.notify.name
