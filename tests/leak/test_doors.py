"""What comes in from the private net comes through its tunnel, or not at all."""

import socket
from contextlib import closing

import pytest

from tests.ipsec.netns import Namespace
from tests.leak.traffic import family_of
from tests.leak.world import FROM_HOST, Daemon, World
from tests.waiting import PATIENCE

pytestmark = pytest.mark.netns

SINK = 7001
HERE, BEHIND = ("10.2.0.1", "fd02::1"), ("10.1.0.2", "fd01::2")
OUTSIDE = ("10.2.0.2", "fd02::2")
"""The router's own addresses, in no group."""


def send_as(sender: Namespace, source: str, destination: str, payload: bytes) -> None:
    """A datagram from any source: its address need not be there."""
    family = family_of(source)
    level, option = (socket.IPPROTO_IPV6, 75) if family == socket.AF_INET6 else (socket.IPPROTO_IP, 19)  # TRANSPARENT
    with sender.entered(), socket.socket(family, socket.SOCK_DGRAM) as forger:
        forger.setsockopt(level, option, 1)
        forger.bind((source, 0))
        forger.sendto(payload, (destination, SINK))


def heard(
    world: World, receiver: str, destination: str, sources: tuple[str, ...], *, awaited: bool = False
) -> set[str]:
    """From which of `sources` a datagram sent by the router reaches its destination.

    The last comes from the router itself and must arrive; what was sent before it has arrived by then, or never will:
    but for what another processor delivers. If all must arrive, they are `awaited`.
    """
    outside = OUTSIDE[":" in destination]
    with world.hosts[receiver].entered():
        sink = socket.socket(family_of(destination), socket.SOCK_DGRAM)
    with closing(sink):
        sink.bind((destination, SINK))
        sink.settimeout(PATIENCE)
        for source in (*sources, outside):
            send_as(world.hosts["router"], source, destination, source.encode())
        arrived: set[str] = set()
        while not {outside, *(sources if awaited else ())} <= arrived:
            arrived.add(sink.recv(100).decode())
    return arrived - {outside}


@pytest.mark.parametrize(("receiver", "ends"), [("host", HERE), ("client", BEHIND)])
def test_clear_packets_of_private_peers_are_refused(
    peopled: World, live: Daemon, receiver: str, ends: tuple[str, str]
) -> None:
    for destination, source in zip(ends, FROM_HOST, strict=True):
        assert heard(peopled, receiver, destination, (source,)) == set()
