"""Raw sockets that carry ESP of one local address."""

import socket
from contextlib import suppress

from oe.model import Address

_DATAGRAM = 1 << 16
_BUFFER = 4 << 20
_SO_MARK = socket.SO_MARK
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER = 10, 23
_PMTUDISC_DONT, _PMTUDISC_OMIT = 0, 5
"""Without DF: the kernel fragments what is too large. OMIT goes by the link's MTU alone. DONT also by what was learnt
of the path, even from the tunnel about this very host, and so fragments more than it must; but no router fragments
IPv6, so there it takes DONT to get through a narrow path."""


class EspSocket:
    """Sends and receives ESP (protocol 50) from and to one local address; never blocks."""

    def __init__(self, local: Address, mark: int) -> None:
        """Raises OSError: no right to raw sockets, or the address is not ours."""
        self._version = local.version
        family = socket.AF_INET if local.version == 4 else socket.AF_INET6
        self._socket = socket.socket(
            family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_ESP
        )
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
            for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
                # A user namespace must do with the default.
                with suppress(OSError):
                    self._socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
            if local.version == 4:
                self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_OMIT)
            else:
                self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
            self._socket.bind((str(local), 0))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, esp: bytes, remote: str) -> bool:
        """False if the kernel did not take it."""
        try:
            self._socket.sendto(esp, (remote, 0))
        except OSError:
            return False
        return True

    def receive(self) -> bytes | None:
        """ESP octets of the next packet; None when none waits. An IPv4 raw socket shows the IP header too."""
        try:
            octets = self._socket.recv(_DATAGRAM)
        except OSError:
            return None
        return octets if self._version == 6 else octets[(octets[0] & 15) * 4 :]

    def close(self) -> None:
        self._socket.close()
