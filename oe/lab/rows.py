"""What the lab tries, and what must come of it: one row per flow. Data only.

No two rows share a pair of addresses, so that every first packet is the first of its pair. The one exception
`repeats` another row and is about the second connection.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from oe.lab import plan
from oe.lab.outcome import ANSWERED, Outcome
from oe.lab.plan import alice, remote
from oe.model import Address, Group

PRIVATE, OPEN, PASSIVE, CLEAR, BLOCK = Group


@dataclass(frozen=True, slots=True)
class Row:
    """A flow and what it must come to."""

    name: str
    protocol: str
    source: Address
    destination: Address
    group: Group | None
    """What the first sender's side has for the destination; None: unlisted."""
    expected: Outcome
    ike: bool | None = None
    """Whether IKE must (or must not) pass between the gateways; None: nothing is asked of it."""
    decider: str = "alice"
    """The host whose gateway decides first: the sender, or the gateway in front of it."""
    outer: frozenset[Address] | None = None
    """The gateways, where they are not the two addresses themselves."""
    far_group: Group | None = None
    """What the other side has for the source, in the rows that are about both."""
    count: int = 3
    """Packets to be sent, one after the other (`burst`: at once)."""
    crossed: bool = False
    """The other end sends the same way at the same time."""
    may_lose: int = 0
    """Packets that may get lost although the flow is answered."""
    repeats: bool = False
    """The pair was decided before: no packet of it may come to user space."""

    @property
    def inner(self) -> frozenset[Address]:
        return frozenset((self.source, self.destination))

    @property
    def gateways(self) -> frozenset[Address]:
        return self.outer or self.inner

    @property
    def is_answered(self) -> bool:
        return self.expected in ANSWERED

    @property
    def is_timed(self) -> bool:
        """Its delay is measured, so nothing else runs beside it."""
        return self.far_group is None and self.expected not in (Outcome.NOTHING, Outcome.UNANSWERED)

    def allows(self, outcome: Outcome, lost: int) -> bool:
        """Whether this is what must come of it; refused at once is as good as nothing."""
        if self.expected is Outcome.NOTHING:
            return outcome in (Outcome.NOTHING, Outcome.REFUSED)
        return outcome is self.expected and not (self.is_answered and lost > self.may_lose)


_BY_PROTOCOL = {"tcp": plan.BOB_TCP, "udp": plan.BOB_UDP, "icmp": plan.BOB_ICMP}


def _bob() -> Iterator[Row]:
    """Both sides publish keys and want encryption."""
    here = alice(OPEN)
    for group, version, (protocol, number) in product((PRIVATE, OPEN), (4, 6), _BY_PROTOCOL.items()):
        ends = alice(OPEN, version), remote(group, number, version)
        yield Row(f"bob, {protocol} v{version}", protocol, *ends, group, Outcome.ENCRYPTED, ike=True)
    first = here, remote(PRIVATE, plan.BOB_TCP)
    # Not without any IKE: the question whether the peer has our answer may come just then.
    yield Row("bob, second connection", "tcp", *first, PRIVATE, Outcome.ENCRYPTED, ike=None, repeats=True)
    burst = here, remote(PRIVATE, plan.BOB_BURST)
    yield Row("bob, 20 at once", "burst", *burst, PRIVATE, Outcome.ENCRYPTED, ike=True, count=20)
    bulk = here, remote(PRIVATE, plan.BOB_BULK)
    yield Row("bob, 256 kB", "bulk", *bulk, PRIVATE, Outcome.ENCRYPTED, ike=True, count=4)
    # What a responder held is given time, but a first packet of its own that comes just then may overtake the
    # processing of the answer that makes the initiator ready for it. Here both are responders.
    crossed = here, remote(OPEN, plan.BOB_CROSSED)
    yield Row("bob, both at once", "udp", *crossed, OPEN, Outcome.ENCRYPTED, ike=True, crossed=True, may_lose=2)
    calling = remote(OPEN, plan.BOB_TCP), alice(PRIVATE)
    yield Row("bob calls, tcp", "tcp", *calling, PRIVATE, Outcome.ENCRYPTED, ike=True, decider="bob")
    yield Row("bob, TXT record", "tcp", here, remote(OPEN, plan.BOB_TXT), OPEN, Outcome.ENCRYPTED, ike=True)
    for protocol, number in _BY_PROTOCOL.items():
        ends = here, remote(PASSIVE, number)
        yield Row(f"bob, {protocol}", protocol, *ends, PASSIVE, Outcome.TURNS_ENCRYPTED, ike=True)
    ends = alice(PASSIVE), remote(CLEAR, plan.BOB_TCP)
    yield Row("bob, tcp", "tcp", *ends, CLEAR, Outcome.IN_CLEAR, ike=False)
    yield Row("bob, tcp", "tcp", here, remote(BLOCK, plan.BOB_TCP), BLOCK, Outcome.REFUSED, ike=False)


