"""The UDP sockets of IKE: ports 500 and 4500, IPv4 and IPv6, each end's address known and chosen. I/O.

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
from ipaddress import IPv4Address, IPv6Address

from oe.errors import MachineLacks
from oe.messages import DatagramReceived, SendDatagram
from oe.model import Address, SocketAddress

IKE_PORT = 500
NAT_PORT = 4500
NON_ESP_MARKER = bytes(4)
"""Tells IKE from ESP on port 4500 (RFC 3948 2.2): no SPI is zero."""
DRAIN = 64
"""Datagrams read before the event loop gets its turn again."""
LARGEST = 65535

# Numbers of <linux/in.h> that Python's socket module lacks.
_IP_PKTINFO = 8
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT = 10, 23, 0
_IP_XFRM_POLICY, _IPV6_XFRM_POLICY = 17, 35

_PKTINFO4 = struct.Struct("=i4s4s")  # interface, our address to send from, address the datagram was sent to
_PKTINFO6 = struct.Struct("=16si")
_ANCILLARY = socket.CMSG_SPACE(_PKTINFO4.size) + socket.CMSG_SPACE(_PKTINFO6.size)


def _bypass_policy(family: int, direction: int) -> bytes:
    """struct xfrm_userpolicy_info: any selector, no limits, action allow; direction 0 is in, 1 is out."""
    selector = struct.pack("=40xH14x", family)
    lifetime = struct.pack("=8Q", *[2**64 - 1] * 4, 0, 0, 0, 0) + bytes(32)
    return selector + lifetime + struct.pack("=IIBBBB4x", 0, 0, direction, 0, 0, 0)


def _exempt(sock: socket.socket, mark: int) -> None:
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
            _exempt(sock, mark)
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


class UdpSockets:
    """All IKE sockets of a daemon. Datagrams go to `received`; errors of the network never come out of here."""

    def __init__(
        self,
        received: Callable[[DatagramReceived], None],
        *,
        mark: int | None,
        port: int = IKE_PORT,
        nat_port: int = NAT_PORT,
    ) -> None:
        """`mark`: exempts our datagrams from the trap; None leaves the sockets plain, which needs no privileges."""
        self._received = received
        self._mark = mark
        self.port = port
        self.nat_port = nat_port
        self.failures: Counter[str] = Counter()
        """Datagrams not sent or not understood, by errno name or cause."""
        self._sockets: dict[tuple[int, int], socket.socket] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._buffer = bytearray(LARGEST)

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
        try:
            sock.sendmsg([octets], [_source(local.address)], 0, (str(remote.address), remote.port))
        except OSError as error:
            self._count(error)

    def _drain(self, sock: socket.socket, port: int) -> None:
        for _ in range(DRAIN):
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
        if local.port == self.nat_port:
            if not data.startswith(NON_ESP_MARKER):
                # ESP in UDP that no SA in the kernel took, or a NAT keepalive (RFC 3948 2.3).
                self.failures["not-ike"] += 1
                return
            data = data[len(NON_ESP_MARKER) :]
        # A link-local address comes with its interface ("fe80::1%eth0"), which is no part of who the peer is.
        text = remote[0].partition("%")[0]
        address: Address = IPv4Address(text) if local.address.version == 4 else IPv6Address(text)
        self._received(DatagramReceived(local, SocketAddress(address, remote[1]), data))

    def _count(self, error: OSError) -> None:
        self.failures[errno.errorcode.get(error.errno or 0, "unknown")] += 1


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
