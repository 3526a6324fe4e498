"""The two netfilter queues: packets come in as `HeldPacket`, wait in the kernel, and leave by verdict."""

import asyncio
import os
import socket
import struct
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from netfilterqueue import COPY_PACKET, NetfilterQueue, Packet

from oe.errors import MachineLacks, ParseError
from oe.model import MARK_EXEMPT, HeldPacket
from oe.trap.packet import COPIED_OCTETS, peek

_DRAIN = 64
"""Packets per turn of the event loop: a flood must not keep timers and IKE waiting."""
_HOOK_PREROUTING = 0
_HOOKS_AT_THE_DOOR = (1, 2)
"""INPUT and FORWARD: clear packets from a `private` net on their way in."""
_STATISTICS = Path("/proc/thread-self/net/netfilter/nfnetlink_queue")


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """The kernel's count of one queue: packets that wait, and that it lost for want of room in queue or socket."""

    waiting: int
    dropped_queue_full: int
    dropped_socket_full: int


class _EnoughForNow(Exception):
    """Leaves `NetfilterQueue.run`, which otherwise goes on while packets arrive. Their verdicts are not touched."""


class TrapQueues:
    """Both queues on one event loop; one sequence of packet ids for the life of the object.

    `closed` and `open` are queue numbers. A full closed queue drops; a full open one lets pass, as its group does
    when nobody can be asked. `on_packet` gets every packet that waits for a verdict. `on_refused` gets every one that
    came in clear from a closed net: it is dropped whatever anybody says. `on_malformed` gets an account of every one
    that cannot be read. Such a packet is dropped from either queue: its own receiver could not read it, and letting
    pass what we do not understand would be a way around the trap.
    """

    def __init__(
        self,
        *,
        closed: int,
        open: int,
        on_packet: Callable[[HeldPacket], None],
        on_refused: Callable[[HeldPacket], None],
        on_malformed: Callable[[ParseError], None],
        max_len: int = 8192,
        receive_octets: int = 4 << 20,
    ) -> None:
        """Bind both queues. `MachineLacks` when a number is taken or the privilege is missing.

        `max_len` bounds the packets waiting in each queue, `receive_octets` the socket's buffer.
        """
        self._on_packet = on_packet
        self._on_refused = on_refused
        self._on_malformed = on_malformed
        self._numbers = (closed, open)
        self._ids = count(1)
        self._waiting: dict[int, Packet] = {}
        self._drained = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: list[NetfilterQueue] = []
        try:
            for number in self._numbers:
                self._queues.append(_bind(number, self._take, max_len, receive_octets))
            _let_pass_when_full(self._queues[1], open)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        """Packets that wait for a verdict of ours."""
        return len(self._waiting)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read the queues on `loop` from now on."""
        self._loop = loop
        for queue in self._queues:
            loop.add_reader(queue.get_fd(), self._drain, queue)

    def release(self, ids: Iterable[int], bits: int) -> None:
        """Let packets go in this order, each with `bits` added to its mark. Unknown ids are passed over.

        Only a changed mark makes the kernel choose route and IPsec policy again; a local packet that keeps its mark
        leaves by the choice made before it was trapped, in clear. So `bits` must have `MARK_EXEMPT`, which no
        trapped packet has; `ValueError` otherwise.
        """
        if not bits & MARK_EXEMPT:
            raise ValueError(f"release without MARK_EXEMPT: {bits:#x}")
        for id in ids:
            packet = self._waiting.pop(id, None)
            if packet is not None:
                packet.set_mark(packet.mark | bits)
                packet.accept()

    def drop(self, ids: Iterable[int]) -> None:
        """Drop packets. Unknown ids are passed over."""
        for id in ids:
            packet = self._waiting.pop(id, None)
            if packet is not None:
                packet.drop()

    def statistics(self) -> dict[int, QueueStatistics]:
        """Statistics by queue number; empty where the kernel does not show them (user namespaces)."""
        try:
            lines = _STATISTICS.read_text("ascii").splitlines()
        except OSError:
            return {}
        rows = (tuple(map(int, line.split())) for line in lines)
        return {row[0]: QueueStatistics(row[2], row[5], row[6]) for row in rows if row[0] in self._numbers}

    def close(self) -> None:
        """Give both queues up; the kernel drops what still waits in them."""
        while self._queues:
            queue = self._queues.pop()
            if self._loop is not None:
                self._loop.remove_reader(queue.get_fd())
            queue.unbind()
        self._waiting.clear()

    def _drain(self, queue: NetfilterQueue) -> None:
        self._drained = 0
        try:
            queue.run(False)
        except _EnoughForNow:
            return  # the descriptor stays readable: the loop comes back after its other work

    def _take(self, packet: Packet) -> None:
        try:
            held = peek(
                packet.get_payload(),
                id=next(self._ids),
                mark=packet.mark,
                forwarded=packet.hook == _HOOK_PREROUTING,
            )
        except ParseError as fault:
            packet.drop()
            self._on_malformed(fault)
        else:
            if packet.hook in _HOOKS_AT_THE_DOOR:
                packet.drop()
                self._on_refused(held)
            else:
                self._waiting[held.id] = packet
                self._on_packet(held)
        self._drained += 1
        if self._drained >= _DRAIN:
            raise _EnoughForNow


def _bind(number: int, callback: Callable[[Packet], None], max_len: int, receive_octets: int) -> NetfilterQueue:
    try:
        queue = NetfilterQueue()
    except OSError as fault:
        raise MachineLacks("no permission to use netfilter queues", "run as root or with CAP_NET_ADMIN") from fault
    try:
        with warnings.catch_warnings():
            # In a user namespace the buffer is what rmem_max allows; what it loses is in the statistics.
            warnings.simplefilter("ignore", RuntimeWarning)
            queue.bind(number, callback, max_len, COPY_PACKET, COPIED_OCTETS, receive_octets)
    except OSError as fault:
        raise MachineLacks(
            f"netfilter queue {number} cannot be bound, probably another program has it",
            "stop that program or choose other queue numbers",
        ) from fault
    return queue


def _let_pass_when_full(queue: NetfilterQueue, number: int) -> None:
    """Set NFQA_CFG_F_FAIL_OPEN. The kernel listens to the queue's own netlink port only, hence the duplicate.

    No acknowledgement is asked for: it would come between packets that wait to be read. Every kernel since 3.6
    has the flag.
    """

    def attribute(kind: int, value: int) -> bytes:
        return struct.pack("=HH", 8, kind) + struct.pack(">I", value)

    fail_open, nfqa_cfg_mask, nfqa_cfg_flags, config = 1, 4, 5, 3 << 8 | 2
    body = struct.pack(">BBH", 0, 0, number)
    body += attribute(nfqa_cfg_flags, fail_open) + attribute(nfqa_cfg_mask, fail_open)
    with socket.socket(fileno=os.dup(queue.get_fd())) as port:
        port.send(struct.pack("=IHHII", 16 + len(body), config, 1, 1, 0) + body)
