"""Policy groups: which destination nets stand in which of FreeS/WAN's five groups, checked and compiled.

One rule chooses: the longest prefix across all groups. A net stands in one group only, so load order never decides.
`PolicySet` keeps the entries as the operator wrote them and compiles them twice: into tables by prefix length for
`oe.policy.select`, and into disjoint intervals for the kernel. Both say the same about every address.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from oe.model import Address, Group, Interval, Network

Version = Literal[4, 6]

STRICTEST_FIRST = (Group.BLOCK, Group.PRIVATE, Group.PRIVATE_OR_CLEAR, Group.CLEAR_OR_PRIVATE, Group.CLEAR)
"""How much a group keeps from the wire; when a net is named in two groups, the earlier of them here holds."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a policy file: `network` belongs to `group`; `text` is what stands at `file`, line `line`."""

    network: Network
    group: Group
    file: str
    line: int
    text: str

    @property
    def place(self) -> str:
        """File and line, for people."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Clash:
    """One net in two groups: an error of the operator. The stricter entry `holds`, the other is void."""

    holds: Entry
    void: Entry

    def __str__(self) -> str:
        return (
            f"{self.holds.network} stands in {self.holds.group} ({self.holds.place}) and in {self.void.group} "
            f"({self.void.place}); {self.holds.group} holds, being the stricter"
        )


@dataclass(frozen=True)
class PolicySet:
    """The policy of a moment. Build it with `PolicySet.of`; every network occurs once.

    `closed`: a line that cannot be read might have meant any destination to be `private`. Until it is mended,
    everything that is not `block` counts as `private`, unlisted destinations too.
    """

    entries: tuple[Entry, ...] = ()
    closed: bool = False

    def __post_init__(self) -> None:
        if len({entry.network for entry in self.entries}) != len(self.entries):
            raise ValueError("a network occurs twice; PolicySet.of tells which entry holds")

    @classmethod
    def of(cls, entries: Iterable[Entry], closed: bool = False) -> "tuple[PolicySet, tuple[Clash, ...]]":
        """The set that holds, and what is wrong with `entries`. The same net twice in one group is no error."""
        held: dict[Network, Entry] = {}
        clashes: list[Clash] = []
        for entry in entries:
            other = held.setdefault(entry.network, entry)
            if other.group is entry.group:
                continue
            holds, void = sorted((other, entry), key=lambda one: STRICTEST_FIRST.index(one.group))
            held[entry.network] = holds
            clashes.append(Clash(holds, void))
        return cls(tuple(held.values()), closed), tuple(clashes)

    def effective(self, group: Group) -> Group:
        """What membership in `group` means now: a closed set knows only `block` and `private`."""
        return Group.PRIVATE if self.closed and group is not Group.BLOCK else group

    @cached_property
    def levels(self) -> dict[int, tuple[tuple[int, dict[int, Entry]], ...]]:
        """By IP version: pairs (host bits, {network prefix as a number: entry}), longest prefix first.

        The prefix as a number is the address shifted right by the host bits.
        """
        tables: dict[int, dict[int, dict[int, Entry]]] = {4: {}, 6: {}}
        for entry in self.entries:
            network = entry.network
            shift = network.max_prefixlen - network.prefixlen
            tables[network.version].setdefault(shift, {})[int(network.network_address) >> shift] = entry
        return {version: tuple(sorted(table.items())) for version, table in tables.items()}

    def intervals(self, version: Version) -> tuple[Interval, ...]:
        """The longest-prefix choice as disjoint, ascending intervals of one family; only listed space appears.

        Neighbours of one group are merged. A closed set lists the whole family.
        """
        address: type[Address] = IPv4Address if version == 4 else IPv6Address
        merged: list[tuple[int, int, Group]] = []
        for first, last, group in self._pieces(version):
            if merged and merged[-1][2] is group and merged[-1][1] + 1 == first:
                merged[-1] = (merged[-1][0], last, group)
            else:
                merged.append((first, last, group))
        return tuple(Interval(address(first), address(last), group) for first, last, group in merged)

    def _pieces(self, version: Version) -> Iterator[tuple[int, int, Group]]:
        """Sweep upwards over the nets. Nets nest or are disjoint, so a stack holds those the sweep is inside of.

        The innermost one, on top, is the longest prefix. What lies between two starts or ends belongs to it.
        """
        bits = 32 if version == 4 else 128
        nets = [
            (prefix << shift, bits - shift, self.effective(entry.group))
            for shift, table in self.levels[version]
            for prefix, entry in table.items()
        ]
        inside: list[tuple[int, Group]] = [((1 << bits) - 1, Group.PRIVATE)] if self.closed else []
        at = 0
        for first, length, group in sorted(nets):
            while inside and inside[-1][0] < first:
                last, outer = inside.pop()
                if at <= last:
                    yield at, last, outer
                at = last + 1
            if inside and at < first:
                yield at, first - 1, inside[-1][1]
            at = first
            inside.append((first + (1 << (bits - length)) - 1, group))
        while inside:
            last, outer = inside.pop()
            if at <= last:
                yield at, last, outer
            at = last + 1
