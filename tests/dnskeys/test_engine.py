"""The engine on virtual time: who is asked when, who is answered what."""

from ipaddress import IPv4Address, ip_address

import pytest

from oe.dnskeys import engine as engine_module
from oe.dnskeys.engine import MAX_UNDER_WAY, KeyEngine
from oe.dnskeys.exchange import CloseAttempt, SendQuery
from oe.dnskeys.message import Type, decode_response
from oe.messages import KeysLookedUp, LookUpKeys
from oe.model import Address, Grade, LookupOutcome, SocketAddress
from oe.reasons import Reason
from tests.dnskeys.replies import SOA, ipseckey, reply

SERVER = SocketAddress(ip_address("127.0.0.1"), 53)
A, B = ip_address("192.0.2.1"), ip_address("192.0.2.2")


class World:
    """An engine, its open sockets and what it answered."""

    def __init__(self) -> None:
        self.engine = KeyEngine((SERVER,), bytes)
        self.open: dict[int, SendQuery] = {}
        self.answers: list[KeysLookedUp] = []
        self.sent = 0

    def settle(self) -> None:
        for output in self.engine.take():
            match output:
                case SendQuery():
                    self.open[output.attempt] = output
                    self.sent += 1
                case CloseAttempt(attempt):
                    del self.open[attempt]
                case KeysLookedUp():
                    self.answers.append(output)

    def ask(self, ticket: int, owner: Address, now: float, patience: float = 3.0) -> None:
        self.engine.ask(LookUpKeys(ticket, owner, now + patience), now)
        self.settle()

    def expire(self, now: float) -> None:
        self.engine.expire(now)
        self.settle()

    def answer_all(self, now: float, *lines: str, rcode: str = "NOERROR") -> None:
        """Every query gets the IPSECKEY lines that are about its name, or a negative answer."""
        for attempt, query in list(self.open.items()):
            if attempt not in self.open:
                continue
            asked = decode_response(reply(query.data)).question
            name = ".".join(label.decode() for label in asked.name) + "."
            mine = [line for line in lines if line.startswith(name) and asked.type == Type.IPSECKEY]
            data = reply(query.data, mine, [] if mine else [SOA], ad=True, rcode=rcode)
            self.engine.feed(attempt, data, now)
            self.settle()

    def outcomes(self) -> list[tuple[int, LookupOutcome]]:
        return [(event.ticket, event.answer.outcome) for event in self.answers]


KEY_OF_A = ipseckey("1.2.0.192.in-addr.arpa.", ttl=600)


def test_both_types_are_asked_at_once_and_a_key_ends_it() -> None:
    world = World()
    world.ask(1, A, 0.0)
    assert world.sent == 2
    world.answer_all(0.1, KEY_OF_A)
    assert world.outcomes() == [(1, LookupOutcome.FOUND)]
    assert world.open == {}
    assert world.engine.deadline() is None


def test_no_such_name_ends_it_without_the_second_answer() -> None:
    world = World()
    world.ask(1, A, 0.0)
    first = next(iter(world.open))
    world.engine.feed(first, reply(world.open[first].data, [], [SOA], rcode="NXDOMAIN", ad=True), 0.1)
    world.settle()
    assert world.outcomes() == [(1, LookupOutcome.NO_KEY)]
    assert world.open == {}


def test_an_answer_is_kept_while_it_holds() -> None:
    world = World()
    world.ask(1, A, 0.0)
    world.answer_all(0.0, KEY_OF_A)
    world.ask(2, A, 599.0)
    assert world.outcomes() == [(1, LookupOutcome.FOUND), (2, LookupOutcome.FOUND)]
    world.ask(3, A, 600.0)
    assert len(world.answers) == 2
    assert world.sent == 4


def test_forgetting_makes_it_ask_again() -> None:
    world = World()
    world.ask(1, A, 0.0)
    world.answer_all(0.0, KEY_OF_A)
    world.engine.forget(A)
    world.ask(2, A, 1.0)
    assert world.sent == 4


