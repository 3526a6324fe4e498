"""Attempts over UDP and TCP, each against a socket that the test holds."""

import asyncio
import os
import socket
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from oe.dnskeys.exchange import SendQuery
from oe.dnskeys.sockets import DatagramAttempt, StreamAttempt, check_mark
from oe.errors import MachineLacks
from oe.model import SocketAddress

Reaction = Callable[[socket.socket], None]


def listener(kind: socket.SocketKind, *, deaf: bool = False) -> tuple[socket.socket, SocketAddress]:
    """A server's socket. A deaf one refuses everybody, and keeps its port from being anybody else's."""
    opened = socket.socket(socket.AF_INET, kind)
    opened.bind(("127.0.0.1", 0))
    if kind is socket.SOCK_STREAM:
        if not deaf:
            opened.listen()
    elif deaf:
        opened.connect(("127.0.0.1", 1))
    return opened, SocketAddress(ip_address("127.0.0.1"), opened.getsockname()[1])


def over_udp(react: Callable[[socket.socket, bytes, tuple[str, int]], None], expected: int) -> list[bytes | None]:
    """What is heard until `expected` times, after `react` got the query."""

    async def run() -> list[bytes | None]:
        server, address = listener(socket.SOCK_DGRAM)
        done, heard = asyncio.Event(), []

        def hear(number: int, data: bytes | None) -> None:
            assert number == 7
            heard.append(data)
            if len(heard) == expected:
                done.set()

        with server:
            attempt = DatagramAttempt(asyncio.get_running_loop(), SendQuery(7, address, False, b"query"), 0, hear)
            react(server, *server.recvfrom(100))
            await done.wait()
            attempt.close()
        return heard

    return asyncio.run(run())


def over_tcp(react: Reaction | None) -> bytes | None:
    """What is heard after `react` got the connection; None: nobody accepts it."""

    async def run() -> bytes | None:
        server, address = listener(socket.SOCK_STREAM, deaf=react is None)
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[bytes | None] = loop.create_future()
        with server:
            attempt = StreamAttempt(
                loop, SendQuery(7, address, True, b"query"), 0, lambda number, data: heard.set_result(data)
            )
            if react is not None:
                await loop.run_in_executor(None, _serve, server, react)
            data = await heard
            attempt.close()
        return data

    return asyncio.run(run())


def _serve(server: socket.socket, react: Reaction) -> None:
    with server.accept()[0] as connection:
        assert connection.recv(7, socket.MSG_WAITALL) == b"\x00\x05query"
        react(connection)


def test_a_datagram_comes_back() -> None:
    def reverse(server: socket.socket, data: bytes, peer: tuple[str, int]) -> None:
        server.sendto(data[::-1], peer)

    assert over_udp(reverse, 1) == [b"yreuq"]


def test_more_than_one_datagram_is_read() -> None:
    def flood(server: socket.socket, data: bytes, peer: tuple[str, int]) -> None:
        for number in range(20):
            server.sendto(bytes([number]), peer)

    # In whatever order the kernel gets round to them.
    assert set(over_udp(flood, 20)) == {bytes([number]) for number in range(20)}


def test_nobody_at_the_other_end_is_told() -> None:
    async def run() -> None:
        server, address = listener(socket.SOCK_DGRAM, deaf=True)
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[bytes | None] = loop.create_future()
        with server:
            attempt = DatagramAttempt(
                loop, SendQuery(1, address, False, b"query"), 0, lambda number, data: heard.set_result(data)
            )
            assert await heard is None
            attempt.close()

    asyncio.run(run())


def test_what_cannot_be_sent_is_told_at_once() -> None:
    async def run() -> None:
        # A broadcast address of loopback: no route is needed to be refused there.
        nowhere = SocketAddress(ip_address("127.255.255.255"), 53)
        with pytest.raises(PermissionError):
            DatagramAttempt(asyncio.get_running_loop(), SendQuery(1, nowhere, False, b"query"), 0, lambda n, data: None)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("react", "expected"),
    [
        (lambda connection: connection.sendall(b"\x00\x06answer"), b"answer"),
        (lambda connection: connection.sendall(b"\x00\x06answer and more"), b"answer"),
        (lambda connection: [connection.sendall(bytes([octet])) for octet in b"\x00\x06answer"], b"answer"),
        (lambda connection: connection.sendall(b"\xff\xff" + bytes(0xFFFF)), bytes(0xFFFF)),
        (lambda connection: connection.sendall(b"\x00\x06answ"), None),
        (lambda connection: connection.sendall(b"\x00"), None),
        (lambda connection: connection.sendall(b"\x00\x00"), None),
        (lambda connection: None, None),
        (None, None),
    ],
)
def test_streams(react: Reaction | None, expected: bytes | None) -> None:
    assert over_tcp(react) == expected


def test_no_mark_needs_no_permission() -> None:
    check_mark(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes away what root may do")
def test_a_mark_needs_permission() -> None:
    check_mark(0x10000)
    os.seteuid(65534)
    try:
        with pytest.raises(MachineLacks, match="CAP_NET_ADMIN"):
            check_mark(0x10000)
    finally:
        os.seteuid(0)
