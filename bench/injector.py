"""Packets for a router under test, as fast as a CPU can route them, as its network card would hand them over.

The kernel runs an XDP program on frames that it makes itself, and whatever the program passes goes up the stack from
the device that we name, in batches of 64: `BPF_PROG_TEST_RUN` with live frames, Linux 5.18. All that becomes of them,
soft interrupts included, happens inside that one system call, so that this thread's CPU clock has all of it.

The kernel uses the pages of frames again as they come back, so that a frame would be routed again as it left: from the
wrong MAC address, with one hop less. The program puts right what routing changes.
"""

import ctypes
import os
import platform
import struct
from ipaddress import IPv4Address

from oe.errors import MachineLacks

_SYSTEM_CALL = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _PROG_TEST_RUN = 5, 10
_TYPE_XDP, _LIVE_FRAMES, _PASS = 6, 2, 2
_LOAD = struct.Struct("=IIQQIIQ")
_TEST_RUN = struct.Struct("=4I2Q4I2Q3I4x")
_CONTEXT = struct.Struct("=6I")
_INSTRUCTION = struct.Struct("=BBhi")
_BATCH = 64
_REPAIRED = struct.Struct("=iH16xHH")
"""Of a frame: where it goes, in two parts; TTL and protocol; the checksum of the IP header."""
_REPAIRED_OCTETS = _REPAIRED.size
_EXIT = 0x95, 0, 0, 0


def frame(destination_mac: bytes, source: IPv4Address, destination: IPv4Address) -> bytes:
    """An Ethernet frame of the smallest size, without its check sequence: UDP in IPv4."""
    udp = struct.pack(">HHHH18x", 5000, 5000, 26, 0)
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 46, 0, 0, 64, 17, 0, source.packed, destination.packed)
    checksum = struct.pack(">H", _checksum(header))
    return destination_mac + b"\x02\0\0\0\0\1\x08\0" + header[:10] + checksum + header[12:] + udp


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Injector:
    """Sends one frame again and again, from a device of this process's network namespace."""

    def __init__(self, octets: bytes, interface: int) -> None:
        """`interface`: the number of the device that the frames seem to come from. Raises MachineLacks."""
        self._octets = octets
        self._context = _CONTEXT.pack(0, len(octets), 0, interface, 0, 0)
        code, licence = ctypes.create_string_buffer(_program(octets)), ctypes.create_string_buffer(b"Apache-2.0")
        count = (len(code) - 1) // _INSTRUCTION.size
        attributes = _LOAD.pack(_TYPE_XDP, count, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0)
        self._program = _bpf(_PROG_LOAD, attributes)

    def send(self, packets: int) -> None:
        """Comes back when all of them have been routed. Raises MachineLacks."""
        data, context = ctypes.create_string_buffer(self._octets), ctypes.create_string_buffer(self._context)
        where = ctypes.addressof(data), 0, packets, 0, len(self._context), 0, ctypes.addressof(context), 0
        _bpf(_PROG_TEST_RUN, _TEST_RUN.pack(self._program, 0, len(self._octets), 0, *where, _LIVE_FRAMES, 0, _BATCH))

    def close(self) -> None:
        os.close(self._program)


def _program(octets: bytes) -> bytes:
    """r1 is the context, which begins with where the frame begins and ends."""
    mac, rest_of_mac, ttl, checksum = _REPAIRED.unpack(octets[:_REPAIRED_OCTETS])
    instructions = (
        (0x61, 0x12, 0, 0),  # r2 = frame's beginning
        (0x61, 0x13, 4, 0),  # r3 = its end
        (0xBF, 0x24, 0, 0),  # r4 = r2 + as much as we write to
        (0x07, 0x04, 0, _REPAIRED_OCTETS),
        (0x2D, 0x34, 4, 0),  # shorter: leave it alone
        (0x62, 0x02, 0, mac),
        (0x6A, 0x02, 4, rest_of_mac),
        (0x6A, 0x02, 22, ttl),
        (0x6A, 0x02, 24, checksum),
        (0xB7, 0x00, 0, _PASS),
        _EXIT,
    )
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)


def _bpf(command: int, attributes: bytes) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    number = _SYSTEM_CALL.get(platform.machine())
    if number is None:
        raise MachineLacks(f"the number of the system call bpf on {platform.machine()}", "run it on x86-64 or ARM64")
    buffer = ctypes.create_string_buffer(attributes)
    done = int(library.syscall(number, command, buffer, len(attributes)))
    if done < 0:
        why = os.strerror(ctypes.get_errno())
        raise MachineLacks(f"live frames of XDP: {why}", "run as root, on Linux 5.18 or later with BPF")
    return done
