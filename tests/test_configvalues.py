"""The readers by themselves; test_config.py has them behind the keys of the file."""

from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated

import pytest
from pydantic import PlainValidator, TypeAdapter

from oe.configvalues import choice, duration, octets, read_resolver, two_queues, whole
from oe.model import SocketAddress


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


def read(reader: PlainValidator, value: object) -> object:
    return TypeAdapter(Annotated[object, reader]).validate_python(value)


@pytest.mark.parametrize(
    ("reader", "good", "found"),
    [
        (whole(1, 3), 3, 3),
        (duration("1s", "1h"), "1.5m", 90.0),
        (octets("1MiB", "1TiB"), "64GiB", 64 << 30),
        (choice(*Colour), "red", Colour.RED),
    ],
)
def test_what_is_allowed_is_read(reader: PlainValidator, good: object, found: object) -> None:
    assert read(reader, good) == found


@pytest.mark.parametrize(
    ("reader", "bad", "allowed"),
    [
        (whole(1, 3), 4, "from 1 to 3"),
        (whole(0, 1), True, "from 0 to 1"),
        (duration("1s", "1h"), "999ms", 'from "1s" to "1h"'),
        (duration("1s", "1h"), 3, "as text"),
        (octets("1MiB", "1TiB"), "2TiB", 'from "1MiB" to "1TiB"'),
        (octets("1MiB", "1TiB"), "64GB", "MiB, GiB, TiB"),
        (choice(*Colour), "gren", r'red, green \(did you mean "green"\?\)'),
    ],
)
def test_what_is_not_is_told_with_what_is(reader: PlainValidator, bad: object, allowed: str) -> None:
    with pytest.raises(ValueError, match=allowed):
        read(reader, bad)


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("127.0.0.1", "127.0.0.1", 53),
        ("127.0.0.1:5353", "127.0.0.1", 5353),
        ("::1", "::1", 53),
        ("[::1]:54", "::1", 54),
    ],
)
def test_resolvers(text: str, address: str, port: int) -> None:
    assert read_resolver(text) == SocketAddress(ip_address(address), port)


def test_two_queues_are_two() -> None:
    assert two_queues((50, 51)) == (50, 51)
    with pytest.raises(ValueError, match="two different"):
        two_queues((50, 50))
