"""The gauges: counts of half-open IKE SAs, levels in a table of fixed size, a rate for all."""

from ipaddress import ip_address
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from oe.ike.limits import COLUMNS, ROWS, Bounds, Bucket, HalfOpen, Levels, Strain, prefix_of, source_of
from oe.model import Address

ONE, TWO, THREE = (ip_address(f"192.0.2.{number}") for number in (1, 2, 3))
ELSEWHERE = ip_address("198.51.100.1")
PLENTY = Bounds(1e9, 1e9)


def test_a_64_is_one_source_and_a_48_one_prefix() -> None:
    assert source_of(ip_address("2001:db8::1")) == source_of(ip_address("2001:db8::ffff:1"))
    assert source_of(ip_address("2001:db8::1")) != source_of(ip_address("2001:db8:0:1::1"))
    assert prefix_of(ip_address("2001:db8::1")) == prefix_of(ip_address("2001:db8:0:ffff::1"))
    assert prefix_of(ip_address("2001:db8::1")) != prefix_of(ip_address("2001:db8:1::1"))
    assert source_of(ONE) != source_of(TWO)
    assert prefix_of(ONE) == prefix_of(TWO) != prefix_of(ELSEWHERE)


def test_the_quarter_of_a_limit_that_anybody_may_use_up() -> None:
    bounds = Bounds.sharing(20)
    assert [bounds.strain(level) for level in (0, 4, 5, 19, 20)] == [
        Strain.CALM,
        Strain.CALM,
        Strain.BUSY,
        Strain.BUSY,
        Strain.FULL,
    ]
    assert [Bounds.sharing(1).strain(level) for level in (0, 1)] == [Strain.CALM, Strain.FULL]
    assert Bounds.sharing(0).strain(0) is Strain.FULL


def test_half_open_is_bounded_in_all_by_prefix_and_by_source() -> None:
    half_open = HalfOpen(Bounds(9, 9), Bounds(4, 5), Bounds(2, 3))
    half_open.enter(ONE)
    assert half_open.strain(ONE) is Strain.CALM
    half_open.enter(ONE)
    assert half_open.strain(ONE) is Strain.BUSY
    half_open.enter(ONE)
    assert half_open.strain(ONE) is Strain.FULL
    assert half_open.strain(TWO) is Strain.CALM
    half_open.enter(TWO)
    assert half_open.strain(THREE) is Strain.BUSY
    half_open.enter(TWO)
    assert half_open.strain(THREE) is Strain.FULL
    assert half_open.strain(ELSEWHERE) is Strain.CALM
    half_open.leave(ONE)
    assert half_open.strain(THREE) is Strain.BUSY
    assert not half_open.is_busy
    for _ in range(5):
        half_open.enter(ELSEWHERE)
    assert half_open.strain(ip_address("203.0.113.1")) is Strain.FULL
    assert half_open.is_busy


@given(st.lists(st.integers(0, 2**32 - 1).map(ip_address), max_size=30))
def test_whoever_has_left_leaves_nothing(addresses: list[Address]) -> None:
    half_open = HalfOpen(PLENTY, PLENTY, PLENTY)
    for address in addresses:
        half_open.enter(address)
    for address in addresses:
        half_open.leave(address)
    assert half_open.total == 0
    assert not half_open._by_prefix
    assert not half_open._by_source


def levels(drain: float = 1.0) -> Levels:
    return Levels(drain, bytes(16))


def test_a_level_rises_with_events_and_drains() -> None:
    gauge = levels(2.0)
    for _ in range(10):
        gauge.add(b"one", 100.0)
    assert gauge.of(b"one", 100.0) == 10
    assert gauge.of(b"one", 103.0) == 4
    assert gauge.of(b"one", 106.0) == 0
    assert gauge.of(b"other", 100.0) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 3)), max_size=60))
def test_no_source_is_ever_taken_for_calmer_than_it_is(events: list[tuple[int, float]]) -> None:
    gauge, now = levels(), 1000.0
    true = dict.fromkeys(range(6), 0.0)
    for source, pause in events:
        now += pause
        true = {name: max(0.0, level - pause) for name, level in true.items()}
        true[source] += 1
        gauge.add(bytes([source]), now)
        assert all(gauge.of(bytes([name]), now) >= level - 1e-6 for name, level in true.items())


def test_memory_stays_and_the_quiet_are_hardly_taken_for_loud() -> None:
    """A flood from 200 sources: of 1,000 others next to none is held to be among them."""
    gauge, random = levels(), Random(1)
    for _ in range(20_000):
        gauge.add(b"loud" + bytes([random.randrange(200)]), 1000.0)
    assert len(gauge._levels) == len(gauge._stamps) == ROWS * COLUMNS
    mistaken = sum(gauge.of(random.randbytes(4), 1000.0) >= 10 for _ in range(1000))
    assert mistaken <= 10


def test_who_was_loud_is_heard_again() -> None:
    gauge = levels(0.2)
    for second in range(100):
        gauge.add(b"loud", float(second))
    assert gauge.of(b"loud", 100.0) >= 70
    assert gauge.of(b"loud", 600.0) == 0


def test_the_bucket_gives_a_seconds_worth_then_its_rate() -> None:
    bucket = Bucket(2.0)
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(100.5) for _ in range(2)] == [True, False]
    assert [bucket.take(900.0) for _ in range(3)] == [True, True, False]
