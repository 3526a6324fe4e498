"""What is put together, and that it is octet by octet the same: scapy cuts and checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import unpack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.ipsec.coalesce import HEADER, PLAIN, Packet, coalesce

SIZE = 1000
OPTIONS = [("NOP", None), ("NOP", None), ("Timestamp", (7, 8))]


@dataclass(frozen=True)
class Flow:
    """One direction of a connection; `segment` makes whole packets with right checksums."""

    version: int = 4
    port: int = 4711

    def segment(self, number: int, data: bytes = b"", *, flags: str = "A", **changed: Any) -> bytes:
        """The packet whose data, `SIZE` octets unless given, begins after that many segments."""
        from scapy.layers.inet import IP, TCP
        from scapy.layers.inet6 import IPv6

        outer: dict[str, Any] = {"tos" if self.version == 4 else "tc": 0, **changed.pop("outer", {})}
        ip: Any
        if self.version == 4:
            ip = IP(src="192.0.2.1", dst="192.0.2.2", **{"flags": "DF", "id": number, **outer})
        else:
            ip = IPv6(src="2001:db8::1", dst="2001:db8::2", **outer)
        fields: dict[str, Any] = {
            "seq": (0xFFFF_F000 + number * SIZE) & 0xFFFF_FFFF,
            "ack": 5,
            "options": OPTIONS,
            **changed,
        }
        return bytes(ip / TCP(sport=self.port, dport=443, flags=flags, **fields) / (data or payload(number)))


def payload(number: int, size: int = SIZE) -> bytes:
    return bytes((number * 7 + at) % 256 for at in range(size))


def cut(packet: Packet) -> list[bytes]:
    """As the kernel cuts a large packet into segments; a plain one is itself."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6

    offload, *pieces = packet
    whole = b"".join(pieces)
    if offload == PLAIN:
        return [whole]
    flags, kind, headers, size, start, place = unpack("=BBHHHH", offload)
    assert (flags, start, place) == (1, {1: 20, 4: 40}[kind], 16)
    ip = {1: IP, 4: IPv6}[kind](whole)
    assert len(ip) == len(whole)
    if kind == 1:
        assert sum(unpack("!10H", whole[:20])) % 0xFFFF == 0
    tcp, data, segments = ip[TCP], whole[headers:], []
    for at in range(0, len(data), size):
        one = ip.copy()
        part = one[TCP]
        part.remove_payload()
        part.seq = (tcp.seq + at) & 0xFFFF_FFFF
        last = at + size >= len(data)
        part.flags = tcp.flags if last else str(tcp.flags).replace("P", "")
        one.chksum = part.chksum = None
        if kind == 1:
            one.len, one.id = None, ip.id + at // size
        else:
            one.plen = None
        segments.append(bytes(one / data[at : at + size]))
    return segments


def trains(*packets: bytes) -> list[int]:
    """How many packets went into each; after a look that nothing has changed on the way."""
    out = [cut(packet) for packet in coalesce(packets)]
    assert sorted(one for packet in out for one in packet) == sorted(packets)
    return [len(packet) for packet in out]


@pytest.mark.parametrize("version", [4, 6])
def test_segments_without_a_gap_are_one_packet_and_the_numbers_may_wrap(version: int) -> None:
    flow = Flow(version)
    assert trains(*map(flow.segment, range(10))) == [10]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [1, 999])
def test_a_shorter_segment_is_the_last(version: int, size: int) -> None:
    flow = Flow(version)
    assert trains(flow.segment(0), flow.segment(1), flow.segment(2, payload(2, size), flags="PA")) == [3]
    assert trains(flow.segment(0), flow.segment(1, payload(1, size)), flow.segment(2)) == [2, 1]


def test_a_push_ends_a_packet_and_is_kept() -> None:
    flow = Flow()
    assert trains(flow.segment(0), flow.segment(1, flags="PA"), flow.segment(2)) == [2, 1]
    assert trains(flow.segment(0, flags="PA"), flow.segment(1)) == [1, 1]


