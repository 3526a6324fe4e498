"""Small flows with plain sockets: connect or send, wait for the echo, measure the first answer and count losses.

A probe sends one packet at a time and the next after the answer, so that its first delay is what the first packet
of a new pair suffers. Every payload carries the caller's marker: what is found of it on a wire went in clear.
"""

import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

PORT = 7
"""Echo, TCP and UDP (RFC 862)."""
_PIECE = 65_536
"""Octets of a piece of `bulk`."""
_TCP_INFO_SIZE, _TCP_RTT, _TCP_TOTAL_RETRANS, _TCP_DSACK_DUPS = 220, 68, 100, 216
"""Octets of struct tcp_info up to tcpi_dsack_dups, and the offsets of tcpi_rtt, tcpi_total_retrans and that."""
_SYN_TIMER = 1.0
"""Seconds after which Linux repeats a SYN for the first time (RFC 6298 2.1)."""
_AT_ONCE = 0.001
"""Seconds to wait for what is there already."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a flow shall be. `patience` is the time in seconds to wait for the first answer."""

    protocol: str
    """tcp, udp, icmp, bulk (TCP in large pieces), or burst (UDP datagrams sent all at once)."""
    source: str
    destination: str
    marker: str
    count: int
    patience: float
    again: float = 0.3
    """The same for the answer to any packet but the first."""


@dataclass(frozen=True, slots=True)
class Echoes:
    """What became of a flow. Times are of the wall clock, as captures are."""

    sent: int
    answered: int
    lost: int
    """TCP: retransmitted segments; otherwise packets sent and not answered."""
    first_delay: float | None
    """Seconds from the first packet (TCP: connect) to the first answer."""
    error: str
    """Name of the errno with which the system refused at once, empty when it did not."""
    started: float
    ended: float


@dataclass(slots=True)
class _Tally:
    sent: int = 0
    answered: int = 0
    first_delay: float | None = None
    error: str = ""
    retransmitted: int | None = None

    def answer(self, since: float) -> None:
        self.answered += 1
        if self.first_delay is None:
            self.first_delay = time.monotonic() - since


def run(probe: Probe) -> Echoes:
    """Drive one flow to its end."""
    tally = _Tally()
    started = time.time()
    try:
        _FLOWS[probe.protocol](probe, tally)
    except TimeoutError:
        pass
    except OSError as error:
        tally.error = os.strerror(error.errno or 0)
    lost = tally.sent - tally.answered if tally.retransmitted is None else tally.retransmitted
    return Echoes(tally.sent, tally.answered, lost, tally.first_delay, tally.error, started, time.time())


def _socket(probe: Probe, kind: int, protocol: int = 0) -> socket.socket:
    family = socket.AF_INET if ip_address(probe.source).version == 4 else socket.AF_INET6
    made = socket.socket(family, kind, protocol)
    made.bind((probe.source, 0))
    made.settimeout(probe.patience)
    return made


def _payload(probe: Probe, number: int) -> bytes:
    return f"{probe.marker} {number:04d}".encode()


def _tcp(probe: Probe, tally: _Tally, repeat: int = 1) -> None:
    with _socket(probe, socket.SOCK_STREAM) as stream:
        started = time.monotonic()
        tally.sent = 1
        tally.retransmitted = needless = 0
        try:
            stream.connect((probe.destination, PORT))
            tally.first_delay = time.monotonic() - started
            needless = _needless_syns(stream)
            for number in range(probe.count):
                piece = _payload(probe, number) * repeat
                stream.sendall(piece)
                if _received(stream, len(piece)) != piece:
                    return
                tally.answered += 1
                tally.sent = tally.answered
        finally:
            repeated = _information(stream, _TCP_TOTAL_RETRANS)
            if tally.answered == probe.count:
                _close_both_ways(stream)
            # On a busy machine TCP probes when an answer is merely late; the peer says that it had it already.
            needless += _information(stream, _TCP_DSACK_DUPS)
            tally.retransmitted = max(0, repeated - needless)


def _needless_syns(stream: socket.socket) -> int:
    """SYNs that were repeated only because the answer to the first was late: the time stamp that it returns tells how
    old the SYN is that was answered."""
    waited = _information(stream, _TCP_RTT) / 1_000_000
    return _information(stream, _TCP_TOTAL_RETRANS) if waited >= _SYN_TIMER else 0


