"""What is kept, for how long, and who waits."""

from ipaddress import IPv4Address, ip_address

from hypothesis import given
from hypothesis import strategies as st

from oe.dnskeys.cache import Cache, Waiters
from oe.model import Address, Grade, KeyAnswer, LookupOutcome
from oe.reasons import Reason

A, B, C = (ip_address(f"192.0.2.{n}") for n in (1, 2, 3))


def answer(owner: Address, expires: float) -> KeyAnswer:
    return KeyAnswer(owner, LookupOutcome.NO_KEY, Grade.SECURE, Reason.NO_KEY, (), expires)


def test_an_answer_is_kept_until_it_expires() -> None:
    cache = Cache(10)
    cache.put(answer(A, 100.0), 0.0)
    assert cache.get(A, 99.9) == answer(A, 100.0)
    assert cache.get(A, 100.0) is None
    assert len(cache) == 0


def test_what_expires_now_is_not_kept_and_replaces_what_was() -> None:
    cache = Cache(10)
    cache.put(answer(A, 100.0), 0.0)
    cache.put(answer(A, 50.0), 50.0)
    assert cache.get(A, 50.0) is None


def test_the_one_not_asked_for_the_longest_makes_room() -> None:
    cache = Cache(2)
    cache.put(answer(A, 100.0), 0.0)
    cache.put(answer(B, 100.0), 0.0)
    assert cache.get(A, 1.0)
    cache.put(answer(C, 100.0), 1.0)
    assert [bool(cache.get(owner, 2.0)) for owner in (A, B, C)] == [True, False, True]


def test_replacing_needs_no_room() -> None:
    cache = Cache(2)
    for owner, expires in ((A, 10.0), (B, 10.0), (B, 20.0)):
        cache.put(answer(owner, expires), 0.0)
    assert cache.get(A, 1.0)


def test_forgetting_one_and_all() -> None:
    cache = Cache(4)
    for owner in (A, B, C):
        cache.put(answer(owner, 10.0), 0.0)
    cache.forget(A)
    cache.forget(A)
    assert (cache.get(A, 0.0), len(cache)) == (None, 2)
    cache.forget(None)
    assert len(cache) == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 100))), st.integers(1, 5))
def test_never_more_than_its_size(puts: list[tuple[int, float]], size: int) -> None:
    cache = Cache(size)
    for host, expires in puts:
        cache.put(answer(IPv4Address(host), expires), 0.0)
        assert len(cache) <= size


def test_waiters_are_served_together() -> None:
    waiters = Waiters()
    for ticket, owner in ((3, A), (1, A), (2, B)):
        waiters.add(ticket, owner, 10.0)
    assert waiters.served(A) == [1, 3]
    assert waiters.served(A) == []
    assert (A in waiters, B in waiters) == (False, True)
    assert waiters.overdue(10.0) == [(2, B)]


def test_each_waiter_has_its_own_deadline() -> None:
    waiters = Waiters()
    waiters.add(1, A, 5.0)
    waiters.add(2, A, 3.0)
    assert waiters.deadline() == 3.0
    assert waiters.overdue(2.9) == []
    assert waiters.overdue(3.0) == [(2, A)]
    assert A in waiters
    assert waiters.overdue(9.0) == [(1, A)]
    assert A not in waiters
    assert waiters.deadline() is None


def test_who_was_served_is_never_overdue() -> None:
    waiters = Waiters()
    waiters.add(1, A, 5.0)
    waiters.served(A)
    waiters.add(2, A, 7.0)
    assert waiters.deadline() == 7.0
    assert waiters.overdue(6.0) == []
