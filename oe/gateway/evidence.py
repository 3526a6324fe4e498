"""The DNS answers behind protected pairs: asked again when they end, so that a withdrawn key or delegation counts.

    protected ── the answer ends ── asked again ─┬─ still names the key that proved the peer: kept
                                                 ├─ no answer, or one that the group may not act on: kept, asked later
                                                 └─ no key, another key, another gateway: the tunnel is taken down

What is forged or lost on the way must not take a tunnel down, or anybody could: only an answer on which the group would
decide anew does. A client behind us is asked about as well: it may have withdrawn its trust in us.
"""

from collections.abc import Callable

from oe.gateway.candidates import Candidate, gateway_of, own_credentials
from oe.gateway.context import Context
from oe.gateway.pairs import Pair
from oe.model import Anonymity, HostPair, KeyAnswer, LookupOutcome, PairState, RecordKind
from oe.negotiation import ChildReady
from oe.policy.outcome import may_use
from oe.reasons import Reason

PATIENCE = 60.0
"""Seconds until the next question after one that nobody answered."""


class Evidence:
    """Keeps the answers of protected pairs fresh. `withdraw(pair, detail, now)` takes a tunnel down;
    `improve(pair, now)`: a peer that was anonymous so far publishes a key."""

    def __init__(
        self,
        context: Context,
        find: Callable[[HostPair], Pair | None],
        withdraw: Callable[[Pair, str, float], None],
        improve: Callable[[Pair, float], None],
    ) -> None:
        self._context = context
        self._find = find
        self._withdraw = withdraw
        self._improve = improve

    def begin(self, pair: Pair, answer: KeyAnswer | None, now: float) -> None:
        """A pair has become protected, by a peer that `answer` named; None: the peer came, ask what DNS says of it."""
        if answer is None:
            self.ask(pair, now)
        else:
            self._ask_later(pair, answer.expires, now)

    def ask(self, pair: Pair, now: float) -> None:
        """Look at the answer again."""
        key = pair.pair
        self._context.look_up(
            key.destination,
            now + self._context.settings.setup_budget,
            lambda answer, at: self._answered(key, answer, at),
        )

    def _answered(self, key: HostPair, answer: KeyAnswer, now: float) -> None:
        pair = self._protected(key)
        if pair is None or pair.carrier is None:
            return
        if not self._is_believed(pair, answer):
            self._context.note("debug", "key-not-confirmed", pair=key, reason=answer.reason, detail=answer.detail)
            self._ask_later(pair, now + PATIENCE, now)
            return
        is_anonymous = pair.carrier.anonymity is Anonymity.ANONYMOUS
        named = _naming(answer, pair.carrier)
        if named is None and not is_anonymous:
            self._withdraw(pair, f"DNS names the peer no longer: {answer.detail}", now)
            return
        pair.grade = answer.grade
        pair.candidate = Candidate(pair.carrier.child.remote, (), answer.grade, named)
        self._ask_later(pair, answer.expires, now)
        if is_anonymous and answer.outcome is LookupOutcome.FOUND:
            self._improve(pair, now)
        if not self._context.own.is_own(key.source):
            self._ask_client(key, now)

    def _ask_client(self, key: HostPair, now: float) -> None:
        deadline = now + self._context.settings.setup_budget
        self._context.look_up(key.source, deadline, lambda answer, at: self._client_answered(key, answer, at))

    def _client_answered(self, key: HostPair, answer: KeyAnswer, now: float) -> None:
        pair = self._protected(key)
        if pair is None or not self._is_believed(pair, answer):
            return
        if isinstance(own_credentials(answer, self._context.own), Reason):
            self._withdraw(pair, f"our client names us no longer: {answer.detail}", now)

    def _protected(self, key: HostPair) -> Pair | None:
        """The pair, if it is protected now. An SA that is in place but not in use yet gets a question of its own."""
        pair = self._find(key)
        return pair if pair is not None and pair.state is PairState.PROTECTED else None

    def _is_believed(self, pair: Pair, answer: KeyAnswer) -> bool:
        """The group may act on this answer, be it a yes or a no."""
        if answer.outcome in (LookupOutcome.FAILED, LookupOutcome.BOGUS):
            return False
        return may_use(answer.grade, self._context.settings.groups[pair.group].dnssec) is None

    def _ask_later(self, pair: Pair, at: float, now: float) -> None:
        self._context.timers.set(("evidence", pair.pair), max(at, now + PATIENCE))


def _naming(answer: KeyAnswer, carrier: ChildReady) -> RecordKind | None:
    """The kind of record that names this peer with its key; None: there is none any more.

    Behind a NAT, or under a name, the gateway is not the address that we see: there the key alone has to do.
    """
    for one in answer.delegations:
        gateway = gateway_of(one, answer.owner)
        is_here = gateway in (None, carrier.child.remote) or carrier.child.encapsulation is not None
        if is_here and one.key in (None, carrier.peer_key):
            return one.kind
    return None
