"""Several keys of ours: which one signs, and since when."""

from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.gateway import Rules
from oe.gateway.rollover import NOTHING_SEEN, PAUSE, SLACK, Sightings, in_order, next_look, sight, why
from oe.messages import AddressesChanged, LookUpKeys, Note, Started
from oe.model import Address, KeyAnswer, PublicKey
from oe.negotiation import OwnKeysChanged
from oe.reasons import Reason
from tests.gateway.script import (
    OTHER_KEY,
    OUR_KEY,
    OURS,
    PEER,
    PEER_KEY,
    Script,
    delegation,
    found,
    group_settings,
    missing,
)

OLD, NEW, NEWER = OUR_KEY, OTHER_KEY, PEER_KEY
OURS6 = ip_address("2001:db8::1")
TTL = 3600.0


def seen(since: dict[PublicKey, float], *settled: PublicKey, longest: float = TTL) -> Sightings:
    return Sightings(since, frozenset(settled), longest)


# --- pure ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sightings", "order"),
    [
        (NOTHING_SEEN, (NEWER, NEW, OLD)),
        (seen({OLD: 0.0}), (OLD, NEWER, NEW)),
        (seen({OLD: 0.0}, OLD), (OLD, NEWER, NEW)),
        (seen({OLD: 0.0, NEW: 0.0}), (OLD, NEW, NEWER)),
        (seen({OLD: 9.0, NEW: 0.0}), (NEW, OLD, NEWER)),
        (seen({OLD: 0.0, NEW: 9.0}, OLD), (OLD, NEW, NEWER)),
        (seen({OLD: 0.0, NEW: 9.0}, OLD, NEW), (NEW, OLD, NEWER)),
        (seen({OLD: 0.0, NEW: 9.0, NEWER: 9.0}, OLD, NEW), (NEW, OLD, NEWER)),
        (seen({NEWER: 9.0}), (NEWER, NEW, OLD)),
    ],
)
def test_settled_before_fresh_before_unpublished(sightings: Sightings, order: tuple[PublicKey, ...]) -> None:
    assert in_order((NEWER, NEW, OLD), sightings) == order


def test_a_key_settles_when_the_answers_without_it_have_ended_everywhere() -> None:
    known = sight(NOTHING_SEEN, found(OURS, delegation(OLD), expires=TTL), (NEW, OLD), 0.0)
    known = sight(known, found(OURS, delegation(OLD), delegation(NEW), expires=TTL + 60.0), (NEW, OLD), TTL)
    assert (known.since, known.settled) == ({OLD: 0.0, NEW: TTL}, frozenset())
    both = found(OURS, delegation(NEW), delegation(OLD), expires=3 * TTL)
    almost = sight(known, both, (NEW, OLD), 2 * TTL + SLACK - 1.0)
    assert almost.settled == {OLD}
    assert sight(almost, both, (NEW, OLD), 2 * TTL + SLACK).settled == {OLD, NEW}


def test_the_rest_of_a_ttl_out_of_a_cache_settles_nothing() -> None:
    """The first answer has been in the resolver's cache for nearly all its TTL; the next one shows how long that is."""
    both = delegation(OLD), delegation(NEW)
    known = sight(NOTHING_SEEN, found(OURS, *both, expires=5.0), (NEW, OLD), 0.0)
    known = sight(known, found(OURS, *both, expires=200.0 + TTL), (NEW, OLD), 200.0)
    assert known.settled == set()


def test_a_longer_ttl_later_does_not_unsettle() -> None:
    known = seen({OLD: 0.0}, OLD, longest=60.0)
    known = sight(known, found(OURS, delegation(OLD), expires=1000.0 + TTL), (NEW, OLD), 1000.0)
    assert known == seen({OLD: 0.0}, OLD)


def test_a_key_that_was_withdrawn_settles_anew() -> None:
    known = sight(seen({OLD: 0.0, NEW: 0.0}, OLD, NEW), found(OURS, delegation(OLD)), (NEW, OLD), 10.0)
    known = sight(known, found(OURS, delegation(OLD), delegation(NEW)), (NEW, OLD), 20.0)
    assert known.since == {OLD: 0.0, NEW: 20.0}
    assert known.settled == {OLD}


@pytest.mark.parametrize(
    "answer",
    [
        missing(OURS),
        missing(OURS, Reason.DNS_TIMEOUT),
        missing(OURS, Reason.DNS_BOGUS),
        found(OURS, delegation(PEER_KEY)),
        found(OURS, delegation(NEW, gateway=PEER)),
    ],
)
def test_an_answer_without_our_keys_changes_nothing(answer: KeyAnswer) -> None:
    known = seen({OLD: 0.0}, OLD)
    assert sight(known, answer, (NEW, OLD), 10.0) == known


