"""Netlink framing: golden octets, round trips, noise."""

import struct
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.errors import ParseError
from oe.ipsec.netlink_wire import (
    NLMSG_ERROR,
    Message,
    NativeReader,
    attribute,
    decode_acknowledgement,
    decode_attributes,
    decode_messages,
    encode_message,
)

LITTLE = pytest.mark.skipif(sys.byteorder != "little", reason="golden octets of a little-endian machine")


@LITTLE
def test_golden_octets() -> None:
    assert encode_message(0x13, 0x604, 7, b"body").hex() == "14000000130005060700000000000000626f6479"
    assert attribute(5, b"abc").hex() == "0700050061626300"


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=40))))
def test_messages_come_back(parts: list[tuple[int, int, bytes]]) -> None:
    octets = b""
    for number, (kind, flags, body) in enumerate(parts):
        octets += encode_message(kind, flags, number, body) + bytes(-len(body) % 4)
    expected = [Message(kind, flags | 1, number, body) for number, (kind, flags, body) in enumerate(parts)]
    assert list(decode_messages(octets)) == expected


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=20)))
def test_attributes_come_back(attributes: dict[int, bytes]) -> None:
    octets = b"".join(attribute(kind, payload) for kind, payload in attributes.items())
    assert decode_attributes(NativeReader(octets, "test")) == attributes


def test_flags_in_the_type_are_not_the_type() -> None:
    assert decode_attributes(NativeReader(attribute(0x8005, b"x"), "test")) == {5: b"x"}


def test_native_numbers() -> None:
    reader = NativeReader(struct.pack("=HIQ", 1, 2, 3), "test")
    assert (reader.u16("a"), reader.u32("b"), reader.u64("c")) == (1, 2, 3)


@pytest.mark.parametrize("text", ["", "Requested AEAD algorithm not found"])
@pytest.mark.parametrize("capped", [True, False])
def test_acknowledgements_with_and_without_words(text: str, capped: bool) -> None:
    request = encode_message(0x10, 0, 1, b"a body of some words")
    echoed = request[:16] if capped else request
    body = struct.pack("=i", -38) + echoed + (attribute(1, text.encode() + b"\0") if text else b"")
    answer = decode_acknowledgement(Message(NLMSG_ERROR, 0x200 | (0x100 if capped else 0), 1, body))
    assert (answer.errno, answer.text) == (38, text)


@given(st.binary(max_size=100))
def test_noise_is_a_value_or_a_parse_error(octets: bytes) -> None:
    for decode in (
        lambda: list(decode_messages(octets)),
        lambda: decode_attributes(NativeReader(octets, "test")),
        lambda: decode_acknowledgement(Message(NLMSG_ERROR, octets[0] if octets else 0, 1, octets)),
    ):
        with suppress(ParseError):
            decode()
