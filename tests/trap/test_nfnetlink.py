import struct
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.errors import ParseError
from oe.trap import nfnetlink
from oe.trap.nfnetlink import Counter
from tests.trap.netns import pair

little_endian = pytest.mark.skipif(sys.byteorder == "big", reason="golden octets of a little-endian machine")

V4 = pair("10.0.0.1", "192.0.2.7")
V6 = pair("fd00::1", "2001:db8::7")

BEGIN = "14000000 1000 0100 00000000 00000000 00 00 000a"
END = "14000000 1100 0100 00000000 00000000 00 00 000a"
NAMES_PASSED4 = "0700 0100 6f650000  0c00 0200 70617373656434 00"
KEY_V4 = "1000 0180  0c00 0100 0a000001 c0000207"


def octets(*lines: str) -> bytes:
    return bytes.fromhex("".join(lines))


@little_endian
def test_a_decision_takes_the_pair_out_of_every_set_and_puts_it_into_one() -> None:
    passed = nfnetlink.decide_pair(V4, ["passed"], "passed", 2.5)
    assert passed == octets(
        BEGIN,
        "4c000000 0c0a 0104 00000000 00000000 01 00 0000",  # NEWSETELEM, REQUEST | CREATE
        NAMES_PASSED4,
        "2400 0380  2000 0180",
        KEY_V4,
        "0c00 0400 00000000000009c4",  # 2500 ms
        "40000000 0e0a 0100 00000000 00000000 01 00 0000",  # DELSETELEM
        NAMES_PASSED4,
        "1800 0380  1400 0180",
        KEY_V4,
        "4c000000 0c0a 0504 00000000 00000000 01 00 0000",  # NEWSETELEM, with ACK
        NAMES_PASSED4,
        "2400 0380  2000 0180",
        KEY_V4,
        "0c00 0400 00000000000009c4",
        END,
    )


@little_endian
def test_no_decision_only_takes_out() -> None:
    batch = nfnetlink.decide_pair(V6, ["passed", "denied"], None, 1)
    key = "2800 0180  2400 0100 fd000000000000000000000000000001 20010db8000000000000000000000007"
    assert batch.count(octets(key)) == 4
    assert batch.count(b"passed6\0") == batch.count(b"denied6\0") == 2
    assert batch.startswith(octets(BEGIN))
    assert batch.endswith(octets(END))


def test_a_lifetime_is_never_rounded_down_to_for_ever() -> None:
    batch = nfnetlink.decide_pair(V4, [], "passed", 0.0)
    assert batch[: -len(octets(END))].endswith((1).to_bytes(8, "big"))


@little_endian
def test_the_queue_target_is_an_xtables_target_of_revision_3() -> None:
    rule = nfnetlink.add_queue_target("oe", "queue-open", 42, bypass=True)
    assert rule == octets(
        "64000000 060a 050c 00000000 00000000 01 00 0000",  # NEWRULE, REQUEST | ACK | CREATE | APPEND
        "0700 0100 6f650000  0f00 0200 71756575652d6f70656e0000",
        "3800 0480  3400 0180",
        "0b00 0100 7461726765740000",  # "target"
        "2400 0280  0c00 0100 4e46515545554500  0800 0200 00000003",  # "NFQUEUE", revision
        "0c00 0300 2a00 0100 0100 0000",  # queue 42, one queue, bypass
    )


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def counter(name: str, packets: int, size: int) -> bytes:
    values = attribute(1, size.to_bytes(8, "big")) + attribute(2, packets.to_bytes(8, "big"))
    body = bytes(4) + attribute(1, b"oe\0") + attribute(2, name.encode() + b"\0") + attribute(0x8004, values)
    return message(0x0A12, body)


DONE = message(3, bytes(4))


def test_errors_of_a_datagram_in_order() -> None:
    answers = b"".join(message(2, struct.pack("=i", -number) + bytes(16)) for number in (0, 17, 2))
    assert nfnetlink.errors(answers) == [0, 17, 2]
    assert nfnetlink.errors(DONE) == []


def test_counters_of_a_dump() -> None:
    first = counter("refused", 3, 300) + counter("to-block", 1 << 40, 1 << 50)
    assert nfnetlink.counters(first) == ({"refused": Counter(3, 300), "to-block": Counter(1 << 40, 1 << 50)}, False)
    assert nfnetlink.counters(DONE) == ({}, True)
    assert nfnetlink.counters(message(2, struct.pack("=i", -2) + bytes(16))) == ({}, True)


@pytest.mark.parametrize(
    "datagram",
    [
        b"\x01",
        message(0x0A12, b""),
        message(0x0A12, bytes(4)),
        counter("x", 1, 1)[:-3],
        struct.pack("=IHHII", 3, 2, 0, 0, 0),
    ],
)
def test_malformed_answers_are_parse_errors(datagram: bytes) -> None:
    with pytest.raises(ParseError):
        nfnetlink.counters(datagram)


@given(st.binary(max_size=80) | st.builds(message, st.integers(0, 0xFFFF), st.binary(max_size=60)))
def test_any_answer_is_read_or_refused(datagram: bytes) -> None:
    with suppress(ParseError):
        nfnetlink.counters(datagram)
    with suppress(ParseError):
        nfnetlink.errors(datagram)


def test_every_change_of_our_table_is_about_it_and_others_are_not() -> None:
    change = nfnetlink.transaction(nfnetlink.add_chain("oe", "chain"))
    assert nfnetlink.touches(change)
    assert nfnetlink.touches(nfnetlink.add_table("oe"))
    assert not nfnetlink.touches(nfnetlink.add_table("oe-guard"))
    assert not nfnetlink.touches(nfnetlink.transaction())


def test_a_change_has_an_author() -> None:
    assert nfnetlink.author(struct.pack("=IHHII", 20, 0x0A00, 0, 7, 4711) + bytes(4)) == 4711


@given(st.binary(max_size=200))
def test_notifications_of_noise_are_a_value_or_a_parse_error(octets: bytes) -> None:
    for read in (nfnetlink.author, nfnetlink.touches):
        with suppress(ParseError):
            read(octets)