def test_when_to_look_again() -> None:
    answer = found(OURS, delegation(OLD), expires=TTL)
    assert next_look(answer, seen({OLD: 0.0}, OLD), 0.0) == TTL
    assert next_look(answer, seen({OLD: 0.0, NEW: 10.0}, OLD, longest=600.0), 10.0) == 610.0 + SLACK
    assert next_look(missing(OURS, Reason.DNS_TIMEOUT, expires=0.0), NOTHING_SEEN, 0.0) == PAUSE


def test_people_are_told_why() -> None:
    assert why((NEW, OLD), NEW, seen({NEW: 0.0})) == "it is the newest, and published"
    assert why((NEW, OLD), OLD, seen({OLD: 0.0})) == "the newest is not published"
    assert why((NEW, OLD), OLD, seen({OLD: 0.0, NEW: 0.0})) == "the newest may be missing in caches yet"


# --- through the coordinator -----------------------------------------------------------------------------------


class Names(dict[Address, KeyAnswer]):
    """What our own records say now, through a cache."""

    def __init__(self, clock: Callable[[], float], ttl: float) -> None:
        self._clock = clock
        self.ttl = ttl
        self.published: dict[Address, tuple[PublicKey, ...]] = {}
        self.is_out = False

    def __contains__(self, owner: object) -> bool:
        return owner in self.published

    def __getitem__(self, owner: Address) -> KeyAnswer:
        cached = self.get(owner)
        if cached is None or cached.expires <= self._clock():
            self[owner] = cached = self._answer(owner)
        return cached

    def _answer(self, owner: Address) -> KeyAnswer:
        now = self._clock()
        if self.is_out:
            return missing(owner, Reason.DNS_TIMEOUT, expires=now)
        keys = self.published[owner]
        return found(owner, *map(delegation, keys), expires=now + self.ttl) if keys else missing(owner, expires=now)


class Story:
    """A gateway with a zone that publishes `published`, at its one address unless said otherwise."""

    def __init__(
        self,
        keys: tuple[PublicKey, ...],
        published: tuple[PublicKey, ...],
        *,
        addresses: tuple[Address, ...] = (OURS,),
        ttl: float = TTL,
    ) -> None:
        self.script = Script(keys=keys, addresses=addresses)
        self.names = self.script.answers = Names(lambda: self.script.now, ttl)
        self.names.published = dict.fromkeys(addresses, published)

    def start(self) -> None:
        self.script.feed(Started())

    def reload(self, *keys: PublicKey) -> None:
        self.script.gateway.adopt(Rules(self.script.policies, group_settings(), (), keys), self.script.now)
        self.script._settle()

    def wait(self, seconds: float) -> None:
        self.script.run_until(self.script.now + seconds)

    @property
    def engine(self) -> OwnKeysChanged | None:
        """What the engine was told last."""
        told = [event for event in self.script.ike.heard if isinstance(event, OwnKeysChanged)]
        return told[-1] if told else None

    def signer(self, address: Address = OURS) -> PublicKey:
        assert self.engine is not None
        return self.engine.at.get(address, self.engine.keys)[0]

    @property
    def log(self) -> list[tuple[object, object]]:
        """Key and reason."""
        notes = [dict(note.fields) for note in self.script.all(Note) if note.event == "signing-key"]
        return [(note["key"], note["why"]) for note in notes]

    @property
    def questions(self) -> int:
        return len(self.script.all(LookUpKeys))


def test_with_one_key_dns_is_asked_once_and_the_engine_told_nothing() -> None:
    story = Story((OLD,), (OLD,))
    story.start()
    story.wait(10 * TTL)
    assert (story.questions, story.engine, story.log) == (1, None, [])


def test_a_rollover_from_end_to_end() -> None:
    story = Story((OLD,), (OLD,))
    story.start()
    story.wait(100.0)
    story.reload(NEW, OLD)
    assert story.engine == OwnKeysChanged((OLD, NEW), {OURS: (OLD, NEW)})
    story.wait(5 * TTL)
    assert story.signer() == OLD
    story.names.published[OURS] = (OLD, NEW)
    story.wait(TTL + SLACK)
    assert story.signer() == OLD
    story.wait(TTL)
    assert story.signer() == NEW
    story.reload(NEW)
    story.names.published[OURS] = (NEW,)
    assert story.engine == OwnKeysChanged((NEW,))
    asked = story.questions
    story.wait(5 * TTL)
    assert story.questions == asked
    assert story.log == [
        (OLD.fingerprint, "the newest is not published"),
        (OLD.fingerprint, "the newest may be missing in caches yet"),
        (NEW.fingerprint, "it is the newest, and published"),
    ]


