"""Message IDs and retransmission of one IKE SA: RFC 7296 2.1 to 2.3 with a window of one.

Each end numbers its own requests from 0. `Requests` is our numbering: at most one request is under way, repeated with
growing pauses until its response or its deadline comes. `Responses` is the peer's numbering: each request is answered
once, and a repeated request gets the same octets again.

    ours    ──request n──▶            peer's   ──request m──▶  NEW       act, answer, keep the answer
            ──request n──▶ (again)             ──request m──▶  REPEATED  send the kept answer
            ◀──response n──                    ──request m+1▶  NEW       the kept answer is replaced
"""

from dataclasses import dataclass
from enum import StrEnum

LONGEST_PAUSE = 4.0
"""Seconds up to which pauses between repetitions grow: a way that is back is found soon, whatever is left of the
deadline. Further they need not grow, since there is never more than one request of an IKE SA under way."""


class Due(StrEnum):
    """What a request's timer asks for."""

    NOTHING = "nothing"
    AGAIN = "again"
    GIVE_UP = "give-up"


@dataclass(slots=True)
class Pending:
    """A request that waits for its response."""

    message_id: int
    datagrams: tuple[bytes, ...]
    """One message, or its fragments."""
    deadline: float
    """When we stop waiting, monotonic seconds."""
    again_at: float | None
    """When it is to be sent again; None when no repetition fits before the deadline."""
    interval: float
    """The pause that ends at `again_at`, in seconds."""
    repetitions: int = 0
    """How often it was sent again in its present form."""


class Requests:
    """Our requests of one IKE SA, one at a time."""

    __slots__ = ("_next", "pending")

    def __init__(self) -> None:
        self._next = 0
        self.pending: Pending | None = None

    @property
    def next_id(self) -> int:
        """Message ID of the request to be sent next."""
        return self._next

    def start(self, datagrams: tuple[bytes, ...], now: float, interval: float, deadline: float) -> None:
        """A request with `next_id` was sent. It is repeated after `interval`, 2 x `interval` ... up to `LONGEST_PAUSE`,
        until `deadline`."""
        if self.pending is not None:
            raise RuntimeError("a request is under way; RFC 7296 2.3 window is one")
        self.pending = Pending(self._next, datagrams, deadline, None, interval)
        self._schedule(now)
        self._next += 1

    def replace(self, datagrams: tuple[bytes, ...], now: float, interval: float) -> None:
        """The request under way is to be sent in another form, with its Message ID and deadline kept.

        IKE_SA_INIT does that for COOKIE and INVALID_KE_PAYLOAD (RFC 7296 2.6, 1.2), any other request to be sent in
        smaller fragments (RFC 7383 2.5.2).
        """
        if self.pending is None:
            raise RuntimeError("no request is under way")
        self.pending.datagrams = datagrams
        self.pending.interval = interval
        self.pending.repetitions = 0
        self._schedule(now)

    def start_over(self, now: float, interval: float, deadline: float) -> None:
        """Repeat the request under way as if it were sent now for the first time."""
        if self.pending is not None:
            self.pending.deadline, self.pending.interval, self.pending.repetitions = deadline, interval, 0
            self._schedule(now)

    def _schedule(self, now: float) -> None:
        assert self.pending is not None
        at = now + self.pending.interval
        # A repetition that leaves no time for an answer would be noise.
        self.pending.again_at = at if at < self.pending.deadline else None

    def hasten(self, deadline: float) -> None:
        """Wait for the response until `deadline` at the latest."""
        if self.pending is not None and deadline < self.pending.deadline:
            self.pending.deadline = deadline
            if self.pending.again_at is not None and self.pending.again_at >= deadline:
                self.pending.again_at = None

    def is_answered_by(self, message_id: int) -> bool:
        """A response with this Message ID answers the request under way."""
        return self.pending is not None and self.pending.message_id == message_id

    def finish(self) -> None:
        """The response came, or nobody wants it any more."""
        self.pending = None

    def deadline(self) -> float | None:
        """When `due` has something to say."""
        if self.pending is None:
            return None
        return self.pending.deadline if self.pending.again_at is None else self.pending.again_at

    def due(self, now: float) -> Due:
        """What is to be done now. After AGAIN the next repetition is scheduled; send `pending.datagrams`."""
        pending = self.pending
        if pending is None:
            return Due.NOTHING
        if now >= pending.deadline:
            return Due.GIVE_UP
        if pending.again_at is None or now < pending.again_at:
            return Due.NOTHING
        pending.interval = max(pending.interval, min(2 * pending.interval, LONGEST_PAUSE))
        pending.repetitions += 1
        self._schedule(now)
        return Due.AGAIN


class Arrival(StrEnum):
    """How a request of the peer stands to those before it."""

    NEW = "new"
    REPEATED = "repeated"
    """Answered already: the kept answer goes out again."""
    UNDER_WAY = "under-way"
    """Being worked on: its answer will come."""
    OLD = "old"
    AHEAD = "ahead"


class Responses:
    """The peer's requests of one IKE SA and our answer to the last one."""

    __slots__ = ("_expected", "_under_way", "kept", "repetitions")

    def __init__(self) -> None:
        self._expected = 0
        self._under_way = False
        self.kept: tuple[bytes, ...] | None = None
        """The last answer: one message, or its fragments."""
        self.repetitions = 0
        """How often the request that `kept` answers came again."""

    @property
    def expected(self) -> int:
        """Message ID that the peer's next request must have."""
        return self._expected

    @property
    def is_under_way(self) -> bool:
        """A request of the peer is being worked on."""
        return self._under_way

    def classify(self, message_id: int) -> Arrival:
        """Where a request with this Message ID stands; changes nothing."""
        if message_id == self._expected:
            return Arrival.UNDER_WAY if self._under_way else Arrival.NEW
        if message_id > self._expected:
            return Arrival.AHEAD
        return Arrival.REPEATED if message_id == self._expected - 1 and self.kept is not None else Arrival.OLD

    def begin(self) -> None:
        """Work on the expected request starts; until `finish`, its repetitions are UNDER_WAY."""
        self._under_way = True

    def finish(self, datagrams: tuple[bytes, ...]) -> None:
        """The expected request was answered with `datagrams`."""
        self._under_way = False
        self.kept = datagrams
        self.repetitions = 0
        self._expected += 1
