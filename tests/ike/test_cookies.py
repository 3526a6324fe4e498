"""Cookies: good for whom they were made for, for a while."""

from ipaddress import ip_address
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from oe.ike.cookies import COOKIE_OCTETS, Cookies
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


def test_secrets_change_however_many_cookies_are_made_meanwhile() -> None:
    """RFC 7296 2.6: an attacker must not gather cookies for long."""
    jar = cookies()
    first = jar.make(PEER, 7, NONCE, 0.0)
    for second in range(0, 300, 5):
        jar.make(OTHER, second, NONCE, float(second))
        assert jar.is_good(first, PEER, 7, NONCE, float(second)) == (second < 120)


def test_numbers_of_secrets_come_round() -> None:
    jar = cookies()
    for change in range(600):
        cookie = jar.make(PEER, 7, NONCE, change * 61.0)
        assert cookie[0] == (change + 1) % 256
        assert jar.is_good(cookie, PEER, 7, NONCE, change * 61.0)


@given(st.binary(max_size=70))
def test_made_up_cookies_are_not_good(cookie: bytes) -> None:
    assert not cookies().is_good(cookie, PEER, 7, NONCE, 0.0)
