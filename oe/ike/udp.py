"""The UDP sockets of IKE: ports 500 and 4500, IPv4 and IPv6, each end's address known and chosen. I/O.

On port 4500, where there is a NAT on the way, ESP goes beside IKE (RFC 3948):

    00 00 00 00 ...   IKE, after the non-ESP marker
    SPI ...           ESP: the kernel's, or handed to who asked for it (`deliver_esp`)
    ff                keepalive, ignored

One unconnected socket per port and family. The kernel tells with each datagram which of our addresses it was sent to
(IP_PKTINFO, RFC 3542), and an answer leaves from there. Both sockets are exempt from IPsec policies of the kernel: IKE
must get through even where a Child SA covers all traffic between the two gateways.
"""

import asyncio
import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from time import monotonic

from oe.errors import MachineLacks
from oe.messages import DatagramReceived, KeepMapping, SendDatagram
from oe.model import Address, SocketAddress

IKE_PORT = 500
NAT_PORT = 4500
NON_ESP_MARKER = bytes(4)
"""Tells IKE from ESP on port 4500 (RFC 3948 2.2): no SPI is zero."""
TURN = 0.002
"""Seconds spent on datagrams and what they start before the event loop gets its turn again: a key exchange takes a
while, and packets wait in the trap."""
LARGEST = 65535
KEEPALIVE = b"\xff"
MOST_MAPPINGS = 10_000
"""That are known to be quiet. Beyond that we forget them, and a keepalive may come one interval late."""

# Numbers of <linux/in.h> that Python's socket module lacks.
_IP_PKTINFO = 8
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT = 10, 23, 0
_IP_XFRM_POLICY, _IPV6_XFRM_POLICY = 17, 35
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_UDP_ENCAP, _UDP_ENCAP_ESPINUDP = 100, 2
_ESP_BUFFER = 4 << 20

_PKTINFO4 = struct.Struct("=i4s4s")  # interface, our address to send from, address the datagram was sent to
_PKTINFO6 = struct.Struct("=16si")
_ANCILLARY = socket.CMSG_SPACE(_PKTINFO4.size) + socket.CMSG_SPACE(_PKTINFO6.size)


def _bypass_policy(family: int, direction: int) -> bytes:
    """struct xfrm_userpolicy_info: any selector, no limits, action allow; direction 0 is in, 1 is out."""
    selector = struct.pack("=40xH14x", family)
    lifetime = struct.pack("=8Q", *[2**64 - 1] * 4, 0, 0, 0, 0) + bytes(32)
    return selector + lifetime + struct.pack("=IIBBBB4x", 0, 0, direction, 0, 0, 0)


def exempt(sock: socket.socket, mark: int) -> None:
    """Keep a socket's datagrams out of the trap (by mark) and out of IPsec policies (by a policy of its own)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    level, option = socket.IPPROTO_IP, _IP_XFRM_POLICY
    if sock.family == socket.AF_INET6:
        level, option = socket.IPPROTO_IPV6, _IPV6_XFRM_POLICY
    for direction in (0, 1):
        try:
            sock.setsockopt(level, option, _bypass_policy(sock.family, direction))
        except OSError as error:
            # A kernel without XFRM has no policies to be exempt from.
            if error.errno not in (errno.ENOPROTOOPT, errno.EOPNOTSUPP):
                raise


def _open(family: socket.AddressFamily, port: int, mark: int | None) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            # A large IKE message may be fragmented by IP on its way rather than be lost.
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
        if mark is not None:
            exempt(sock, mark)
        sock.bind(("::" if family == socket.AF_INET6 else "", port))
    except BaseException:
        sock.close()
        raise
    return sock


def _lacking(error: OSError, port: int) -> MachineLacks:
    if error.errno == errno.EADDRINUSE:
        return MachineLacks(
            f"UDP port {port} is in use",
            f"stop the other IKE daemon (`ss -ulpn sport = :{port}` names it): two cannot share the port",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return MachineLacks(
            f"no right to open UDP port {port} with a mark and a policy exemption",
            "run as root or with CAP_NET_ADMIN and CAP_NET_BIND_SERVICE",
        )
    return MachineLacks(f"UDP port {port} cannot be opened: {error.strerror}", "see the kernel's message above")


EspReceiver = Callable[[SocketAddress, SocketAddress, bytes], None]
_Way = tuple[int, tuple[str, int]]
"""Our port, and the peer's address and port as the socket module has them."""


