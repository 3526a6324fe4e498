"""Following the addresses of a namespace."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address

import pytest

from oe.daemon.addresses import AddressWatch
from oe.model import Address
from tests.ipsec.netns import Namespace

pytestmark = pytest.mark.netns

FIRST, SECOND = ip_address("192.0.2.1"), ip_address("192.0.2.2")
ADD, REMOVE = "ip addr add 192.0.2.2/24 dev wire", "ip addr del 192.0.2.2/24 dev wire"


@pytest.fixture
def host() -> Iterator[Namespace]:
    with closing(Namespace()) as namespace:
        namespace.sh(
            "ip link add wire type veth peer name other", "ip link set wire up", "ip addr add 192.0.2.1/24 dev wire"
        )
        yield namespace


def changes(host: Namespace, configured: tuple[Address, ...], *steps: tuple[str, ...]) -> list[set[Address]]:
    """What is told after each step of commands."""
    told: list[set[Address]] = []

    async def play() -> None:
        news = asyncio.Event()

        def on_change(addresses: tuple[Address, ...]) -> None:
            told.append(set(addresses))
            news.set()

        with closing(AddressWatch(configured, (FIRST,), asyncio.get_running_loop(), on_change)):
            for commands in steps:
                news.clear()
                host.sh(*commands)
                await asyncio.wait_for(news.wait(), 60)

    with host.entered():
        asyncio.run(play())
    return told


def test_each_change_is_told_once(host: Namespace) -> None:
    assert changes(host, (), (ADD,), (REMOVE,)) == [{FIRST, SECOND}, {FIRST}]


def test_what_comes_back_at_once_was_never_away_and_a_swarm_is_one_change(host: Namespace) -> None:
    assert changes(host, (), (ADD, REMOVE, ADD, "ip link set wire mtu 1400", REMOVE, ADD)) == [{FIRST, SECOND}]


def test_only_configured_addresses_count(host: Namespace) -> None:
    away = "ip addr del 192.0.2.1/24 dev wire"
    assert changes(host, (FIRST,), (ADD, away)) == [set()]
