from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.errors import ParseError
from oe.ike.registry import PayloadType
from oe.ike.ts_payload import TrafficSelector, TsPayload
from oe.wire import Reader
from tests.ike.strategies import ts_payloads

HOST_V4 = bytes.fromhex("07000010 0000ffff c0000201 c0000201")


def decode(octets: bytes) -> TsPayload:
    return TsPayload.decode(Reader(octets, "test"), PayloadType.TS_I)


@given(ts_payloads)
def test_what_was_encoded_decodes_to_the_same(payload: TsPayload) -> None:
    assert TsPayload.decode(Reader(payload.body(), "test"), payload.type) == payload


@given(st.binary(max_size=120))
def test_garbage_is_a_value_or_a_parse_error(octets: bytes) -> None:
    try:
        decode(octets)
    except ParseError:
        return


@pytest.mark.parametrize("text", ["192.0.2.1", "2001:db8::1"])
def test_a_host_covers_itself_and_nobody_else(text: str) -> None:
    selector = TrafficSelector.of(ip_address(text))
    assert selector.covers(ip_address(text))
    assert not selector.covers(ip_address(text) + 1)
    assert decode(TsPayload(PayloadType.TS_I, (selector,)).body()).selectors == (selector,)


def test_families_do_not_cover_each_other() -> None:
    everything = TrafficSelector(0, 0, 65535, ip_address("0.0.0.0"), ip_address("255.255.255.255"))
    assert everything.covers(ip_address("192.0.2.1"))
    assert not everything.covers(ip_address("::c000:201"))


@pytest.mark.parametrize(("protocol", "first", "last"), [(6, 0, 65535), (0, 443, 443), (0, 65535, 0)])
def test_part_of_an_address_traffic_does_not_cover_it(protocol: int, first: int, last: int) -> None:
    host = ip_address("192.0.2.1")
    assert not TrafficSelector(protocol, first, last, host, host).covers(host)


def test_octets_of_a_known_selector() -> None:
    selector = TrafficSelector.of(ip_address("192.0.2.1"))
    assert selector.encode() == HOST_V4
    assert str(selector) == "192.0.2.1 proto 0 ports 0-65535"


def test_selectors_of_unknown_type_are_left_out() -> None:
    unknown = bytes.fromhex("09000008 00000000")
    assert len(decode(b"\2\0\0\0" + unknown + HOST_V4).selectors) == 1
    assert decode(b"\1\0\0\0" + unknown).selectors == ()


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (b"", "number of selectors"),
        (b"\0\0\0\0", "0 selectors"),
        (b"\xff\0\0\0" + HOST_V4 * 255, "255 selectors"),
        (b"\2\0\0\0" + HOST_V4, "traffic selector"),
        (b"\1\0\0\0" + HOST_V4 + b"\0", "left over"),
        (b"\1\0\0\0" + bytes.fromhex("07000007 0000ffff c0000201 c0000201"), "need -1"),
        (b"\1\0\0\0" + bytes.fromhex("08000010 0000ffff c0000201 c0000201"), "first address"),
        (b"\1\0\0\0" + bytes.fromhex("07000011 0000ffff c0000201 c000020100"), "left over"),
    ],
)
def test_what_disagrees_with_itself_is_a_parse_error(octets: bytes, what: str) -> None:
    with pytest.raises(ParseError, match=what):
        decode(octets)
