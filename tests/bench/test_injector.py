"""Frames that a router takes, and a program that the kernel takes."""

import struct
from contextlib import closing
from ipaddress import IPv4Address

import pytest

from bench.injector import Injector, frame
from oe.errors import MachineLacks

MAC = bytes.fromhex("020000000001")
FRAME = frame(MAC, IPv4Address("10.1.0.2"), IPv4Address("198.18.0.7"))


def test_a_frame_is_of_the_smallest_size_and_goes_where_it_should() -> None:
    assert len(FRAME) == 60
    assert FRAME[:6] == MAC
    assert FRAME[12:14] == b"\x08\x00"


def test_its_packet_is_whole() -> None:
    header = FRAME[14:34]
    total = sum(struct.unpack(">10H", header))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    assert int.from_bytes(header[2:4], "big") == len(FRAME) - 14


@pytest.mark.netns
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(MachineLacks, match="live frames"), closing(Injector(FRAME, 0x7FFFFFFF)) as injector:
        injector.send(1)
