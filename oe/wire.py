"""Bounds-checked reading and writing of network-order octets.

Everything that comes from the wire, from DNS or from netlink is read through `Reader`; leaving its window is a
`ParseError`, never an `IndexError` or `struct.error`. Multi-octet integers are big endian (network order).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from oe.errors import ParseError


class Reader:
    """A cursor over a window of octets. `where` names the structure in errors."""

    __slots__ = ("_data", "_end", "_offset", "where")

    def __init__(self, data: bytes | memoryview, where: str) -> None:
        self._data = memoryview(data)
        self._offset = 0
        self._end = len(self._data)
        self.where = where

    @property
    def remaining(self) -> int:
        """Octets between the cursor and the end of the window."""
        return self._end - self._offset

    @property
    def offset(self) -> int:
        """Octets read so far."""
        return self._offset

    def _advance(self, count: int, what: str) -> memoryview:
        if count < 0 or count > self.remaining:
            raise ParseError(self.where, f"{what}: need {count} octets, have {self.remaining}")
        start = self._offset
        self._offset += count
        return self._data[start : self._offset]

    def u8(self, what: str) -> int:
        return self._advance(1, what)[0]

    def u16(self, what: str) -> int:
        return int.from_bytes(self._advance(2, what), "big")

    def u32(self, what: str) -> int:
        return int.from_bytes(self._advance(4, what), "big")

    def u64(self, what: str) -> int:
        return int.from_bytes(self._advance(8, what), "big")

    def take(self, count: int, what: str) -> bytes:
        """The next `count` octets, copied."""
        return bytes(self._advance(count, what))

    def rest(self) -> bytes:
        """All octets up to the end of the window, copied; the cursor is then at the end."""
        return bytes(self._advance(self.remaining, "rest"))

    def window(self, count: int, where: str) -> "Reader":
        """A reader over the next `count` octets; this cursor moves past them."""
        return Reader(self._advance(count, where), where)

    def expect_end(self) -> None:
        """Raise unless every octet of the window was read."""
        if self.remaining:
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

    @contextmanager
    def length16(self, *, counts_from: int | None = None) -> Iterator[None]:
        """Reserve a 16-bit length, fill it when the block ends.

        It counts the octets from `counts_from` (an offset in this buffer; a header that counts itself gives its
        own start) or, without it, those written inside the block.
        """
        at = len(self._buffer)
        self.u16(0)
        start = at + 2 if counts_from is None else counts_from
        yield
        self._buffer[at : at + 2] = (len(self._buffer) - start).to_bytes(2, "big")

    def octets(self) -> bytes:
        return bytes(self._buffer)
