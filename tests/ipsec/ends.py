"""Two hosts, a back end on each, and what is to go between them."""

import asyncio
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial

from oe.errors import KernelError
from oe.ipsec.model import Backend, BackendEvent, Marks
from oe.model import Address, ChildCounters, ChildSa, Directions
from tests.ipsec import traffic
from tests.ipsec.children import OURS, OURS6, THEIRS, THEIRS6, mirrored
from tests.ipsec.netns import Namespace, Result
from tests.waiting import PATIENCE

Hosts = tuple[Namespace, Namespace]
Pair = tuple[Address, Address]
ADDRESSES: dict[int, Pair] = {4: (OURS, THEIRS), 6: (OURS6, THEIRS6)}

MARK_ALL = """
table inet shield {
  chain out {
    type route hook output priority mangle
    meta mark & 0x10000 != 0 accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    meta mark set %#x
  }
}
"""


class Ends:
    """The back ends of both hosts, started; where they need it, all packets of the hosts are marked for the tunnel."""

    def __init__(self, hosts: Hosts, make: Callable[[], Backend], mark: int) -> None:
        self.hosts = hosts
        self.events: list[BackendEvent] = []
        self.backends: list[Backend] = []
        for host in hosts:
            with host.entered():
                backend = make()
                self.backends.append(backend)
                backend.start(asyncio.get_running_loop(), self.events.append)
                if backend.tunnel_interface is not None:
                    subprocess.run(["nft", "-f", "-"], input=MARK_ALL % mark, text=True, check=True)

    def install(self, ours: ChildSa) -> None:
        for host, backend, end in zip(self.hosts, self.backends, (ours, mirrored(ours)), strict=True):
            with host.entered():
                backend.install(end, Directions.BOTH)

    def remove(self, child: int) -> None:
        for backend in self.backends:
            backend.remove(child)

    def close(self) -> None:
        for host, backend in zip(self.hosts, self.backends, strict=True):
            with host.entered():
                backend.close()


def with_ends(
    hosts: Hosts,
    make: Callable[[], Backend],
    scenario: Callable[[Ends], Awaitable[None]],
    mark: int = Marks().shield_closed,
) -> None:
    """Run a scenario with both ends up; they are closed when it ends, one way or the other."""

    async def run() -> None:
        ends = Ends(hosts, make, mark)
        try:
            await scenario(ends)
        finally:
            ends.close()

    asyncio.run(run())


async def counters(backend: Backend) -> tuple[ChildCounters, ...]:
    """What `Backend.count` tells, when it does; raises the KernelError that it may be."""
    answer: asyncio.Future[Iterator[ChildCounters] | KernelError] = asyncio.get_running_loop().create_future()
    backend.count(answer.set_result)
    told = await answer
    if isinstance(told, KernelError):
        raise told
    return tuple(told)


async def in_host(host: Namespace, function: Callable[[], Result]) -> Result:
    return await asyncio.wrap_future(host.submit(function))


async def exchange_datagram(hosts: Hosts, pair: Pair, size: int, patience: float = PATIENCE) -> None:
    """A datagram there and its copy back; TimeoutError when it does not come."""
    ours, theirs = hosts
    data = bytes(number % 251 for number in range(size))
    with theirs.call(partial(traffic.listening, pair[1], socket.SOCK_DGRAM, patience)) as server:
        answered = theirs.submit(partial(traffic.echo_datagram, server))
        try:
            assert await in_host(ours, partial(traffic.ask_datagram, *pair, data, patience)) == data
        finally:
            await asyncio.wrap_future(answered)


async def exchange_everything(ends: Ends, pair: Pair) -> None:
    """Small, large and fragmented datagrams, pings, and a megabyte of TCP."""
    ours, theirs = ends.hosts
    for size in (0, 1400, 3000, 20000):
        await exchange_datagram(ends.hosts, pair, size)
    for size in (56, 4000):
        await in_host(ours, partial(traffic.ping, *pair, size))
    data = bytes(range(256)) * 4096
    with theirs.call(partial(traffic.listening, pair[1], socket.SOCK_STREAM)) as server:
        received = theirs.submit(partial(traffic.take_stream, server))
        await in_host(ours, partial(traffic.send_stream, *pair, data))
        assert await asyncio.wrap_future(received) == data
    # The last acknowledgements may still be under way: what was sent is read after what came of it.
    mine, other = ends.backends
    [[before], [there], [after]] = [await counters(backend) for backend in (mine, other, mine)]
    assert after.outbound_packets >= there.inbound_packets > len(data) / 1500
    assert there.outbound_packets >= before.inbound_packets > 0


class Watch:
    """What both hosts send on the link; to be entered before the first packet."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._captures: list[traffic.Capture] = []
        self._stack = ExitStack()

    def __enter__(self) -> "Watch":
        self._captures = [self._stack.enter_context(host.call(traffic.capture)) for host in self._hosts]
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def protocols(self) -> set[int]:
        """IP protocols seen since the last call."""
        return {protocol for capture in self._captures for protocol in capture.protocols()}

    def packets(self) -> int:
        """How many packets were seen since the last call."""
        return sum(capture.protocols().total() for capture in self._captures)
