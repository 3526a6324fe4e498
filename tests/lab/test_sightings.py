"""What frames are, and what they say together."""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.lab.capture import Frame
from oe.lab.sightings import Kind, Sighting, Wire, sight, summarise
from oe.model import Address

A, B, OTHER = IPv4Address("192.0.2.65"), IPv4Address("198.51.100.33"), IPv4Address("198.51.100.40")
A6, B6 = IPv6Address("2001:db8:2:1::1"), IPv6Address("2001:db8:1:1::1")
MARKER = b"0123456789abcdef"


def frame(source: Address, destination: Address, protocol: int, payload: bytes, time: int = 0) -> Frame:
    if source.version == 4:
        header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
        packet = b"\x08\x00" + header + source.packed + destination.packed + payload
    else:
        header = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
        packet = b"\x86\xdd" + header + source.packed + destination.packed + payload
    return Frame(time, "to-alice", bytes(12) + packet)


def udp(source_port: int, destination_port: int, data: bytes) -> bytes:
    return struct.pack(">HHHH", source_port, destination_port, 8 + len(data), 0) + data


@pytest.mark.parametrize(
    ("protocol", "payload", "kind"),
    [
        (50, b"\1\2\3\4" + bytes(40), Kind.ESP),
        (6, bytes(20), Kind.CLEAR),
        (1, bytes(8), Kind.CLEAR),
        (1, b"", Kind.CLEAR),
        (1, b"\3\3" + bytes(30), Kind.ERROR),
        (58, b"\1\4" + bytes(30), Kind.ERROR),
        (58, b"\x80" + bytes(7), Kind.CLEAR),
        (17, udp(40000, 7, b"hello"), Kind.CLEAR),
        (17, udp(500, 500, bytes(28)), Kind.IKE),
        (17, udp(4500, 4500, bytes(4) + bytes(28)), Kind.IKE),
        (17, udp(4500, 4500, b"\xff"), Kind.IKE),
        (17, udp(4500, 4500, b"\1\2\3\4" + bytes(40)), Kind.ESP),
        (17, udp(40000, 53, bytes(20)), Kind.DNS),
        (17, b"short", Kind.CLEAR),
    ],
)
@pytest.mark.parametrize(("source", "destination"), [(A, B), (A6, B6)])
def test_kinds(source: Address, destination: Address, protocol: int, payload: bytes, kind: Kind) -> None:
    seen = sight(frame(source, destination, protocol, payload, 7))
    assert seen == Sighting(7, "to-alice", source, destination, kind, payload)


def test_options_are_passed_over() -> None:
    plain = frame(A, B, 6, b"\1" * 4 + MARKER).data
    seen = sight(Frame(0, "to-alice", plain[:14] + b"\x46" + plain[15:]))
    assert seen is not None
    assert seen.payload == MARKER


def test_other_frames_are_not_seen() -> None:
    assert sight(Frame(0, "to-alice", bytes(12) + b"\x08\x06" + bytes(28))) is None
    assert sight(Frame(0, "to-alice", frame(A, B, 6, b"").data[:30])) is None


@given(st.binary(max_size=100), st.sampled_from([b"", bytes(12) + b"\x08\x00", bytes(12) + b"\x86\xdd"]))
def test_any_octets_are_a_sighting_or_none(data: bytes, start: bytes) -> None:
    sight(Frame(0, "to-alice", start + data))


def _seen(kind: Kind, source: str = str(A), destination: str = str(B), link: str = "to-alice") -> Sighting:
    return Sighting(0, link, ip_address(source), ip_address(destination), kind, b"")


def _sum(*sightings: Sighting) -> Wire:
    pair = frozenset((A, B))
    return summarise(sightings, "to-alice", pair, pair, MARKER)


@pytest.mark.parametrize(
    ("kinds", "text"),
    [
        ([], "nothing"),
        ([Kind.IKE, Kind.ESP, Kind.ESP], "only ESP"),
        ([Kind.CLEAR], "clear"),
        ([Kind.CLEAR, Kind.ESP], "clear, then ESP"),
        ([Kind.ESP, Kind.CLEAR], "ESP+clear"),
        ([Kind.DNS], "nothing"),
    ],
)
def test_sums(kinds: list[Kind], text: str) -> None:
    assert str(_sum(*(_seen(kind) for kind in kinds))) == text


def test_other_pairs_and_other_links_do_not_count() -> None:
    assert _sum(_seen(Kind.CLEAR, destination=str(OTHER)), _seen(Kind.CLEAR, link="to-bob")) == Wire(0, 0, 0, 0, False)


def test_gateways_count_for_esp_and_the_ends_for_clear() -> None:
    sightings = [
        _seen(Kind.ESP, str(OTHER)),
        _seen(Kind.IKE, str(OTHER)),
        _seen(Kind.CLEAR, str(OTHER)),
        _seen(Kind.ESP),
        _seen(Kind.CLEAR),
    ]
    wire = summarise(sightings, "to-alice", frozenset((A, B)), frozenset((OTHER, B)), MARKER)
    assert wire == Wire(esp=1, clear=1, ike=1, clear_after_esp=1, marker_seen=False)


def test_a_readable_payload_is_seen_on_any_link() -> None:
    leak = Sighting(0, "to-bob", A, OTHER, Kind.CLEAR, b"..." + MARKER)
    assert _sum(leak).marker_seen
