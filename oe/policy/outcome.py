"""What happens to a host pair when encryption does not come about.

The reason puts the failure into a class (F1-F10), class and group give the state, and the class bounds how long the
decision may stand. Nothing here stands for ever: a decision dies with the DNS answer behind it, and never later than
its cap, so that a busy pair cannot keep an old failure alive.

    class                    private-or-clear          private   cap clear   cap blocked
    F1  no record            clear                     blocked   1 h / 15 m  15 m         secure denial / any other
    F2  DNS silent           clear                     blocked   1 m         1 m
    F3  bogus, malformed     blocked                   blocked   -           5 m
    F4  record unusable      clear                     blocked   15 m        15 m
    F5  peer silent          published-but-unreachable blocked   2 m         30 s
    F6  peer refused         as F5                     blocked   15 m        15 m
    F7  signature wrong      blocked if secure, as F5  blocked   1 h         1 h
    F8  own credentials      as F5, `auto`: clear      blocked   1 m         1 m
    F10 local limits         as F5                     blocked   10 s        10 s

`published-but-unreachable` asks what a downgrade is worth: `auto` blocks when DNSSEC proves that the peer publishes a
key, for then silence is either a fault or an attack, and passes when the record is unsigned, for then anybody could
have made it up. In F8 the fault is known to be ours, so `auto` passes: a gateway whose own record is not published yet
must not cut itself off. F5-F10 without a usable answer for the destination (no `grade`) pass: nothing is published.
F6 is for peers that proved their identity; anybody can forge another refusal, so it counts as silence (F5).
`private` never goes in clear. There the knob says only whether F5-F8 and F10 drop packets or, with `hold`, keep them
waiting for the next try.
`clear-or-private` starts nothing and so has nothing to fail: it stays clear. (F9, no policy, is `select`'s.)
"""

from dataclasses import dataclass
from enum import StrEnum

from oe.model import Grade, Group, PairState, Verdict
from oe.reasons import Reason


class Dnssec(StrEnum):
    """Which answers a group may act on. A bogus one is refused always."""

    REQUIRE = "require"
    """Secure ones only."""
    PREFER = "prefer"
    """Also those from zones that are proven to be unsigned."""
    ANY = "any"
    """Also those nobody could judge, for instance of a resolver that does not validate."""


class Unreachable(StrEnum):
    """The `published-but-unreachable` knob: a key is published, encryption fails all the same."""

    CLEAR = "clear"
    HOLD = "hold"
    BLOCK = "block"
    AUTO = "auto"


class Anonymous(StrEnum):
    """What a group thinks of tunnels with nobody in particular (NULL authentication, RFC 7619).

    They keep out who only listens, and nobody who can change what is sent. Never for `private`.
    """

    NO = "no"
    ACCEPT = "accept"
    """A peer that publishes no key may have an anonymous tunnel for its own address, if it asks."""
    ASK = "ask"
    """And we ask for one: of a peer that publishes no key, and of any while our own is not published."""


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """What the operator sets for a group. The defaults are those of every group.

    `prefer` also for `private`: its promise is "never in clear", and that holds against an unsigned record too; who
    must withstand forged DNS answers as well sets `require`.
    """

    dnssec: Dnssec = Dnssec.PREFER
    published_but_unreachable: Unreachable = Unreachable.AUTO
    anonymous: Anonymous = Anonymous.NO


class Failure(StrEnum):
    """Failure classes; the numbers are those of the table above."""

    NO_RECORD = "F1"
    DNS_SILENT = "F2"
    UNBELIEVABLE = "F3"
    RECORD_UNUSABLE = "F4"
    PEER_SILENT = "F5"
    PEER_REFUSED = "F6"
    SIGNATURE_WRONG = "F7"
    OWN_CREDENTIALS = "F8"
    LOCAL_LIMIT = "F10"


