"""A name server that says what its script tells it, over UDP and TCP on one loopback port."""

import asyncio
import socket
from collections.abc import Callable
from ipaddress import ip_address
from types import TracebackType

import dns.message

from oe.model import SocketAddress
from tests.ports import free_ports

Script = Callable[[bytes, bool], bytes | None]
"""From a query and "is it TCP?" to the response; None: silence (UDP) or a closed connection (TCP)."""


class FakeServer(asyncio.DatagramProtocol):
    """`async with FakeServer(script) as server`: then `server.address` answers, `server.heard` remembers.

    With `replies_from` UDP responses leave through that socket, as a forger's would.
    """

    def __init__(self, script: Script, replies_from: socket.socket | None = None) -> None:
        self.script = script
        self.replies_from = replies_from
        self.heard: list[tuple[dns.message.Message, bool]] = []
        self.peers: set[tuple[str, int]] = set()
        self.has_heard = asyncio.Event()
        self._datagrams: asyncio.DatagramTransport
        self._streams: asyncio.Server
        self.address: SocketAddress

    async def __aenter__(self) -> "FakeServer":
        (port,) = free_ports(1)
        self._streams = await asyncio.start_server(self._serve, "127.0.0.1", port)
        loop = asyncio.get_running_loop()
        self._datagrams, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", port))
        self.address = SocketAddress(ip_address("127.0.0.1"), port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._datagrams.close()
        self._streams.close()
        await self._streams.wait_closed()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.peers.add(addr)
        if (response := self._answer(data, over_tcp=False)) is not None:
            (self.replies_from or self._datagrams).sendto(response, addr)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        if (response := self._answer(data, over_tcp=True)) is not None:
            octets = len(response).to_bytes(2, "big") + response
            for part in (octets[:1], octets[1:7], octets[7:]):
                writer.write(part)
                await writer.drain()
        writer.close()

    def _answer(self, data: bytes, *, over_tcp: bool) -> bytes | None:
        self.heard.append((dns.message.from_wire(data), over_tcp))
        self.has_heard.set()
        return self.script(data, over_tcp)
