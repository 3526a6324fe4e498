"""Octets of nf_tables netlink messages: elements for decisions, the queue rule, counters. Pure.

The `nft` program reads back the whole table before it adds one element; these messages say the same in microseconds.
Numbers of nfnetlink and nf_tables attributes are big endian, the netlink framing around them is in host order
(RFC 3549 2.3).
"""

import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from oe.errors import ParseError
from oe.model import HostPair
from oe.wire import Reader

TABLE = "oe"
FAMILY_INET = 1

REQUEST, ACK, ROOT_MATCH = 0x1, 0x4, 0x300
CREATE, APPEND = 0x400, 0x800

_NFTABLES = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE, _NEW_ELEMENT, _DELETE_ELEMENT, _GET_OBJECT = 0, 3, 6, 12, 14, 19
_GET_TABLE, _NEW_GENERATION = 1, 15
_NOT_ABOUT_TABLES = frozenset({_NEW_GENERATION})
_ERROR, _DONE = 2, 3

_COUNTER_OBJECT = 1
_XT_QUEUE_REVISION = 3

_HEADER = struct.Struct("=IHHII")
_PORT = 4
"""Where `_HEADER` has the netlink address of who sent the message, or whose change a notification tells of."""
_ATTRIBUTE = struct.Struct("=HH")
_TIMEOUT = struct.Struct("=HH8s")
_NESTED, _TYPE_MASK = 0x8000, 0x3FFF


@dataclass(frozen=True, slots=True)
class Counter:
    packets: int
    octets: int


# --- writing ---------------------------------------------------------------------------------------------------