def test_no_packet_is_larger_than_a_packet_may_be() -> None:
    assert trains(*map(Flow().segment, range(100))) == [65, 35]


def test_connections_beside_each_other_do_not_hinder_each_other() -> None:
    flows = Flow(4), Flow(6), Flow(4, 9)
    assert trains(*(flow.segment(number) for number in range(5) for flow in flows)) == [5, 5, 5]


@pytest.mark.parametrize(
    ("changed", "versions"),
    [
        ({"ack": 6}, (4, 6)),
        ({"window": 77}, (4, 6)),
        ({"urgptr": 1}, (4, 6)),
        ({"options": [*OPTIONS[:2], ("Timestamp", (8, 8))]}, (4, 6)),
        ({"options": []}, (4, 6)),
        ({"flags": "FA"}, (4, 6)),
        ({"flags": "A", "reserved": 1}, (4, 6)),
        ({"flags": "EA"}, (4, 6)),
        ({"flags": "CA"}, (4, 6)),
        ({"outer": {"tos": 3}}, (4,)),
        ({"outer": {"ttl": 3}}, (4,)),
        ({"outer": {"flags": 0}}, (4,)),
        ({"outer": {"tc": 3}}, (6,)),
        ({"outer": {"hlim": 3}}, (6,)),
        ({"outer": {"fl": 3}}, (6,)),
    ],
)
def test_what_differs_in_the_headers_goes_by_itself(changed: dict[str, Any], versions: Sequence[int]) -> None:
    for flow in map(Flow, versions):
        odd = flow.segment(1, **changed)
        assert trains(flow.segment(0), odd, flow.segment(2)) == [1, 1, 1]


def test_a_gap_a_repetition_and_another_order_are_left_to_the_receiver() -> None:
    flow = Flow()
    for order in ([0, 2], [0, 0], [1, 0]):
        packets = [flow.segment(number) for number in order]
        assert [b"".join(packet[1:]) for packet in coalesce(packets)] == packets


def test_segments_without_data_and_other_protocols_pass() -> None:
    from scapy.layers.inet import IP, TCP, UDP

    bare = bytes(IP(flags="DF") / TCP(flags="A"))
    others = [bytes(IP() / UDP() / b"abc"), b"\x45", b"\x60" + bytes(30), bytes(IP(options=b"\1\1\1\0") / TCP() / b"x")]
    packets = [bare, bare, *others]
    assert [b"".join(packet[1:]) for packet in coalesce(packets)] == packets


@pytest.mark.parametrize("version", [4, 6])
@given(data=st.data())
def test_a_wrong_octet_is_not_made_right(version: int, data: st.DataObject) -> None:
    flow = Flow(version)
    segments = [flow.segment(number) for number in range(4)]
    bad = bytearray(segments[data.draw(st.integers(0, 3))])
    # Anything but what IPv6 has no checksum for.
    place = data.draw(st.integers(0 if version == 4 else 8, len(bad) - 1))
    bad[place] ^= data.draw(st.integers(1, 255))
    number = segments.index(next(one for one in segments if sum(a != b for a, b in zip(one, bad, strict=True)) == 1))
    segments[number] = bytes(bad)
    alone = [packet for packet in coalesce(segments) if b"".join(packet[1:]) == bad]
    assert [packet[0] for packet in alone] == [PLAIN]


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=80), st.sampled_from(range(5)))))
def test_nothing_is_lost_or_raised_whatever_comes(parts: list[bytes | int]) -> None:
    flow = Flow()
    packets = [flow.segment(part) if isinstance(part, int) else part for part in parts]
    out = [cut(packet) if packet[0] != PLAIN else [b"".join(packet[1:])] for packet in coalesce(packets)]
    assert sorted(one for packet in out for one in packet) == sorted(packets)
    assert len(PLAIN) == HEADER
