"""The cursor leaves its window with a `ParseError` only; what it reads is what stands there."""

from struct import Struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.errors import ParseError
from oe.wire import Reader, Writer

_FIELDS = Struct("!BBH")
_STEPS = st.one_of(
    st.tuples(st.sampled_from(("u8", "u16", "u32", "u64", "fields", "rest")), st.just(0)),
    st.tuples(st.sampled_from(("take", "window")), st.integers(-3, 20)),
)
_OCTETS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "fields": _FIELDS.size}


def _read(reader: Reader, step: str, count: int) -> object:
    match step:
        case "u8" | "u16" | "u32" | "u64":
            found: object = getattr(reader, step)("number")
            return found
        case "fields":
            return reader.unpack(_FIELDS, "fields")
        case "take":
            return reader.take(count, "octets")
        case "window":
            return reader.window(count, "window").rest()
        case _:
            return reader.rest()


def _expected(octets: bytes, step: str) -> object:
    if step in ("u8", "u16", "u32", "u64"):
        return int.from_bytes(octets, "big")
    return _FIELDS.unpack(octets) if step == "fields" else octets


@given(st.binary(max_size=24), st.lists(_STEPS, max_size=6), st.booleans())
def test_each_read_is_what_stands_there_or_changes_nothing(
    data: bytes, steps: list[tuple[str, int]], viewed: bool
) -> None:
    reader, at = Reader(memoryview(data) if viewed else data, "test"), 0
    for step, asked in steps:
        count = len(data) - at if step == "rest" else _OCTETS.get(step, asked)
        if 0 <= count <= len(data) - at:
            assert _read(reader, step, count) == _expected(data[at : at + count], step)
            at += count
        else:
            with pytest.raises(ParseError):
                _read(reader, step, count)
        assert (reader.offset, reader.remaining) == (at, len(data) - at)


def test_a_window_ends_where_it_was_cut() -> None:
    reader = Reader(b"\x01\x02\x03\x04", "outer")
    inner = reader.window(2, "inner")
    assert (inner.u8("first"), inner.offset, inner.remaining) == (1, 1, 1)
    with pytest.raises(ParseError, match="inner: second: need 2 octets, have 1"):
        inner.u16("second")
    assert reader.u16("after") == 0x0304


def test_octets_left_over_are_an_error() -> None:
    reader = Reader(b"\x01\x02", "whole")
    reader.u8("first")
    with pytest.raises(ParseError, match="1 octets left over"):
        reader.expect_end()
    reader.u8("second")
    reader.expect_end()


def test_what_was_written_is_read() -> None:
    writer = Writer().u8(1).u16(2).u32(3).u64(4).put(b"five")
    reader = Reader(writer.octets(), "both")
    assert (reader.u8("a"), reader.u16("b"), reader.u32("c"), reader.u64("d"), reader.rest()) == (1, 2, 3, 4, b"five")
