"""All frames of a link, from memory that the kernel writes to: reading one takes no system call.

A thread that asks the kernel for each packet hands the interpreter to a sender each time, and falls ever more behind
threads that send. What it reads from memory it reads in one go.
"""

import mmap
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION, _TPACKET_V2 = 263, 5, 6, 10, 1
_BLOCK, _BLOCKS, _FRAME = 1 << 16, 1024, 1 << 11
_OF_THE_KERNEL = struct.pack("=I", 0)
_HEADER = struct.Struct("=III2H")
"""`tpacket2_hdr`: status, length, length held, where the link's header and the network's header begin."""
_ADDRESS_AT, _PROTOCOL, _KIND = 32, slice(2, 4), 10
"""`sockaddr_ll` behind it: its protocol (in network order) and whose packet it is."""

Frame = tuple[bytes, int, bool]
"""The packet without its link's header, the protocol (`ETH_P_*`), and whether this machine is its sender."""


class Ring:
    """Made in the namespace of `device`; holds 32,768 frames and counts what finds no room."""

    def __init__(self, device: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        geometry = struct.pack("=4I", _BLOCK, _BLOCKS, _FRAME, _BLOCK * _BLOCKS // _FRAME)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, geometry)
        self._memory = mmap.mmap(self._socket.fileno(), _BLOCK * _BLOCKS)
        self._at = 0
        self._socket.bind((device, _ETH_P_ALL))
        self._news = select.poll()
        self._news.register(self._socket, select.POLLIN)

    def wait(self, seconds: float) -> None:
        """Until there is a frame, or for so long; also until the link goes down or up."""
        for _, event in self._news.poll(seconds * 1000):
            if event & select.POLLERR:
                with suppress(OSError):
                    self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def frames(self) -> Iterator[Frame]:
        """All that are there, in order."""
        while (header := _HEADER.unpack_from(self._memory, self._at))[0]:
            yield self._frame(header[2], header[4])
            self._memory[self._at : self._at + 4] = _OF_THE_KERNEL
            self._at = (self._at + _FRAME) % len(self._memory)

    def _frame(self, length: int, network: int) -> Frame:
        begin = self._at + network
        address = self._memory[self._at + _ADDRESS_AT : begin]
        protocol = int.from_bytes(address[_PROTOCOL], "big")
        return self._memory[begin : begin + length], protocol, address[_KIND] == socket.PACKET_OUTGOING

    def overlooked(self) -> int:
        """Frames that found no room since this was asked last."""
        _seen, lost = struct.unpack("=II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        return int(lost)

    def close(self) -> None:
        self._memory.close()
        self._socket.close()
