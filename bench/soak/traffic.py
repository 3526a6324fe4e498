"""Sends datagrams along flows, echoes them at the far end, and keeps books of what came back."""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from random import Random
from typing import Any

from bench.soak.plan import HOSTS, Flow, Kind
from bench.soak.world import inside

_ECHO = 7
_FROM = 7007
_NUMBER = struct.Struct("!Q")
_LONGEST = 2000
_IP_PKTINFO = 8
"""IP_PKTINFO of Linux; the `socket` module of Python 3.11 lacks it."""
ANSWERED_WITHIN = 10.0
"""Seconds; a datagram without an answer by then is lost. Longer than any packet is held."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A datagram to somebody who answers, and no answer. `at`: when it was sent, seconds since the traffic began."""

    at: float
    flow: Flow


@dataclass(slots=True)
class Books:
    """By kind of flow. `refused`: the kernel did not take it, as happens to a pair that is blocked."""

    sent: Counter[Kind] = field(default_factory=Counter)
    answered: Counter[Kind] = field(default_factory=Counter)
    refused: Counter[Kind] = field(default_factory=Counter)
    lost: Counter[Kind] = field(default_factory=Counter)
    losses: list[Loss] = field(default_factory=list)
    slowest: Counter[Kind] = field(default_factory=Counter)
    """Milliseconds until the answer."""

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        counts = {"sent": self.sent, "answered": self.answered, "refused": self.refused, "lost": self.lost}
        return {
            **{name: dict(count) for name, count in counts.items()},
            "slowest_ms": dict(self.slowest),
            "losses": [(loss.flow.kind, loss.at, *map(str, loss.flow.pair)) for loss in self.losses],
        }


class Traffic:
    """Both ends of all flows. Times are seconds since it was made. `heard(flow, at)`: what left at `at` was echoed."""

    def __init__(self, chance: Random, heard: Callable[[Flow, float], None] | None = None) -> None:
        self.books = Books()
        self.active: set[Flow] = set()
        self._chance = chance
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._zero = self._loop.time()
        self._serial = 0
        self._waiting: dict[int, tuple[float, Flow]] = {}
        self._senders = {host: _socket(host, _FROM) for host in HOSTS}
        self._echoes = {host: _socket(host, _ECHO) for host in HOSTS}
        for sender in self._senders.values():
            self._loop.add_reader(sender, self._answered, sender)
        for echo in self._echoes.values():
            self._loop.add_reader(echo, _echo, echo)

    def close(self) -> None:
        for one in (*self._senders.values(), *self._echoes.values()):
            self._loop.remove_reader(one)
            one.close()

    @property
    def now(self) -> float:
        return self._loop.time() - self._zero

    async def run(self, flows: Iterable[Flow]) -> None:
        """Drive flows, given in the order of their beginnings, until the last one has ended."""
        async with asyncio.TaskGroup() as group:
            for flow in flows:
                await asyncio.sleep(max(flow.begins - self.now, 0))
                group.create_task(self._drive(flow))

    def close_books(self) -> Books:
        """What has waited too long is lost; the books as they are now."""
        late = [number for number, (at, _) in self._waiting.items() if at < self.now - ANSWERED_WITHIN]
        for number in late:
            at, flow = self._waiting.pop(number)
            self.books.lost[flow.kind] += 1
            if flow.kind is not Kind.SILENT:
                self.books.losses.append(Loss(at, flow))
        return self.books

    async def _drive(self, flow: Flow) -> None:
        self.active.add(flow)
        while self.now < flow.ends:
            self._send(flow)
            await asyncio.sleep(self._chance.uniform(*flow.pauses))
        self.active.discard(flow)

    def _send(self, flow: Flow) -> None:
        self._serial += 1
        self.books.sent[flow.kind] += 1
        data = _NUMBER.pack(self._serial).ljust(flow.octets, b"\0")
        try:
            _send(self._senders[flow.host], data, flow.source, (str(flow.destination), _ECHO))
        except OSError:
            self.books.refused[flow.kind] += 1
        else:
            self._waiting[self._serial] = self.now, flow

    def _answered(self, sender: socket.socket) -> None:
        try:
            data = sender.recv(_LONGEST)
        except OSError:
            return  # an ICMP error for an earlier datagram
        known = self._waiting.pop(_NUMBER.unpack_from(data)[0], None)
        if known is not None:
            at, flow = known
            self.books.answered[flow.kind] += 1
            self.books.slowest[flow.kind] = max(self.books.slowest[flow.kind], round(1000 * (self.now - at)))
            if self._heard is not None:
                self._heard(flow, at)


def _socket(host: str, port: int) -> socket.socket:
    with inside(host):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    made.setblocking(False)
    made.bind(("", port))
    return made


def _send(sender: socket.socket, data: bytes, source: IPv4Address, to: tuple[str, int]) -> None:
    choice = bytes(4) + source.packed + bytes(4)  # struct in_pktinfo: interface, source, destination
    sender.sendmsg([data], [(socket.IPPROTO_IP, _IP_PKTINFO, choice)], 0, to)


def _echo(echo: socket.socket) -> None:
    """Answer from the very address that was asked."""
    try:
        data, ancillary, _, sender = echo.recvmsg(_LONGEST, 256)
        _send(echo, data, IPv4Address(ancillary[0][2][8:12]), sender)
    except OSError:
        return  # an ICMP error for an earlier answer, or an answer that policy forbids
