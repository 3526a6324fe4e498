"""A NAT between hosts of a `World`: the ones inside have addresses that nobody outside can reach."""

from collections.abc import Iterable
from ipaddress import ip_address
from itertools import count

from oe.messages import SendDatagram
from oe.model import Address, SocketAddress

_Mapping = tuple[SocketAddress, SocketAddress]


class NatBox:
    """Maps addresses and ports of what goes out; what comes in passes only along a mapping (RFC 4787: address- and
    port-dependent filtering). `forwards` are ports of the outside that always lead to one socket inside."""

    def __init__(self, outside: str, inside: Iterable[Address]) -> None:
        self.outside: Address = ip_address(outside)
        self.forwards: dict[int, SocketAddress] = {}
        self._inside = frozenset(inside)
        self._ports = count(61000)
        self._mapped: dict[_Mapping, int] = {}

    def rebind(self, outside: str | None = None) -> None:
        """Forget all mappings, as after a restart or a long silence; perhaps with another address from now on."""
        self._mapped.clear()
        if outside is not None:
            self.outside = ip_address(outside)

    def __call__(self, datagram: SendDatagram) -> SendDatagram | None:
        local, remote = datagram.local, datagram.remote
        if local.address in self._inside and remote.address not in self._inside:
            return SendDatagram(self._out(local, remote), remote, datagram.data)
        if remote.address in self._inside and local.address not in self._inside:
            return None  # No route leads there.
        if remote.address != self.outside:
            return datagram
        for (inner, peer), port in self._mapped.items():
            if port == remote.port and peer == local:
                return SendDatagram(local, inner, datagram.data)
        forwarded = self.forwards.get(remote.port)
        return None if forwarded is None else SendDatagram(local, forwarded, datagram.data)

    def _out(self, local: SocketAddress, remote: SocketAddress) -> SocketAddress:
        for port, inner in self.forwards.items():
            if inner == local:
                return SocketAddress(self.outside, port)
        port = self._mapped.setdefault((local, remote), next(self._ports))
        return SocketAddress(self.outside, port)
