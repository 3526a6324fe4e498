"""Which traffic selectors make a host pair."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.ike.child import CROSSED, Child, ChildTimer, before_end, exact_host, exact_pair, selectors, shortened
from oe.ike.registry import PayloadType
from oe.ike.states import CHILD_STEPS, ChildState, ChildStep
from oe.ike.ts_payload import TrafficSelector, TsPayload
from oe.model import HostPair
from oe.reasons import Reason
from tests.ike.children import HIGH, LOW, child

A, B, C = (ip_address(f"192.0.2.{n}") for n in (1, 2, 3))
A6 = ip_address("2001:db8::1")
WHOLE = TrafficSelector.of(A)
OF_THE_PACKET = TrafficSelector(6, 1234, 1234, A, A)


def ts(*parts: TrafficSelector) -> TsPayload:
    return TsPayload(PayloadType.TS_I, parts)


@pytest.mark.parametrize("parts", [(WHOLE,), (OF_THE_PACKET, WHOLE), (WHOLE, OF_THE_PACKET)])
def test_one_host_and_all_of_it(parts: tuple[TrafficSelector, ...]) -> None:
    assert exact_host(ts(*parts)) == A


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (OF_THE_PACKET,),
        (TrafficSelector(0, 0, 65535, A, B),),
        (TrafficSelector(0, 0, 65535, B, A),),
        (WHOLE, TrafficSelector.of(B)),
        (OF_THE_PACKET, TrafficSelector(0, 0, 65535, ip_address("0.0.0.0"), ip_address("255.255.255.255"))),
        (TrafficSelector(17, 0, 65535, A, A),),
        (TrafficSelector(0, 0, 1023, A, A),),
        (TrafficSelector(0, 65535, 0, A, A),),
    ],
)
def test_more_less_or_several_are_no_host(parts: tuple[TrafficSelector, ...]) -> None:
    assert exact_host(ts(*parts)) is None


def test_a_pair_needs_both_ends_of_one_family() -> None:
    assert exact_pair(ts(WHOLE), ts(TrafficSelector.of(B))) == HostPair(A, B)
    assert exact_pair(ts(WHOLE), ts(TrafficSelector.of(A6))) is None
    assert exact_pair(ts(WHOLE), ts()) is None
    assert exact_pair(ts(), ts(WHOLE)) is None


@pytest.mark.parametrize("pair", [HostPair(A, B), HostPair(A6, ip_address("2001:db8::2"))])
def test_selectors_mean_their_pair_seen_from_either_end(pair: HostPair) -> None:
    initiators, responders = selectors(pair, we_initiate=True)
    assert exact_pair(initiators, responders) == pair
    mirror = HostPair(pair.destination, pair.source)
    assert selectors(mirror, we_initiate=False) == (initiators, responders)


@given(st.binary(min_size=2, max_size=2))
def test_jitter_only_shortens_and_only_by_its_share(chance: bytes) -> None:
    assert 90.0 <= shortened(100.0, 0.1, lambda _: chance) <= 100.0


@pytest.mark.parametrize(
    ("lifetime", "margin", "age"),
    [(3600.0, 0.1, 3240.0), (20.0, 0.1, 16.0), (6.0, 0.1, 3.0), (100.0, 0.9, 50.0), (3600.0, 0.0, None)],
)
def test_a_rekey_comes_in_time_but_not_in_the_first_half(lifetime: float, margin: float, age: float | None) -> None:
    assert before_end(lifetime, margin) == age


# --- its life ---


@pytest.mark.parametrize("state", ChildState)
@pytest.mark.parametrize("step", ChildStep)
def test_a_step_is_taken_as_the_table_says_or_not_at_all(state: ChildState, step: ChildStep) -> None:
    one = child()
    one.state = state
    if (state, step) in CHILD_STEPS:
        one.advance(step)
        assert one.state is CHILD_STEPS[state, step][0]
    else:
        with pytest.raises(RuntimeError):
            one.advance(step)
        assert one.state is state


def test_it_is_in_use_until_another_took_its_place_or_is_about_to() -> None:
    one = child()
    seen = [one.is_in_use]
    one.advance(ChildStep.REKEY_SENT)
    seen.append(one.is_in_use)
    one.fate = Reason.REDUNDANT
    seen.append(one.is_in_use)
    one.fate = None
    one.advance(ChildStep.REKEYED)
    assert [*seen, one.is_in_use] == [True, True, False, False]


def test_a_timer_is_due_when_its_time_has_come() -> None:
    one = child(ends=5.0)
    assert not one.is_due(ChildTimer.END, 4.9)
    assert one.is_due(ChildTimer.END, 5.0)
    assert not one.is_due(ChildTimer.REKEY, 1e9)


# --- which of two goes ---


def seen_from_the_other_end(one: Child) -> Child:
    """Its nonces are the same, who began it is not, and each message travels."""
    begun = one.origin.begun + (0.1 if one.origin.we_initiated else -0.1)
    made = None if one.made is None else one.made - 0.1 if one.origin.we_initiated else one.made + 0.1
    return child(one.sa.id, ours=not one.origin.we_initiated, nonces=one.origin.nonces, begun=begun, made=made)


@given(
    st.lists(st.binary(min_size=16, max_size=34), min_size=4, max_size=4, unique=True),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 1.0, 4.0, 6.0, 100.0]),
)
def test_both_ends_say_the_same(nonces: list[bytes], ours: bool, others: bool, later: float) -> None:
    one = child(1, ours=ours, nonces=(nonces[0], nonces[1]), made=0.5)
    other = child(2, ours=others, nonces=(nonces[2], nonces[3]), begun=later, made=later + 0.5)
    assert one.yields_to(other) is not other.yields_to(one)
    mirrored = seen_from_the_other_end(one), seen_from_the_other_end(other)
    assert mirrored[0].yields_to(mirrored[1]) is one.yields_to(other)


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("nonces", [(LOW, HIGH), (HIGH, LOW)])
def test_the_lowest_of_four_nonces_goes_where_they_crossed(ours: bool, nonces: tuple[bytes, bytes]) -> None:
    one, other = child(1, ours=ours, nonces=nonces), child(2, ours=not ours, nonces=(HIGH, b"\x02" * 32), begun=0.05)
    assert one.yields_to(other)
    assert not other.yields_to(one)


def test_lowest_is_by_octets_and_not_by_number() -> None:
    short, long = child(1, nonces=(b"\x02" * 16, HIGH)), child(2, nonces=(b"\x01" + b"\xff" * 33, HIGH))
    assert long.yields_to(short)
    start = child(3, nonces=(b"\x02" * 16, HIGH)), child(4, nonces=(b"\x02" * 17, HIGH))
    assert start[0].yields_to(start[1])


@pytest.mark.parametrize("ours", [True, False])
def test_the_older_goes_where_the_second_came_long_after(ours: bool) -> None:
    old = child(1, ours=ours, nonces=(HIGH, HIGH), made=1.0)
    young = child(2, ours=not ours, nonces=(LOW, LOW), begun=1.0 + CROSSED, made=None)
    assert old.yields_to(young)
