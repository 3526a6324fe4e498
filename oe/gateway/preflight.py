"""Is our own key published? Asked at the start: a missing record is told before the first peer stumbles over it.

The answers stay in the cache, where the first packets find them (step I0 of opportunistic encryption). With several
keys they also say which one signs, and are asked for again whenever they end.
"""

from collections.abc import Callable

from oe.gateway.candidates import own_credentials
from oe.gateway.context import Context
from oe.gateway.rollover import Rollover
from oe.model import Address, KeyAnswer
from oe.negotiation import OwnKeysChanged
from oe.reasons import Reason

MOST_ADDRESSES = 32
"""A machine with more addresses than this learns of the others when they are used."""

_NOT_ANSWERED = frozenset({Reason.DNS_FAILED, Reason.DNS_TIMEOUT})
_RESOLVER = "look at the resolver: whether our key is published, nobody could say"


class Preflight:
    """Looks at our own records and tells what it finds. `tell` takes to the IKE engine which key is to sign."""

    def __init__(self, context: Context, tell: Callable[[OwnKeysChanged, float], None]) -> None:
        self._context = context
        self._rollover = Rollover(context, tell)

    def start(self, now: float, besides: tuple[Address, ...] = ()) -> None:
        """Ask for the first of our addresses, `besides` those that were asked for before."""
        if not self._context.own.keys:
            return
        for address in [one for one in self._context.own.addresses if one not in besides][:MOST_ADDRESSES]:
            self._context.look_up(address, now + self._context.settings.setup_budget, self._answered)

    def adopt_keys(self, now: float) -> None:
        """Our keys are others now: begin anew."""
        self._rollover.adopt(now)
        self.start(now)

    def look_again(self, address: Address, now: float) -> None:
        """What is known of `address` has ended. It matters while there is a choice of keys."""
        if len(self._context.own.keys) > 1 and self._context.own.is_own(address):
            self._context.look_up(address, now + self._context.settings.setup_budget, self._rollover.learn)

    def _answered(self, answer: KeyAnswer, now: float) -> None:
        found = own_credentials(answer, self._context.own)
        if isinstance(found, Reason):
            self._tell_missing(answer.owner, found, answer.detail)
        else:
            self._context.note("info", "own-key-published", address=answer.owner, grade=answer.grade)
        self._rollover.learn(answer, now)

    def _tell_missing(self, address: Address, reason: Reason, detail: str) -> None:
        remedy = _RESOLVER if reason in _NOT_ANSWERED else f"publish what `oe key show --address {address}` prints"
        self._context.note("warning", "own-key-missing", address=address, reason=reason, detail=detail, remedy=remedy)