_WITHOUT_KEY = {
    PRIVATE: Outcome.NOTHING,
    OPEN: Outcome.IN_CLEAR,
    PASSIVE: Outcome.IN_CLEAR,
    CLEAR: Outcome.IN_CLEAR,
    BLOCK: Outcome.REFUSED,
}


def _carol() -> Iterator[Row]:
    """No record, no gateway: policy alone decides, without IKE."""
    here = alice(OPEN)
    for group, outcome in _WITHOUT_KEY.items():
        yield Row("carol, tcp", "tcp", here, remote(group, plan.CAROL), group, outcome, ike=False)
    yield Row("carol, udp", "udp", here, remote(OPEN, plan.CAROL_UDP), OPEN, Outcome.IN_CLEAR, ike=False)
    yield Row("carol, icmp", "icmp", here, remote(OPEN, plan.CAROL_ICMP), OPEN, Outcome.IN_CLEAR, ike=False)
    for group in (PRIVATE, OPEN):
        ends = alice(OPEN, 6), remote(group, plan.CAROL, 6)
        yield Row("carol, tcp v6", "tcp", *ends, group, _WITHOUT_KEY[group], ike=False)
    yield Row("carol, unlisted", "tcp", here, plan.UNLISTED, None, Outcome.IN_CLEAR, ike=False)


def _false_friends() -> Iterator[Row]:
    """Keys that nobody answers with: dave is silent, mallory has another key, frank's signature is wrong."""
    for name, number, ike in (("dave", plan.DAVE, True), ("mallory", plan.MALLORY, True), ("frank", plan.FRANK, False)):
        for group in (PRIVATE, OPEN):
            yield Row(f"{name}, tcp", "tcp", alice(OPEN), remote(group, number), group, Outcome.NOTHING, ike=ike)
    ends = alice(OPEN), remote(CLEAR, plan.FRANK)
    yield Row("frank, tcp", "tcp", *ends, CLEAR, Outcome.IN_CLEAR, ike=False)
    ends = remote(OPEN, plan.MALLORY), alice(PRIVATE)
    yield Row("mallory calls, udp", "udp", *ends, PRIVATE, Outcome.NOTHING, ike=False, decider="mallory")
    ends = remote(PRIVATE, plan.MALLORY), alice(CLEAR)
    yield Row("mallory calls in clear, udp", "udp", *ends, CLEAR, Outcome.UNANSWERED, ike=True, decider="mallory")


def _unsigned() -> Iterator[Row]:
    """Records without DNSSEC: good for the owner itself, never for sending IKE to somebody else."""
    here = alice(OPEN)
    yield Row("bob, unsigned record", "tcp", here, plan.UNSIGNED_PRIVATE_BOB, PRIVATE, Outcome.ENCRYPTED, ike=True)
    yield Row("bob, unsigned record", "tcp", here, plan.UNSIGNED_BOB, OPEN, Outcome.ENCRYPTED, ike=True)
    victim = frozenset((here, plan.VICTIM))
    yield Row("carol, redirected to bob", "tcp", here, plan.REDIRECTED, OPEN, Outcome.IN_CLEAR, ike=False, outer=victim)


