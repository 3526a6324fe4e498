"""Which user runs the resolver on this host? Its upstream traffic must pass the trap untouched."""

import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from oe.model import Address, SocketAddress

_TABLES = ("udp", "udp6", "tcp", "tcp6")
_MAPPED = "::ffff:"
_COLUMNS = 8
"""Columns up to the uid: slot, local, remote, state, queues, timer, retransmissions, uid."""


def resolver_owner(server: SocketAddress, proc: Path = Path("/proc/net")) -> int | None:
    """Uid of the process whose socket is bound to `server`, in this network namespace.

    An exact address counts before a wildcard one. None: `server` is not on loopback, or nothing listens there.
    """
    if not server.address.is_loopback:
        return None
    tables = [path.read_text() for name in _TABLES if (path := proc / name).exists()]
    owners = {local: uid for table in reversed(tables) for local, uid in _bound(table)}
    for address in (server.address, *_wildcards(server.address)):
        if (uid := owners.get(SocketAddress(address, server.port))) is not None:
            return uid
    return None


def _wildcards(address: Address) -> tuple[Address, ...]:
    """Bound addresses that receive for it too; a v6 socket serves v4 unless told otherwise."""
    if isinstance(address, IPv4Address):
        return IPv6Address(f"{_MAPPED}{address}"), IPv4Address(0), IPv6Address(0)
    return (IPv6Address(0),)


def _bound(table: str) -> list[tuple[SocketAddress, int]]:
    """Local address and uid of every unconnected socket in a table of /proc/net."""
    found = []
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) >= _COLUMNS and columns[2].endswith(":0000"):
            address, _, port = columns[1].partition(":")
            found.append((SocketAddress(_address(address), int(port, 16)), int(columns[7])))
    return found


def _address(digits: str) -> Address:
    """The kernel prints each 32-bit word of an address as a number of its own byte order."""
    words = (int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8))
    packed = b"".join(words)
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
