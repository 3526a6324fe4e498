"""Clashes, and the compilation into intervals."""

from itertools import pairwise

import pytest
from hypothesis import given

from oe.model import Group
from oe.policy.groups import STRICTEST_FIRST, Entry, PolicySet, Version
from tests.policy.nets import entries, entry, policy, policy_sets, steady

VERSIONS: tuple[Version, ...] = (4, 6)


def shown(policies: PolicySet, version: Version = 4) -> list[str]:
    return [f"{one.first}-{one.last} {one.group}" for one in policies.intervals(version)]


def test_nothing_listed() -> None:
    assert shown(PolicySet()) == []
    assert shown(PolicySet(), 6) == []


def test_inner_nets_cut_the_outer_one() -> None:
    policies = policy(
        ("10.0.0.0/8", Group.PRIVATE_OR_CLEAR), ("10.1.0.0/16", Group.CLEAR), ("10.1.2.0/24", Group.PRIVATE)
    )
    assert shown(policies) == [
        "10.0.0.0-10.0.255.255 private-or-clear",
        "10.1.0.0-10.1.1.255 clear",
        "10.1.2.0-10.1.2.255 private",
        "10.1.3.0-10.1.255.255 clear",
        "10.2.0.0-10.255.255.255 private-or-clear",
    ]


def test_a_host_at_either_end_of_a_net() -> None:
    policies = policy(("192.0.2.0/24", Group.CLEAR), ("192.0.2.0/32", Group.BLOCK), ("192.0.2.255/32", Group.PRIVATE))
    assert shown(policies) == [
        "192.0.2.0-192.0.2.0 block",
        "192.0.2.1-192.0.2.254 clear",
        "192.0.2.255-192.0.2.255 private",
    ]


def test_neighbours_of_one_group_are_merged() -> None:
    policies = policy(
        ("10.0.0.0/9", Group.CLEAR),
        ("10.128.0.0/9", Group.CLEAR),
        ("10.4.0.0/16", Group.CLEAR),
        ("11.0.0.0/8", Group.BLOCK),
    )
    assert shown(policies) == ["10.0.0.0-10.255.255.255 clear", "11.0.0.0-11.255.255.255 block"]


def test_families_are_apart() -> None:
    policies = policy(("0.0.0.0/0", Group.CLEAR), ("2001:db8::/32", Group.PRIVATE))
    assert shown(policies) == ["0.0.0.0-255.255.255.255 clear"]
    assert shown(policies, 6) == ["2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff private"]


def test_a_closed_set_knows_only_block_and_private() -> None:
    policies = policy(("10.0.0.0/8", Group.CLEAR), ("10.1.0.0/16", Group.BLOCK), closed=True)
    assert shown(policies) == [
        "0.0.0.0-10.0.255.255 private",
        "10.1.0.0-10.1.255.255 block",
        "10.2.0.0-255.255.255.255 private",
    ]
    assert shown(policies, 6) == ["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff private"]


@pytest.mark.parametrize("stricter", range(len(STRICTEST_FIRST)))
@pytest.mark.parametrize("weaker", range(len(STRICTEST_FIRST)))
def test_the_stricter_of_two_groups_holds_whatever_the_order(stricter: int, weaker: int) -> None:
    if stricter >= weaker:
        return
    strict, weak = (entry("10.0.0.0/8", STRICTEST_FIRST[index], line=index) for index in (stricter, weaker))
    for listed in ((strict, weak), (weak, strict)):
        policies, clashes = PolicySet.of(listed)
        assert policies.entries == (strict,)
        assert [(clash.holds, clash.void) for clash in clashes] == [(strict, weak)]


def test_a_clash_names_both_places() -> None:
    clear = entry("10.0.0.0/8", Group.CLEAR, "/p/clear", 3)
    private = entry("10.0.0.0/8", Group.PRIVATE, "/p/private", 7)
    _, (clash,) = PolicySet.of([clear, private])
    assert str(clash) == (
        "10.0.0.0/8 stands in private (/p/private:7) and in clear (/p/clear:3); private holds, being the stricter"
    )


def test_one_net_in_three_groups() -> None:
    listed = [entry("10.0.0.0/8", group) for group in (Group.CLEAR, Group.BLOCK, Group.PRIVATE)]
    policies, clashes = PolicySet.of(listed)
    assert [one.group for one in policies.entries] == [Group.BLOCK]
    assert [(clash.holds.group, clash.void.group) for clash in clashes] == [
        (Group.BLOCK, Group.CLEAR),
        (Group.BLOCK, Group.PRIVATE),
    ]


def test_the_same_line_twice_is_harmless() -> None:
    first, second = entry("10.0.0.0/8", Group.CLEAR, line=1), entry("10.0.0.0/8", Group.CLEAR, line=9)
    policies, clashes = PolicySet.of([first, second])
    assert policies.entries == (first,)
    assert not clashes


def test_a_set_cannot_hold_a_net_twice() -> None:
    with pytest.raises(ValueError, match=r"PolicySet\.of"):
        PolicySet((entry("10.0.0.0/8", Group.CLEAR), entry("10.0.0.0/8", Group.BLOCK)))


@steady
@given(policy_sets())
def test_intervals_ascend_and_are_disjoint_and_merged(policies: PolicySet) -> None:
    for version in VERSIONS:
        intervals = policies.intervals(version)
        assert all(int(one.first) <= int(one.last) for one in intervals)
        for left, right in pairwise(intervals):
            assert int(left.last) < int(right.first)
            assert int(left.last) + 1 < int(right.first) or left.group is not right.group


@steady
@given(entries())
def test_load_order_never_decides(listed: list[Entry]) -> None:
    forwards, backwards = (PolicySet.of(order)[0] for order in (listed, listed[::-1]))
    for version in VERSIONS:
        assert forwards.intervals(version) == backwards.intervals(version)


@steady
@given(policy_sets())
def test_intervals_cover_the_listed_space_and_no_more(policies: PolicySet) -> None:
    for version in VERSIONS:
        intervals = policies.intervals(version)
        if policies.closed:
            assert int(intervals[0].first) == 0
            assert sum(int(one.last) - int(one.first) + 1 for one in intervals) == 1 << (32 if version == 4 else 128)
            continue
        listed = [
            range(int(one.network[0]), int(one.network[-1]) + 1)
            for one in policies.entries
            if one.network.version == version
        ]
        outermost = [
            net for net in listed if not any(net != other and net[0] in other and net[-1] in other for other in listed)
        ]
        assert sum(int(one.last) - int(one.first) + 1 for one in intervals) == sum(
            net.stop - net.start for net in outermost
        )
