"""Notices when somebody else lays hands on our table.

The kernel tells every listener of every change to nftables. Our own decisions, thousands a second perhaps, are sorted
out by a filter in the kernel: a notification bears the netlink address of who made the change.
"""

import ctypes
import socket
import struct
import sys
from collections.abc import Iterator

from oe.errors import ParseError
from oe.trap import nfnetlink

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES = 270, 1, 7
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_RECEIVE_OCTETS = 1 << 17
_BUFFER = 1 << 25
"""A hundred thousand intervals are told of in about as many octets."""

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
        self._make_room()
        self._socket.bind((0, 0))
        _pass_over(self._socket, own_port)
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)

    def fileno(self) -> int:
        return self._socket.fileno()

    def changed(self) -> bool:
        """Read all that waits. True if the table was touched, or if it is not known because notifications were lost."""
        return bool(list(self._authors()))

    def changed_beside(self, own: int) -> bool:
        """Read all that waits. True if the table was touched from another netlink address than `own`.

        Here and in `changed_since` what was lost does not count: so many notifications are `own`'s.
        """
        return bool({*self._authors(own)} - {own, None})

    def changed_since(self, own: int) -> bool:
        """The same, but what others did before `own` is made good by it."""
        last: int | None = None
        for author in self._authors(own):
            last = last if author is None else author
        return last not in (own, None)

    def _authors(self, own: int | None = None) -> Iterator[int | None]:
        """Who touched the table, by each datagram that waits; `own`'s are not looked into. None: not known."""
        while True:
            try:
                octets = self._socket.recv(_RECEIVE_OCTETS)
                author = nfnetlink.author(octets)
                if author == own or nfnetlink.touches(octets):
                    yield author
            except BlockingIOError:
                return
            except (OSError, ParseError):
                yield None

    def _make_room(self) -> None:
        """For the notifications of our own largest change. Some containers have to do with what everybody may have."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)

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
