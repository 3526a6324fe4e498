"""Which of our keys signs at which of our addresses, while there are several of them: a rollover.

    not published ──▶ fresh ──▶ settled

A peer believes the keys that DNS gave it, and its caches may be a TTL behind. A key that we see published for the first
time is unknown to all who asked a moment before. Until the last answer without it has left every cache, the key signs
that was there already; so does it after a start, when we cannot know for how long the newer one has been there.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from oe.gateway.candidates import keys_at
from oe.gateway.context import Context
from oe.model import Address, KeyAnswer, PublicKey
from oe.negotiation import OwnKeysChanged

SLACK = 120.0
"""Seconds beyond a TTL: a cache may keep an answer for a minute however short its TTL is, as ours does, and a TTL that
comes out of a resolver's cache may be short of the true one."""
PAUSE = 60.0
"""Seconds between two looks at least."""


@dataclass(frozen=True, slots=True)
class Sightings:
    """What DNS has shown of our keys at one of our addresses. Times are monotonic seconds."""

    since: Mapping[PublicKey, float]
    """When each key that is published there was seen first."""
    settled: frozenset[PublicKey]
    """Those of them that no cache can be without."""
    longest: float
    """For how many seconds an answer from there could be kept at most."""

    def settles(self, key: PublicKey) -> float:
        """From when on no cache can be without the published `key`."""
        return self.since[key] + self.longest + SLACK

    def only(self, keys: Collection[PublicKey]) -> "Sightings":
        """What of it is about these keys."""
        since = {key: at for key, at in self.since.items() if key in keys}
        return Sightings(since, self.settled & since.keys(), self.longest)


NOTHING_SEEN = Sightings({}, frozenset(), 0.0)


def sight(before: Sightings, answer: KeyAnswer, keys: Collection[PublicKey], now: float) -> Sightings:
    """`answer`, about an address of ours, taken in. If it shows none of `keys`, as when DNS fails, nothing changes."""
    published = [key for key in keys_at(answer, answer.owner) if key in keys]
    if not published:
        return before
    since = {key: before.since.get(key, now) for key in published}
    seen = Sightings(since, before.settled & since.keys(), max(before.longest, answer.expires - now))
    return Sightings(since, seen.settled.union(key for key in since if seen.settles(key) <= now), seen.longest)


def in_order(keys: tuple[PublicKey, ...], seen: Sightings) -> tuple[PublicKey, ...]:
    """`keys`, which come newest first, as they should sign: the newest settled one first.

    Fresh ones are better the longer they are there, and of two that were seen at once the older was there before.
    """

    def rank(key: PublicKey) -> tuple[int, float, int]:
        age = keys.index(key)
        if key in seen.settled:
            return 0, 0.0, age
        return (1, seen.since[key], -age) if key in seen.since else (2, 0.0, age)

    return tuple(sorted(keys, key=rank))


def next_look(answer: KeyAnswer, seen: Sightings, now: float) -> float:
    """When to look again: as soon as DNS may say something else, or a fresh key has settled."""
    settling = [seen.settles(key) for key in seen.since if key not in seen.settled]
    return max(min([answer.expires, *settling]), now + PAUSE)


def why(keys: tuple[PublicKey, ...], signer: PublicKey, seen: Sightings) -> str:
    """The reason, for people, that `signer` is the one of `keys` (newest first)."""
    if signer == keys[0]:
        return "it is the newest, and published"
    return "the newest may be missing in caches yet" if keys[0] in seen.since else "the newest is not published"


class Rollover:
    """Takes in what DNS says of our own addresses, and tells the IKE engine in which order to use our keys."""

    def __init__(self, context: Context, tell: Callable[[OwnKeysChanged, float], None]) -> None:
        self._context = context
        self._tell = tell
        self._last = OwnKeysChanged(context.own.keys)
        self._seen: dict[Address, Sightings] = {}
        self._noted: dict[Address, tuple[PublicKey, str]] = {}

    def adopt(self, now: float) -> None:
        """Our keys are others now. Where DNS has said nothing, those that signed before go before the new ones."""
        keys = self._context.own.keys
        stay = tuple(key for key in self._last.keys if key in keys)
        self._keep({address: seen.only(keys) for address, seen in self._seen.items()})
        self._arrange(stay + tuple(key for key in keys if key not in stay), now)

    def learn(self, answer: KeyAnswer, now: float) -> None:
        """DNS has answered about an address of ours, or failed to. With a single key it is only remembered."""
        keys, owner = self._context.own.keys, answer.owner
        seen = sight(self._seen.get(owner, NOTHING_SEEN), answer, keys, now)
        self._keep({**self._seen, owner: seen})
        if len(keys) > 1:
            self._context.timers.set(("own-keys", owner), next_look(answer, seen, now))
            self._arrange(self._last.keys, now)

    def _keep(self, seen: Mapping[Address, Sightings]) -> None:
        own = self._context.own
        self._seen = {address: known for address, known in seen.items() if known.since and own.is_own(address)}

    def _arrange(self, elsewhere: tuple[PublicKey, ...], now: float) -> None:
        """Tell engine and log what is new. `elsewhere`: the order at addresses of which nothing is known."""
        keys = self._context.own.keys
        orders = {address: in_order(keys, seen) for address, seen in self._seen.items()}
        signers = {address: (order[0], why(keys, order[0], self._seen[address])) for address, order in orders.items()}
        for address, (signer, reason) in signers.items():
            if self._noted.get(address) != (signer, reason):
                names = {"key": signer.fingerprint, "newest": keys[0].fingerprint}
                self._context.note("info", "signing-key", address=address, **names, why=reason)
        has_choice = len(keys) > 1
        self._noted = signers if has_choice else {}
        change = OwnKeysChanged(elsewhere, orders if has_choice else {})
        if change != self._last:
            self._last = change
            self._tell(change, now)
