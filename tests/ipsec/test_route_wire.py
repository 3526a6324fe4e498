"""Rules and routes; that the kernel reads them as meant is shown in test_shield.py."""

import sys
from contextlib import suppress
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.errors import ParseError
from oe.ipsec.netlink_wire import attribute
from oe.ipsec.route_wire import (
    DefaultRoute,
    Rule,
    decode_address,
    decode_rule,
    encode_address,
    encode_route,
    encode_rule,
    encode_rule_query,
)
from tests.ipsec.children import OURS6

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="golden octets of a little-endian machine")


@given(st.builds(Rule, st.sampled_from([2, 10]), *[st.integers(0, (1 << 32) - 1)] * 3))
def test_rules_come_back(rule: Rule) -> None:
    assert decode_rule(encode_rule(rule)) == rule


def test_golden_rule() -> None:
    assert encode_rule(Rule(2, 111, 0x20000, 28517)).hex() == (
        "02000000" "fc000001" "00000000"
        "08000600" "6f000000"
        "08000a00" "00000200"
        "08001000" "00000200"
        "08000f00" "656f0000"
        "05001500" "6f000000"
    )  # fmt: skip


def test_golden_routes() -> None:
    through = encode_route(DefaultRoute(10, 28517, 3, 1)).hex()
    assert through == "0a000000fc6ffd0100000000" + "08000f00656f0000" + "0800060001000000" + "0800040003000000"
    nowhere = encode_route(DefaultRoute(2, 28517, None, 0xFFFFFFFF)).hex()
    assert nowhere == "02000000fc6f000600000000" + "08000f00656f0000" + "08000600ffffffff"


def test_golden_address() -> None:
    assert encode_address(3, IPv4Address("192.0.0.8")).hex() == "022000fe03000000" + "08000200c0000008"


def test_foreign_rules_are_passed_over() -> None:
    ours = encode_rule(Rule(2, 111, 0x20000, 28517))
    assert decode_rule(ours[:-4] + b"\x02\0\0\0") is None
    assert decode_rule(encode_rule_query(2)) is None


@given(st.binary(max_size=80))
def test_noise_is_a_value_or_a_parse_error(octets: bytes) -> None:
    with suppress(ParseError):
        decode_rule(octets)


def shown(family: int, scope: int, flags: int, *attributes: bytes) -> bytes:
    """An address as the kernel tells it."""
    return bytes([family, 24, flags, scope]) + bytes(4) + b"".join(attributes)


def test_addresses_that_packets_to_the_world_come_from() -> None:
    own, peer = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
    assert decode_address(shown(2, 0, 0, attribute(1, peer.packed), attribute(2, own.packed))) == own
    assert decode_address(shown(10, 0, 0, attribute(1, OURS6.packed))) == OURS6
    assert decode_address(shown(2, 254, 0, attribute(2, own.packed))) is None
    assert decode_address(shown(2, 0, 0x20, attribute(2, own.packed))) is None
    assert decode_address(shown(10, 0, 0, attribute(1, OURS6.packed), attribute(8, b"\x40\0\0\0"))) is None
    assert decode_address(shown(2, 0, 0, attribute(2, bytes([127, 0, 0, 1])))) is None
    with pytest.raises(ParseError):
        decode_address(shown(2, 0, 0, attribute(2, OURS6.packed)))
