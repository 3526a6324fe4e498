"""Bounds-checked reading and writing of network-order octets.

Everything that comes from the wire, from DNS or from netlink is read through `Reader`; leaving its window is a
`ParseError`, never an `IndexError` or `struct.error`. Multi-octet integers are big endian (network order).
"""

from struct import Struct
from typing import Any

from oe.errors import ParseError


class Reader:
    """A cursor over a window of octets. `where` names the structure in errors."""

    # A handshake makes a hundred of its calls. Each does one comparison of its own; a window is a copy, which for the
    # few octets of a payload costs less than any view.
    __slots__ = ("_data", "_end", "_offset", "where")

    def __init__(self, data: bytes | memoryview, where: str) -> None:
        self._data = bytes(data)
        self._end = len(data)
        self._offset = 0
        self.where = where

    @property
    def remaining(self) -> int:
        """Octets between the cursor and the end of the window."""
        return self._end - self._offset

    @property
    def offset(self) -> int:
        """Octets read so far."""
        return self._offset

    def _lacks(self, count: int, what: str) -> ParseError:
        return ParseError(self.where, f"{what}: need {count} octets, have {self.remaining}")

    def u8(self, what: str) -> int:
        start = self._offset
        if start >= self._end:
            raise self._lacks(1, what)
        self._offset = start + 1
        return self._data[start]

    def u16(self, what: str) -> int:
        return self._integer(2, what)

    def u32(self, what: str) -> int:
        return self._integer(4, what)

    def u64(self, what: str) -> int:
        return self._integer(8, what)

    def _integer(self, count: int, what: str) -> int:
        start = self._offset
        end = start + count
        if end > self._end:
            raise self._lacks(count, what)
        self._offset = end
        return int.from_bytes(self._data[start:end], "big")

    def unpack(self, layout: Struct, what: str) -> tuple[Any, ...]:
        """The next fields, as `layout` has them: in network order, which is its "!"."""
        start = self._offset
        end = start + layout.size
        if end > self._end:
            raise self._lacks(layout.size, what)
        self._offset = end
        return layout.unpack_from(self._data, start)

    def take(self, count: int, what: str) -> bytes:
        """The next `count` octets, copied."""
        start = self._offset
        end = start + count
        if not start <= end <= self._end:
            raise self._lacks(count, what)
        self._offset = end
        return self._data[start:end]

    def rest(self) -> bytes:
        """All octets up to the end of the window, copied; the cursor is then at the end."""
        start, self._offset = self._offset, self._end
        return self._data[start : self._end]

    def window(self, count: int, where: str) -> "Reader":
        """A reader over the next `count` octets; this cursor moves past them."""
        start = self._offset
        end = start + count
        if not start <= end <= self._end:
            raise self._lacks(count, where)
        self._offset = end
        return Reader(self._data[start:end], where)

    def expect_end(self) -> None:
        """Raise unless every octet of the window was read."""
        if self._offset != self._end:
            raise ParseError(self.where, f"{self.remaining} octets left over")


class Writer:
    """Appends network-order fields to a growing buffer."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def __len__(self) -> int:
        return len(self._buffer)

    def u8(self, value: int) -> "Writer":
        self._buffer += value.to_bytes(1, "big")
        return self

    def u16(self, value: int) -> "Writer":
        self._buffer += value.to_bytes(2, "big")
        return self

    def u32(self, value: int) -> "Writer":
        self._buffer += value.to_bytes(4, "big")
        return self

    def u64(self, value: int) -> "Writer":
        self._buffer += value.to_bytes(8, "big")
        return self

    def put(self, octets: bytes) -> "Writer":
        self._buffer += octets
        return self

    def octets(self) -> bytes:
        return bytes(self._buffer)
