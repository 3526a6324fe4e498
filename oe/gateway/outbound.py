"""From a trapped packet to a negotiation or a fallback: the initiator's story (RFC 4322 3.2).

    lookup of the destination ─┐
                               ├─ both there ─ candidates ─ negotiate with the first ─ ... ─ the last ─ fallback
    lookup of our own side ────┘

Every continuation finds the pair and its attempt again and stops quietly when they are gone or protected meanwhile:
what was true before the wait may not be true after it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from oe.gateway.candidates import Candidate, Credentials, candidates, own_credentials
from oe.gateway.context import Context
from oe.gateway.pairs import Attempt, Failure, Pair
from oe.model import (
    ID_NULL,
    Address,
    Anonymity,
    Grade,
    Group,
    HostPair,
    Identity,
    KeyAnswer,
    LookupOutcome,
    PairState,
    SocketAddress,
)
from oe.negotiation import Negotiate, NegotiationEnded
from oe.policy.flow import FlowEvent
from oe.policy.outcome import Anonymous, anonymous_for, may_use
from oe.reasons import Reason

_SILENCE = frozenset({Reason.PEER_SILENT, Reason.NEGOTIATION_TIMEOUT})


@dataclass(frozen=True, slots=True)
class Ports:
    """What the initiator's story needs from the coordinator."""

    find: Callable[[HostPair], Pair | None]
    move: Callable[[Pair, FlowEvent, float], None]
    negotiate: Callable[[Negotiate, float], None]
    fall_back: "FallBack"


class FallBack(Protocol):
    """`answer_lifetime`: seconds that the DNS answer behind it may still be used, None without one. `renews`: the
    decision that stands is to be made anew."""

    def __call__(
        self, pair: Pair, failure: Failure, answer_lifetime: float | None, now: float, *, renews: bool
    ) -> None: ...


