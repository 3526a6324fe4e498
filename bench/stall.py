"""How long a packet in the trap waits while a thousand peers begin at once: `python -m bench.stall`.

The responder is ours but for kernel and DNS: sockets, engines, coordinator and key hand on one event loop. The crowd is
another process (bench.crowd), and so is the pulse: datagrams with the time of sending, read by the same loop as packets
in the trap are. Measured is how long after that each is taken up, and how much CPU time the longest turn of the loop
took: the latter is ours alone, whatever else the machine does.
"""

import asyncio
import json
import os
import socket
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from ipaddress import ip_address, ip_network
from itertools import count
from secrets import randbelow
from selectors import DefaultSelector, SelectorKey
from time import monotonic, thread_time
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.crowd import STAMP, Task
from oe.daemon.collector import calm
from oe.dnskeys.resolver import TURN
from oe.gateway import Gateway, GatewaySettings, OwnSide
from oe.ike.endpoint import Endpoint
from oe.ike.settings import IkeSettings
from oe.ike.udp import UdpSockets
from oe.keystore import PUBLIC_EXPONENT, KeyStore
from oe.messages import (
    ChildInstalled,
    Command,
    Event,
    InstallChild,
    KeysLookedUp,
    LookUpKeys,
    OctetsSigned,
    ReserveSpi,
    SendDatagram,
    SignOctets,
    SpiReserved,
)
from oe.model import Delegation, Grade, Group, KeyAnswer, LookupOutcome, PublicKey, RecordKind
from oe.policy.groups import Entry, PolicySet
from oe.policy.outcome import GroupSettings
from oe.trap.holds import HoldTable

BUDGET = 20.0
"""Milliseconds."""
_HERE = ip_address("127.0.0.1")
_DNS_DELAY = 0.001
PATIENCE = 60.0
"""Seconds for all handshakes."""


@dataclass(frozen=True, slots=True)
class Result:
    """Waits are milliseconds."""

    peers: int
    established: int
    seconds: float
    pulses: int
    median: float
    p99: float
    longest: float
    longest_turn: float
    """The most CPU time of one turn of the loop."""
    idle_longest: float
    """The longest wait before the crowd began: what the machine itself does."""

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "unit": "ms", "budget": BUDGET}