FAILURES: dict[Reason, Failure] = {
    Reason.NO_KEY: Failure.NO_RECORD,
    Reason.DNS_FAILED: Failure.DNS_SILENT,
    Reason.DNS_TIMEOUT: Failure.DNS_SILENT,
    Reason.DNS_BOGUS: Failure.UNBELIEVABLE,
    Reason.MALFORMED_RECORD: Failure.UNBELIEVABLE,
    Reason.NO_USABLE_KEY: Failure.RECORD_UNUSABLE,
    Reason.DNSSEC_REQUIRED: Failure.RECORD_UNUSABLE,
    Reason.UNSIGNED_DELEGATION: Failure.RECORD_UNUSABLE,
    Reason.PEER_SILENT: Failure.PEER_SILENT,
    Reason.NEGOTIATION_TIMEOUT: Failure.PEER_SILENT,
    Reason.LIVENESS_FAILED: Failure.PEER_SILENT,
    Reason.PEER_REFUSED: Failure.PEER_REFUSED,
    Reason.WE_WERE_REFUSED: Failure.PEER_REFUSED,
    Reason.NO_PROPOSAL_CHOSEN: Failure.PEER_REFUSED,
    Reason.TS_UNACCEPTABLE: Failure.PEER_REFUSED,
    Reason.INVALID_SYNTAX: Failure.PEER_REFUSED,
    Reason.UNSUPPORTED_CRITICAL_PAYLOAD: Failure.PEER_REFUSED,
    Reason.INVALID_MAJOR_VERSION: Failure.PEER_REFUSED,
    Reason.PEER_AUTHENTICATION_FAILED: Failure.SIGNATURE_WRONG,
    Reason.OWN_KEY_UNPUBLISHED: Failure.OWN_CREDENTIALS,
    Reason.OWN_CLIENT_UNDELEGATED: Failure.OWN_CREDENTIALS,
    Reason.NO_LOCAL_ADDRESS: Failure.OWN_CREDENTIALS,
    Reason.SIGNING_FAILED: Failure.OWN_CREDENTIALS,
}
"""Every other reason is a limit or an accident of our own: F10, tried again after seconds."""


@dataclass(frozen=True, slots=True)
class _Caps:
    """Seconds that a decision of one class may stand at most."""

    clear: float
    blocked: float


_MINUTE = 60.0
_HOUR = 60 * _MINUTE

CAPS: dict[Failure, _Caps] = {
    Failure.NO_RECORD: _Caps(clear=15 * _MINUTE, blocked=15 * _MINUTE),
    Failure.DNS_SILENT: _Caps(clear=_MINUTE, blocked=_MINUTE),
    Failure.UNBELIEVABLE: _Caps(clear=0.0, blocked=5 * _MINUTE),
    Failure.RECORD_UNUSABLE: _Caps(clear=15 * _MINUTE, blocked=15 * _MINUTE),
    Failure.PEER_SILENT: _Caps(clear=2 * _MINUTE, blocked=30.0),
    Failure.PEER_REFUSED: _Caps(clear=15 * _MINUTE, blocked=15 * _MINUTE),
    Failure.SIGNATURE_WRONG: _Caps(clear=_HOUR, blocked=_HOUR),
    Failure.OWN_CREDENTIALS: _Caps(clear=_MINUTE, blocked=_MINUTE),
    Failure.LOCAL_LIMIT: _Caps(clear=10.0, blocked=10.0),
}
PROVEN_ABSENT = _HOUR
"""Cap of F1 in clear when DNSSEC proves that there is no key: nobody can have stripped it."""
HOLD_RETRY = 15.0
"""Seconds after which a pair that is held for want of better is tried again."""
SHORTEST = 5.0
"""Seconds every decision stands: an answer with TTL 0 must not make each packet a lookup."""
AGE_LIMIT = _HOUR
"""Seconds for which traffic may renew a clear decision. Then a packet is held again, and everything asked anew."""
BY_POLICY = _HOUR
"""Seconds a decision of the policy alone stands; a reload takes it away earlier."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of the pair, for how many seconds, and whether that is less than its peer's key promised."""

    state: PairState
    """CLEAR, BLOCKED or HELD."""
    lifetime: float
    downgrade: bool
    """In clear although the peer publishes a key that we could have used: to be logged and counted."""

    @property
    def verdict(self) -> Verdict | None:
        """What the kernel is to do with further packets; None: they stay trapped."""
        return _VERDICTS.get(self.state)