def _close_both_ways(stream: socket.socket) -> None:
    """Wait for the peer's last word: before it comes what it says of our last segments, and after it nothing."""
    with suppress(OSError):
        stream.shutdown(socket.SHUT_WR)
        while stream.recv(_PIECE):
            pass


def _information(stream: socket.socket, offset: int) -> int:
    """A number of struct tcp_info."""
    (number,) = struct.unpack_from("=I", stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE), offset)
    return int(number)


def _bulk(probe: Probe, tally: _Tally) -> None:
    """Pieces of many full segments: what does not fit through a tunnel gets stuck here."""
    _tcp(probe, tally, _PIECE // len(_payload(probe, 0)))


def _received(stream: socket.socket, size: int) -> bytes:
    """`size` octets, or fewer when the other side closes."""
    data = bytearray()
    while len(data) < size and (chunk := stream.recv(size - len(data))):
        data += chunk
    return bytes(data)


def _udp(probe: Probe, tally: _Tally) -> None:
    with _socket(probe, socket.SOCK_DGRAM) as datagrams:
        datagrams.connect((probe.destination, PORT))
        _ping_pong(probe, tally, datagrams, lambda number: _payload(probe, number), lambda data: data)


def _icmp(probe: Probe, tally: _Tally) -> None:
    version = ip_address(probe.source).version
    protocol, request = (socket.IPPROTO_ICMP, 8) if version == 4 else (socket.IPPROTO_ICMPV6, 128)
    answer = 0 if version == 4 else 129
    identifier = int.from_bytes(os.urandom(2), "big")

    def packet(number: int) -> bytes:
        body = struct.pack(">HH", identifier, number) + _payload(probe, number)
        summed = checksum(bytes([request, 0, 0, 0]) + body)  # for ICMPv6 the kernel does it again
        return struct.pack(">BBH", request, 0, summed) + body

    def echo(data: bytes) -> bytes:
        data = data[(data[0] & 15) * 4 :] if version == 4 and data else data
        return data[8:] if data[:1] == bytes([answer]) and data[4:6] == packet(0)[4:6] else b""

    with _socket(probe, socket.SOCK_RAW, protocol) as raw:
        raw.connect((probe.destination, 0))
        _ping_pong(probe, tally, raw, packet, echo)


def _ping_pong(
    probe: Probe, tally: _Tally, raw: socket.socket, packet: Callable[[int], bytes], echo: Callable[[bytes], bytes]
) -> None:
    """Send `count` packets, each after the answer to the one before. Unanswered at first: one more, then give up."""
    for number in range(probe.count):
        started = time.monotonic()
        raw.send(packet(number))
        tally.sent += 1
        patience = probe.again if number else probe.patience
        if _awaited(raw, _payload(probe, number), echo, started + patience):
            tally.answer(started)
        elif number > 0 and not tally.answered:
            return


def _awaited(raw: socket.socket, expected: bytes, echo: Callable[[bytes], bytes], deadline: float) -> bool:
    """Wait for one answer; others (late ones, errors of other flows) are passed over.

    What has come by the deadline counts, however late it is looked at: this process may have stood still meanwhile.
    """
    with suppress(TimeoutError):
        while True:
            raw.settimeout(max(deadline - time.monotonic(), _AT_ONCE))
            if echo(raw.recv(2048)) == expected:
                return True
    return False


def _burst(probe: Probe, tally: _Tally) -> None:
    """Send all datagrams at once; each is to be answered once, in any order.

    What is sent in the moment between a decision and the release of what waited for it overtakes that.
    """
    with _socket(probe, socket.SOCK_DGRAM) as datagrams:
        datagrams.connect((probe.destination, PORT))
        started = time.monotonic()
        for number in range(probe.count):
            datagrams.send(_payload(probe, number))
            tally.sent += 1
        awaited = {_payload(probe, number) for number in range(probe.count)}
        while awaited:
            datagrams.settimeout(probe.again if tally.answered else probe.patience)
            data = datagrams.recv(2048)
            if data in awaited:
                awaited.remove(data)
                tally.answer(started)


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071)."""
    padded = data + bytes(len(data) % 2)
    return 0xFFFF - int.from_bytes(padded, "big") % 0xFFFF


_FLOWS: dict[str, Callable[[Probe, _Tally], None]] = {
    "tcp": _tcp,
    "bulk": _bulk,
    "udp": _udp,
    "icmp": _icmp,
    "burst": _burst,
}
