"""Our responder as a process of its own, over real sockets."""

import asyncio

from bench.answerer import Answerer
from bench.handshake import Pair, Phase
from oe.ike.udp import UdpSockets
from oe.messages import DatagramReceived, SendDatagram
from oe.negotiation import CloseChild
from oe.reasons import Reason


class Wire(UdpSockets):
    """Sockets that nothing arrives at; what is sent is kept."""

    def __init__(self) -> None:
        super().__init__(lambda _: None, mark=None)
        self.sent: asyncio.Queue[SendDatagram] = asyncio.Queue()

    def send(self, datagram: SendDatagram) -> None:
        self.sent.put_nowait(datagram)


async def _handshake() -> int:
    """Child SAs that the initiator got."""
    pair, wire = Pair(), Wire()
    answerer = Answerer(asyncio.get_running_loop(), pair.responder.keys, pair.initiator.keys.public_keys[0])
    answerer.sockets = wire

    async def exchange(requests: list[SendDatagram], phase: Phase) -> list[SendDatagram]:
        (request,) = requests
        answerer.feed(DatagramReceived(request.remote, request.local, request.data))
        answer = await asyncio.wait_for(wire.sent.get(), 60.0)
        return pair.initiator.feed(DatagramReceived(answer.remote, answer.local, answer.data), 0.0, phase)

    requests = pair.initiator.feed(pair.initiator.negotiate(), 0.0, Phase.IKE_SA_INIT)
    requests = await exchange(requests, Phase.IKE_SA_INIT)
    assert not await exchange(requests, Phase.IKE_AUTH)
    found = len(pair.initiator.children)
    close = CloseChild(pair.initiator.children[0], Reason.OPERATOR_FLUSH)
    await exchange(pair.initiator.feed(close, 0.0, Phase.DELETE), Phase.DELETE)
    answerer.close()
    return found


def test_it_answers_a_whole_handshake() -> None:
    assert asyncio.run(_handshake()) == 1