class Responder:
    """The daemon's loop with a kernel that says yes and a DNS that knows everybody."""

    def __init__(self, keys: KeyStore, peer: PublicKey, ports: tuple[int, int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._keys, self._peer = keys, peer
        self._signer = ThreadPoolExecutor(1)
        self._events: deque[Event] = deque()
        self._questions: deque[LookUpKeys] = deque()
        self._working = False
        self._timer: asyncio.TimerHandle | None = None
        self._spis = count(0x1000)
        entry = Entry(ip_network("0.0.0.0/0"), Group.PRIVATE_OR_CLEAR, "private-or-clear", 1, "0.0.0.0/0")
        settings = GatewaySettings({group: GroupSettings() for group in Group}, ike_port=ports[0])
        tickets = count(1)
        self._gateway = Gateway(
            settings,
            PolicySet.of([entry])[0],
            OwnSide((_HERE,), (), keys.public_keys),
            lambda admits: Endpoint(IkeSettings(), keys.public_keys, os.urandom, admits, tickets, count(1)),
            HoldTable(per_pair=64, total=16384, patience=3.5),
            tickets,
            os.urandom,
        )
        self._sockets = UdpSockets(self.feed, mark=None, port=ports[0], nat_port=ports[1])
        self._sockets.open(self._loop)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._sockets.close()
        self._signer.shutdown()

    def feed(self, event: Event) -> None:
        self._events.append(event)
        if self._working:
            return
        self._working = True
        while self._events:
            self._gateway.handle(self._events.popleft(), self._loop.time())
            self._carry_out()
        self._working = False
        self._set_timer()

    def _ring(self) -> None:
        self._timer = None
        self._gateway.expire(self._loop.time())
        self._carry_out()
        self._set_timer()

    def _set_timer(self) -> None:
        deadline = self._gateway.deadline()
        if self._timer is not None:
            if self._timer.when() == deadline:
                return
            self._timer.cancel()
        self._timer = None if deadline is None else self._loop.call_at(max(deadline, self._loop.time()), self._ring)

    def _carry_out(self) -> None:
        for command in self._gateway.take():
            self._execute(command)

    def _execute(self, command: Command) -> None:
        match command:
            case SendDatagram():
                self._sockets.send(command)
            case SignOctets(ticket, key, scheme, octets):
                future = self._loop.run_in_executor(self._signer, self._keys.sign, key, scheme, octets)
                future.add_done_callback(lambda done: self.feed(OctetsSigned(ticket, done.result())))
            case ReserveSpi(ticket):
                self.feed(SpiReserved(ticket, next(self._spis)))
            case InstallChild(ticket, child, directions):
                self.feed(ChildInstalled(ticket, child.id, directions))
            case LookUpKeys():
                self._questions.append(command)
                if len(self._questions) == 1:
                    self._loop.call_later(_DNS_DELAY, self._answer_all)

    def _answer_all(self) -> None:
        """As `oe.dnskeys.resolver.Resolver` does: for a while, then others have their turn."""
        enough = self._loop.time() + TURN
        while self._questions and self._loop.time() <= enough:
            self._answer(self._questions.popleft())
        if self._questions:
            self._loop.call_soon(self._answer_all)

    def _answer(self, question: LookUpKeys) -> None:
        key = self._keys.public_keys[0] if question.owner == _HERE else self._peer
        delegation = Delegation(RecordKind.IPSECKEY, 10, question.owner, None, key)
        expires = self._loop.time() + 3600.0
        answer = KeyAnswer(
            question.owner, LookupOutcome.FOUND, Grade.SECURE, None, (delegation,), expires, "the bench says so"
        )
        self.feed(KeysLookedUp(question.ticket, answer))


@dataclass(frozen=True, slots=True)
class Pulse:
    """One datagram of the pulse; seconds."""

    sent: float
    waited: float


class Turns(DefaultSelector):
    """The loop's selector, which sees each turn begin and end; CPU seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.restart()

    def restart(self) -> None:
        """Forget what was before, this turn's beginning too."""
        self._began = thread_time()
        self.longest = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        self.longest = max(self.longest, thread_time() - self._began)
        ready = super().select(timeout)
        self._began = thread_time()
        return ready


def _result(peers: int, report: dict[str, Any], pulses: list[Pulse], turns: Turns) -> Result:
    def at(share: float) -> float:
        return round(waits[min(len(waits) - 1, int(len(waits) * share))] * 1000, 2)

    waits = sorted(pulse.waited for pulse in pulses if pulse.sent >= report["began"])
    idle = max((pulse.waited for pulse in pulses if pulse.sent < report["began"]), default=0.0)
    return Result(
        peers,
        report["done"],
        report["seconds"],
        len(waits),
        at(0.5),
        at(0.99),
        at(1.0),
        round(turns.longest * 1000, 2),
        round(idle * 1000, 2),
    )


class Trap:
    """Takes pulses up."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.pulses: list[Pulse] = []

    def readable(self) -> None:
        now = monotonic()
        try:
            while True:
                (sent,) = STAMP.unpack(self._sock.recv(STAMP.size))
                self.pulses.append(Pulse(sent, now - sent))
        except BlockingIOError:
            pass


def _free_ports() -> tuple[int, int]:
    """Two UDP ports for the responder, each with a free one behind it for the crowd.

    None that the kernel hands out by itself: the crowd binds its own later.
    """
    while True:
        first = 10_000 + randbelow(20_000)
        with ExitStack() as stack:
            try:
                for number in range(4):
                    stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)).bind(("", first + number))
            except OSError:
                continue
            return first, first + 2


async def _measure(peers: int, turns: Turns) -> Result:
    ours, theirs = (rsa.generate_private_key(PUBLIC_EXPONENT, 2048) for _ in range(2))
    keys, crowd_key = KeyStore((ours,)), KeyStore((theirs,)).public_keys[0]
    ports = _free_ports()
    responder = Responder(keys, crowd_key, ports)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(("127.0.0.1", 0))
        trap, loop = Trap(sock), asyncio.get_running_loop()
        loop.add_reader(sock, trap.readable)
        pem = theirs.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        calm()
        turns.restart()
        task = Task(peers, *ports, sock.getsockname()[1], pem, keys.public_keys[0].data.hex(), PATIENCE)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.crowd", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await process.communicate(json.dumps(asdict(task)).encode())
        loop.remove_reader(sock)
    responder.close()
    report = json.loads(printed)
    return _result(peers, report, trap.pulses, turns)


def measure(peers: int) -> Result:
    """`peers` handshakes in flight at once."""
    turns = Turns()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner:
        return runner.run(_measure(peers, turns))


def show(result: Result) -> None:
    click.echo(
        f"{result.established} of {result.peers} peers that began at once had their tunnel after {result.seconds} s"
    )
    click.echo(
        f"a packet in the trap waited {result.median} ms (median), {result.p99} ms (99 %), {result.longest} ms "
        f"(longest of {result.pulses}); {result.idle_longest} ms before they began"
    )
    click.echo(f"longest turn of the event loop: {result.longest_turn} ms of CPU; budget {BUDGET:.0f} ms")


@click.command()
@click.option("--peers", default=1000, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(peers: int, as_json: bool) -> None:
    """How long a packet in the trap waits while many peers begin at once."""
    result = measure(peers)
    if as_json:
        click.echo(json.dumps(result.plain()))
    else:
        show(result)


if __name__ == "__main__":
    main()