class UdpSockets:
    """All IKE sockets of a daemon. Datagrams go to `received`; errors of the network never come out of here."""

    def __init__(
        self,
        received: Callable[[DatagramReceived], None],
        *,
        mark: int | None,
        port: int = IKE_PORT,
        nat_port: int = NAT_PORT,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`mark`: exempts our datagrams from the trap; None leaves the sockets plain, which needs no privileges."""
        self._received = received
        self._mark = mark
        self._clock = clock
        self.port = port
        self.nat_port = nat_port
        self.failures: Counter[str] = Counter()
        """Datagrams not sent or not understood, by errno name or cause."""
        self._sockets: dict[tuple[int, int], socket.socket] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._buffer = bytearray(LARGEST)
        self._deliver_esp: EspReceiver | None = None
        self._quiet: set[_Way] = set()
        """Where nothing went since the last `KeepMapping`."""

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open and read all sockets. MachineLacks when a port is taken or a privilege is missing.

        A machine without IPv6 does without its sockets.
        """
        try:
            for port in (self.port, self.nat_port):
                for family in (socket.AF_INET, socket.AF_INET6):
                    self._open_one(family, port)
        except MachineLacks:
            self.close()
            raise
        self._loop = loop
        for (_, port), sock in self._sockets.items():
            loop.add_reader(sock.fileno(), self._drain, sock, port)

    def _open_one(self, family: socket.AddressFamily, port: int) -> None:
        try:
            self._sockets[family, port] = _open(family, port, self._mark)
        except OSError as error:
            if family == socket.AF_INET6 and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                return
            raise _lacking(error, port) from error

    def close(self) -> None:
        """Stop reading and close. May be called again."""
        for sock in self._sockets.values():
            if self._loop is not None:
                self._loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()

    def send(self, datagram: SendDatagram) -> None:
        """Send from `datagram.local`. What the network refuses is counted: IKE's retransmission deals with loss."""
        local, remote = datagram.local, datagram.remote
        family = socket.AF_INET if local.address.version == 4 else socket.AF_INET6
        sock = self._sockets.get((family, local.port))
        if sock is None:
            self.failures["no-socket"] += 1
            return
        octets = NON_ESP_MARKER + datagram.data if local.port == self.nat_port else datagram.data
        there = (str(remote.address), remote.port)
        self._quiet.discard((local.port, there))
        try:
            sock.sendmsg([octets], [_source(local.address)], 0, there)
        except OSError as error:
            self._count(error)

    def keep_mapping(self, mapping: KeepMapping) -> None:
        """Send a keepalive, unless something was sent there since the last call for the same mapping."""
        local, remote = mapping.local, mapping.remote
        way = (local.port, (str(remote.address), remote.port))
        if way in self._quiet:
            self.carrier(local, remote)(KEEPALIVE)
        elif len(self._quiet) >= MOST_MAPPINGS:
            self._quiet.clear()
        self._quiet.add(way)

    # --- ESP in UDP ------------------------------------------------------------------------------------------

    def leave_esp_to_kernel(self) -> None:
        """From now on the kernel takes ESP out of the NAT port's sockets, for its own SAs; or raise MachineLacks."""
        for sock in self._nat_sockets():
            try:
                sock.setsockopt(socket.IPPROTO_UDP, _UDP_ENCAP, _UDP_ENCAP_ESPINUDP)
            except OSError as error:
                text = f"the kernel does not take ESP out of UDP port {self.nat_port}: {error.strerror}"
                raise MachineLacks(text, "a kernel with XFRM and ESP (CONFIG_XFRM, CONFIG_INET_ESP)") from error

    def deliver_esp(self, deliver: EspReceiver) -> None:
        """From now on ESP that arrives is handed out: where it arrived, where it came from, and its octets."""
        self._deliver_esp = deliver
        for sock in self._nat_sockets():
            for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
                # Without CAP_NET_ADMIN in the first user namespace the default must do.
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, option, _ESP_BUFFER)

    def carrier(self, local: SocketAddress, remote: SocketAddress) -> Callable[[bytes], bool]:
        """What sends ESP from `local` to `remote`; it says False when the kernel did not take it."""
        family = socket.AF_INET if local.address.version == 4 else socket.AF_INET6
        source, there = [_source(local.address)], (str(remote.address), remote.port)
        way = (local.port, there)

        def send(esp: bytes) -> bool:
            sock = self._sockets.get((family, local.port))
            if sock is None:
                return False
            self._quiet.discard(way)
            try:
                sock.sendmsg([esp], source, 0, there)
            except OSError as error:
                self._count(error)
                return False
            return True

        return send

    def _nat_sockets(self) -> list[socket.socket]:
        return [sock for (_, port), sock in self._sockets.items() if port == self.nat_port]

    def _drain(self, sock: socket.socket, port: int) -> None:
        enough = self._clock() + TURN
        # Beyond that the socket stays readable: the loop comes back after its other work.
        while self._clock() <= enough:
            try:
                size, ancillary, _, remote = sock.recvmsg_into([self._buffer], _ANCILLARY)
            except BlockingIOError:
                return
            except OSError as error:  # An ICMP error that waited for us; the next datagram is behind it.
                self._count(error)
                continue
            local = _destination(ancillary)
            if local is None:
                self.failures["no-local-address"] += 1
                continue
            self._pass_on(SocketAddress(local, port), remote, bytes(self._buffer[:size]))

    def _pass_on(self, local: SocketAddress, remote: tuple[str, int], data: bytes) -> None:
        # A link-local address comes with its interface ("fe80::1%eth0"), which is no part of who the peer is.
        there = SocketAddress(_address(remote[0].partition("%")[0]), remote[1])
        if local.port != self.nat_port:
            self._received(DatagramReceived(local, there, data))
        elif data.startswith(NON_ESP_MARKER):
            self._received(DatagramReceived(local, there, data[len(NON_ESP_MARKER) :]))
        elif data == KEEPALIVE:
            return
        elif self._deliver_esp is not None:
            self._deliver_esp(local, there, data)
        else:
            self.failures["not-ike"] += 1

    def _count(self, error: OSError) -> None:
        self.failures[errno.errorcode.get(error.errno or 0, "unknown")] += 1


@lru_cache(4096)
def _address(text: str) -> Address:
    return ip_address(text)


def _source(address: Address) -> tuple[int, int, bytes]:
    """The control message that chooses the address to send from."""
    if address.version == 4:
        return socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO4.pack(0, address.packed, bytes(4))
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(address.packed, 0)


def _destination(ancillary: list[tuple[int, int, bytes]]) -> Address | None:
    """Which of our addresses the datagram was sent to."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(data) == _PKTINFO4.size:
            return IPv4Address(_PKTINFO4.unpack(data)[2])
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(data) == _PKTINFO6.size:
            return IPv6Address(_PKTINFO6.unpack(data)[0])
    return None
