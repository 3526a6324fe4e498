"""Two hosts on one link, each a network namespace."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.ipsec.children import OURS, OURS6, THEIRS, THEIRS6
from tests.ipsec.netns import Namespace


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
                "ip link set cable up",
            )
        yield ours, theirs