@given(ttl=st.floats(60.0, 86_400.0), cached=st.floats(0.0, 0.999), published=st.floats(0.0, 3.0))
def test_no_cache_is_without_the_key_that_signs(ttl: float, cached: float, published: float) -> None:
    """The old record stays, and a peer may have asked just before the new one came. `cached`, how long the first answer
    has been in the resolver's cache, and `published` are in TTLs."""
    story = Story((NEW, OLD), (OLD,), ttl=ttl)
    assert story.names[OURS].expires == ttl
    story.script.now = cached * ttl
    story.start()
    assert story.signer() == OLD
    story.wait(published * ttl)
    story.names.published[OURS] = (OLD, NEW)
    story.wait(ttl)
    assert story.signer() == OLD
    story.wait(ttl + SLACK + PAUSE)
    assert story.signer() == NEW


def test_after_a_start_with_both_published_the_old_one_signs_for_a_ttl() -> None:
    story = Story((NEW, OLD), (OLD, NEW))
    story.start()
    assert story.signer() == OLD
    story.wait(TTL)
    assert story.signer() == OLD
    story.wait(SLACK)
    assert story.signer() == NEW


def test_a_key_that_is_alone_in_dns_signs_at_once() -> None:
    story = Story((NEW, OLD), (OLD, NEW))
    story.start()
    story.names.published[OURS] = (NEW,)
    story.wait(TTL)
    assert story.signer() == NEW


def test_who_takes_the_new_key_away_is_told_that_the_old_one_signs_again() -> None:
    story = Story((NEW, OLD), (OLD, NEW))
    story.start()
    story.wait(3 * TTL)
    story.reload(OLD)
    assert story.engine == OwnKeysChanged((OLD,))
    assert [key for key, _ in story.log] == [OLD.fingerprint, NEW.fingerprint, OLD.fingerprint]


def test_a_withdrawn_new_key_signs_no_more() -> None:
    story = Story((NEW, OLD), (OLD, NEW))
    story.start()
    story.wait(3 * TTL)
    story.names.published[OURS] = (OLD,)
    story.wait(TTL)
    assert story.signer() == OLD


@pytest.mark.parametrize("is_out", [True, False])
def test_while_dns_shows_no_key_of_ours_the_newest_signs_or_the_one_that_did(is_out: bool) -> None:
    story = Story((NEW, OLD), ())
    story.names.is_out = is_out
    story.start()
    story.wait(TTL)
    assert (story.engine, story.log) == (None, [])
    story.reload(NEWER, NEW, OLD)
    assert story.engine == OwnKeysChanged((NEW, OLD, NEWER))
    story.names.is_out = False
    story.names.published[OURS] = (OLD,)
    story.wait(2 * PAUSE)
    assert story.signer() == OLD
    story.names.is_out, story.names.published[OURS] = is_out, ()
    story.wait(3 * TTL)
    assert story.signer() == OLD


def test_a_silent_dns_is_asked_once_a_minute() -> None:
    story = Story((NEW, OLD), ())
    story.names.is_out = True
    story.start()
    story.wait(10 * PAUSE)
    assert story.questions == 11


def test_each_address_has_its_own_records() -> None:
    story = Story((NEW, OLD), (OLD, NEW), addresses=(OURS, OURS6))
    story.names.published[OURS6] = (OLD,)
    story.start()
    story.wait(3 * TTL)
    assert (story.signer(OURS), story.signer(OURS6)) == (NEW, OLD)


def test_an_address_that_is_gone_is_forgotten() -> None:
    story = Story((NEW, OLD), (OLD, NEW), addresses=(OURS, OURS6))
    story.start()
    story.script.feed(AddressesChanged((OURS6,)))
    story.wait(TTL + SLACK)
    assert story.engine is not None
    assert set(story.engine.at) == {OURS6}
    asked = len([look_up for look_up in story.script.all(LookUpKeys) if look_up.owner == OURS])
    assert asked == 1


def test_a_key_that_takes_the_place_of_all_signs_at_once() -> None:
    story = Story((OLD,), (OLD,))
    story.start()
    story.reload(NEW)
    assert story.engine == OwnKeysChanged((NEW,))
