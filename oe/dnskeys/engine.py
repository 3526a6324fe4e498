"""The key lookup without its sockets: questions in, queries and answers out.

`ask` and `feed` take what happened, `expire` lets time pass, `deadline` says when to call it next, `take` hands out
what is to be done, in order. Identical questions that overlap are asked once, and an answer is kept while it holds.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from oe.dnskeys.cache import Cache, Waiters
from oe.dnskeys.exchange import CloseAttempt, Exchange, SendQuery
from oe.dnskeys.lookup import Lookup
from oe.dnskeys.message import Question
from oe.messages import KeysLookedUp, LookUpKeys
from oe.model import Address, Grade, KeyAnswer, LookupOutcome, SocketAddress
from oe.reasons import Reason

CACHE_SIZE = 65_536
"""Owners whose answers are kept."""
MAX_UNDER_WAY = 64
"""Lookups in progress at the same time; each holds two to a dozen sockets. Their answers may all come in one turn of
the event loop: this bounds how long that turn takes."""
MAX_QUEUED = 4_096
"""Owners waiting for their lookup to begin; beyond, an owner fails at once."""

Output = SendQuery | CloseAttempt | KeysLookedUp


class KeyEngine:
    """`servers` are asked in this order; `entropy` gives the query ids."""

    def __init__(self, servers: tuple[SocketAddress, ...], entropy: Callable[[int], bytes]) -> None:
        self._servers = servers
        self._entropy = entropy
        self._attempts = count(1)
        self._serial = count()
        self._cache = Cache(CACHE_SIZE)
        self._waiters = Waiters()
        self._queued: dict[Address, None] = {}
        self._lookups: dict[Address, _UnderWay] = {}
        self._by_attempt: dict[int, tuple[_UnderWay, Exchange]] = {}
        self._timers: list[tuple[float, int, _UnderWay, Exchange]] = []
        self._output: list[Output] = []

    def ask(self, question: LookUpKeys, now: float) -> None:
        """Answer from the cache, join a lookup that is under way, or begin one."""
        owner = question.owner
        if known := self._cache.get(owner, now):
            self._output.append(KeysLookedUp(question.ticket, known))
        elif owner not in self._lookups and owner not in self._queued and len(self._queued) >= MAX_QUEUED:
            self._refuse(question.ticket, owner, Reason.DNS_FAILED, "too many lookups are waiting", now)
        else:
            self._waiters.add(question.ticket, owner, question.deadline)
            if owner not in self._lookups:
                self._queued[owner] = None
            self._begin_queued(now)

    def feed(self, attempt: int, data: bytes | None, now: float) -> None:
        """The socket of `attempt` heard `data`, or (None) failed."""
        if found := self._by_attempt.get(attempt):
            lookup, exchange = found
            exchange.feed(attempt, data)
            self._follow_up(lookup, exchange, now)

    def expire(self, now: float) -> None:
        """Ask again where the patience is over; let those go whose deadline has come. Their lookups go on."""
        while (due := self._next_timer()) is not None and due <= now:
            _, _, lookup, exchange = heappop(self._timers)
            exchange.expire(now)
            if exchange.result is None:
                self._arm(lookup, exchange)
            self._follow_up(lookup, exchange, now)
        for ticket, owner in self._waiters.overdue(now):
            self._refuse(ticket, owner, Reason.DNS_TIMEOUT, "no answer in time", now)
            if owner in self._queued and owner not in self._waiters:
                del self._queued[owner]

    def deadline(self) -> float | None:
        """When to call `expire`; None: nothing to wait for."""
        times = [time for time in (self._next_timer(), self._waiters.deadline()) if time is not None]
        return min(times, default=None)

    def take(self) -> list[Output]:
        """What is to be done since the last call, in order."""
        output, self._output = self._output, []
        return output

    def forget(self, owner: Address | None) -> None:
        """Drop what is cached about an owner, or (None) about all: the next question goes to DNS."""
        self._cache.forget(owner)

    def _begin_queued(self, now: float) -> None:
        while self._queued and len(self._lookups) < MAX_UNDER_WAY:
            owner = next(iter(self._queued))
            del self._queued[owner]
            lookup = self._lookups[owner] = _UnderWay(owner)
            for question in lookup.rules.questions():
                self._put(lookup, question, now)

    def _put(self, lookup: "_UnderWay", question: Question, now: float) -> None:
        exchange = Exchange(question, self._servers, self._attempts, self._entropy)
        lookup.exchanges.append(exchange)
        exchange.start(now)
        self._arm(lookup, exchange)
        self._collect(lookup, exchange)

    def _follow_up(self, lookup: "_UnderWay", exchange: Exchange, now: float) -> None:
        """Carry out what `exchange` came to."""
        self._collect(lookup, exchange)
        if exchange.result is None:
            return
        lookup.exchanges.remove(exchange)
        for question in lookup.rules.feed(exchange.question, exchange.result, now):
            self._put(lookup, question, now)
        if answer := lookup.rules.answer:
            self._finish(lookup, answer, now)

    def _finish(self, lookup: "_UnderWay", answer: KeyAnswer, now: float) -> None:
        del self._lookups[lookup.owner]
        for left in lookup.exchanges:
            left.abandon()
            self._collect(lookup, left)
        lookup.exchanges.clear()
        self._cache.put(answer, now)
        self._output += [KeysLookedUp(ticket, answer) for ticket in self._waiters.served(lookup.owner)]
        self._begin_queued(now)

    def _collect(self, lookup: "_UnderWay", exchange: Exchange) -> None:
        for command in exchange.take():
            if isinstance(command, SendQuery):
                self._by_attempt[command.attempt] = lookup, exchange
            else:
                del self._by_attempt[command.attempt]
            self._output.append(command)

    def _arm(self, lookup: "_UnderWay", exchange: Exchange) -> None:
        heappush(self._timers, (exchange.due, next(self._serial), lookup, exchange))

    def _next_timer(self) -> float | None:
        """When the patience of an exchange that still runs is over."""
        while self._timers and self._timers[0][3] not in self._timers[0][2].exchanges:
            heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _refuse(self, ticket: int, owner: Address, reason: Reason, detail: str, now: float) -> None:
        """Answer one ticket only; nothing is kept, the next asker may fare better."""
        answer = KeyAnswer(owner, LookupOutcome.FAILED, Grade.INDETERMINATE, reason, (), now, detail)
        self._output.append(KeysLookedUp(ticket, answer))


class _UnderWay:
    """A lookup and its exchanges that have not ended."""

    __slots__ = ("exchanges", "owner", "rules")

    def __init__(self, owner: Address) -> None:
        self.owner = owner
        self.rules = Lookup(owner)
        self.exchanges: list[Exchange] = []
