"""Which traffic selectors make a host pair."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.ike.child import exact_host, exact_pair, selectors, shortened
from oe.ike.registry import PayloadType
from oe.ike.ts_payload import TrafficSelector, TsPayload
from oe.model import HostPair

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