def _gate() -> Iterator[Row]:
    """Clients that know nothing of encryption, and the gateway that does it for them."""
    for source, protocol, far, number, group, expected in (
        (plan.CLIENT, "tcp", "bob", plan.BOB_CLIENTS, PRIVATE, Outcome.ENCRYPTED),
        (plan.CLIENT, "udp", "bob", plan.BOB_CLIENTS, OPEN, Outcome.ENCRYPTED),
        (plan.CLIENT, "icmp", "bob", plan.BOB_ICMP, OPEN, Outcome.ENCRYPTED),
        (plan.CLIENT, "bulk", "bob", plan.BOB_BULK, OPEN, Outcome.ENCRYPTED),
        (plan.CLIENT, "tcp", "carol", plan.CAROL_CLIENTS, PRIVATE, Outcome.NOTHING),
        (plan.CLIENT, "tcp", "carol", plan.CAROL_CLIENTS, OPEN, Outcome.IN_CLEAR),
        (plan.UNDELEGATED_CLIENT, "tcp", "bob", plan.BOB_UDP, PRIVATE, Outcome.NOTHING),
        (plan.UNDELEGATED_CLIENT, "tcp", "bob", plan.BOB_UDP, OPEN, Outcome.IN_CLEAR),
    ):
        destination = remote(group, number)
        outer = frozenset((plan.GATE, destination))
        who = "client" if source == plan.CLIENT else "undelegated client"
        ike = expected is Outcome.ENCRYPTED
        name = f"{who} → {far}, {protocol}"
        yield Row(name, protocol, source, destination, group, expected, ike, "gate", outer)
    here = remote(OPEN, plan.BOB_TCP)
    outer = frozenset((here, plan.GATE))
    ends = here, plan.CALLED_CLIENT
    yield Row("bob → client, tcp", "tcp", *ends, OPEN, Outcome.ENCRYPTED, ike=True, decider="bob", outer=outer)


_E, _T, _C, _N, _R, _U = (
    Outcome.ENCRYPTED,
    Outcome.TURNS_ENCRYPTED,
    Outcome.IN_CLEAR,
    Outcome.NOTHING,
    Outcome.REFUSED,
    Outcome.UNANSWERED,
)

MATRIX: Mapping[Group, tuple[Outcome, ...]] = {
    # far side:  private, private-or-clear, clear-or-private, clear, block
    PRIVATE: (_E, _E, _E, _N, _N),
    OPEN: (_E, _E, _E, _N, _N),
    PASSIVE: (_T, _T, _C, _C, _U),
    CLEAR: (_U, _U, _C, _C, _U),
    BLOCK: (_R, _R, _R, _R, _R),
}
"""The first flow between two sides that both publish working, signed keys, by the group of either for the other.

A key that is published and signed, and a peer that refuses it, is blocked rather than downgraded; so `clear` on one
side and `private-or-clear` on the other never meet. What comes in clear from a `private` net is dropped, but it makes
the far side begin: a side that waits in clear loses its first packet to a `private` one, and is encrypted from then on.
"""


def _matrix() -> Iterator[Row]:
    for near, outcomes in MATRIX.items():
        for far, outcome in zip(Group, outcomes, strict=True):
            ends = alice(far), remote(near, plan.BOB_MATRIX)
            dropped = int((near, far) == (PASSIVE, PRIVATE))
            yield Row("both publish, udp", "udp", *ends, near, outcome, far_group=far, may_lose=dropped)


ROWS: tuple[Row, ...] = (*_bob(), *_carol(), *_false_friends(), *_unsigned(), *_gate(), *_matrix())
