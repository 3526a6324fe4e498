"""NAT detection (RFC 7296 2.23): each end hashes the addresses as it believes them, the other hashes those it sees.

N(NAT_DETECTION_SOURCE_IP) differs       the sender is behind a NAT, or wants ESP in UDP for reasons of its own
N(NAT_DETECTION_DESTINATION_IP) differs  the receiver is
"""

from collections.abc import Iterable
from enum import Flag, auto
from hashlib import sha1
from struct import Struct

from oe.ike.payloads import NotifyPayload, Payload
from oe.ike.registry import NotifyType
from oe.model import SocketAddress

_SPIS = Struct("!QQ")
_SOURCE, _DESTINATION = NotifyType.NAT_DETECTION_SOURCE_IP, NotifyType.NAT_DETECTION_DESTINATION_IP


class Nat(Flag):
    """Who is behind a NAT."""

    NOBODY = 0
    WE = auto()
    """Our own mapping may vanish: we keep it alive, and stay with the peer's address as it is."""
    PEER = auto()
    """The peer's address is its NAT's, and may change: we follow."""


def _digest(spis: tuple[int, int], end: SocketAddress) -> bytes:
    octets = _SPIS.pack(*spis) + end.address.packed + end.port.to_bytes(2, "big")
    return sha1(octets, usedforsecurity=False).digest()


def announce(spis: tuple[int, int], local: SocketAddress, remote: SocketAddress) -> tuple[NotifyPayload, ...]:
    """Both notifies of a message; `spis` as its header has them, the initiator's first."""
    return NotifyPayload(_SOURCE, _digest(spis, local)), NotifyPayload(_DESTINATION, _digest(spis, remote))


def detect(
    payloads: Iterable[Payload], spis: tuple[int, int], local: SocketAddress, remote: SocketAddress
) -> Nat | None:
    """What the notifies of a received message say; None: it has none, and its sender knows no NAT traversal.

    A sender with several addresses says several sources; one that fits is enough.
    """
    said: dict[NotifyType, set[bytes]] = {_SOURCE: set(), _DESTINATION: set()}
    for payload in payloads:
        if isinstance(payload, NotifyPayload) and payload.notify in said:
            said[payload.notify].add(payload.data)
    if not said[_SOURCE] or not said[_DESTINATION]:
        return None
    peer = Nat.NOBODY if _digest(spis, remote) in said[_SOURCE] else Nat.PEER
    return peer if _digest(spis, local) in said[_DESTINATION] else peer | Nat.WE
