"""A netlink socket: requests with their answers, dumps, multicast groups."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from oe.errors import KernelError
from oe.ipsec import netlink_wire as wire
from oe.ipsec.netlink_wire import Message

NETLINK_ROUTE = 0
NETLINK_XFRM = 6

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP, _NETLINK_DROP_MEMBERSHIP = 1, 2
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11

_BUFFER = 1 << 20
_DATAGRAM = 1 << 17
_PATIENCE = 10.0
"""Seconds for an answer. The kernel answers at once, except for the first SA of a cipher, whose module it loads."""

_DUMP_ATTEMPTS = 5


class Netlink:
    """Speaks one netlink protocol, in the network namespace of the thread that made it."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind((0, 0))
        self._socket.settimeout(_PATIENCE)
        self._sequence = 0
        self.port: int = self._socket.getsockname()[0]
        """Ours: the kernel's news of what we have it do bear this number."""

    def request(self, kind: int, body: bytes, operation: str, subject: str, flags: int = 0) -> None:
        """Have something done. `operation` and `subject` are for the KernelError if the kernel refuses."""
        self._send(kind, flags | wire.ACK, body)
        for message in self._answers(operation, subject):
            if message.kind == wire.NLMSG_ERROR:
                self._check(message, operation, subject)
                return

    def ask(self, kind: int, body: bytes, operation: str, subject: str) -> Message:
        """A question with one answer. Raises KernelError."""
        self._send(kind, 0, body)
        message = next(self._answers(operation, subject))
        if message.kind == wire.NLMSG_ERROR:
            self._check(message, operation, subject)
        return message

    def dump(self, kind: int, body: bytes, subject: str) -> list[Message]:
        """All the kernel has of something, consistent in itself. Raises KernelError."""
        for _attempt in range(_DUMP_ATTEMPTS):
            self._send(kind, wire.DUMP, body)
            messages: list[Message] = []
            for message in self._answers("list", subject):
                if message.kind == wire.NLMSG_ERROR:
                    self._check(message, "list", subject)
                if message.kind == wire.NLMSG_DONE:
                    break
                messages.append(message)
            if not any(message.flags & wire.DUMP_INTERRUPTED for message in messages):
                break
        return messages

    def close(self) -> None:
        self._socket.close()

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(wire.encode_message(kind, flags, self._sequence, body, self.port))

    def _answers(self, operation: str, subject: str) -> Iterator[Message]:
        """Messages that answer the last request; leftovers of earlier ones are skipped. Raises KernelError."""
        while True:
            try:
                datagram = self._socket.recv(_DATAGRAM)
            except OSError as error:
                number = error.errno or errno.ETIMEDOUT
                raise KernelError(operation, subject, number, f"no answer: {os.strerror(number)}") from error
            for message in wire.decode_messages(datagram):
                if message.sequence == self._sequence:
                    yield message

    @staticmethod
    def _check(message: Message, operation: str, subject: str) -> None:
        answer = wire.decode_acknowledgement(message)
        if answer.errno:
            raise KernelError(operation, subject, answer.errno, answer.text or os.strerror(answer.errno))


class Walk:
    """A dump that is read a piece at a time, on a socket of its own; never blocks.

    What changes meanwhile may be in it, or not; what does not change is in it once.
    """

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
        )
        self._socket.bind((0, 0))
        self._sequence = 0
        self._subject = ""

    def fileno(self) -> int:
        """Readable when the next piece is there."""
        return self._socket.fileno()

    def begin(self, kind: int, body: bytes, subject: str) -> None:
        """Ask for everything of a kind. Raises KernelError.

        While the kernel is not done with a walk that was given up, this one fails when it is read.
        """
        self._sequence += 1
        self._subject = subject
        try:
            self._socket.send(wire.encode_message(kind, wire.DUMP, self._sequence, body))
        except OSError as error:
            raise self._failure(error.errno or errno.EIO) from error

    def receive(self) -> tuple[list[Message], bool]:
        """The next piece, empty if it is not there yet, and whether more will come.

        Raises KernelError: the walk is over.
        """
        try:
            datagram = self._socket.recv(_DATAGRAM)
        except BlockingIOError:
            return [], True
        except OSError as error:
            raise self._failure(error.errno or errno.EIO) from error
        messages: list[Message] = []
        for message in wire.decode_messages(datagram):
            if message.sequence != self._sequence:
                continue  # left over from a walk that was given up
            if message.kind == wire.NLMSG_ERROR:
                raise self._failure(wire.decode_acknowledgement(message).errno)
            if message.kind == wire.NLMSG_DONE:
                return messages, False
            messages.append(message)
        return messages, True

    def close(self) -> None:
        self._socket.close()

    def _failure(self, number: int) -> KernelError:
        return KernelError("list", self._subject, number, os.strerror(number))


class Multicast:
    """Hears multicast groups of a netlink protocol; never blocks."""

    def __init__(self, protocol: int, *groups: int) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        return self._socket.fileno()

    @contextmanager
    def hearing(self, group: int) -> Iterator[None]:
        """Hear one more group, from now to the end of the block."""
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        try:
            yield
        finally:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_DROP_MEMBERSHIP, group)
            self.skip()

    def receive(self) -> list[Message]:
        """The messages of one datagram; none when nothing waits. Raises OSError(ENOBUFS) after some were lost."""
        try:
            return list(wire.decode_messages(self._socket.recv(_DATAGRAM)))
        except BlockingIOError:
            return []

    def skip(self) -> None:
        """Read all that waits, and forget it; lost messages are no worse."""
        while True:
            try:
                self._socket.recv(_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def close(self) -> None:
        self._socket.close()
