"""The map is consistent with itself: every address is somebody's, and belongs to a documentation net."""

from ipaddress import ip_network

import pytest

from oe.lab import plan
from oe.model import Group

DOCUMENTATION = [ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")]


def _group_of(host: plan.Host, address: object) -> list[Group]:
    return [group for group, nets in host.policies.items() if any(address in net for net in nets)]


def test_only_documentation_addresses_are_used() -> None:
    for host in plan.HOSTS:
        for address in host.addresses:
            assert any(address in net for net in DOCUMENTATION if net.version == address.version)


def test_no_address_is_used_twice() -> None:
    addresses = [address for host in plan.HOSTS for address in host.addresses]
    assert len(addresses) == len(set(addresses))
    assert plan.ROUTER not in addresses


def test_every_address_has_its_host() -> None:
    assert plan.host_of(plan.VICTIM).name == "bob"
    assert plan.host_of(plan.UNLISTED).name == "carol"
    with pytest.raises(KeyError):
        plan.host_of(plan.ROUTER)


@pytest.mark.parametrize("group", list(Group))
@pytest.mark.parametrize("version", [4, 6])
def test_an_address_tells_the_groups_of_both_sides(group: Group, version: int) -> None:
    assert _group_of(plan.HOST["alice"], plan.remote(group, 1, version)) == [group]
    assert _group_of(plan.HOST["gate"], plan.remote(group, 1, version)) == [group]
    assert _group_of(plan.HOST["bob"], plan.alice(group, version)) == [group]


def test_infrastructure_and_the_unlisted_address_are_in_no_group() -> None:
    for address in (plan.RESOLVED_BY, plan.GATE, plan.ROUTER, plan.UNLISTED):
        assert _group_of(plan.HOST["alice"], address) == []
