"""Two hosts on one link, each a network namespace."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.ipsec.children import OURS, OURS6, THEIRS, THEIRS6
from tests.ipsec.netns import Namespace
from tests.waiting import PATIENCE

PERSEVERE = "sysctl -qw " + " ".join(f"net.{ip}.neigh.cable.mcast_solicit={PATIENCE:.0f}" for ip in ("ipv4", "ipv6"))
"""Until a thread of the kernel has noticed the carrier, nobody hears who asks for a neighbour, once a second. After
three times in vain, as is usual, the packet that waits for the answer would be lost."""


@pytest.fixture
def host() -> Iterator[Namespace]:
    with closing(Namespace()) as namespace:
        yield namespace


@pytest.fixture
def hosts() -> Iterator[tuple[Namespace, Namespace]]:
    """Ours and theirs, both with an IPv4 and an IPv6 address on the device `cable`."""
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(closing(Namespace())) for _ in range(2))
        ours.sh(f"ip link add name cable type veth peer name cable netns {theirs.path}")
        for namespace, address, address6 in ((ours, OURS, OURS6), (theirs, THEIRS, THEIRS6)):
            namespace.sh(
                f"ip addr add {address}/24 dev cable",
                f"ip addr add {address6}/64 dev cable nodad",
                PERSEVERE,
                "ip link set cable up",
            )
        yield ours, theirs
