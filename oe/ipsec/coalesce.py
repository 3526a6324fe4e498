"""Segments of a TCP connection that arrive one after the other go into the kernel as one packet. Pure.

What a network card does for a host that receives (generic receive offload): the kernel's way from the tunnel device to
the application is walked once for dozens of segments. The kernel knows how to cut the large packet again where it
forwards it. Before each packet stands what the device's other side has to know (struct virtio_net_hdr):

    flags | type | octets of headers | octets of a segment | where to begin a checksum | where to put it

Only what cutting would restore octet by octet is put together: equal headers, sequence numbers without a gap, segments
of one size but for the last, and checksums that are right, for the kernel makes new ones. To look at the checksums is
the dear part. A sum of right ones is right, and a wrong one makes it wrong, unless another is wrong by as much the
other way: so they are added up and looked at once, and if the sum is wrong every segment goes as it is.
"""

from collections.abc import Iterable, Iterator, Sequence
from struct import Struct

HEADER = 10
"""Octets of what stands before each packet."""
PLAIN = bytes(HEADER)
"""A packet as it is."""

_OFFLOAD = Struct("=BBHHHH")
_NEEDS_CHECKSUM = 1
_TCP = 6
_ACK, _PUSH = 0x10, 0x08
_LARGEST = 0xFFFF
_DONT_FRAGMENT = b"\x40\x00"
"""And no fragment. Without the bit the identification would have to count on."""


Packet = Sequence[bytes | memoryview]
"""In pieces, for the device."""


class _Train:
    """Segments that follow one another, as yet."""

    __slots__ = ("_alike", "_at", "_first", "_full", "_headers", "_length", "_next", "_parts", "_size", "_weight")

    def __init__(self, segment: bytes, at: int, headers: int) -> None:
        """`at`: where the TCP header begins; `headers`: where it ends."""
        self._first, self._at, self._headers = segment, at, headers
        self._alike = _alike(segment, at, headers)
        self._size = len(segment) - headers
        self._full = bool(segment[at + 13] & _PUSH)
        self._parts = [segment]
        self._next = int.from_bytes(segment[at + 4 : at + 8], "big") + self._size & 0xFFFF_FFFF
        self._length = len(segment)
        self._weight = int.from_bytes(segment if at == 20 else segment[8:], "little")

    def takes(self, segment: bytes, headers: int) -> bool:
        """Append a segment of the same connection, if it goes on where this ends."""
        at, size = self._at, len(segment) - headers
        if (
            self._full
            or int.from_bytes(segment[at + 4 : at + 8], "big") != self._next
            or size > self._size
            or self._length + size > _LARGEST
            or _alike(segment, at, headers) != self._alike
        ):
            return False
        self._parts.append(segment)
        self._next = self._next + size & 0xFFFF_FFFF
        self._length += size
        self._weight += int.from_bytes(segment if at == 20 else segment[8:], "little")
        self._full = size < self._size or bool(segment[at + 13] & _PUSH)
        return True

    def packets(self) -> Iterable[Packet]:
        """One packet, or all of them."""
        if len(self._parts) > 1 and self._is_right():
            return (self._together(),)
        return ((PLAIN, segment) for segment in self._parts)

    def _is_right(self) -> bool:
        """Whether all checksums are: of TCP, with its pseudo-header, and of IPv4.

        Modulo 2^16 - 1 a number is the sum of its words (RFC 1071), in either byte order; little endian is quicker,
        and completes an odd octet as it should. So `_weight`, the sum of the segments as numbers, is that of all words
        but those of the pseudo-headers: protocol and length, with the octets turned round, and in IPv4, whose own
        header is a sum for itself, the addresses once more.
        """
        count, at = len(self._parts), self._at
        pseudo = count * _TCP + self._length - self._headers + count * (self._headers - at) << 8
        if at == 20:
            pseudo += count * int.from_bytes(self._first[12:20], "little")
        return (self._weight + pseudo) % _LARGEST == 0

    def _together(self) -> Packet:
        at, headers, length = self._at, self._headers, self._length
        head = bytearray(self._first[:headers])
        head[at + 13] |= self._parts[-1][at + 13]
        if at == 20:
            kind, addresses = 1, head[12:20]
            head[2:4] = length.to_bytes(2, "big")
            head[10:12] = bytes(2)
            head[10:12] = (_LARGEST - _sum(head[:20])).to_bytes(2, "big")
        else:
            kind, addresses = 4, head[8:40]
            head[4:6] = (length - 40).to_bytes(2, "big")
        # Of the checksum the pseudo-header's part; the kernel adds the rest.
        pseudo = (_sum(addresses) + _TCP + length - at) % _LARGEST
        head[at + 16 : at + 18] = pseudo.to_bytes(2, "big")
        offload = _OFFLOAD.pack(_NEEDS_CHECKSUM, kind, headers, self._size, at, 16)
        return offload, bytes(head), *(memoryview(segment)[headers:] for segment in self._parts)


def coalesce(packets: Iterable[bytes]) -> Iterator[Packet]:
    """IPv4 and IPv6 packets as few packets, each in pieces, for a device that takes them with a header before each.

    Packets of one connection keep their order. A packet that cannot be put together is passed on as it is.
    """
    trains: dict[bytes, _Train] = {}
    for packet in packets:
        at = _tcp_at(packet)
        if not at:
            yield PLAIN, packet
            continue
        # Addresses and ports stand side by side, in IPv4 as in IPv6.
        connection = packet[(12 if at == 20 else 8) : at + 4]
        train = trains.get(connection)
        headers = _data_at(packet, at)
        if train is not None:
            if headers and train.takes(packet, headers):
                continue
            yield from train.packets()
            del trains[connection]
        if headers:
            trains[connection] = _Train(packet, at, headers)
        else:
            yield PLAIN, packet
    for train in trains.values():
        yield from train.packets()


def _tcp_at(packet: bytes) -> int:
    """Where the header of a TCP segment begins; 0 for a packet that is none, or has extras before it."""
    version = packet[0]
    if version == 0x45:
        return 20 if len(packet) >= 40 and packet[9] == _TCP and packet[6:8] == _DONT_FRAGMENT else 0
    if version >> 4 == 6:
        return 40 if len(packet) >= 60 and packet[6] == _TCP else 0
    return 0


def _data_at(packet: bytes, at: int) -> int:
    """Where the data of an ordinary segment begins; 0 if it has none, or says more than data and ACK."""
    headers = at + (packet[at + 12] >> 4) * 4
    return headers if at + 20 <= headers < len(packet) and packet[at + 13] & ~_PUSH == _ACK else 0


def _alike(segment: bytes, at: int, headers: int) -> tuple[bytes, ...]:
    """All in the headers that must be equal but for the connection: class, hop limit; ACK, flags, window, options."""
    outer = (segment[:2], segment[8:9]) if at == 20 else (segment[:4], segment[7:8])
    return (*outer, segment[at + 8 : at + 13], segment[at + 14 : at + 16], segment[at + 18 : headers])


def _sum(octets: bytes | bytearray) -> int:
    """The sum of the words of an even number of octets, modulo 2^16 - 1."""
    return int.from_bytes(octets, "big") % _LARGEST
