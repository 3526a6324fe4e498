"""Traffic that never rests: UDP, TCP SYNs and pings, IPv4 and IPv6, from one host to the private net."""

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from tests.ipsec.netns import Namespace
from tests.waiting import PATIENCE

PORT = 7000
PAUSE = 0.002
"""Seconds between two rounds."""

_ECHO_REQUEST = {socket.AF_INET: (8, socket.IPPROTO_ICMP), socket.AF_INET6: (128, socket.IPPROTO_ICMPV6)}


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def echo_request(kind: int, number: int) -> bytes:
    """The checksum is ours to make in IPv4, and the kernel's in IPv6."""
    words = (kind << 8, 0x6F65, number & 0xFFFF)
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">HHHH", words[0], ~total & 0xFFFF, *words[1:])


class Traffic:
    """Sends one round after the other to each of `destinations` from `start` to `stop`."""

    def __init__(self, host: Namespace, destinations: Sequence[str], pause: float = PAUSE) -> None:
        self._host, self._destinations, self._pause = host, destinations, pause
        self._rounds = 0
        self._news = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def go_on(self, rounds: int = 30) -> None:
        """Wait until so many more rounds were sent."""
        with self._news:
            goal = self._rounds + rounds
            assert self._news.wait_for(lambda: self._rounds >= goal, PATIENCE)

    def _run(self) -> None:
        with self._host.entered():
            while not self._stopping.wait(self._pause):
                for destination in self._destinations:
                    self._send(destination)
                with self._news:
                    self._rounds += 1
                    self._news.notify_all()

    def _send(self, destination: str) -> None:
        family = family_of(destination)
        kind, protocol = _ECHO_REQUEST[family]
        for form, number, octets in (
            (socket.SOCK_DGRAM, 0, b"datagram"),
            (socket.SOCK_RAW, protocol, echo_request(kind, self._rounds)),
            (socket.SOCK_STREAM, 0, b""),
        ):
            # What the host's own rules refuse, and what has no route, is no error here.
            with suppress(OSError), socket.socket(family, form, number) as sender:
                sender.setblocking(False)
                sender.connect((destination, PORT))
                if octets:
                    sender.send(octets)


@contextmanager
def flowing(*flows: Traffic) -> Iterator[None]:
    for flow in flows:
        flow.start()
    try:
        yield
    finally:
        for flow in flows:
            flow.stop()
