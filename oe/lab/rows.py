"""What the lab tries, and what must come of it: one row per flow. Data only.

No two rows share a pair of addresses, so that every first packet is the first of its pair; `REPEATS` names the one
exception, which is about the second.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from oe.lab import plan
from oe.lab.plan import alice, remote
from oe.lab.sightings import Wire
from oe.model import Address, Group

PRIVATE, OPEN, PASSIVE, CLEAR, BLOCK = Group


class Outcome(StrEnum):
    """What a flow came to, judged by its answers and by the wire."""

    ENCRYPTED = "encrypted"
    """Answered, and nothing of it was seen in clear."""
    TURNS_ENCRYPTED = "clear, then encrypted"
    """Answered; clear packets first, ESP after them, no clear packet after the first ESP."""
    IN_CLEAR = "clear"
    """Answered, no ESP."""
    NOTHING = "nothing"
    """No answer, and not one packet of it left."""
    REFUSED = "refused"
    """As NOTHING, and the system told the program at once."""
    UNANSWERED = "no answer"
    """Packets left in clear, and no answer came."""
    MIXED = "mixed"
    """Anything else: clear packets after ESP, ESP without an answer, or a readable payload beside ESP."""


def judge(wire: Wire, answered: bool, refused: bool) -> Outcome:
    """The outcome of a flow."""
    if wire.marker_seen and wire.esp and not wire.clear:
        return Outcome.MIXED
    match answered, wire.clear > 0, wire.esp > 0:
        case True, False, True:
            return Outcome.ENCRYPTED
        case True, True, False:
            return Outcome.IN_CLEAR
        case True, True, True if wire.clear_after_esp == 0:
            return Outcome.TURNS_ENCRYPTED
        case False, False, False:
            return Outcome.REFUSED if refused else Outcome.NOTHING
        case False, True, False:
            return Outcome.UNANSWERED
    return Outcome.MIXED


@dataclass(frozen=True, slots=True)
class Row:
    """A flow and what it must come to."""

    name: str
    protocol: str
    source: Address
    destination: Address
    group: Group | None
    """Of the first sender's side for the destination; None: unlisted."""
    expected: Outcome
    decider: str = "alice"
    """The host whose gateway decides first: the sender, or the gateway in front of it."""
    outer: frozenset[Address] | None = None
    """The gateways, where they are not the two addresses themselves."""
    far_group: Group | None = None
    """Of the other side for the source, where the row is about it."""
    ike: bool | None = None
    """Whether IKE may pass between the gateways; None: nothing is asked of it."""
    count: int = 3
    """Packets to be sent, one after the other (`burst`: at once)."""
    together: bool = False
    """May run beside other rows: nothing is asked of its delay."""
    repeats: bool = False
    """The pair was decided before: no packet of it may come to user space."""

    @property
    def inner(self) -> frozenset[Address]:
        return frozenset((self.source, self.destination))

    @property
    def gateways(self) -> frozenset[Address]:
        return self.outer or self.inner

    def allows(self, outcome: Outcome, lost: int) -> bool:
        """Whether the outcome is the expected one. Refused at once is as good as nothing; answered means none lost."""
        if self.expected is Outcome.NOTHING and outcome is Outcome.REFUSED:
            return True
        answered = self.expected in (Outcome.ENCRYPTED, Outcome.IN_CLEAR, Outcome.TURNS_ENCRYPTED)
        return outcome is self.expected and not (answered and lost)


def _bob() -> Iterator[Row]:
    """Both sides publish keys and want encryption."""
    numbers = {"tcp": plan.BOB_TCP, "udp": plan.BOB_UDP, "icmp": plan.BOB_ICMP}
    for group, version, protocol in product((PRIVATE, OPEN), (4, 6), numbers):
        name = f"bob {group} {protocol} v{version}"
        pair = alice(OPEN, version), remote(group, numbers[protocol], version)
        yield Row(name, protocol, *pair, group, Outcome.ENCRYPTED, ike=True)
    first = alice(OPEN), remote(PRIVATE, plan.BOB_TCP)
    yield Row("bob private, second connection", "tcp", *first, PRIVATE, Outcome.ENCRYPTED, ike=False, repeats=True)
    burst = alice(OPEN), remote(PRIVATE, plan.BOB_BURST)
    yield Row("bob private, 20 at once", "burst", *burst, PRIVATE, Outcome.ENCRYPTED, ike=True, count=20)
    legacy = alice(OPEN), remote(OPEN, plan.BOB_TXT)
    yield Row("bob by TXT record", "tcp", *legacy, OPEN, Outcome.ENCRYPTED, ike=True)
    for protocol, number in numbers.items():
        pair = alice(OPEN), remote(PASSIVE, number)
        yield Row(f"bob {PASSIVE} {protocol}", protocol, *pair, PASSIVE, Outcome.TURNS_ENCRYPTED, ike=True)
    yield Row("bob clear tcp", "tcp", alice(PASSIVE), remote(CLEAR, plan.BOB_TCP), CLEAR, Outcome.IN_CLEAR, ike=False)
    yield Row("bob block tcp", "tcp", alice(OPEN), remote(BLOCK, plan.BOB_TCP), BLOCK, Outcome.REFUSED, ike=False)


