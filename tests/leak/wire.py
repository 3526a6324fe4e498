"""The link of the host under test, as the router sees it: is there a clear packet to or from the private net?"""

import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address, ip_network

from oe.model import Address
from tests.ipsec.netns import Namespace
from tests.leak.ring import Ring
from tests.waiting import PATIENCE

NETS = (ip_network("198.18.0.0/16"), ip_network("2001:db8::/32"))
"""The private net, in both families."""

IKE_PORT, MARKER_PORT = 500, 9
ESP, UDP = 50, 17
_FAMILIES = {0x0800: 4, 0x86DD: 6}
_EXCHANGE_TYPE = 18

_address = cache(ip_address)


@cache
def _private(address: Address) -> bool:
    return any(address in net for net in NETS)


@dataclass(frozen=True)
class Packet:
    """Of one frame, what tells whether it may be there."""

    source: Address
    destination: Address
    protocol: int
    payload: bytes
    from_host: bool

    @property
    def clear(self) -> bool:
        """A packet to or from the private net, as it is; the gateways that tunnels run between are elsewhere."""
        return _private(self.source) or _private(self.destination)

    @property
    def exchange(self) -> int:
        """The exchange type of an IKE message; 0 for anything else."""
        is_ike = self.protocol == UDP and struct.unpack(">H", self.payload[2:4])[0] == IKE_PORT
        return self.payload[8 + _EXCHANGE_TYPE] if is_ike else 0

    @property
    def marker(self) -> bool:
        return self.protocol == UDP and struct.unpack(">H", self.payload[2:4])[0] == MARKER_PORT


def parse(octets: bytes, version: int, *, from_host: bool) -> Packet:
    """IPv4 or IPv6 without extension headers."""
    if version == 4:
        header, protocol, ends = (octets[0] & 15) * 4, octets[9], (octets[12:16], octets[16:20])
    else:
        header, protocol, ends = 40, octets[6], (octets[8:24], octets[24:40])
    source, destination = map(_address, ends)
    return Packet(source, destination, protocol, octets[header:], from_host)


class Wire:
    """Listens on `device` in `router` until `close`. `on_packet` hears of each packet in the listening thread."""

    def __init__(self, router: Namespace, host: Namespace, device: str, towards: str) -> None:
        self._host, self._towards = host, towards
        self.clear: list[Packet] = []
        self.esp = self._markers = 0
        self.on_packet: Callable[[Packet], None] = lambda packet: None
        self._news = threading.Condition()
        with router.entered():
            self._link = Ring(device)
        self._closing = False
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._closing:
            self._link.wait(0.2)
            for octets, protocol, outgoing in self._link.frames():
                if protocol in _FAMILIES:
                    self._take(parse(octets, _FAMILIES[protocol], from_host=not outgoing))

    def _take(self, packet: Packet) -> None:
        with self._news:
            if packet.clear:
                self.clear.append(packet)
            self.esp += packet.protocol == ESP and packet.from_host
            self._markers += packet.marker
            self._news.notify_all()
        self.on_packet(packet)

    def until(self, true: Callable[[], bool], what: str) -> None:
        with self._news:
            assert self._news.wait_for(true, PATIENCE), f"not within {PATIENCE:.0f} s: {what}"

    def carries_esp(self, more: int = 20) -> None:
        """Wait until the host has sent so many more ESP packets."""
        before = self.esp
        self.until(lambda: self.esp >= before + more, "ESP on the wire")

    def settle(self) -> None:
        """Wait until all that the host has sent so far is seen, and make sure that none was overlooked.

        Each processor delivers in order what it has sent, but not what another has: there is a marker of each.
        """
        before, processors = self._markers, os.sched_getaffinity(0)
        family = socket.AF_INET6 if ":" in self._towards else socket.AF_INET
        with self._host.entered(), socket.socket(family, socket.SOCK_DGRAM) as sender:
            try:
                for processor in processors:
                    os.sched_setaffinity(0, {processor})
                    sender.sendto(b"marker", (self._towards, MARKER_PORT))
            finally:
                os.sched_setaffinity(0, processors)
        self.until(lambda: self._markers >= before + len(processors), "the markers")
        assert self._link.overlooked() == 0

    def shows_no_clear_packet(self) -> bool:
        self.settle()
        return not self.clear

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self._link.close()
