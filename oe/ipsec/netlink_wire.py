"""The netlink layer below XFRM and routing messages: headers, attributes, acknowledgements.

| length u32 | type u16 | flags u16 | sequence u32 | port u32 | body, attributes |     all in host byte order
| length u16 | type u16 | payload | padding to 4 |                                   one attribute
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any, Literal

from oe.errors import ParseError
from oe.wire import Reader

_HEADER = Struct("=IHHII")
_ATTRIBUTE = Struct("=HH")
_TYPE_MASK = 0x3FFF
_ORDER: Literal["little", "big"] = sys.byteorder

NLMSG_ERROR = 2
NLMSG_DONE = 3

REQUEST = 0x001
ACK = 0x004
DUMP_INTERRUPTED = 0x010
REPLACE = 0x100
EXCLUSIVE = 0x200
DUMP = 0x300
CREATE = 0x400

_ACK_CAPPED = 0x100
_ACK_TEXT = 1


class NativeReader(Reader):
    """A reader of host byte order, as netlink has it."""

    __slots__ = ()

    def u16(self, what: str) -> int:
        return int.from_bytes(self.take(2, what), _ORDER)

    def u32(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), _ORDER)

    def u64(self, what: str) -> int:
        return int.from_bytes(self.take(8, what), _ORDER)

    def fields(self, layout: Struct, what: str) -> tuple[Any, ...]:
        """The fields of a C structure."""
        return layout.unpack(self.take(layout.size, what))


@dataclass(frozen=True, slots=True)
class Message:
    """A netlink message; `body` is what follows the header, `port` the socket whose request it comes from."""

    kind: int
    flags: int
    sequence: int
    body: bytes
    port: int = 0


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The kernel's answer to a request: errno, 0 for success, and its own words if it gave any."""

    errno: int
    text: str


def encode_message(kind: int, flags: int, sequence: int, body: bytes, port: int = 0) -> bytes:
    """A request to the kernel. Its news of what comes of it bear this port."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags | REQUEST, sequence, port) + body


def decode_messages(octets: bytes) -> Iterator[Message]:
    """All messages of a datagram. Raises ParseError, at the message that is malformed."""
    reader = NativeReader(octets, "netlink datagram")
    while reader.remaining:
        length, kind, flags, sequence, port = reader.fields(_HEADER, "header")
        if length < _HEADER.size:
            raise ParseError(reader.where, f"length {length} is shorter than the header")
        body = reader.take(length - _HEADER.size, "body")
        reader.take(min(-length % 4, reader.remaining), "padding")
        yield Message(kind, flags, sequence, body, port)


def attribute(kind: int, payload: bytes) -> bytes:
    """An attribute with its padding."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def decode_attributes(reader: NativeReader) -> dict[int, bytes]:
    """Attributes up to the end of the window, by type; of a repeated one the last. Raises ParseError."""
    attributes: dict[int, bytes] = {}
    while reader.remaining >= _ATTRIBUTE.size:
        length, kind = reader.fields(_ATTRIBUTE, "attribute header")
        if length < _ATTRIBUTE.size:
            raise ParseError(reader.where, f"attribute length {length} is shorter than its header")
        attributes[kind & _TYPE_MASK] = reader.take(length - _ATTRIBUTE.size, "attribute")
        reader.take(min(-length % 4, reader.remaining), "padding")
    return attributes


def decode_acknowledgement(message: Message) -> Acknowledgement:
    """An NLMSG_ERROR message; the kernel's words need extended acknowledgements. Raises ParseError."""
    reader = NativeReader(message.body, "netlink acknowledgement")
    errno = -int.from_bytes(reader.take(4, "errno"), _ORDER, signed=True)
    length, *_request = reader.fields(_HEADER, "header of the request")
    if not message.flags & _ACK_CAPPED:
        reader.take(min(max(length - _HEADER.size, 0), reader.remaining), "request")
    text = decode_attributes(reader).get(_ACK_TEXT, b"").rstrip(b"\0")
    return Acknowledgement(errno, text.decode("ascii", "replace"))