def test_the_same_question_is_asked_once() -> None:
    world = World()
    for ticket in range(5):
        world.ask(ticket, A, 0.0)
    assert world.sent == 2
    world.answer_all(0.1)
    assert world.outcomes() == [(ticket, LookupOutcome.NO_KEY) for ticket in range(5)]


def test_a_deadline_ends_one_wait_and_not_the_lookup() -> None:
    world = World()
    world.ask(1, A, 0.0, patience=0.2)
    world.ask(2, A, 0.0, patience=5.0)
    assert world.engine.deadline() == 0.2
    world.expire(0.2)
    (event,) = world.answers
    answer = event.answer
    assert (event.ticket, answer.outcome, answer.reason) == (1, LookupOutcome.FAILED, Reason.DNS_TIMEOUT)
    assert (answer.grade, answer.expires) == (Grade.INDETERMINATE, 0.2)
    world.answer_all(0.3, KEY_OF_A)
    assert world.outcomes()[1:] == [(2, LookupOutcome.FOUND)]


def test_a_lookup_that_nobody_waits_for_fills_the_cache() -> None:
    world = World()
    world.ask(1, A, 0.0, patience=0.1)
    world.expire(0.1)
    world.answer_all(0.2, KEY_OF_A)
    world.ask(2, A, 0.3)
    assert world.outcomes() == [(1, LookupOutcome.FAILED), (2, LookupOutcome.FOUND)]
    assert world.sent == 2


def test_silence_is_answered_and_remembered_shortly() -> None:
    world = World()
    world.ask(1, A, 0.0, patience=100.0)
    while world.engine.deadline() is not None and not world.answers:
        world.expire(world.engine.deadline() or 0.0)
    (event,) = world.answers
    assert event.answer.reason is Reason.DNS_TIMEOUT
    assert event.answer.expires == pytest.approx(6.0 + 15.0)
    assert world.sent == 8
    assert world.open == {}


def test_only_so_many_lookups_at_the_same_time() -> None:
    world = World()
    owners = [IPv4Address("192.0.2.0") + n for n in range(MAX_UNDER_WAY + 2)]
    for ticket, owner in enumerate(owners):
        world.ask(ticket, owner, 0.0)
    assert world.sent == 2 * MAX_UNDER_WAY
    world.answer_all(0.1)
    world.answer_all(0.2)
    assert [ticket for ticket, _ in world.outcomes()] == list(range(len(owners)))


def test_who_queues_in_vain_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MAX_UNDER_WAY", 1)
    monkeypatch.setattr(engine_module, "MAX_QUEUED", 1)
    world = World()
    world.ask(1, A, 0.0, patience=9.0)
    world.ask(2, B, 0.0, patience=0.2)
    world.ask(3, B, 0.0, patience=0.3)
    third = ip_address("192.0.2.3")
    world.ask(4, third, 0.0)
    assert [(e.ticket, e.answer.reason, e.answer.expires) for e in world.answers] == [(4, Reason.DNS_FAILED, 0.0)]
    world.expire(0.3)
    assert [event.ticket for event in world.answers] == [4, 2, 3]
    world.ask(5, third, 0.3)
    world.answer_all(0.35)
    world.answer_all(0.4)
    assert [event.ticket for event in world.answers] == [4, 2, 3, 1, 5]


def test_the_step_to_the_gateway_is_taken() -> None:
    world = World()
    world.ask(1, A, 0.0)
    gateway = ipseckey("9.2.0.192.in-addr.arpa.")
    world.answer_all(0.1, ipseckey("1.2.0.192.in-addr.arpa.", "192.0.2.9", key=None), gateway)
    world.answer_all(0.2, gateway)
    assert world.outcomes() == [(1, LookupOutcome.FOUND)]
    assert world.open == {}


def test_what_comes_for_a_closed_attempt_is_nothing() -> None:
    world = World()
    world.ask(1, A, 0.0)
    queries = list(world.open.values())
    world.answer_all(0.1, KEY_OF_A)
    for query in queries:
        world.engine.feed(query.attempt, reply(query.data), 0.2)
        world.engine.feed(query.attempt, None, 0.2)
    assert world.engine.take() == []
