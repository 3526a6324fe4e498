"""The joint of the house: it takes every event to its part, and joins the coordinator with the IKE engine.

Pure: `handle` an event, `expire` timers, ask the next `deadline`, `take` the ordered commands.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from oe.gateway import retries
from oe.gateway.children import Children
from oe.gateway.context import Context, GatewaySettings, IkeEngine, OwnSide, Rules
from oe.gateway.decisions import POLICY_ALONE, VERDICTS, Decisions
from oe.gateway.inbound import Inbound
from oe.gateway.outbound import Outbound, Ports
from oe.gateway.pairs import Failure, Pair
from oe.gateway.preflight import Preflight
from oe.messages import (
    AddressesChanged,
    ChildExpired,
    ChildInstalled,
    ClearPacketRefused,
    Command,
    CountersRead,
    DatagramReceived,
    DecisionsLost,
    Drop,
    Event,
    Finish,
    FlushAsked,
    KeepMapping,
    KeysLookedUp,
    Note,
    OctetsSigned,
    PacketTrapped,
    PeerMoved,
    Release,
    ReserveSpi,
    SendDatagram,
    SignOctets,
    SpiReserved,
    Started,
    StopAsked,
)
from oe.model import Address, Group, HeldPacket, HostPair, PairState, PairStatus, Verdict
from oe.negotiation import (
    ChildClosed,
    ChildMoved,
    ChildReady,
    ChildRedundant,
    CloseEverything,
    IkeInput,
    IkeOutput,
    JudgePeer,
    NegotiationEnded,
    PeerExpected,
    Rejected,
)
from oe.policy.flow import FlowEvent
from oe.policy.groups import PolicySet
from oe.policy.outcome import GroupSettings, may_use
from oe.policy.select import select
from oe.reasons import Reason
from oe.trap.holds import HoldTable

Admits = Callable[[Address], bool]

CROSSING = 0.3
"""Seconds for which a failure of ours waits when the peer's own negotiation may be about to succeed."""

DUE_AT_ONCE = 32
"""Timers of pairs that are seen to in one call of `expire`: packets in the trap wait meanwhile."""


def _has_come(deadline: float | None, now: float) -> bool:
    return deadline is not None and deadline <= now


