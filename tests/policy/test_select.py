"""The choice of a group, against a plain search and against the intervals that the kernel evaluates."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.model import Address, Group
from oe.policy.groups import PolicySet, Version
from oe.policy.select import select
from oe.reasons import Reason
from tests.policy.nets import addresses, entry, policy, policy_sets, steady

FAMILIES: list[Version] = [4, 6]


def by_intervals(policies: PolicySet, destination: Address, version: Version) -> Group:
    """As the kernel does it: the one interval that holds the address, else clear."""
    found = [one.group for one in policies.intervals(version) if int(one.first) <= int(destination) <= int(one.last)]
    assert len(found) <= 1
    return found[0] if found else Group.CLEAR


def edges(policies: PolicySet, version: Version) -> list[Address]:
    """First and last address of every net, and their neighbours."""
    highest = (1 << (32 if version == 4 else 128)) - 1
    kind = type(ip_address("0.0.0.0" if version == 4 else "::"))
    nets = [one.network for one in policies.entries if one.network.version == version]
    numbers = {int(end) + step for net in nets for end in (net[0], net[-1]) for step in (-1, 0, 1)}
    return [kind(number) for number in sorted(numbers) if 0 <= number <= highest]


@pytest.mark.parametrize("version", FAMILIES)
@steady
@given(policies=policy_sets(), data=st.data())
def test_select_says_what_the_intervals_say(version: Version, policies: PolicySet, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(addresses(version), min_size=1, max_size=5))
    for destination in [*drawn, *edges(policies, version)]:
        assert select(policies, destination).group is by_intervals(policies, destination, version)


@pytest.mark.parametrize("version", FAMILIES)
@steady
@given(policies=policy_sets(), data=st.data())
def test_entry_and_losers_are_all_matching_nets_longest_first(
    version: Version, policies: PolicySet, data: st.DataObject
) -> None:
    destination = data.draw(addresses(version))
    selection = select(policies, destination)
    matching = [one for one in policies.entries if destination in one.network]
    matching.sort(key=lambda one: -one.network.prefixlen)
    assert selection.entry == (matching[0] if matching else None)
    assert selection.losers == tuple(matching[1:])


def test_the_longest_prefix_wins_in_any_group() -> None:
    wide, narrow = entry("10.0.0.0/8", Group.BLOCK), entry("10.1.0.0/16", Group.CLEAR)
    policies, _ = PolicySet.of([wide, narrow])
    selection = select(policies, ip_address("10.1.2.3"))
    assert (selection.group, selection.entry, selection.losers) == (Group.CLEAR, narrow, (wide,))
    assert select(policies, ip_address("10.2.0.0")).entry is wide


def test_unlisted_is_clear_and_says_so() -> None:
    selection = select(PolicySet(), ip_address("2001:db8::1"))
    assert (selection.group, selection.entry, selection.losers) == (Group.CLEAR, None, ())
    assert selection.reason is Reason.POLICY_UNLISTED
    assert not selection.closed


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        (Group.PRIVATE, None),
        (Group.PRIVATE_OR_CLEAR, None),
        (Group.CLEAR_OR_PRIVATE, Reason.POLICY_CLEAR),
        (Group.CLEAR, Reason.POLICY_CLEAR),
        (Group.BLOCK, Reason.POLICY_BLOCK),
    ],
)
def test_reasons_of_the_policy_alone(group: Group, reason: Reason | None) -> None:
    selection = select(policy(("10.0.0.0/8", group)), ip_address("10.0.0.1"))
    assert (selection.group, selection.reason) == (group, reason)


def test_families_never_mix() -> None:
    policies = policy(("0.0.0.0/0", Group.PRIVATE))
    assert select(policies, ip_address("::1")).entry is None


@pytest.mark.parametrize(
    ("listed", "group", "closed"),
    [
        (None, Group.PRIVATE, True),
        (Group.CLEAR, Group.PRIVATE, True),
        (Group.CLEAR_OR_PRIVATE, Group.PRIVATE, True),
        (Group.PRIVATE_OR_CLEAR, Group.PRIVATE, True),
        (Group.PRIVATE, Group.PRIVATE, False),
        (Group.BLOCK, Group.BLOCK, False),
    ],
)
def test_in_a_closed_set(listed: Group | None, group: Group, closed: bool) -> None:
    nets = [] if listed is None else [("10.0.0.0/8", listed)]
    selection = select(policy(*nets, closed=True), ip_address("10.0.0.1"))
    assert (selection.group, selection.closed) == (group, closed)
    assert (selection.entry is None) == (listed is None)
    assert selection.reason is (Reason.POLICY_BLOCK if group is Group.BLOCK else None)
