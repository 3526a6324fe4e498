"""A crowd of peers: many addresses of 127/8 that all begin at once. `bench.stall` starts it as a process of its own.

Reads one JSON object from standard input and prints one. Beside the crowd a pulse: a datagram every 2 ms with the time
at which it was sent, which stands for a packet in the trap.
"""

import asyncio
import json
import os
import socket
import struct
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import count
from threading import Event, Thread
from time import monotonic, sleep

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from oe.ike.endpoint import Endpoint
from oe.ike.settings import IkeSettings
from oe.ike.udp import UdpSockets
from oe.keystore import KeyStore
from oe.messages import ChildInstalled, OctetsSigned, ReserveSpi, SendDatagram, SignOctets, SpiReserved
from oe.model import HostPair, Identity, KeyAlgorithm, PublicKey, SocketAddress
from oe.negotiation import ChildReady, IkeInput, IkeOutput, Negotiate, NegotiationEnded

PULSE = 0.002
"""Seconds between two of them."""
STAMP = struct.Struct("!d")
_PER_NET = 50
"""Addresses of one /24: less than what one prefix may have half open."""


@dataclass(frozen=True, slots=True)
class Task:
    """What the crowd is to do, as JSON on its standard input."""

    peers: int
    port: int
    """Of the responder on 127.0.0.1; `nat_port` likewise."""
    nat_port: int
    pulse_port: int
    key: str
    """PEM; every peer has the same one."""
    responder_key: str
    """Hexadecimal, as in an IPSECKEY record of RSA."""
    patience: float
    """Seconds for all handshakes."""


def address(number: int) -> IPv4Address:
    """The address of one peer of the crowd."""
    return IPv4Address((127 << 24) + (1 << 16) + (number // _PER_NET << 8) + number % _PER_NET + 1)


class Crowd:
    """Peers that share an engine, a key and sockets."""

    def __init__(self, task: Task, key: RSAPrivateKey) -> None:
        self._task = task
        self._keys = KeyStore((key,))
        self._tickets, self._spis = count(1), count(0x1000)
        self._engine = Endpoint(
            IkeSettings(), self._keys.public_keys, os.urandom, lambda _: True, self._tickets, count(1)
        )
        # The responder's two ports stand for 500 and 4500: a port of our own family may not be taken for them.
        self._sockets = UdpSockets(self._handle, mark=None, port=task.port + 1, nat_port=task.nat_port + 1)
        self._open = set[int]()
        self.done, self.failed = 0, 0
        self.finished = asyncio.Event()

    async def run(self) -> None:
        """All handshakes, until the last has ended somehow."""
        loop = asyncio.get_running_loop()
        self._sockets.open(loop)
        responder = SocketAddress(IPv4Address("127.0.0.1"), self._task.port)
        key = PublicKey(KeyAlgorithm.RSA, bytes.fromhex(self._task.responder_key))
        deadline = loop.time() + self._task.patience
        for number in range(self._task.peers):
            here = SocketAddress(address(number), self._task.port + 1)
            pair = HostPair(here.address, responder.address)
            ids = Identity.of(here.address), Identity.of(responder.address)
            ticket = next(self._tickets)
            self._open.add(ticket)
            self._handle(Negotiate(ticket, pair, here, responder, *ids, (key,), False, deadline))
        while not self.finished.is_set():
            await asyncio.sleep(0.005)
            if (due := self._engine.deadline()) is not None and due <= loop.time():
                self._engine.expire(loop.time())
                self._work()
        self._sockets.close()

    def _handle(self, event: IkeInput) -> None:
        self._engine.handle(event, monotonic())
        self._work()

    def _work(self) -> None:
        while outputs := self._engine.take():
            for output in outputs:
                answer = self._execute(output)
                if answer is not None:
                    self._engine.handle(answer, monotonic())

    def _execute(self, output: IkeOutput) -> IkeInput | None:
        match output:
            case SendDatagram():
                self._sockets.send(output)
            case SignOctets(ticket, key, scheme, octets):
                return OctetsSigned(ticket, self._keys.sign(key, scheme, octets))
            case ReserveSpi(ticket):
                return SpiReserved(ticket, next(self._spis))
            case ChildReady(ticket, child, directions, negotiation):
                self._end(negotiation, established=True)
                return ChildInstalled(ticket, child.id, directions)
            case NegotiationEnded(ticket):
                self._end(ticket, established=False)
        return None

    def _end(self, ticket: int | None, *, established: bool) -> None:
        if ticket in self._open:
            self._open.discard(ticket)
            self.done += established
            self.failed += not established
            if not self._open:
                self.finished.set()


def pulse(port: int, stop: Event) -> None:
    """Send the time, again and again, and some times more when told to stop."""
    left = 10
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while left:
            left -= stop.is_set()
            sleep(PULSE)
            sock.sendto(STAMP.pack(monotonic()), ("127.0.0.1", port))


async def main() -> None:
    task = Task(**json.load(sys.stdin))
    key = load_pem_private_key(task.key.encode(), None)
    assert isinstance(key, RSAPrivateKey)
    crowd, stop = Crowd(task, key), Event()
    thread = Thread(target=pulse, args=(task.pulse_port, stop))
    thread.start()
    await asyncio.sleep(0.5)
    began = monotonic()
    await crowd.run()
    seconds = monotonic() - began
    stop.set()
    thread.join()
    print(json.dumps({"began": began, "done": crowd.done, "failed": crowd.failed, "seconds": round(seconds, 3)}))


if __name__ == "__main__":
    asyncio.run(main())
