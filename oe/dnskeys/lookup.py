"""One owner's lookup, from the first question to the `KeyAnswer`.

IPSECKEY and TXT are asked at the same time, since "no key" needs both; a usable IPSECKEY record, a bogus answer or
a name that does not exist decides without the TXT answer. A record without a key sends us to the gateway's own name
for it, one step and no further.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from oe.dnskeys.answers import Reading, read_answer
from oe.dnskeys.exchange import Heard
from oe.dnskeys.message import Question, Type
from oe.dnskeys.names import Name, host_labels, reverse_labels
from oe.dnskeys.trust import weaker
from oe.model import Address, Delegation, Grade, KeyAnswer, LookupOutcome, PublicKey
from oe.reasons import Reason

MAX_GATEWAYS_ASKED = 4
"""Gateways whose own names are asked for keys in one lookup."""

_WEIGHT = (
    LookupOutcome.FOUND,
    LookupOutcome.BOGUS,
    LookupOutcome.UNUSABLE,
    LookupOutcome.FAILED,
    LookupOutcome.NO_KEY,
)
"""Of two answers the one further left counts: good news first, then the worse news."""


def decide(ipseckey: Reading | None, txt: Reading | None) -> Reading | None:
    """What both record types together say; None while an answer that could matter is missing."""
    if ipseckey is None:
        return None
    if ipseckey.outcome in (LookupOutcome.FOUND, LookupOutcome.BOGUS) or not ipseckey.name_exists:
        return ipseckey
    if txt is None:
        return None
    first, second = sorted((ipseckey, txt), key=lambda reading: _WEIGHT.index(reading.outcome))
    both_say_no = first.outcome is LookupOutcome.NO_KEY
    grade = weaker(first.grade, second.grade) if both_say_no else first.grade
    return replace(first, grade=grade, lifetime=min(first.lifetime, second.lifetime))


@dataclass(slots=True)
class _Place:
    """A name under which records of both types are asked for."""

    name: Name
    address: Address | None
    ipseckey: Reading | None = None
    txt: Reading | None = None

    def questions(self) -> Iterator[Question]:
        return (Question(self.name, kind) for kind in (Type.IPSECKEY, Type.TXT))

    def feed(self, question: Question, heard: Heard) -> None:
        reading = read_answer(question, self.address, heard)
        if question.type == Type.IPSECKEY:
            self.ipseckey = reading
        else:
            self.txt = reading

    @property
    def reading(self) -> Reading | None:
        return decide(self.ipseckey, self.txt)

    def own_keys(self) -> tuple[PublicKey, ...]:
        """Keys that the name publishes for itself. Only a signed answer counts: it completes a delegation."""
        found = self.reading
        if found is None or found.grade is not Grade.SECURE:
            return ()
        own = (d for d in found.delegations if d.gateway_name is None and d.gateway in (None, self.address))
        return tuple(d.key for d in own if d.key)


class Lookup:
    """Ask `questions`, then `feed` each answer and ask what it returns, until `answer` is there."""

    def __init__(self, owner: Address) -> None:
        self.answer: KeyAnswer | None = None
        self._owner = _Place(reverse_labels(owner), owner)
        self._address = owner
        self._gateways: dict[Name, _Place] = {}
        self._main: Reading | None = None

    def questions(self) -> tuple[Question, ...]:
        """What to ask first, all at the same time."""
        return tuple(self._owner.questions())

    def feed(self, question: Question, heard: Heard, now: float) -> tuple[Question, ...]:
        """Take the answer to `question`; returns what is to be asked next."""
        place = self._gateways.get(question.name, self._owner)
        place.feed(question, heard)
        if self._main is None:
            self._main = self._owner.reading
            if self._main is None:
                return ()
            for delegation in self._main.delegations:
                self._note_gateway(delegation)
            asked = tuple(question for gateway in self._gateways.values() for question in gateway.questions())
            if asked:
                return asked
        if all(gateway.reading for gateway in self._gateways.values()):
            self._conclude(self._main, now)
        return ()

    def _note_gateway(self, delegation: Delegation) -> None:
        if delegation.key is None and len(self._gateways) < MAX_GATEWAYS_ASKED:
            name = _gateway_labels(delegation)
            self._gateways.setdefault(name, _Place(name, delegation.gateway))

    def _conclude(self, main: Reading, now: float) -> None:
        asked = [gateway.reading for gateway in self._gateways.values() if gateway.reading]
        lifetime = min([main.lifetime, *(reading.lifetime for reading in asked)])
        complete = tuple(full for delegation in main.delegations for full in self._completed(delegation))
        if main.delegations and not complete:
            main = _without_keys(main, asked)
        self.answer = KeyAnswer(
            self._address, main.outcome, main.grade, main.reason, complete, now + lifetime, main.detail
        )

    def _completed(self, delegation: Delegation) -> Iterator[Delegation]:
        """The delegation with its key; with each key that its gateway publishes if it has none itself."""
        if delegation.key is not None:
            yield delegation
        elif gateway := self._gateways.get(_gateway_labels(delegation)):
            for key in gateway.own_keys():
                yield replace(delegation, key=key)


def _gateway_labels(delegation: Delegation) -> Name:
    if delegation.gateway is not None:
        return reverse_labels(delegation.gateway)
    return host_labels(delegation.gateway_name or "")


def _without_keys(main: Reading, asked: list[Reading]) -> Reading:
    """No gateway named by the records gave a key: the worst that was heard tells why."""
    worst = min(asked, key=lambda reading: _WEIGHT.index(reading.outcome))
    detail = f"{main.detail}; at the gateway: {worst.detail}"
    if worst.outcome in (LookupOutcome.BOGUS, LookupOutcome.FAILED):
        return replace(worst, delegations=(), detail=detail)
    return Reading(LookupOutcome.UNUSABLE, main.grade, Reason.NO_USABLE_KEY, main.lifetime, detail=detail)