class Gateway:
    """All host pairs, and the IKE engine that they negotiate with."""

    def __init__(
        self,
        settings: GatewaySettings,
        policies: PolicySet,
        own: OwnSide,
        make_ike: Callable[[Admits], IkeEngine],
        holds: HoldTable,
        tickets: Iterator[int],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._context = Context(settings, policies, own, tickets, entropy)
        self._holds = holds
        self._decisions = Decisions(self._context, holds)
        ports = Ports(self._decisions.find, self._decisions.move, self._feed_ike, self._fall_back)
        self._outbound = Outbound(self._context, ports)
        self._children = Children(self._context, self._decisions, self._outbound, self._feed_ike)
        self._inbound = Inbound(self._context, self._decisions.find, self._feed_ike)
        self._preflight = Preflight(self._context, self._feed_ike)
        self._ike = make_ike(self._inbound.admits)
        self.pairs: Collection[HostPair] = self._decisions.pairs
        """Those that are known."""
        self.reasons: Mapping[Reason, int] = self._context.reasons
        """How often each reason was met."""
        self._stopping = False
        self._draining = False

    # --- verbs -------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> None:
        """Take in one event. The commands that follow from it are waiting in `take` afterwards."""
        match event:
            case Started():
                self._preflight.start(now)
            case PacketTrapped(packet):
                self._trapped(packet, now)
            case ClearPacketRefused(pair):
                self._called(pair, now)
            case KeysLookedUp():
                self._context.looked_up(event, now)
            case DatagramReceived() | OctetsSigned() | SpiReserved() | PeerMoved():
                self._feed_ike(event, now)
            case ChildInstalled():
                self._children.installed(event, now)
            case ChildExpired():
                self._children.expired(event, now)
            case CountersRead():
                self._children.counted(event, now)
            case DecisionsLost():
                self._context.reasons[Reason.TABLE_RESTORED] += 1
                self._decisions.repeat(now)
            case AddressesChanged(addresses):
                self._move_to(addresses, now)
            case FlushAsked(pair):
                self._flush(pair, now)
            case StopAsked():
                self._stop(now)

    def adopt(self, rules: Rules, now: float) -> tuple[PairStatus, ...]:
        """From now on `rules` hold. The pairs that were let go because of it, as they were.

        The trap must have the new policies already: what is taken back here falls through to it.
        """
        before, keys = self._context.settings.groups, self._context.own.keys
        self._context.adopt(rules)
        self._inbound.learn_policies()
        if rules.keys != keys:
            self._preflight.adopt_keys(now)
        let_go = []
        for pair in self._decisions:
            group = select(rules.policies, pair.pair.destination).group
            if self._stands(pair, group, before):
                self._decisions.regroup(pair, group, now)
            else:
                let_go.append(self._decisions.row(pair))
                self._outbound.overrule(pair)
                self._context.reasons[Reason.POLICY_CHANGED] += 1
                self._forget(pair, Reason.POLICY_CHANGED, now)
        return tuple(let_go)

    def expire(self, now: float) -> None:
        """Let happen what is due, or a part of it: `deadline` says whether some is left."""
        # The engine first: it knows better why a negotiation failed than the end of the budget does.
        self._ike.expire(now)
        self._drain(now)
        if _has_come(self._ike.deadline(), now):
            return
        for kind, subject in islice(self._context.timers.due(now), DUE_AT_ONCE):
            if kind == "counters":
                self._children.count(now)
            elif isinstance(subject, int):
                self._children.lingered(subject)
            elif isinstance(subject, HostPair):
                self._due(kind, subject, now)
            elif isinstance(subject, Address):
                self._preflight.look_again(subject, now)
        # Last, so that a packet whose patience ends with its pair's budget still gets the pair's verdict.
        if not _has_come(self._context.timers.deadline(), now):
            self._decisions.expire_holds(now)

    def deadline(self) -> float | None:
        """When `expire` wants to be called next; None: not before the next event."""
        deadlines = (self._holds.deadline(), self._context.timers.deadline(), self._ike.deadline())
        return min((at for at in deadlines if at is not None), default=None)

    def take(self) -> list[Command]:
        """The commands since the last call, in the order in which they must be carried out."""
        commands, self._context.commands = self._context.commands, []
        return commands

    def snapshot(self) -> Iterator[PairStatus]:
        """Every pair that is known now, for `oe status`: each as it is, or was at its end, when its row is taken."""
        return map(self._decisions.row, self._decisions)

    # --- packets -----------------------------------------------------------------------------------------------

    def _trapped(self, packet: HeldPacket, now: float) -> None:
        pair = self._decisions.find(packet.pair)
        if pair is None:
            group = select(self._context.policies, packet.pair.destination).group
            if self._settled_at_once(packet, group):
                return
            pair = self._decisions.enter(packet.pair, now)
        if pair.lapsed:
            self._decisions.renew(pair, now)
            self._outbound.look_again(pair, now)
        verdict = VERDICTS.get(pair.state) if pair.state is not None else None
        if verdict is not None:
            # It was queued before the decision reached the kernel.
            self._decisions.let_go((packet,), pair, verdict)
            return
        self._decisions.hold(packet, now)
        if pair.state is None:
            self._decisions.move(pair, FlowEvent.TRAPPED, now)
            self._outbound.start(pair, now)

    def _settled_at_once(self, packet: HeldPacket, group: Group) -> bool:
        """True if a packet of an unknown pair needs no record: the policy alone decides, or there is no room."""
        verdict = POLICY_ALONE.get(group)
        reason = Reason.POLICY_BLOCK
        if verdict is None:
            if not self._stopping and len(self._decisions) < self._context.settings.max_pairs:
                return False
            reason = Reason.STOPPING if self._stopping else Reason.TOO_MANY_PAIRS
            verdict = Verdict.BLOCKED if group is Group.PRIVATE else Verdict.CLEAR
            self._context.reasons[reason] += 1
        if verdict is Verdict.BLOCKED:
            self._context.emit(Drop((packet.id,), reason))
        else:
            self._context.emit(Release((packet.id,), verdict, fail_closed=False))
        return True

    def _called(self, key: HostPair, now: float) -> None:
        """Somebody in a `private` net talks to us in clear: it may wait for us to begin (`clear-or-private`).

        Its packet is dropped, and proves nothing. It starts what our own first packet would start, and no more:
        a pair that is known already is not touched.
        """
        self._context.reasons[Reason.CLEAR_FROM_PRIVATE] += 1
        known = self._decisions.find(key) is not None
        room = not self._stopping and len(self._decisions) < self._context.settings.max_pairs
        ours = self._context.own.serves(key.source)
        if known or not room or not ours or select(self._context.policies, key.destination).group is not Group.PRIVATE:
            return
        pair = self._decisions.enter(key, now)
        self._decisions.move(pair, FlowEvent.TRAPPED, now)
        self._outbound.start(pair, now)

    # --- attempts ----------------------------------------------------------------------------------------------

    def _fall_back(
        self, pair: Pair, failure: Failure, answer_lifetime: float | None, now: float, *, renews: bool = False
    ) -> None:
        """An attempt came to nothing. A standing decision is not touched by it, a living SA even less."""
        if pair.state is PairState.PROTECTED:
            return
        if pair.outbounds:
            self._children.grace_over(pair, now)
            return
        stands = pair.state in VERDICTS
        if not stands and pair.postponed is None and (pair.children or failure.reason in retries.CROSSED):
            pair.postponed = failure, answer_lifetime
            self._context.timers.set(("grace", pair.pair), now + CROSSING)
            return
        pair.postponed = None
        self._context.reasons[failure.reason] += 1
        if not stands or renews:
            self._decisions.fall_back(pair, failure, answer_lifetime, now)
        keyless = failure.reason is Reason.NO_KEY and pair.state is PairState.CLEAR
        if keyless and (not stands or renews) and self._outbound.may_be_anonymous(pair):
            self._outbound.ask_anonymously(pair, now)
        else:
            self._retry_later(pair, failure, now)

    def _retry_later(self, pair: Pair, failure: Failure, now: float) -> None:
        """Behind the standing decision, and only while it stands."""
        pause = retries.pause(failure.reason, pair.retries)
        if pause is not None and pair.expires is not None and now + pause < pair.expires:
            pair.retries += 1
            self._context.timers.set(("retry", pair.pair), now + pause)

    def _crossing_over(self, pair: Pair, now: float) -> None:
        """The peer's own negotiation has succeeded, or had its time."""
        if pair.outbounds:
            self._children.grace_over(pair, now)
        elif pair.postponed is not None:
            self._fall_back(pair, *pair.postponed, now)

    def _due(self, kind: str, key: HostPair, now: float) -> None:
        if kind == "attempt":
            self._outbound.ran_out(key, now)
            return
        pair = self._decisions.find(key)
        if pair is not None:
            self._children.due(kind, pair, now)
        if pair is None or pair.state is PairState.PROTECTED:
            return
        if kind == "grace":
            self._crossing_over(pair, now)
        elif kind == "retry" and pair.attempt is None:
            self._outbound.start(pair, now, background=pair.state in VERDICTS)
        elif kind == "expiry" and not self._decisions.lapse(pair, now):
            # The next packet is a first packet again; it need not wait for an attempt that runs in the background.
            self._outbound.abandon(pair)
            self._decisions.forget(pair, FlowEvent.EXPIRED, now, Reason.DECISION_EXPIRED)
            self._children.close_all(pair, Reason.DECISION_EXPIRED, now)

    # --- the IKE engine ----------------------------------------------------------------------------------------

    def _feed_ike(self, event: IkeInput, now: float) -> None:
        self._ike.handle(event, now)
        self._drain(now)

    def _drain(self, now: float) -> None:
        """Carry out what the IKE engine wants. An output may bring it new inputs: their outputs come after."""
        if self._draining:
            return
        self._draining = True
        try:
            while outputs := self._ike.take():
                for output in outputs:
                    self._from_ike(output, now)
        finally:
            self._draining = False

    def _from_ike(self, output: IkeOutput, now: float) -> None:
        match output:
            case SendDatagram() | KeepMapping() | SignOctets() | ReserveSpi() | Note():
                self._context.emit(output)
            case PeerExpected(remote):
                self._inbound.expect(remote, now)
            case JudgePeer(pair=pair):
                self._children.asked_for(pair, now)
                self._inbound.judge(output, now)
            case ChildReady():
                self._children.ready(output, now)
            case ChildRedundant():
                self._children.redundant(output, now)
            case ChildMoved():
                self._children.moved(output)
            case NegotiationEnded():
                self._outbound.ended(output, now)
            case ChildClosed(child, reason):
                self._children.closed(child, reason, now)
            case Rejected(reason, remote, detail):
                self._context.reasons[reason] += 1
                self._context.note("debug", "ike-rejected", reason=reason, remote=remote, detail=detail)

    # --- the operator ------------------------------------------------------------------------------------------

    def _flush(self, only: HostPair | None, now: float) -> None:
        for pair in self._decisions:
            if only is None or pair.pair == only:
                self._forget(pair, Reason.OPERATOR_FLUSH, now)

    def _forget(self, pair: Pair, why: Reason, now: float) -> None:
        """The trap first, then what it led to."""
        self._outbound.abandon(pair)
        self._decisions.forget(pair, FlowEvent.FLUSHED, now, why)
        self._children.close_all(pair, why, now)

    def _stands(self, pair: Pair, group: Group, before: Mapping[Group, GroupSettings]) -> bool:
        """Whether what was decided for a pair, or is on its way, is what the rules say that hold now.

        A tunnel stays in any group that has tunnels and may act on the answer that it was built on. Everything else
        was decided by the rules before, and is decided anew when they are others.
        """
        settings = self._context.settings.groups[group]
        if group is pair.group and settings == before[group]:
            return self._context.own.serves(pair.pair.source)
        carrier = pair.carrier
        if pair.state is not PairState.PROTECTED or carrier is None:
            return False
        if not self._context.may_have_tunnel(pair.pair, carrier.anonymity):
            return False
        return pair.grade is not None and may_use(pair.grade, settings.dnssec) is None

    def _move_to(self, addresses: tuple[Address, ...], now: float) -> None:
        """Forget what hangs on addresses that are gone; look whether our key is published for the new ones."""
        before = self._context.own
        self._context.own = replace(before, addresses=addresses)
        lost = frozenset(before.addresses) - frozenset(addresses)
        for pair in self._decisions:
            if pair.pair.source in lost or any(child.local in lost for child in pair.children.values()):
                self._context.reasons[Reason.ADDRESS_LOST] += 1
                self._forget(pair, Reason.ADDRESS_LOST, now)
        self._context.note("info", "addresses", own=", ".join(map(str, addresses)))
        self._preflight.start(now, besides=before.addresses)

    def _stop(self, now: float) -> None:
        """Say good-bye to the peers, let go what is held as its group allows, take everything down."""
        self._stopping = True
        self._children.stop()
        self._feed_ike(CloseEverything(), now)
        for pair in self._decisions:
            self._decisions.release_all(pair)
            self._forget(pair, Reason.STOPPING, now)
        self._context.emit(Finish())
