"""Octets of nf_tables netlink messages: decisions, the rules that `nft` cannot write, counters. Pure.

The `nft` program reads back the whole table before it adds one element; these messages say the same in microseconds.
Numbers of nfnetlink and nf_tables attributes are big endian, the netlink framing around them is in host order
(RFC 3549 2.3).
"""

import struct
import sys
from dataclasses import dataclass

from oe.errors import ParseError
from oe.model import HostPair
from oe.wire import Reader

TABLE = "oe"
FAMILY_INET = 1

REQUEST, ACK, ROOT_MATCH = 0x1, 0x4, 0x300
EXCLUSIVE, CREATE, APPEND = 0x200, 0x400, 0x800

_NFTABLES = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE, _NEW_ELEMENT, _DELETE_ELEMENT, _GET_OBJECT = 0, 3, 6, 12, 14, 19
_ERROR, _DONE = 2, 3

_COUNTER_OBJECT = 1
_META_NFPROTO, _NETWORK_HEADER = 15, 1
_XT_QUEUE_REVISION = 3

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
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


def transaction(*messages: bytes) -> bytes:
    """One batch: the kernel does all of `messages` or none."""
    return trial(*messages) + _message(_BATCH_END, 0, subsystem=0)


def trial(*messages: bytes) -> bytes:
    """A batch without its end: the kernel looks at every message, reports, and then takes all of it back."""
    return _message(_BATCH_BEGIN, 0, subsystem=0) + b"".join(messages)


def add_table(table: str) -> bytes:
    return _message(_NEW_TABLE, CREATE | ACK, _text(1, table))


def add_chain(table: str, chain: str) -> bytes:
    return _message(_NEW_CHAIN, CREATE | ACK, _text(1, table) + _text(3, chain))


def _expression(name: str, *attributes: bytes) -> bytes:
    return _nest(1, _text(1, name), _nest(2, *attributes))


def _add_rule(table: str, chain: str, *expressions: bytes) -> bytes:
    return _message(_NEW_RULE, CREATE | APPEND | ACK, _text(1, table) + _text(2, chain) + _nest(4, *expressions))


def add_queue_target(table: str, chain: str, queue: int, *, bypass: bool) -> bytes:
    """Append a rule with the xtables target NFQUEUE, which does what the `queue` expression does.

    For kernels that have xt_NFQUEUE and nft_compat but no nft_queue; `nft` itself cannot write this rule.
    """
    info = struct.pack("=HHH2x", queue, 1, int(bypass))  # xt_NFQ_info_v3: first queue, how many, flags
    target = _expression("target", _text(1, "NFQUEUE"), _number(2, _XT_QUEUE_REVISION), _attribute(3, info))
    return _add_rule(table, chain, target)


def add_decision_lookup(table: str, chain: str, version: int) -> bytes:
    """Append the rule that looks a packet's pair up in `decided4` or `decided6`, and what it finds in `fates`.

    In the words of `nft`, whose grammar has no place for it: `ip saddr . ip daddr map @decided4 vmap @fates`. One
    map from pair to verdict would be simpler, but the kernel walks all of it, at every change, to see where each
    `goto` leads: 8 ms per decision at 100,000 pairs.
    """
    # Registers: 0 is the verdict, 1 to 4 have 16 octets; 8 to 23 are the same memory by 4 octets.
    family, offset, size, second = (2, 12, 4, 9) if version == 4 else (10, 8, 16, 2)
    return _add_rule(
        table,
        chain,
        _expression("meta", _number(1, 1), _number(2, _META_NFPROTO)),
        _expression("cmp", _number(1, 1), _number(2, 0), _nest(3, _attribute(1, bytes([family])))),
        _expression("payload", _number(1, 1), _number(2, _NETWORK_HEADER), _number(3, offset), _number(4, size)),
        _expression(
            "payload", _number(1, second), _number(2, _NETWORK_HEADER), _number(3, offset + size), _number(4, size)
        ),
        _expression("lookup", _text(1, f"decided{version}"), _number(2, 1), _number(3, 1)),
        _expression("lookup", _text(1, "fates"), _number(2, 1), _number(3, 0)),
    )


def _elements(pair: HostPair, *rest: bytes) -> bytes:
    """The element of `pair` in the map of its family. Concatenated keys are padded to 4 octets, as addresses are."""
    key = _nest(1, _attribute(1, pair.source.packed + pair.destination.packed))
    name = f"decided{pair.destination.version}"
    return _text(1, TABLE) + _text(2, name) + _nest(3, _nest(1, key, *rest))


def add_decision(pair: HostPair, fate: int, lifetime: float) -> bytes:
    """Map `pair` to `fate`, a key of the map `fates`, for `lifetime` seconds; it must not be in the map yet."""
    value = _nest(2, _attribute(1, struct.pack("=I", fate)))
    milliseconds = max(1, round(lifetime * 1000))
    return _message(_NEW_ELEMENT, CREATE | EXCLUSIVE | ACK, _elements(pair, value, _number(4, milliseconds, 8)))


def delete_decision(pair: HostPair) -> bytes:
    return _message(_DELETE_ELEMENT, ACK, _elements(pair))


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
