"""Notices when somebody else lays hands on our table.

The kernel tells every listener of every change to nftables. Our own decisions, thousands a second perhaps, are sorted
out by a filter in the kernel: a notification bears the netlink address of who made the change.
"""

import ctypes
import socket
import struct
import sys

from oe.errors import ParseError
from oe.trap import nfnetlink

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES = 270, 1, 7
_SO_ATTACH_FILTER = 26
_RECEIVE_OCTETS = 1 << 17
_BUFFER = 1 << 20

_PORT_OFFSET = 12
"""Of the sender's netlink address in the header, in host byte order."""
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_INSTRUCTION = struct.Struct("=HBBI")
_PROGRAM = struct.Struct("@HP")


class TableWatch:
    """Hears of foreign changes to `inet oe`. Make it when the table stands; never blocks."""

    def __init__(self, own_port: int) -> None:
        """`own_port`: the netlink address whose changes are ours (`NftTable.port`)."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind((0, 0))
        _pass_over(self._socket, own_port)
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)

    def fileno(self) -> int:
        return self._socket.fileno()

    def changed(self) -> bool:
        """Read all that waits. True if the table was touched, or if it is not known because notifications were lost."""
        touched = False
        while True:
            try:
                octets = self._socket.recv(_RECEIVE_OCTETS)
            except BlockingIOError:
                return touched
            except OSError:
                touched = True
                continue
            try:
                touched = nfnetlink.touches(octets) or touched
            except ParseError:
                touched = True

    def forget(self) -> None:
        """Let go unread all that waits: it tells of what we did ourselves, ten thousand elements perhaps."""
        while True:
            try:
                self._socket.recv(1)
            except BlockingIOError:
                return
            except OSError:
                continue

    def close(self) -> None:
        self._socket.close()


def _pass_over(sock: socket.socket, port: int) -> None:
    """Have the kernel drop what this port did. The filter loads words as big endian, whatever the host is."""
    seen_as = int.from_bytes(port.to_bytes(4, sys.byteorder), "big")
    program = (
        (_LOAD_WORD, 0, 0, _PORT_OFFSET),
        (_JUMP_IF_EQUAL, 0, 1, seen_as),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, 0xFFFF_FFFF),
    )
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*line) for line in program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(len(program), ctypes.addressof(code)))
