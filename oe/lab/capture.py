"""Captures on the router's links: every frame with its time and link, and pcap files of them."""

import socket
import struct
from dataclasses import dataclass
from pathlib import Path

_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_ETH_P_ALL = 3
_BUFFER = 32 << 20
_SNAP = 4096
_PCAP_NANOSECONDS = 0xA1B23C4D
_LINKTYPE_ETHERNET = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """An Ethernet frame on one of the router's links. `time` is in nanoseconds of the wall clock."""

    time: int
    link: str
    data: bytes


class Capture:
    """One packet socket over all links of this network namespace. Feed it by calling `drain` when it is readable."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except PermissionError:  # a user namespace: up to net.core.rmem_max
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self.frames: list[Frame] = []
        self.missed = 0
        """Frames that the kernel had to drop; if there are any, nothing can be said of what the wire showed."""

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        """Take all frames that wait."""
        while True:
            try:
                data, ancillary, _, source = self._socket.recvmsg(_SNAP, 64)
            except BlockingIOError:
                break
            self.frames.append(Frame(_timestamp(ancillary), source[0], data))
        _, dropped = struct.unpack("=II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self.missed += dropped

    def close(self) -> None:
        self._socket.close()


def _timestamp(ancillary: list[tuple[int, int, bytes]]) -> int:
    seconds, nanoseconds = struct.unpack_from("=qq", ancillary[0][2])
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def write_pcaps(frames: list[Frame], directory: Path) -> None:
    """Write a file per link, `LINK.pcap`, with nanosecond time stamps."""
    directory.mkdir(parents=True, exist_ok=True)
    links: dict[str, list[Frame]] = {}
    for frame in frames:
        links.setdefault(frame.link, []).append(frame)
    for link, seen in links.items():
        header = struct.pack("=IHHiIII", _PCAP_NANOSECONDS, 2, 4, 0, 0, _SNAP, _LINKTYPE_ETHERNET)
        (directory / f"{link}.pcap").write_bytes(header + b"".join(_pcap_record(frame) for frame in seen))


def _pcap_record(frame: Frame) -> bytes:
    seconds, nanoseconds = divmod(frame.time, 1_000_000_000)
    return struct.pack("=IIII", seconds, nanoseconds, len(frame.data), len(frame.data)) + frame.data
