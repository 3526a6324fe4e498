"""Our responder as a process: `python -m bench.answerer KEY PEER`, started by bench.responders.

Sockets, event loop, engine and key hand are the product's; the coordinator's word and the installation of SAs are
answered at once. KEY: our key, a PEM file. PEER: the public key of every peer, hexadecimal, as in an IPSECKEY record of
RSA.
"""

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bench.handshake import CLASSICAL
from oe.daemon.collector import calm
from oe.ike.endpoint import Endpoint
from oe.ike.udp import UdpSockets
from oe.keystore import KeyStore
from oe.messages import ChildInstalled, OctetsSigned, ReserveSpi, SendDatagram, SignOctets, SpiReserved
from oe.model import KeyAlgorithm, PublicKey
from oe.negotiation import ChildReady, IkeInput, IkeOutput, JudgePeer, PeerJudged


class Answerer:
    """An engine between sockets and a thread that signs, with a coordinator and a kernel that say yes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, keys: KeyStore, peer: PublicKey) -> None:
        self._loop, self._keys, self._peer = loop, keys, peer
        self._signer = ThreadPoolExecutor(1)
        self._endpoint = Endpoint(CLASSICAL, keys.public_keys, os.urandom, lambda _: True, count(1), count(1))
        self._timer: asyncio.TimerHandle | None = None
        self.sockets = UdpSockets(self.feed, mark=None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.sockets.close()
        self._signer.shutdown()

    def feed(self, first: IkeInput) -> None:
        """Work off an input and what follows from it at once."""
        inputs = deque([first])
        while inputs:
            self._endpoint.handle(inputs.popleft(), self._loop.time())
            for output in self._endpoint.take():
                if (answer := self._execute(output)) is not None:
                    inputs.append(answer)
        self._set_timer()

    def _ring(self) -> None:
        self._timer = None
        self._endpoint.expire(self._loop.time())
        for output in self._endpoint.take():
            self._execute(output)
        self._set_timer()

    def _set_timer(self) -> None:
        """A timer that rings too early only looks again: an earlier one than the last is what matters."""
        deadline = self._endpoint.deadline()
        if self._timer is not None and deadline is not None and self._timer.when() <= deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._ring)

    def _execute(self, output: IkeOutput) -> IkeInput | None:
        match output:
            case SendDatagram():
                self.sockets.send(output)
            case SignOctets(ticket, key, scheme, octets):
                future = self._loop.run_in_executor(self._signer, self._keys.sign, key, scheme, octets)
                future.add_done_callback(lambda done: self.feed(OctetsSigned(ticket, done.result())))
            case ReserveSpi(ticket):
                return SpiReserved(ticket, 0x1000 + ticket)
            case JudgePeer(ticket):
                return PeerJudged(ticket, (self._peer,), None)
            case ChildReady(ticket, child, directions):
                return ChildInstalled(ticket, child.id, directions)
        return None


async def serve(keys: KeyStore, peer: PublicKey) -> None:
    """Until SIGTERM."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    answerer = Answerer(loop, keys, peer)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    calm()
    answerer.sockets.open(loop)
    await stop.wait()
    answerer.close()


def main(arguments: Sequence[str]) -> None:
    path, peer = arguments
    key = load_pem_private_key(Path(path).read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    asyncio.run(serve(KeyStore((key,)), PublicKey(KeyAlgorithm.RSA, bytes.fromhex(peer))))


if __name__ == "__main__":
    main(sys.argv[1:])
