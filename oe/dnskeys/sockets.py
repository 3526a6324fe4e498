"""One query on a socket of its own, over UDP or TCP.

A socket is connected to its server before it sends: the kernel then gives it a random port, lets through only what
comes from the server's address and port, and reports it when nobody listens there.
"""

import asyncio
import socket
from collections.abc import Callable

from oe.dnskeys.exchange import SendQuery
from oe.errors import MachineLacks

MAX_DATAGRAM = 4096
"""Octets read of a UDP response; we ask for no more than 1232."""
MAX_DATAGRAMS_AT_ONCE = 8
"""Read from one socket before the loop gets its turn; one is expected."""

Heard = Callable[[int, bytes | None], None]
"""Called with the attempt's number and what came in; None when the socket has failed."""


def check_mark(mark: int) -> None:
    """Raise MachineLacks if sockets may not carry the mark; 0 is no mark and always allowed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            _set_mark(probe, mark)
        except PermissionError:
            raise MachineLacks("no permission to mark sockets", "run with CAP_NET_ADMIN") from None


class DatagramAttempt:
    """A query over UDP. Raises OSError when it cannot be sent."""

    def __init__(self, loop: asyncio.AbstractEventLoop, query: SendQuery, mark: int, heard: Heard) -> None:
        self._loop = loop
        self._number = query.attempt
        self._heard = heard
        self._socket = _open(query, socket.SOCK_DGRAM, mark)
        try:
            self._socket.connect((str(query.server.address), query.server.port))
            self._socket.send(query.data)
        except OSError:
            self._socket.close()
            raise
        loop.add_reader(self._socket, self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        try:
            for _ in range(MAX_DATAGRAMS_AT_ONCE):
                self._heard(self._number, self._socket.recv(MAX_DATAGRAM))
        except BlockingIOError:
            pass
        except OSError:
            self._loop.remove_reader(self._socket)
            self._heard(self._number, None)


class StreamAttempt:
    """A query over TCP, both ways with two octets of length before the message (RFC 1035 4.2.2)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, query: SendQuery, mark: int, heard: Heard) -> None:
        self._loop = loop
        self._number = query.attempt
        self._heard = heard
        self._unsent = len(query.data).to_bytes(2, "big") + query.data
        self._received = bytearray()
        self._socket = _open(query, socket.SOCK_STREAM, mark)
        # A connection that fails at once makes the socket writable, and sending then tells why.
        self._socket.connect_ex((str(query.server.address), query.server.port))
        loop.add_writer(self._socket, self._writable)

    def close(self) -> None:
        self._silence()
        self._socket.close()

    def _silence(self) -> None:
        self._loop.remove_writer(self._socket)
        self._loop.remove_reader(self._socket)

    def _writable(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._end(None)
            return
        if not self._unsent:
            self._loop.remove_writer(self._socket)
            self._loop.add_reader(self._socket, self._readable)

    def _readable(self) -> None:
        try:
            chunk = self._socket.recv(0xFFFF)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        self._received += chunk
        size = 2 + int.from_bytes(self._received[:2], "big")
        if len(self._received) >= max(size, 3):
            self._end(bytes(self._received[2:size]))
        elif not chunk:
            self._end(None)

    def _end(self, data: bytes | None) -> None:
        self._silence()
        self._heard(self._number, data)


def _open(query: SendQuery, kind: socket.SocketKind, mark: int) -> socket.socket:
    family = socket.AF_INET if query.server.address.version == 4 else socket.AF_INET6
    opened = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _set_mark(opened, mark)
    except OSError:
        opened.close()
        raise
    return opened


def _set_mark(target: socket.socket, mark: int) -> None:
    if mark:
        target.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
