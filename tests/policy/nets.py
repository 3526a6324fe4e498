"""Policy sets for properties: few address bits vary, so that nets nest, touch and repeat often."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from hypothesis import settings
from hypothesis import strategies as st

from oe.model import Address, Group, Network
from oe.policy.groups import Entry, PolicySet, Version

steady = settings(deadline=None, derandomize=True)
"""The same examples in every run, however busy the machine."""


def entry(net: str, group: Group, file: str = "", line: int = 1) -> Entry:
    return Entry(ip_network(net), group, file or group.value, line, net)


def policy(*entries: tuple[str, Group], closed: bool = False) -> PolicySet:
    policies, clashes = PolicySet.of((entry(net, group) for net, group in entries), closed)
    assert not clashes
    return policies


def _numbers(bits: int) -> st.SearchStrategy[int]:
    """Numbers that differ in their highest and lowest three bits, all zeros and all ones among them."""
    short = st.integers(0, 7)
    return st.builds(lambda high, low, fill: high << (bits - 3) | fill << 3 | low, short, short, st.just(0)) | st.just(
        (1 << bits) - 1
    )


def addresses(version: Version) -> st.SearchStrategy[Address]:
    kind: type[Address] = IPv4Address if version == 4 else IPv6Address
    bits = 32 if version == 4 else 128
    return st.builds(kind, _numbers(bits) | st.integers(0, (1 << bits) - 1))


def networks(version: Version) -> st.SearchStrategy[Network]:
    bits = 32 if version == 4 else 128
    lengths = st.sampled_from([0, 1, 2, 3, 4, bits - 3, bits - 2, bits - 1, bits])

    def build(number: int, length: int) -> Network:
        masked = number >> (bits - length) << (bits - length)
        return IPv4Network((masked, length)) if version == 4 else IPv6Network((masked, length))

    return st.builds(build, _numbers(bits), lengths)


def entries() -> st.SearchStrategy[list[Entry]]:
    def build(network: Network, group: Group, line: int) -> Entry:
        return Entry(network, group, group.value, line, str(network))

    one = st.builds(build, networks(4) | networks(6), st.sampled_from(Group), st.integers(1, 99))
    return st.lists(one, max_size=12)


def policy_sets() -> st.SearchStrategy[PolicySet]:
    return st.builds(lambda listed, closed: PolicySet.of(listed, closed)[0], entries(), st.booleans())
