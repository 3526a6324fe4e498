"""Which SAs and policies found in the kernel are left over from an earlier run, and which of ours are missing there.

What is ours bears a reqid of our range, or is exactly one of our exemptions. All else is foreign and never touched.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from oe.ipsec.operations import (
    Operation,
    Policy,
    RemovePolicy,
    RemoveSa,
    SaKey,
    Selector,
    Way,
    exemptions,
    own_reqid,
)


@dataclass(frozen=True, slots=True)
class SeenSa:
    """An ESP SA as the kernel shows it, larval ones included."""

    key: SaKey
    reqid: int
    octets: int
    packets: int


@dataclass(frozen=True, slots=True)
class SeenPolicy:
    """A policy as the kernel shows it; `reqids` are those of its templates."""

    policy: Policy
    reqids: tuple[int, ...]


def left_over(
    sas: Iterable[SeenSa],
    policies: Iterable[SeenPolicy],
    wanted_sas: Container[SaKey],
    wanted_policies: Container[tuple[Selector, Way]],
) -> Iterator[Operation]:
    """What removes our own SAs and policies that are not wanted. Policies of SAs that are gone only drop packets, so
    they go first: the other way round every packet would raise an acquire."""
    exempt = frozenset(exemptions())
    for seen in policies:
        policy = seen.policy
        ours = any(map(own_reqid, seen.reqids)) or policy in exempt
        if ours and (policy.selector, policy.way) not in wanted_policies:
            yield RemovePolicy(policy)
    for sa in sas:
        if own_reqid(sa.reqid) and sa.key not in wanted_sas:
            yield RemoveSa(sa.key)


def missing(sas: Iterable[SeenSa], owners: Mapping[SaKey, int]) -> frozenset[int]:
    """The Child SAs of which an SA is in the kernel no more, though we never took it away: it expired unheard."""
    present = {sa.key for sa in sas}
    return frozenset(child for key, child in owners.items() if key not in present)