class Outbound:
    """Runs attempts. One per pair at a time."""

    def __init__(self, context: Context, ports: Ports) -> None:
        self._context = context
        self._ports = ports
        self._negotiations: dict[int, HostPair] = {}
        self._overruled: set[int] = set()

    def start(self, pair: Pair, now: float, *, background: bool = False, renews: bool = False) -> None:
        """Begin an attempt for a pair that has none. In the background a standing decision is left alone, until the
        attempt that `renews` it has ended."""
        attempt = Attempt(now + self._context.settings.setup_budget, background, renews)
        pair.attempt = attempt
        key = pair.pair
        self._context.timers.set(("attempt", key), attempt.deadline)
        if not background:
            self._context.timers.cancel(("expiry", key))
        self._context.look_up(
            key.destination, attempt.deadline, lambda answer, at: self._peer_answered(key, attempt, answer, at)
        )
        self._context.look_up(
            key.source, attempt.deadline, lambda answer, at: self._own_answered(key, attempt, answer, at)
        )

    def look_again(self, pair: Pair, now: float) -> None:
        """Make the decision that stands anew, behind it."""
        if pair.attempt is None:
            self.start(pair, now, background=True, renews=True)
        else:
            pair.attempt.renews = True

    def ask_anonymously(self, pair: Pair, now: float) -> None:
        """The destination publishes no key: try, behind the decision, whether it agrees to be nobody to us.

        First we say who we are: it may look us up. There are peers that want nobody at the other end.
        """
        key = pair.pair
        attempt = pair.attempt = Attempt(now + self._context.settings.setup_budget, background=True)
        self._context.timers.set(("attempt", key), attempt.deadline)
        stranger = Candidate(key.destination, (), pair.grade or Grade.INDETERMINATE, None)
        attempt.candidates = [stranger, replace(stranger, takes_nobody=True)]
        self._context.look_up(
            key.source, attempt.deadline, lambda answer, at: self._own_answered(key, attempt, answer, at)
        )

    def abandon(self, pair: Pair) -> None:
        """Drop the attempt without a verdict: the pair is protected, flushed or gone."""
        if pair.attempt is None:
            return
        if pair.attempt.negotiation is not None:
            self._negotiations.pop(pair.attempt.negotiation, None)
        pair.attempt = None
        self._context.timers.cancel(("attempt", pair.pair))

    def overrule(self, pair: Pair) -> None:
        """Drop the attempt, and whatever the negotiation that it began will come to: other rules hold now."""
        if pair.attempt is not None and pair.attempt.negotiation is not None:
            self._overruled.add(pair.attempt.negotiation)
        self.abandon(pair)

    def is_overruled(self, ticket: int | None) -> bool:
        """Whether the negotiation of this ticket, which has just succeeded, is not wanted any more. Asked once."""
        overruled = ticket in self._overruled
        if ticket is not None:
            self._overruled.discard(ticket)
        return overruled

    def ran_out(self, key: HostPair, now: float) -> None:
        """The setup budget is spent."""
        pair = self._ports.find(key)
        if pair is not None and pair.attempt is not None:
            waiting = Reason.PEER_SILENT if pair.attempt.negotiation is not None else Reason.DNS_TIMEOUT
            self._fail(pair, pair.attempt.failure or Failure(waiting, "the setup budget is spent"), now)

    def ended(self, event: NegotiationEnded, now: float) -> None:
        """A gateway failed us: the next one, or the fallback."""
        self._overruled.discard(event.ticket)
        key = self._negotiations.pop(event.ticket, None)
        pair = self._ports.find(key) if key is not None else None
        if pair is None or pair.attempt is None or pair.attempt.negotiation != event.ticket:
            # The budget's end is the negotiation's end too, and silence until then is no answer that came late.
            if event.reason not in _SILENCE:
                self._context.reasons[Reason.LATE_ANSWER] += 1
            return
        pair.attempt.negotiation = None
        pair.attempt.failure = Failure(event.reason, event.detail, event.authenticated)
        if event.reason in _SILENCE:
            # Who does not answer does not become talkative when we are nobody.
            pair.attempt.candidates = [one for one in pair.attempt.candidates if not one.takes_nobody]
        self._next_candidate(pair, pair.attempt, now)

    # --- continuations -----------------------------------------------------------------------------------------

    def _current(self, key: HostPair, attempt: Attempt) -> Pair | None:
        pair = self._ports.find(key)
        if pair is None or pair.attempt is not attempt:
            self._context.reasons[Reason.LATE_ANSWER] += 1
            return None
        return pair

    def _peer_answered(self, key: HostPair, attempt: Attempt, answer: KeyAnswer, now: float) -> None:
        pair = self._current(key, attempt)
        if pair is None:
            return
        attempt.answer = answer
        if attempt.renews or not attempt.background:
            pair.grade = answer.grade
        if answer.outcome is not LookupOutcome.FOUND:
            # No need to wait for our own side: whatever it is, there is nobody to talk to.
            self._fail(pair, Failure(answer.reason or Reason.NO_KEY, answer.detail), now)
            return
        demand = self._context.settings.groups[pair.group].dnssec
        refused = may_use(answer.grade, demand)
        if refused is not None:
            self._fail(pair, Failure(refused, f"the group asks for DNSSEC: {demand}"), now)
            return
        attempt.candidates = list(candidates(answer, self._context.own, self._context.entropy))
        if not attempt.candidates:
            self._fail(pair, Failure(Reason.NO_USABLE_KEY, "no record names a gateway that we can reach"), now)
            return
        self._ready(pair, attempt, now)

    def _own_answered(self, key: HostPair, attempt: Attempt, answer: KeyAnswer, now: float) -> None:
        pair = self._current(key, attempt)
        if pair is None:
            return
        attempt.credentials = own_credentials(answer, self._context.own)
        self._ready(pair, attempt, now)

    def _ready(self, pair: Pair, attempt: Attempt, now: float) -> None:
        """Both lookups are needed; they finish in any order."""
        if attempt.credentials is None or not attempt.candidates:
            return
        if attempt.credentials is Reason.OWN_KEY_UNPUBLISHED and self.may_be_anonymous(pair):
            attempt.credentials = Credentials(pair.pair.source, is_anonymous=True)
            attempt.candidates = [one for one in attempt.candidates if not one.takes_nobody]
        if isinstance(attempt.credentials, Reason):
            detail = f"DNS does not name us with our key for {pair.pair.source}; `oe key show` prints the record"
            self._fail(pair, Failure(attempt.credentials, detail), now)
            return
        self._next_candidate(pair, attempt, now)

    def _next_candidate(self, pair: Pair, attempt: Attempt, now: float) -> None:
        if not attempt.candidates or now >= attempt.deadline:
            self._fail(pair, attempt.failure or Failure(Reason.PEER_SILENT, "no gateway left to try"), now)
            return
        assert isinstance(attempt.credentials, Credentials)
        candidate = attempt.candidates.pop(0)
        # What is left of the budget is shared by the gateways that are left; a dead first one must not starve them.
        share = (attempt.deadline - now) / (len(attempt.candidates) + 1)
        local = self._local_address(attempt.credentials, candidate)
        if local is None:
            attempt.failure = Failure(Reason.NO_LOCAL_ADDRESS, f"we have no address to reach {candidate.gateway} from")
            self._next_candidate(pair, attempt, now)
            return
        ticket = next(self._context.tickets)
        attempt.current, attempt.negotiation = candidate, ticket
        self._negotiations[ticket] = pair.pair
        if not attempt.background:
            pair.candidate = candidate
            pair.reason = Reason.NEGOTIATION_UNDER_WAY
            if pair.state is PairState.HELD:
                self._ports.move(pair, FlowEvent.KEYS_FOUND, now)
        port = self._context.settings.ike_port
        negotiate = Negotiate(
            ticket=ticket,
            pair=pair.pair,
            local=SocketAddress(local, port),
            remote=SocketAddress(candidate.gateway, port),
            own_identity=ID_NULL if candidate.takes_nobody else attempt.credentials.identity,
            peer_identity=Identity.of(candidate.gateway) if candidate.keys else ID_NULL,
            peer_keys=candidate.keys,
            fail_closed=pair.group is Group.PRIVATE,
            deadline=now + share,
            anonymity=Anonymity.AUTHENTICATED if candidate.keys else Anonymity.ANONYMOUS,
        )
        self._ports.negotiate(negotiate, now)

    def may_be_anonymous(self, pair: Pair) -> bool:
        """The group has us ask for a tunnel even where a key is missing, and the source is ourselves."""
        settings = self._context.settings.groups[pair.group]
        return anonymous_for(pair.group, settings) is Anonymous.ASK and self._context.own.is_own(pair.pair.source)

    def _local_address(self, credentials: Credentials, candidate: Candidate) -> Address | None:
        if credentials.local.version == candidate.gateway.version:
            return credentials.local
        return self._context.own.address_of_family(candidate.gateway.version)

    def _fail(self, pair: Pair, failure: Failure, now: float) -> None:
        attempt = pair.attempt
        answer = attempt.answer if attempt is not None else None
        if attempt is not None and attempt.is_for_want_of_ours:
            # The peer may want to know us, and cannot: that it does not take anybody is no fault of its own.
            detail = f"asked without an identity: {failure.reason} {failure.detail}".rstrip()
            failure = Failure(Reason.OWN_KEY_UNPUBLISHED, detail)
        lifetime = answer.expires - now if answer is not None else None
        self.abandon(pair)
        self._ports.fall_back(pair, failure, lifetime, now, renews=attempt is not None and attempt.renews)
