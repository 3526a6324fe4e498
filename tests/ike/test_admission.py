"""Cookies, half-open budget, rate bound."""

from ipaddress import ip_address
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from oe.ike.admission import COOKIE_OCTETS, Bucket, Cookies, HalfOpen, source_of
from oe.model import SocketAddress

PEER = SocketAddress(ip_address("192.0.2.1"), 500)
OTHER = SocketAddress(ip_address("192.0.2.2"), 500)
NONCE = bytes(range(32))


def cookies() -> Cookies:
    numbers = count()
    return Cookies(lambda size: next(numbers).to_bytes(size, "big"), 60.0)


def test_a_cookie_is_good_for_the_initiator_it_was_made_for() -> None:
    jar = cookies()
    cookie = jar.make(PEER, 7, NONCE, 0.0)
    assert len(cookie) == COOKIE_OCTETS
    assert jar.is_good(cookie, PEER, 7, NONCE, 1.0)
    assert not jar.is_good(cookie, OTHER, 7, NONCE, 1.0)
    assert not jar.is_good(cookie, SocketAddress(PEER.address, 501), 7, NONCE, 1.0)
    assert not jar.is_good(cookie, PEER, 8, NONCE, 1.0)
    assert not jar.is_good(cookie, PEER, 7, NONCE[1:], 1.0)


def test_a_cookie_outlives_one_change_of_the_secret_but_not_two() -> None:
    jar = cookies()
    cookie = jar.make(PEER, 7, NONCE, 0.0)
    assert jar.is_good(cookie, PEER, 7, NONCE, 61.0)
    assert jar.make(PEER, 7, NONCE, 61.0) != cookie
    assert not jar.is_good(cookie, PEER, 7, NONCE, 122.0)


def test_after_a_long_silence_no_old_cookie_is_good() -> None:
    jar = cookies()
    cookie = jar.make(PEER, 7, NONCE, 0.0)
    assert not jar.is_good(cookie, PEER, 7, NONCE, 1000.0)


@given(st.binary(max_size=70))
def test_made_up_cookies_are_not_good(cookie: bytes) -> None:
    assert not cookies().is_good(cookie, PEER, 7, NONCE, 0.0)


def test_half_open_is_bounded_in_all_and_per_source() -> None:
    half_open = HalfOpen(3, 2)
    half_open.enter(PEER.address)
    half_open.enter(PEER.address)
    assert not half_open.has_room(PEER.address)
    assert half_open.has_room(OTHER.address)
    half_open.enter(OTHER.address)
    assert not half_open.has_room(OTHER.address)
    half_open.leave(PEER.address)
    assert half_open.has_room(PEER.address)
    assert half_open.total == 2


def test_a_64_is_one_source() -> None:
    assert source_of(ip_address("2001:db8::1")) == source_of(ip_address("2001:db8::ffff:1"))
    assert source_of(ip_address("2001:db8::1")) != source_of(ip_address("2001:db8:0:1::1"))
    assert source_of(ip_address("192.0.2.1")) != source_of(ip_address("192.0.2.2"))


def test_the_bucket_gives_a_seconds_worth_then_its_rate() -> None:
    bucket = Bucket(2.0)
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(100.5) for _ in range(2)] == [True, False]
    assert [bucket.take(900.0) for _ in range(3)] == [True, True, False]