_VERDICTS = {PairState.CLEAR: Verdict.CLEAR, PairState.BLOCKED: Verdict.BLOCKED}

_KNOB = {
    Unreachable.CLEAR: PairState.CLEAR,
    Unreachable.HOLD: PairState.HELD,
    Unreachable.BLOCK: PairState.BLOCKED,
}
_NOTHING_PUBLISHED = frozenset({Failure.NO_RECORD, Failure.DNS_SILENT, Failure.RECORD_UNUSABLE})
"""Classes in which no usable key is known: permissive pairs go in clear, and that is no downgrade."""


def anonymous_for(group: Group, settings: GroupSettings) -> Anonymous:
    """`private` knows whom it talks to, whatever is set."""
    return Anonymous.NO if group is Group.PRIVATE else settings.anonymous


def may_use(grade: Grade, dnssec: Dnssec) -> Reason | None:
    """None if an answer of this grade may be acted on, else why not (RFC 4033 5)."""
    if grade is Grade.BOGUS:
        return Reason.DNS_BOGUS
    if grade is Grade.SECURE or dnssec is Dnssec.ANY:
        return None
    if grade is Grade.INSECURE and dnssec is Dnssec.PREFER:
        return None
    return Reason.DNSSEC_REQUIRED


def decide(
    group: Group,
    reason: Reason,
    grade: Grade | None,
    settings: GroupSettings,
    answer_lifetime: float | None = None,
    *,
    authenticated: bool = False,
) -> Outcome:
    """The fallback of a pair of `group` whose setup failed for `reason`.

    `grade` is that of the DNS answer for the destination, None while there is none. `answer_lifetime` are the seconds
    that this answer may still be used; without it the class's cap alone bounds the decision. `authenticated`: the
    peer had proved its identity when it refused.
    """
    if group in (Group.CLEAR, Group.CLEAR_OR_PRIVATE):
        return Outcome(PairState.CLEAR, BY_POLICY, downgrade=False)
    if group is Group.BLOCK:
        return Outcome(PairState.BLOCKED, BY_POLICY, downgrade=False)
    failure = FAILURES.get(reason, Failure.LOCAL_LIMIT)
    if failure is Failure.PEER_REFUSED and not authenticated:
        failure = Failure.PEER_SILENT
    state = _state(failure, grade, settings.published_but_unreachable)
    if group is Group.PRIVATE and state is PairState.CLEAR:
        state = PairState.BLOCKED
    lifetime = _cap(failure, state, grade)
    if answer_lifetime is not None:
        lifetime = max(SHORTEST, min(lifetime, answer_lifetime))
    published = failure not in _NOTHING_PUBLISHED and grade is not None
    return Outcome(state, lifetime, downgrade=published and state is PairState.CLEAR)


def _state(failure: Failure, grade: Grade | None, knob: Unreachable) -> PairState:
    """The column `private-or-clear` of the table above."""
    secure = grade is Grade.SECURE
    if failure is Failure.UNBELIEVABLE or grade is Grade.BOGUS:
        return PairState.BLOCKED
    if failure in _NOTHING_PUBLISHED or grade is None:
        return PairState.CLEAR
    if failure is Failure.SIGNATURE_WRONG and secure:
        return PairState.BLOCKED  # exactly what an active attacker looks like
    by_default = PairState.BLOCKED if secure and failure is not Failure.OWN_CREDENTIALS else PairState.CLEAR
    return _KNOB.get(knob, by_default)


def _cap(failure: Failure, state: PairState, grade: Grade | None) -> float:
    if state is PairState.HELD:
        return HOLD_RETRY
    if state is PairState.BLOCKED:
        return CAPS[failure].blocked
    if failure is Failure.NO_RECORD and grade is Grade.SECURE:
        return PROVEN_ABSENT
    return CAPS[failure].clear
