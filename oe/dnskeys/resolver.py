"""The key lookup on the running asyncio loop: a thin hand around `KeyEngine`."""

import asyncio
from collections import deque
from collections.abc import Callable
from os import urandom

from oe.dnskeys.engine import KeyEngine, Output
from oe.dnskeys.exchange import CloseAttempt, SendQuery
from oe.dnskeys.sockets import DatagramAttempt, StreamAttempt, check_mark
from oe.messages import KeysLookedUp, LookUpKeys
from oe.model import Address, SocketAddress

TURN = 0.004
"""Seconds spent on answers and queries before the event loop gets its turn again: what an answer starts takes a while,
and packets wait in the trap."""


class Resolver:
    """Asks `servers`, one or more, in their order; calls `on_answer` once for every `look_up`, not from inside it.

    `mark` is put on every socket (SO_MARK, needs CAP_NET_ADMIN), so that the trap lets our own questions pass; 0
    leaves sockets unmarked. `clock` gives monotonic seconds, the same that deadlines are in.
    """

    def __init__(
        self,
        servers: list[SocketAddress],
        mark: int,
        on_answer: Callable[[KeysLookedUp], None],
        clock: Callable[[], float],
    ) -> None:
        self._engine = KeyEngine(tuple(servers), urandom)
        self._output: deque[Output] = deque()
        self._mark = mark
        self._on_answer = on_answer
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._attempts: dict[int, DatagramAttempt | StreamAttempt] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._settling: asyncio.Handle | None = None

    def start(self) -> None:
        """Begin to work on the running event loop. Raises MachineLacks when sockets cannot be marked."""
        check_mark(self._mark)
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Close every socket; questions under way stay unanswered."""
        for handle in (self._timer, self._settling):
            if handle is not None:
                handle.cancel()
        self._timer = self._settling = None
        for attempt in self._attempts.values():
            attempt.close()
        self._attempts.clear()
        self._loop = None

    def look_up(self, question: LookUpKeys) -> None:
        """Answered by `on_answer`, at the question's deadline at the latest."""
        self._engine.ask(question, self._clock())
        self._settle_soon()

    def forget(self, owner: Address | None) -> None:
        """Drop cached answers about an owner, or (None) all of them."""
        self._engine.forget(owner)

    def _heard(self, attempt: int, data: bytes | None) -> None:
        self._engine.feed(attempt, data, self._clock())
        self._settle_soon()

    def _timer_rang(self) -> None:
        self._timer = None
        self._engine.expire(self._clock())
        self._settle_soon()

    def _settle_soon(self) -> None:
        if self._settling is None and self._loop is not None:
            self._settling = self._loop.call_soon(self._settle)

    def _settle(self) -> None:
        """Carry out the engine's output and set the timer to its deadline."""
        self._settling = None
        enough = self._clock() + TURN
        self._output += self._engine.take()
        while self._output:
            self._carry_out(self._output.popleft())
            if self._clock() > enough:
                self._settle_soon()
                return
        self._set_timer()

    def _carry_out(self, output: Output) -> None:
        match output:
            case SendQuery():
                self._send(output)
            case CloseAttempt(number):
                if attempt := self._attempts.pop(number, None):
                    attempt.close()
            case KeysLookedUp():
                self._on_answer(output)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._engine.deadline()
        if deadline is not None and self._loop is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - self._clock()), self._timer_rang)

    def _send(self, query: SendQuery) -> None:
        if self._loop is None:
            return
        kind = StreamAttempt if query.stream else DatagramAttempt
        try:
            self._attempts[query.attempt] = kind(self._loop, query, self._mark, self._heard)
        except OSError:
            self._heard(query.attempt, None)
