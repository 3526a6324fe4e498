"""The TUN device: what the kernel routes into it is read here, what is written here the kernel receives."""

import errno
import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path
from struct import Struct

from oe.errors import MachineLacks
from oe.ipsec.coalesce import HEADER, Packet

_OVERHEAD = 85
"""Octets around an inner packet at most: IPv6 header 40, UDP 8, ESP header and IV 16, padding and trailer 5, ICV 16."""

_SMALLEST_MTU = 1280
"""Below this the kernel has no IPv6 on a device."""

_DEFAULT_MTU = 1500
_LARGEST = 1 << 16

_TUNSETIFF = 0x4004_54CA
_SIOCGIFMTU, _SIOCSIFMTU = 0x8921, 0x8922
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 1, 0x1000, 0x4000
_IFF_UP = 1
_IFREQ_FLAGS = Struct("=16sH22x")
_IFREQ_NUMBER = Struct("=16sI20x")

_DEVICE = "/dev/net/tun"
_SYSCTLS = (
    # Loose: packets arrive here whose way back, in the main table, is another device. 2 and not 0, for the larger of
    # this and of `all` holds, and only 2 is enough against a strict `all`.
    ("ipv4", "rp_filter", "2"),
    ("ipv6", "disable_ipv6", "0"),
    # No link-local address, no router solicitations: nobody is on this link.
    ("ipv6", "addr_gen_mode", "1"),
    ("ipv6", "accept_ra", "0"),
    ("ipv6", "router_solicitations", "0"),
)


class Tun:
    """An open TUN device, up, non-blocking; it vanishes with this object or with the process.

    `mtu`: octets of the largest packet that it takes.
    """

    mtu: int

    def __init__(self, name: str) -> None:
        """Raises MachineLacks without TUN, without the right to it, or when the name is taken."""
        self.name = name
        try:
            self._fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            denied = error.errno in (errno.EACCES, errno.EPERM)
            remedy = f"let this user open {_DEVICE}, or run as root" if denied else "load the module tun"
            raise MachineLacks(f"{_DEVICE} cannot be opened: {error.strerror}", remedy) from error
        try:
            fcntl.ioctl(self._fd, _TUNSETIFF, _IFREQ_FLAGS.pack(name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))
            self._configure()
        except OSError as error:
            os.close(self._fd)
            remedy = "end the other daemon" if error.errno == errno.EBUSY else "run with CAP_NET_ADMIN"
            raise MachineLacks(f"TUN device {name} cannot be made: {error.strerror}", remedy) from error
        self.index = socket.if_nametoindex(name)

    def fileno(self) -> int:
        return self._fd

    def read(self) -> bytes | None:
        """The next packet; None when none waits. Raises OSError when somebody removed the device."""
        try:
            return os.read(self._fd, _LARGEST)[HEADER:]
        except BlockingIOError:
            return None

    def write(self, packet: Packet) -> bool:
        """Hand a packet, in the pieces of `oe.ipsec.coalesce`, to the kernel; False if it does not take it."""
        try:
            os.writev(self._fd, packet)
        except OSError:
            return False
        return True

    def close(self) -> None:
        os.close(self._fd)

    def _configure(self) -> None:
        for family, key, value in _SYSCTLS:
            # Absent where the kernel has no such family or key; what matters shows when routes are added.
            with suppress(OSError):
                Path(f"/proc/sys/net/{family}/conf/{self.name}/{key}").write_text(value, "ascii")
        name = self.name.encode()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            self.mtu = _mtu(control, self.name)
            fcntl.ioctl(control, _SIOCSIFMTU, _IFREQ_NUMBER.pack(name, self.mtu))
            flags = _IFREQ_FLAGS.unpack(fcntl.ioctl(control, _SIOCGIFFLAGS, _IFREQ_FLAGS.pack(name, 0)))[1]
            fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ_FLAGS.pack(name, flags | _IFF_UP))


def _mtu(control: socket.socket, own: str) -> int:
    """What fits into one ESP packet on every link of this host that is up.

    Senders learn it: from the kernel's ICMP where they set DF, as TCP does; what they let be fragmented is fragmented
    before it is sealed. So the network sees no fragments of ESP, which firewalls like to drop, except where a path is
    narrower than all our links: ESP goes without DF, so that it is fragmented there and not lost.
    """
    mtus = [_DEFAULT_MTU]
    for _index, name in socket.if_nameindex():
        if name in ("lo", own):
            continue
        with suppress(OSError):  # it may be gone by now
            request = _IFREQ_NUMBER.pack(name.encode(), 0)
            if _IFREQ_FLAGS.unpack(fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1] & _IFF_UP:
                mtus.append(_IFREQ_NUMBER.unpack(fcntl.ioctl(control, _SIOCGIFMTU, request))[1])
    return max(_SMALLEST_MTU, min(mtus) - _OVERHEAD)
