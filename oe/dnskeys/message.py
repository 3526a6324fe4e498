"""DNS messages (RFC 1035 4, EDNS RFC 6891): the query we send and what we read of a response.

A response is read without the meaning of its records: owner, type, TTL and rdata. So one malformed record never
spoils the others, and an answer that nobody needs costs little.
"""

from dataclasses import dataclass
from enum import IntEnum

from oe.dnskeys.names import MAX_LABEL, MAX_NAME, Name
from oe.errors import ParseError
from oe.wire import Reader, Writer

UDP_PAYLOAD = 1232
"""Largest UDP response we ask for: fits every path without fragments."""
MAX_RECORDS = 256
"""Records read of one response; no honest owner has as many."""
MAX_NAME_STEPS = 160
"""Labels and compression pointers followed for one name: 127 labels fill a name, the rest is for pointers."""

CLASS_IN = 1

_QR = 0x8000
_OPCODE = 0x7800
_TC = 0x0200
_RD = 0x0100
_AD = 0x0020
_CD = 0x0010
_EDNS_DO = 0x8000


class Type(IntEnum):
    """Record types that the lookup asks for or reads."""

    CNAME = 5
    SOA = 6
    TXT = 16
    DNAME = 39
    OPT = 41
    IPSECKEY = 45


class Rcode(IntEnum):
    """Response codes that mean something to the lookup; every other one is a refusal."""

    NOERROR = 0
    SERVFAIL = 2
    NXDOMAIN = 3


@dataclass(frozen=True, slots=True)
class Question:
    """A name and a record type; the class is always IN."""

    name: Name
    type: int


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record of class IN."""

    owner: Name
    type: int
    ttl: int
    """Seconds; a value with the top bit set counts as 0 (RFC 2181 8)."""
    rdata: bytes
    target: Name | None
    """Where a CNAME or DNAME points to; None for every other type."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a server said. `rcode` includes the upper bits from the OPT record."""

    id: int
    question: Question
    rcode: int
    authenticated: bool
    """AD: the server claims to have validated everything in it (RFC 4035 3.2.3)."""
    truncated: bool
    """TC: ask again over TCP; the records were not read."""
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()


def encode_query(message_id: int, question: Question, *, checking_disabled: bool) -> bytes:
    """A recursive query with RD, AD and EDNS DO set: answer, and tell us whether it is validated (RFC 6840 5.7).

    With `checking_disabled` (CD) a validating server hands out even what it found bogus.
    """
    out = Writer()
    out.u16(message_id).u16(_RD | _AD | (_CD if checking_disabled else 0)).u16(1).u16(0).u16(0).u16(1)
    for label in question.name:
        out.u8(len(label)).put(label)
    out.u8(0).u16(question.type).u16(CLASS_IN)
    out.u8(0).u16(Type.OPT).u16(UDP_PAYLOAD).u32(_EDNS_DO).u16(0)
    return out.octets()


def decode_response(data: bytes) -> Response:
    """Read a response. Raises ParseError on anything that is not one well-formed response to one question."""
    reader = Reader(data, "DNS message")
    message_id, flags = reader.u16("id"), reader.u16("flags")
    if not flags & _QR or flags & _OPCODE:
        raise ParseError("DNS message", f"flags {flags:#06x} are not those of an answer to a query")
    questions, *counts = (reader.u16("section count") for _ in range(4))
    if questions != 1:
        raise ParseError("DNS message", f"{questions} questions instead of 1")
    question = Question(_read_name(data, reader, reader.offset), reader.u16("question type"))
    if reader.u16("question class") != CLASS_IN:
        raise ParseError("DNS message", "question is not of class IN")
    rcode, authenticated = flags & 0xF, bool(flags & _AD)
    if flags & _TC:
        return Response(message_id, question, rcode, authenticated, truncated=True)
    if sum(counts) > MAX_RECORDS:
        raise ParseError("DNS message", f"{sum(counts)} records; at most {MAX_RECORDS} are read")
    answers, authority, additional = (_read_section(data, reader, count) for count in counts)
    for record in additional:
        if record.type == Type.OPT:
            rcode |= record.ttl >> 24 << 4
    return Response(message_id, question, rcode, authenticated, False, answers, authority)


def _read_section(data: bytes, reader: Reader, count: int) -> tuple[Record, ...]:
    """The next `count` records, without those of foreign classes (OPT uses that field otherwise)."""
    records = []
    for _ in range(count):
        owner = _read_name(data, reader, reader.offset)
        kind, class_, ttl = reader.u16("type"), reader.u16("class"), reader.u32("TTL")
        length = reader.u16("rdata length")
        start = reader.offset
        rdata = reader.take(length, "rdata")
        if kind == Type.OPT:
            records.append(Record(owner, kind, ttl, rdata, None))
        elif class_ == CLASS_IN:
            is_alias = kind in (Type.CNAME, Type.DNAME)
            target = _read_name(data, Reader(rdata, "alias target"), start) if is_alias else None
            records.append(Record(owner, kind, 0 if ttl >> 31 else ttl, rdata, target))
    return tuple(records)


def _read_name(data: bytes, reader: Reader, start: int) -> Name:
    """The name at the cursor, which is octet `start` of the message, in lower case.

    A compression pointer (RFC 1035 4.1.4) must lead to before the part it stands in: so no loop is possible.
    """
    labels: list[bytes] = []
    room = MAX_NAME - 1
    for _ in range(MAX_NAME_STEPS):
        length = reader.u8("label length")
        if length == 0:
            return tuple(labels)
        if length <= MAX_LABEL:
            labels.append(reader.take(length, "label").lower())
            room -= length + 1
            if room < 0:
                raise ParseError("name", f"longer than {MAX_NAME} octets")
        elif length >= 0xC0:
            target = (length & 0x3F) << 8 | reader.u8("compression pointer")
            if target >= start:
                raise ParseError("name", f"pointer at {start} leads forward to {target}")
            start, reader = target, Reader(memoryview(data)[target:], "name")
        else:
            raise ParseError("name", f"label type {length >> 6}")
    raise ParseError("name", f"more than {MAX_NAME_STEPS} labels and pointers")
