"""A small network of real namespaces for the trap's tests: client ── gateway ── peer.

    client            gateway             peer
    10.1.0.2 ──────── 10.1.0.1
    fd01::2           fd01::1
                      10.2.0.1 ────────── 10.2.0.2     and all of 198.18.0.0/15, 2001:db8::/32
                      fd02::1             fd02::2

The peer answers for every address of the documentation nets, so that a test may choose any of them.
"""

import asyncio
import ctypes
import os
import select
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import ip_address

from oe.model import HeldPacket, HostPair
from oe.trap.queue import TrapQueues
from tests.waiting import PATIENCE, await_that

CLIENT, GATEWAY, PEER = "client", "gateway", "peer"
QUEUE_CLOSED, QUEUE_OPEN = 41, 42
PORT = 7000
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


class Network:
    """Three namespaces; `inside` moves the calling thread into one of them."""

    def __init__(self, tag: str) -> None:
        self._names = {role: f"oe-{tag}-{role}" for role in (CLIENT, GATEWAY, PEER)}

    def build(self) -> None:
        for name in self._names.values():
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        for role in self._names:
            with self.inside(role):
                run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        self._link(CLIENT, GATEWAY, 1)
        self._link(PEER, GATEWAY, 2)
        self.ip(CLIENT, "route add default via 10.1.0.1", "-6 route add default via fd01::1")
        self.ip(GATEWAY, "route add default via 10.2.0.2", "-6 route add default via fd02::2")
        self.ip(PEER, "route add 10.1.0.0/24 via 10.2.0.1", "-6 route add fd01::/64 via fd02::1")
        self.ip(PEER, "route add local 198.18.0.0/15 dev lo", "-6 route add local 2001:db8::/32 dev lo")
        with self.inside(GATEWAY):
            run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    def _link(self, left: str, right: str, net: int) -> None:
        ends = {left: 2, right: 1}
        run(
            *("ip", "link", "add", f"to-{right}", "netns", self._names[left], "type", "veth"),
            *("peer", "name", f"to-{left}", "netns", self._names[right]),
        )
        for role, other in ((left, right), (right, left)):
            self.ip(
                role,
                f"addr add 10.{net}.0.{ends[role]}/24 dev to-{other}",
                f"addr add fd0{net}::{ends[role]}/64 dev to-{other} nodad",
                f"link set to-{other} up",
            )
        # What is sent before the kernel has noticed the carrier is lost.
        for role, other in ((left, right), (right, left)):
            await_that(partial(self._is_up, role, f"to-{other}"), f"carrier from {role} to {other}")

    def _is_up(self, role: str, device: str) -> bool:
        return " state UP " in run("ip", "-n", self._names[role], "link", "show", device)

    def ip(self, role: str, *commands: str) -> None:
        for command in commands:
            run("ip", "-n", self._names[role], *command.split())

    def remove(self) -> None:
        for name in self._names.values():
            with suppress(subprocess.CalledProcessError):
                run("ip", "netns", "del", name)

    @contextmanager
    def inside(self, role: str) -> Iterator[None]:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self._names[role]}", os.O_RDONLY)
        try:
            _setns(there)
            yield
        finally:
            _setns(home)
            os.close(there)
            os.close(home)

    def nft(self, role: str, text: str) -> str:
        with self.inside(role):
            finished = subprocess.run(
                ["nft", "-f", "-"], input=text, text=True, check=True, capture_output=True, timeout=PATIENCE
            )
            return finished.stdout

    def listen(self, role: str = PEER, port: int = PORT, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """A socket that hears both families on `port`."""
        with self.inside(role):
            listener = socket.socket(socket.AF_INET6, kind)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("::", port))
            if kind == socket.SOCK_STREAM:
                listener.listen()
            listener.setblocking(False)
            return listener

    def send(
        self,
        destination: str,
        payload: bytes = b"?",
        *,
        role: str = GATEWAY,
        port: int = PORT,
        mark: int = 0,
        source_port: int = 0,
    ) -> None:
        """One UDP datagram; a refusal by the local table is no error."""
        family = socket.AF_INET6 if ":" in destination else socket.AF_INET
        with self.inside(role), socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            if source_port:
                sender.bind(("", source_port))
            with suppress(PermissionError, OSError):
                sender.sendto(payload, (destination, port))


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def hear(listener: socket.socket) -> bytes:
    """The next datagram."""
    readable, _, _ = select.select([listener], [], [], PATIENCE)
    assert readable, "nothing arrived"
    return listener.recv(4096)


def hears_nothing(*listeners: socket.socket, patience: float = 0.03) -> bool:
    """Whether nothing arrives. Delivery between namespaces is mostly a function call; what has left is there.

    Only to be asserted as it is: on a busy machine a datagram may come later than that.
    """
    return not select.select(listeners, [], [], patience)[0]


def pair(source: str, destination: str) -> HostPair:
    return HostPair(ip_address(source), ip_address(destination))


class Catcher:
    """Trap queues on an event loop of their own, and what came in."""

    def __init__(
        self,
        network: Network,
        role: str = GATEWAY,
        *,
        on_packet: Callable[[HeldPacket], None] | None = None,
        max_len: int = 1024,
    ) -> None:
        self.packets: list[HeldPacket] = []
        self.refused: list[HeldPacket] = []
        self.malformed: list[str] = []
        self._loop = asyncio.new_event_loop()
        with network.inside(role):
            self.queues = TrapQueues(
                closed=QUEUE_CLOSED,
                open=QUEUE_OPEN,
                on_packet=on_packet or self.packets.append,
                on_refused=self.refused.append,
                on_malformed=lambda fault: self.malformed.append(str(fault)),
                max_len=max_len,
            )
        self.queues.attach(self._loop)

    def turn(self) -> None:
        """Let the loop do all that is ready."""
        for _ in range(3):
            self.single_turn()

    def single_turn(self) -> None:
        """One round of the event loop."""
        self._loop.call_soon(self._loop.stop)
        self._loop.run_forever()

    def catch(self, count: int) -> list[HeldPacket]:
        """The next packets, at least `count` of them."""

        def trapped() -> bool:
            self.turn()
            return len(self.packets) >= count

        await_that(trapped, f"{count} packets trapped")
        caught, self.packets[:] = list(self.packets), []
        return caught

    def caught_nothing(self) -> bool:
        self.turn()
        return not self.packets

    def close(self) -> None:
        self.queues.close()
        self._loop.close()
