"""Ports for servers that a test starts."""

import socket
from itertools import islice
from pathlib import Path
from random import SystemRandom

_LOWEST = 10_000


def free_ports(number: int) -> list[int]:
    """So many ports that nobody has, neither for UDP nor for TCP.

    They are not among those that the kernel hands out by itself: from now until somebody binds them no client, our own
    queries included, takes one away by chance.
    """
    first_of_any = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(_LOWEST, max(first_of_any, 2 * _LOWEST))
    return list(islice(filter(_is_free, SystemRandom().sample(candidates, 100 + number)), number))


def _is_free(port: int) -> bool:
    """On all addresses of both families."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET6, kind) as probe:
            try:
                probe.bind(("::", port))
            except OSError:
                return False
    return True
