"""Our DNS messages against dnspython's, and against octets of no good will."""

from contextlib import suppress
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.dnskeys.message import MAX_RECORDS, Question, Record, Response, Type, decode_response, encode_query
from oe.dnskeys.names import reverse_labels
from oe.errors import ParseError
from tests.dnskeys.replies import SOA, ipseckey, question, reply

OWNER = ip_address("192.0.2.1")
NAME = "1.2.0.192.in-addr.arpa."
ASKED = question(OWNER)
QUERY = encode_query(0x1234, ASKED, checking_disabled=False)
HEADER = b"\x12\x34\x81\x80\x00\x01"
"""Id, QR RD RA, one question; the counts of the other sections follow."""
TAIL = QUERY[12:-11]
"""The question as it stands behind the header."""


def with_records(*records: bytes) -> bytes:
    return HEADER + len(records).to_bytes(2, "big") + bytes(4) + TAIL + b"".join(records)


@pytest.mark.parametrize("checking_disabled", [False, True])
def test_queries_are_what_dnspython_reads(checking_disabled: bool) -> None:
    query = dns.message.from_wire(encode_query(7, ASKED, checking_disabled=checking_disabled))
    (asked,) = query.question
    assert (query.id, str(asked.name), asked.rdtype) == (7, NAME, dns.rdatatype.IPSECKEY)
    assert bool(query.flags & dns.flags.CD) is checking_disabled
    assert query.flags & (dns.flags.RD | dns.flags.AD) == dns.flags.RD | dns.flags.AD
    assert (query.edns, query.payload, query.ednsflags) == (0, 1232, dns.flags.DO)


def test_an_answer() -> None:
    response = decode_response(reply(QUERY, [ipseckey(NAME, ttl=77)], [SOA], ad=True))
    assert (response.id, response.question) == (0x1234, ASKED)
    assert (response.rcode, response.authenticated, response.truncated) == (0, True, False)
    (record,) = response.answers
    assert (record.owner, record.type, record.ttl, record.target) == (reverse_labels(OWNER), 45, 77, None)
    assert [record.type for record in response.authority] == [Type.SOA]


def test_aliases_are_read_with_their_targets() -> None:
    lines = [f"{NAME} 60 IN CNAME 1.0-31.2.0.192.in-addr.arpa.", "a.example. 60 IN DNAME B.Example.NET."]
    response = decode_response(reply(QUERY, lines))
    targets = [record.target for record in response.answers]
    assert targets == [
        (b"1", b"0-31", b"2", b"0", b"192", b"in-addr", b"arpa"),
        (b"b", b"example", b"net"),
    ]


def test_truncated_says_no_more_than_that() -> None:
    response = decode_response(reply(QUERY, [ipseckey(NAME)], tc=True)[:-30])
    assert (response.truncated, response.answers) == (True, ())


def test_the_upper_bits_of_the_response_code_count() -> None:
    opt = b"\x00\x00\x29\x04\xd0\x01\x00\x00\x00\x00\x00"
    assert decode_response(HEADER + bytes(5) + b"\x01" + TAIL + opt).rcode == 16


def test_a_ttl_with_the_top_bit_is_0() -> None:
    record = b"\xc0\x0c\x00\x2d\x00\x01\x80\x00\x00\x01\x00\x00"
    assert decode_response(with_records(record)).answers[0].ttl == 0


def test_records_of_other_classes_are_passed_over() -> None:
    record = b"\xc0\x0c\x00\x2d\x00\x03\x00\x00\x00\x01\x00\x00"
    assert decode_response(with_records(record)).answers == ()


def test_a_malformed_record_spoils_no_other() -> None:
    broken = b"\xc0\x0c\x00\x2d\x00\x01\x00\x00\x00\x09\x00\x01\xff"
    good = b"\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x09\x00\x02\x01a"
    answers = decode_response(with_records(broken, good)).answers
    assert answers == (
        Record(ASKED.name, Type.IPSECKEY, 9, b"\xff", None),
        Record(ASKED.name, Type.TXT, 9, b"\x01a", None),
    )


@pytest.mark.parametrize(
    "name",
    [
        b"\xc0\xff",  # beyond the end
        b"\xc0" + bytes([12 + len(TAIL)]),  # at itself
        b"\x01a\xc0" + bytes([12 + len(TAIL)]),  # at its own beginning
        b"\x40",
        b"\x80",
        b"\x3fa",
        (b"\x3f" + b"a" * 63) * 4 + b"\x00",
        b"\x01a" * 128 + b"\x00",
    ],
)
def test_malformed_names(name: bytes) -> None:
    with pytest.raises(ParseError):
        decode_response(with_records(name + b"\x00\x2d\x00\x01\x00\x00\x00\x09\x00\x00"))


def test_a_long_run_of_pointers_ends() -> None:
    """Each leads to the one before: legal in letter, but nobody's way to write a name."""
    start = 12 + len(TAIL) + 11
    pointers = b"\xc0\x0c" + b"".join((0xC000 | start + 2 * n).to_bytes(2, "big") for n in range(300))
    carrier = b"\x00\x00\x10\x00\x01\x00\x00\x00\x09" + len(pointers).to_bytes(2, "big") + pointers
    last = (0xC000 | start + 2 * 299).to_bytes(2, "big") + b"\x00\x10\x00\x01\x00\x00\x00\x09\x00\x00"
    with pytest.raises(ParseError, match="more than"):
        decode_response(with_records(carrier, last))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEADER,
        QUERY,  # not a response
        b"\x12\x34\xa1\x80" + HEADER[4:] + bytes(6) + TAIL,  # another opcode
        b"\x12\x34\x81\x80\x00\x00" + bytes(6),  # no question
        b"\x12\x34\x81\x80\x00\x02" + bytes(6) + TAIL + TAIL,
        HEADER + bytes(6) + TAIL[:-1] + b"\x03",  # class CH
        HEADER + (MAX_RECORDS + 1).to_bytes(2, "big") + bytes(4) + TAIL,
        HEADER + b"\x00\x01" + bytes(4) + TAIL,  # fewer records than said
    ],
)
def test_what_is_no_response(data: bytes) -> None:
    with pytest.raises(ParseError):
        decode_response(data)


@given(st.binary(max_size=300))
def test_any_octets_give_a_response_or_a_parse_error(data: bytes) -> None:
    for octets in (data, HEADER + data, HEADER + b"\x00\x02\x00\x01\x00\x00" + TAIL + data):
        with suppress(ParseError):
            assert isinstance(decode_response(octets), Response)


@given(st.data())
def test_a_changed_answer_gives_a_response_or_a_parse_error(data: st.DataObject) -> None:
    octets = bytearray(reply(QUERY, [ipseckey(NAME), f"{NAME} 60 IN CNAME a.example."], [SOA]))
    for _ in range(data.draw(st.integers(1, 6))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ParseError):
        assert isinstance(decode_response(bytes(octets)), Response)


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=10), st.integers(0, 0xFFFF))
def test_a_question_comes_back_as_it_went(labels: list[bytes], kind: int) -> None:
    asked = Question(tuple(label.lower() for label in labels), kind)
    query = encode_query(1, asked, checking_disabled=False)
    response = b"\x00\x01\x81\x80" + query[4:10] + b"\x00\x00" + query[12:]
    assert decode_response(response).question == asked