def _attribute(kind: int, payload: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _nest(kind: int, *attributes: bytes) -> bytes:
    return _attribute(kind | _NESTED, b"".join(attributes))


def _text(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _number(kind: int, value: int, octets: int = 4) -> bytes:
    return _attribute(kind, value.to_bytes(octets, "big"))


def _message(
    kind: int, flags: int, body: bytes = b"", *, family: int = FAMILY_INET, subsystem: int = _NFTABLES
) -> bytes:
    """A netlink message with its nfgenmsg (family, version 0, resource). Batch brackets name the subsystem there."""
    bracket = kind in (_BATCH_BEGIN, _BATCH_END) and subsystem == 0
    general = struct.pack(">BBH", 0 if bracket else family, 0, _NFTABLES if bracket else 0)
    header = _HEADER.pack(
        _HEADER.size + len(general) + len(body), kind if bracket else subsystem << 8 | kind, REQUEST | flags, 0, 0
    )
    return header + general + body


_BEGIN = _message(_BATCH_BEGIN, 0, subsystem=0)
_END = _message(_BATCH_END, 0, subsystem=0)


def transaction(*messages: bytes) -> bytes:
    """One batch: the kernel does all of `messages` or none."""
    return b"".join((_BEGIN, *messages, _END))


def trial(*messages: bytes) -> bytes:
    """A batch without its end: the kernel looks at every message, reports, and then takes all of it back."""
    return b"".join((_BEGIN, *messages))


def add_table(table: str) -> bytes:
    return _message(_NEW_TABLE, CREATE | ACK, _text(1, table))


def add_chain(table: str, chain: str) -> bytes:
    return _message(_NEW_CHAIN, CREATE | ACK, _text(1, table) + _text(3, chain))


def add_queue_target(table: str, chain: str, queue: int, *, bypass: bool) -> bytes:
    """Append a rule with the xtables target NFQUEUE, which does what the `queue` expression does.

    For kernels that have xt_NFQUEUE and nft_compat but no nft_queue; `nft` itself cannot write this rule.
    """
    info = struct.pack("=HHH2x", queue, 1, int(bypass))  # xt_NFQ_info_v3: first queue, how many, flags
    target = _nest(2, _text(1, "NFQUEUE"), _number(2, _XT_QUEUE_REVISION), _attribute(3, info))
    expressions = _nest(4, _nest(1, _text(1, "target"), target))
    return _message(_NEW_RULE, CREATE | APPEND | ACK, _text(1, table) + _text(2, chain) + expressions)


@lru_cache
def _element_head(kind: int, flags: int, name: str, version: int) -> bytes:
    """Everything before the key in a message about one pair in set `name`; it is the same for all pairs.

    Concatenated keys are padded to 4 octets, as addresses are.
    """
    key = _nest(1, _attribute(1, bytes(8 if version == 4 else 32)))
    rest = key + _TIMEOUT.pack(12, 4, bytes(8)) if kind == _NEW_ELEMENT else key
    elements = _nest(3, _nest(1, rest))
    whole = _message(kind, flags, _text(1, TABLE) + _text(2, f"{name}{version}") + elements)
    return whole[: -len(rest) + 8]


def decide_pair(pair: HostPair, sets: Iterable[str], chosen: str | None, lifetime: float) -> bytes:
    """A transaction after which `pair` is in set `chosen` for `lifetime` seconds, and in no other of `sets`.

    Deleting what is not there fails, and a failed transaction costs the kernel a grace period: 18 ms where a good
    one takes microseconds. Adding what is there succeeds and changes nothing. So the pair is added to every set and
    then deleted from it, and is in none, wherever it was.
    """
    key = pair.source.packed + pair.destination.packed
    timeout = _TIMEOUT.pack(12, 4, max(1, round(lifetime * 1000)).to_bytes(8, "big"))
    version = pair.destination.version
    parts = [_BEGIN]
    for name in sets:
        parts += _element_head(_NEW_ELEMENT, CREATE, name, version), key, timeout
        parts += _element_head(_DELETE_ELEMENT, 0, name, version), key
    if chosen is not None:
        parts += _element_head(_NEW_ELEMENT, CREATE | ACK, chosen, version), key, timeout
    parts.append(_END)
    return b"".join(parts)


def dump_counters() -> bytes:
    """Ask for every named counter of the table."""
    return _message(_GET_OBJECT, ROOT_MATCH, _text(1, TABLE) + _number(3, _COUNTER_OBJECT))


# --- reading ---------------------------------------------------------------------------------------------------


def _native(reader: Reader, octets: int, what: str) -> int:
    return int.from_bytes(reader.take(octets, what), sys.byteorder)


def _messages(octets: bytes) -> list[tuple[int, Reader]]:
    """Type and body of each netlink message in a datagram."""
    reader = Reader(octets, "netlink datagram")
    found = []
    while reader.remaining:
        length, kind = _native(reader, 4, "length"), _native(reader, 2, "type")
        reader.take(10, "flags, sequence, port")
        body = reader.window(length - _HEADER.size, "netlink message")
        reader.take(min(-length % 4, reader.remaining), "padding")
        found.append((kind, body))
    return found


def _attributes(reader: Reader) -> dict[int, bytes]:
    found = {}
    while reader.remaining:
        length, kind = _native(reader, 2, "attribute length"), _native(reader, 2, "attribute type")
        found[kind & _TYPE_MASK] = reader.take(length - _ATTRIBUTE.size, "attribute")
        reader.take(min(-length % 4, reader.remaining), "attribute padding")
    return found


def errors(octets: bytes) -> list[int]:
    """The errno of each acknowledgement in a datagram from the kernel, 0 for success. `ParseError` if malformed."""
    return [
        -int.from_bytes(body.take(4, "error"), sys.byteorder, signed=True)
        for kind, body in _messages(octets)
        if kind == _ERROR
    ]


def touches(octets: bytes, table: str = TABLE) -> bool:
    """Whether a notification tells of a change to `table` or anything in it. `ParseError` if malformed.

    In all of them, be they about table, chain, rule, set, elements or object, the table's name is the first attribute.
    """
    for kind, body in _messages(octets):
        if kind >> 8 != _NFTABLES or kind & 0xFF in _NOT_ABOUT_TABLES:
            continue
        family = body.take(1, "family")[0]
        body.take(3, "version, resource")
        if family == FAMILY_INET and _attributes(body).get(1) == table.encode() + b"\0":
            return True
    return False


def author(octets: bytes) -> int:
    """The netlink address that a change was sent from of which a datagram tells: a transaction, or a part of one.

    `ParseError` if malformed.
    """
    return int(_HEADER.unpack(Reader(octets, "netlink datagram").take(_HEADER.size, "header"))[_PORT])


def get_table(table: str = TABLE) -> bytes:
    """Ask for a table; the answer is an error if there is none."""
    return _message(_GET_TABLE, ACK, _text(1, table))


def counters(octets: bytes) -> tuple[dict[str, Counter], bool]:
    """Counters in one datagram of a dump, and whether it was the last. `ParseError` if malformed."""
    found: dict[str, Counter] = {}
    for kind, body in _messages(octets):
        if kind in (_DONE, _ERROR):
            return found, True
        body.take(4, "nfgenmsg")
        fields = _attributes(body)
        values = _attributes(Reader(fields.get(4, b""), "counter"))
        try:
            name = fields[2].rstrip(b"\0").decode("ascii")
        except (KeyError, UnicodeDecodeError) as fault:
            raise ParseError("counter", "no readable name") from fault
        found[name] = Counter(int.from_bytes(values.get(2, b""), "big"), int.from_bytes(values.get(1, b""), "big"))
    return found, False
