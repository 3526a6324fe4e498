"""The DNS: one zone for the world, and a resolver for each machine that may be slow, fail, or remember."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from oe.messages import KeysLookedUp, LookUpKeys
from oe.model import Address, Delegation, Grade, KeyAnswer, LookupOutcome, PublicKey, RecordKind
from oe.reasons import Reason
from tests.simulation.clock import Clock

FAILURE_LIFETIME = 15.0
NEGATIVE_TTL = 5.0


@dataclass(slots=True)
class Zone:
    """What is published. `ttl` in seconds."""

    grade: Grade
    ttl: float
    records: dict[Address, tuple[Delegation, ...]] = field(default_factory=dict)
    withdrawn: set[Address] = field(default_factory=set)

    def publish(self, owner: Address, gateway: Address, key: PublicKey, precedence: int = 10) -> None:
        """`owner` is served by `gateway`; itself, when they are the same."""
        named = None if owner == gateway else gateway
        delegation = Delegation(RecordKind.IPSECKEY, precedence, named, None, key)
        self.records[owner] = (*self.records.get(owner, ()), delegation)

    def replace(self, old: PublicKey, new: PublicKey) -> None:
        """From one moment to the next, which is not how it should be done; caches are not told."""
        for owner, found in self.records.items():
            self.records[owner] = tuple(replace(one, key=new) if one.key == old else one for one in found)

    def add(self, old: PublicKey, new: PublicKey) -> None:
        """Wherever `old` is published, `new` is too from now on."""
        for owner, found in self.records.items():
            self.records[owner] = (*found, *(replace(one, key=new) for one in found if one.key == old))

    def answer(self, owner: Address, now: float) -> KeyAnswer:
        found = () if owner in self.withdrawn else self.records.get(owner, ())
        if found:
            ranked = tuple(sorted(found, key=lambda one: one.precedence))
            return KeyAnswer(owner, LookupOutcome.FOUND, self.grade, None, ranked, now + self.ttl)
        expires = now + min(self.ttl, NEGATIVE_TTL)
        return KeyAnswer(owner, LookupOutcome.NO_KEY, self.grade, Reason.NO_KEY, (), expires)


@dataclass(slots=True)
class Resolver:
    """One machine's way to the zone. `feed` takes the answer; the asker's deadline is kept."""

    clock: Clock
    zone: Zone
    random: Random
    slow: float
    """Share of lookups that take up to three seconds."""
    is_out: bool = False
    """Nothing is answered: every lookup runs into its deadline."""
    failing: float = 0.0
    """Share of lookups that end in SERVFAIL."""
    cache: dict[Address, KeyAnswer] = field(default_factory=dict)

    def look_up(self, question: LookUpKeys, feed: Callable[[KeysLookedUp], None]) -> None:
        now, owner = self.clock.now, question.owner
        known = self.cache.get(owner)
        if known is not None and known.expires > now:
            # From the cache, in the same turn of the event loop.
            self.clock.after(0.0, lambda: feed(KeysLookedUp(question.ticket, known)))
            return
        chance = self.random.random
        at = now + (3.0 if chance() < self.slow else 0.02) * chance()
        if self.is_out or at >= question.deadline:
            late = KeyAnswer(
                owner, LookupOutcome.FAILED, Grade.INDETERMINATE, Reason.DNS_TIMEOUT, (), question.deadline
            )
            self.clock.at(question.deadline, lambda: feed(KeysLookedUp(question.ticket, late)))
            return
        failed = chance() < self.failing
        self.clock.at(at, lambda: feed(KeysLookedUp(question.ticket, self._resolve(owner, failed=failed))))

    def forget(self) -> None:
        self.cache.clear()

    def _resolve(self, owner: Address, *, failed: bool) -> KeyAnswer:
        now = self.clock.now
        if failed:
            expires = now + FAILURE_LIFETIME
            answer = KeyAnswer(
                owner, LookupOutcome.FAILED, Grade.INDETERMINATE, Reason.DNS_FAILED, (), expires, "SERVFAIL"
            )
        else:
            answer = self.zone.answer(owner, now)
        self.cache[owner] = answer
        return answer
