"""One question, put to the servers until one of them gives an answer that counts.

    ask server ──NOERROR, NXDOMAIN──> answer
      │  ├──truncated──> the same over TCP
      │  ├──SERVFAIL──> the same server with checking disabled: it answers now? bogus. Not either? next server
      │  └──REFUSED and others, socket error──> next server
      └──silence──> next server, with longer patience

The server that answers bogus is never passed over for another one: the next may be one that does not validate.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from oe.dnskeys.message import Question, Rcode, Response, decode_response, encode_query
from oe.dnskeys.names import shown
from oe.dnskeys.trust import Evidence, grade
from oe.errors import ParseError
from oe.model import Grade, SocketAddress
from oe.reasons import Reason

PATIENCE = (0.4, 0.8, 1.6, 3.2)
"""Seconds to wait after each sending. The sum, 6 s, bounds an exchange."""


@dataclass(frozen=True, slots=True)
class SendQuery:
    """Open a socket of its own for this attempt, with a random port, and send; feed back what it hears."""

    attempt: int
    server: SocketAddress
    stream: bool
    """Over TCP; the sender adds the length (RFC 1035 4.2.2)."""
    data: bytes


@dataclass(frozen=True, slots=True)
class CloseAttempt:
    """Close the attempt's socket; nothing it hears counts any more."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Heard:
    """How an exchange ended. Without a response `reason` says why: DNS_BOGUS, DNS_FAILED or DNS_TIMEOUT."""

    response: Response | None
    grade: Grade
    reason: Reason | None
    detail: str


@dataclass(frozen=True, slots=True)
class _Attempt:
    message_id: int
    server: int
    stream: bool
    unchecked: bool


class Exchange:
    """Drive with `start`, `feed` and `expire`; after each: `take` the output, look at `result` and `due`.

    `servers` are asked in this order. `attempts` numbers the attempts, unique among all exchanges.
    """

    def __init__(
        self,
        question: Question,
        servers: tuple[SocketAddress, ...],
        attempts: Iterator[int],
        entropy: Callable[[int], bytes],
    ) -> None:
        self.question = question
        self.result: Heard | None = None
        self.due = 0.0
        self._servers = servers
        self._numbers = attempts
        self._entropy = entropy
        self._open: dict[int, _Attempt] = {}
        self._hopeless: set[int] = set()
        self._server = 0
        self._unchecked = False
        self._sent = 0
        self._ignored = 0
        self._output: list[SendQuery | CloseAttempt] = []

    def start(self, now: float) -> None:
        """Ask the first server."""
        self._send(stream=False)
        self._wait(now)

    def feed(self, attempt: int, data: bytes | None) -> None:
        """`data` came in on the socket of `attempt`; None: that socket failed."""
        asked = self._open.get(attempt)
        if asked is None or self.result is not None:
            return
        response = self._accepted(asked, data) if data is not None else None
        if response is not None:
            self._close(attempt)
            self._judge(asked, response)
        elif data is None or asked.stream:
            self._close(attempt)
            if not self._open:
                self._next_server(hopeless=False)
        else:
            self._ignored += 1

    def expire(self, now: float) -> None:
        """Ask again if the patience with the last sending is over. Earlier attempts stay open: late is not wrong."""
        if self.result is not None or now < self.due:
            return
        if self._sent == len(PATIENCE):
            ignored = f", {self._ignored} foreign or malformed replies ignored" if self._ignored else ""
            self._fail(Reason.DNS_TIMEOUT, f"no answer within {sum(PATIENCE):g} s{ignored}")
            return
        if not self._unchecked:
            self._rotate()
        self._send(stream=False)
        self._wait(now)

    def abandon(self) -> None:
        """Nobody needs the answer any more."""
        for attempt in tuple(self._open):
            self._close(attempt)

    def take(self) -> list[SendQuery | CloseAttempt]:
        """The output since the last call, in order."""
        output, self._output = self._output, []
        return output

    def _wait(self, now: float) -> None:
        self.due = now + PATIENCE[self._sent]
        self._sent += 1

    def _send(self, *, stream: bool) -> None:
        attempt = next(self._numbers)
        message_id = int.from_bytes(self._entropy(2), "big")
        self._open[attempt] = _Attempt(message_id, self._server, stream, self._unchecked)
        query = encode_query(message_id, self.question, checking_disabled=self._unchecked)
        self._output.append(SendQuery(attempt, self._servers[self._server], stream, query))

    def _close(self, attempt: int) -> None:
        del self._open[attempt]
        self._output.append(CloseAttempt(attempt))

    def _accepted(self, asked: _Attempt, data: bytes) -> Response | None:
        """The response, if it is one to what we asked; else it may be forged and counts for nothing."""
        try:
            response = decode_response(data)
        except ParseError:
            return None
        matches = response.id == asked.message_id and response.question == self.question
        return response if matches and not (response.truncated and asked.stream) else None

    def _judge(self, asked: _Attempt, response: Response) -> None:
        self._server = asked.server
        if response.truncated:
            self._unchecked = asked.unchecked
            self._send(stream=True)
        elif response.rcode in (Rcode.NOERROR, Rcode.NXDOMAIN):
            self._answer(asked, response)
        elif response.rcode == Rcode.SERVFAIL and not asked.unchecked:
            self._unchecked = True
            self._send(stream=False)
        else:
            self._next_server(hopeless=True)

    def _answer(self, asked: _Attempt, response: Response) -> None:
        server = self._servers[asked.server]
        found = grade(Evidence(server.address.is_loopback, response.authenticated, only_unchecked=asked.unchecked))
        if found is Grade.BOGUS:
            self._finish(Heard(None, found, Reason.DNS_BOGUS, f"{self._name()}: DNSSEC validation fails at {server}"))
        else:
            self._finish(Heard(response, found, None, ""))

    def _next_server(self, *, hopeless: bool) -> None:
        """Leave the present server; `hopeless`: for good. One that only failed may answer when its turn comes."""
        self._unchecked = False
        before = self._server
        if hopeless:
            self._hopeless.add(before)
        if len(self._hopeless) == len(self._servers):
            self._fail(Reason.DNS_FAILED, "every server refuses or fails")
            return
        self._rotate()
        if hopeless or self._server > before:
            self._send(stream=False)

    def _rotate(self) -> None:
        """On to the next server that has hope, round and round."""
        count = len(self._servers)
        turns = ((self._server + step) % count for step in range(1, count + 1))
        self._server = next(turn for turn in turns if turn not in self._hopeless)

    def _fail(self, reason: Reason, why: str) -> None:
        self._finish(Heard(None, Grade.INDETERMINATE, reason, f"{self._name()}: {why}"))

    def _finish(self, heard: Heard) -> None:
        self.abandon()
        self.result = heard

    def _name(self) -> str:
        return shown(self.question.name)