def _carol() -> Iterator[Row]:
    """No record, no gateway: policy alone decides, without IKE."""
    expected = {PRIVATE: Outcome.NOTHING, BLOCK: Outcome.REFUSED}
    for group in Group:
        outcome = expected.get(group, Outcome.IN_CLEAR)
        pair = alice(OPEN), remote(group, plan.CAROL)
        together = outcome is Outcome.NOTHING
        yield Row(f"carol {group} tcp", "tcp", *pair, group, outcome, ike=False, together=together)
    for protocol, number in {"udp": plan.CAROL_UDP, "icmp": plan.CAROL_ICMP}.items():
        pair = alice(OPEN), remote(OPEN, number)
        yield Row(f"carol {OPEN} {protocol}", protocol, *pair, OPEN, Outcome.IN_CLEAR, ike=False)
    for group, outcome in {PRIVATE: Outcome.NOTHING, OPEN: Outcome.IN_CLEAR}.items():
        pair = alice(OPEN, 6), remote(group, plan.CAROL, 6)
        together = outcome is Outcome.NOTHING
        yield Row(f"carol {group} tcp v6", "tcp", *pair, group, outcome, ike=False, together=together)
    yield Row("carol unlisted tcp", "tcp", alice(OPEN), plan.UNLISTED, None, Outcome.IN_CLEAR, ike=False)


def _false_friends() -> Iterator[Row]:
    """Keys that nobody answers with: dave is silent, mallory has another key, frank's signature is wrong."""
    for name, number, ike in (("dave", plan.DAVE, True), ("mallory", plan.MALLORY, True), ("frank", plan.FRANK, False)):
        for group in (PRIVATE, OPEN):
            pair = alice(OPEN), remote(group, number)
            yield Row(f"{name} {group} tcp", "tcp", *pair, group, Outcome.NOTHING, ike=ike, together=True)
    yield Row("frank clear tcp", "tcp", alice(PASSIVE), remote(CLEAR, plan.FRANK), CLEAR, Outcome.IN_CLEAR, ike=False)
    called = remote(OPEN, plan.MALLORY), alice(OPEN)
    yield Row(
        "mallory calls alice", "udp", *called, OPEN, Outcome.UNANSWERED, decider="mallory", together=True, far_group=OPEN
    )


def _unsigned() -> Iterator[Row]:
    """Records without DNSSEC: good for the owner itself, never for sending IKE to somebody else."""
    good, strict = plan.UNSIGNED_BOB, plan.UNSIGNED_PRIVATE_BOB
    yield Row("bob unsigned tcp", "tcp", alice(OPEN), good, OPEN, Outcome.ENCRYPTED, ike=True)
    yield Row("bob unsigned private tcp", "tcp", alice(OPEN), strict, PRIVATE, Outcome.ENCRYPTED, ike=True)
    redirected = alice(OPEN), plan.REDIRECTED
    victim = frozenset((alice(OPEN), plan.VICTIM))
    yield Row("unsigned redirection tcp", "tcp", *redirected, OPEN, Outcome.IN_CLEAR, outer=victim, ike=False)


def _gate() -> Iterator[Row]:
    """A client that knows nothing of encryption, and the gateway that does it for it."""

    def row(name: str, protocol: str, destination: Address, group: Group, expected: Outcome, **more: object) -> Row:
        outer = frozenset((plan.GATE, destination))
        client = plan.CLIENT
        together = expected is Outcome.NOTHING
        return Row(
            name, protocol, client, destination, group, expected, "gate", outer, ike=bool(more["ike"]), together=together
        )

    yield row("client to bob private tcp", "tcp", remote(PRIVATE, plan.BOB_CLIENTS), PRIVATE, Outcome.ENCRYPTED, ike=True)
    yield row("client to bob udp", "udp", remote(OPEN, plan.BOB_CLIENTS), OPEN, Outcome.ENCRYPTED, ike=True)
    yield row("client to bob icmp", "icmp", remote(OPEN, plan.BOB_ICMP), OPEN, Outcome.ENCRYPTED, ike=True)
    yield row("client to carol tcp", "tcp", remote(OPEN, plan.CAROL_CLIENTS), OPEN, Outcome.IN_CLEAR, ike=False)
    yield row("client to carol private tcp", "tcp", remote(PRIVATE, plan.CAROL_CLIENTS), PRIVATE, Outcome.NOTHING, ike=False)
