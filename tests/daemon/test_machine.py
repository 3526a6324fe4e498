import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from oe.config import read_config
from oe.daemon.machine import own_addresses, own_side, trap_spec
from oe.errors import MachineLacks
from oe.model import Group, KeyAlgorithm, PublicKey
from oe.policy.groups import Entry, PolicySet
from tests.daemon.test_hands import FakeBackend, Machine

CONFIG = read_config(
    b'[gateway]\nserve = ["203.0.113.0/24"]\nqueues = [60, 61]\nmax-pairs = 5000\n[ike]\nport = 5500', Path("oe.toml")
)
POLICIES = PolicySet.of([Entry(ip_network("198.51.100.0/24"), Group.PRIVATE, "private", 1, "198.51.100.0/24")])[0]


def test_trap_of_a_kernel_tunnel_names_no_interface() -> None:
    spec = trap_spec(CONFIG, POLICIES, FakeBackend(Machine(None)))
    assert spec.tunnel is None
    assert (spec.queue_closed, spec.queue_open, spec.max_decisions) == (60, 61, 5000)
    assert (spec.ike_port, spec.nat_port) == (5500, 4500)
    assert spec.served == (ip_network("203.0.113.0/24"),)
    assert [interval.group for interval in spec.intervals] == [Group.PRIVATE]


def test_trap_of_a_userspace_tunnel_knows_its_size() -> None:
    spec = trap_spec(CONFIG, POLICIES, FakeBackend(Machine("oe0")))
    assert spec.tunnel is not None
    assert (spec.tunnel.interface, spec.tunnel.mtu) == ("oe0", 1400)


def test_our_own_side_speaks_for_the_configured_addresses_and_the_served_nets() -> None:
    one, other, client = (ip_address(text) for text in ("192.0.2.1", "2001:db8::1", "203.0.113.7"))
    key = PublicKey(KeyAlgorithm.EDDSA, b"k" * 32)
    own = own_side(CONFIG, (one, other), (key,))
    assert (own.addresses, own.keys) == ((one, other), (key,))
    assert own.serves(client)
    assert not own.is_own(client)
    chosen = read_config(b'[gateway]\naddresses = ["192.0.2.1"]', Path("oe.toml"))
    assert own_side(chosen, (one, other), ()).addresses == (one,)
    with pytest.raises(MachineLacks, match=r"192\.0\.2\.1"):
        own_side(chosen, (other,), ())


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"oe-machine-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


def in_namespace(name: str, code: str) -> str:
    """What `code` prints in a namespace with one address of each scope."""
    for words in (
        ["link", "set", "lo", "up"],
        ["link", "add", "name", "wire0", "type", "veth", "peer", "name", "wire1"],
        ["link", "set", "wire0", "up"],
        ["address", "add", "192.0.2.1/24", "dev", "wire0"],
        ["address", "add", "2001:db8::1/64", "dev", "wire0", "nodad"],
        ["address", "add", "2001:db8::2/64", "dev", "wire0", "nodad", "preferred_lft", "0"],
    ):
        subprocess.run(["ip", "-netns", name, *words], check=True)
    command = ["ip", "netns", "exec", name, sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.netns
def test_own_addresses_are_the_global_ones_that_may_be_used(namespace: str) -> None:
    code = "from oe.daemon.machine import global_addresses; print(*global_addresses())"
    assert in_namespace(namespace, code) == "192.0.2.1 2001:db8::1"


HERE = ip_address("192.0.2.1")
ELSEWHERE = ip_address("192.0.2.99")


def test_configured_addresses_come_before_those_that_are_found() -> None:
    other = ip_address("2001:db8::1")
    assert own_addresses((), (HERE, other)) == (HERE, other)
    assert own_addresses((other,), (HERE, other)) == (other,)


def test_address_that_is_not_here_is_told_with_those_that_are() -> None:
    with pytest.raises(MachineLacks, match=r"192\.0\.2\.99; .*192\.0\.2\.1"):
        own_addresses((ELSEWHERE,), (HERE,))
    with pytest.raises(MachineLacks, match="no global address"):
        own_addresses((), ())
