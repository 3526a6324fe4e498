"""The daemon's hands: one method for every command of the coordinator.

Nothing here decides anything. What a command asks for comes back as an event; a kernel that refuses is an event too,
or, where nobody waits for an answer, a line in the log.
"""

import asyncio
import errno
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import singledispatchmethod
from itertools import islice
from typing import Protocol

import structlog

from oe.errors import KernelError, OeError
from oe.ipsec.model import Backend
from oe.messages import (
    ChildExpired,
    ChildInstalled,
    Command,
    CountersRead,
    Decide,
    Drop,
    Event,
    Finish,
    InstallChild,
    KeepMapping,
    LookUpKeys,
    MoveChild,
    Note,
    OctetsSigned,
    ReadCounters,
    Release,
    RemoveChild,
    ReserveSpi,
    SendDatagram,
    SignOctets,
    SpiReserved,
    Undecide,
)
from oe.model import (
    MARK_EXEMPT,
    MARK_SHIELD_CLOSED,
    MARK_SHIELD_OPEN,
    ChildCounters,
    HostPair,
    PublicKey,
    SignatureScheme,
    Verdict,
)
from oe.observe import Counters, write_note
from oe.reasons import Reason
from oe.trap.queue import QueueStatistics

_PORTION = 500
"""Rows of counters that are looked at in one turn of the loop: a millisecond or two."""


class Queues(Protocol):
    """As `oe.trap.queue.TrapQueues`."""

    def release(self, ids: Iterable[int], bits: int) -> None: ...
    def drop(self, ids: Iterable[int]) -> None: ...
    def statistics(self) -> dict[int, QueueStatistics]: ...


class Table(Protocol):
    """As `oe.trap.nft.NftTable`."""

    def decide(self, pair: HostPair, verdict: Verdict, lifetime: float, fail_closed: bool) -> None: ...
    def undecide(self, pair: HostPair) -> None: ...


class Sockets(Protocol):
    """As `oe.ike.udp.UdpSockets`."""

    def send(self, datagram: SendDatagram) -> None: ...
    def keep_mapping(self, mapping: KeepMapping) -> None: ...


class Keys(Protocol):
    """As `oe.dnskeys.resolver.Resolver`."""

    def look_up(self, question: LookUpKeys) -> None: ...


class Signer(Protocol):
    """As `oe.keystore.KeyStore`."""

    def sign(self, public_key: PublicKey, scheme: SignatureScheme, octets: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Tools:
    """The wings' I/O, opened."""

    queues: Queues
    table: Table
    sockets: Sockets
    resolver: Keys
    backend: Backend
    keys: Signer


class Hands:
    """Carries commands out. `feed(event)` takes an event to the coordinator, after the command at hand is done."""

    def __init__(
        self, tools: Tools, loop: asyncio.AbstractEventLoop, feed: Callable[[Event], None], finished: Callable[[], None]
    ) -> None:
        self._tools = tools
        self._signer = tools.keys
        self._loop = loop
        self._feed = feed
        self._finished = finished
        self._signers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="oe-sign")
        self._log = structlog.get_logger()
        self.counters = Counters()

    def close(self) -> None:
        """Wait for a signature that is being made."""
        self._signers.shutdown(cancel_futures=True)

    def sign_with(self, keys: Signer) -> None:
        """From now on signatures are made with these keys."""
        self._signer = keys

    def queue_rows(self) -> tuple[dict[str, int], ...]:
        """Statistics of the netfilter queues, for `oe status`."""
        return tuple({"queue": number, **asdict(row)} for number, row in self._tools.queues.statistics().items())

    @singledispatchmethod
    def carry_out(self, command: Command) -> None:
        """Carry out one command. There is a method for every kind, or the house is wrong."""
        raise TypeError(f"no hand for {type(command).__name__}")

    @carry_out.register
    def _(self, command: LookUpKeys) -> None:
        self._tools.resolver.look_up(command)

    @carry_out.register
    def _(self, command: SendDatagram) -> None:
        self._tools.sockets.send(command)

    @carry_out.register
    def _(self, command: KeepMapping) -> None:
        self._tools.sockets.keep_mapping(command)

    @carry_out.register
    def _(self, command: SignOctets) -> None:
        # RSA signing takes up to a millisecond and lets go of the interpreter: packets need not wait for it.
        future = self._loop.run_in_executor(
            self._signers, self._signer.sign, command.key, command.scheme, command.octets
        )
        future.add_done_callback(lambda done: self._signed(command, done))

    def _signed(self, command: SignOctets, done: "asyncio.Future[bytes]") -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._log.error("not-signed", key=command.key.fingerprint, error=str(error))
        self._feed(OctetsSigned(command.ticket, None if error is not None else done.result()))

    @carry_out.register
    def _(self, command: ReserveSpi) -> None:
        try:
            self._feed(SpiReserved(command.ticket, self._tools.backend.reserve_spi(command.local, command.remote)))
        except KernelError as error:
            # Without an answer the negotiation runs into its deadline, which is what there is to do.
            self._log.error("no-spi", error=str(error))

    @carry_out.register
    def _(self, command: InstallChild) -> None:
        reason, detail = None, ""
        try:
            self._tools.backend.install(command.child, command.directions)
        except KernelError as error:
            reason, detail = Reason.INSTALL_FAILED, str(error)
        self._feed(ChildInstalled(command.ticket, command.child.id, command.directions, reason, detail))

    @carry_out.register
    def _(self, command: RemoveChild) -> None:
        self._try("child-not-removed", lambda: self._tools.backend.remove(command.child))

    @carry_out.register
    def _(self, command: MoveChild) -> None:
        try:
            self._tools.backend.move(command.child, command.remote, command.encapsulation)
        except KernelError as error:
            self._log.error("child-not-moved", error=str(error))
            if error.errno != errno.EOPNOTSUPP:
                self._feed(ChildExpired(command.child, hard=True))

    @carry_out.register
    def _(self, command: ReadCounters) -> None:
        self._tools.backend.count(self._counted)

    @carry_out.register
    def _(self, command: Decide) -> None:
        self._try(
            "not-decided",
            lambda: self._tools.table.decide(command.pair, command.verdict, command.lifetime, command.fail_closed),
        )

    @carry_out.register
    def _(self, command: Undecide) -> None:
        self._try("not-undecided", lambda: self._tools.table.undecide(command.pair))

    @carry_out.register
    def _(self, command: Release) -> None:
        shield = MARK_SHIELD_CLOSED if command.fail_closed else MARK_SHIELD_OPEN
        tunnel = shield if command.verdict is Verdict.PROTECTED else 0
        # A mark that changes makes the kernel look for route and IPsec policy again.
        self._tools.queues.release(command.packets, MARK_EXEMPT | tunnel)

    @carry_out.register
    def _(self, command: Drop) -> None:
        self._tools.queues.drop(command.packets)

    @carry_out.register
    def _(self, command: Note) -> None:
        write_note(command)

    @carry_out.register
    def _(self, command: Finish) -> None:
        self._finished()

    def _counted(self, counters: Iterator[ChildCounters] | KernelError) -> None:
        if isinstance(counters, KernelError):
            self._log.warning("counters-not-read", error=str(counters))
            counters = iter(())
        portion = tuple(islice(counters, _PORTION))
        is_last = len(portion) < _PORTION
        self._feed(CountersRead(portion, is_last))
        if not is_last:
            self._loop.call_soon(self._counted, counters)

    def _try(self, event: str, action: Callable[[], None]) -> None:
        try:
            action()
        except OeError as error:
            self._log.error(event, error=str(error))
