"""What can be asked of the kernel's XFRM, as values: SAs, policies, and the operations on them with their inverse."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address

from oe.model import Address, EspSa, Mode

REQID_BASE = 0x6F00_0000
"""Our reqids are this and the following 2**24 - 1: how own SAs and policies are told from foreign ones."""

REQID_MASK = 0xFF00_0000

RESERVED_REQID = REQID_BASE
"""Of reserved SPIs, whose Child SA is not known yet."""

PRIORITY = 3_000_000
"""Lower wins. IKE daemons give the tunnels that an operator arranged by hand smaller numbers than this: what is
arranged outranks what is opportunistic."""

EXEMPTION_PRIORITY = PRIORITY - 1

ICMPV6 = 58
NEIGHBOUR_DISCOVERY = (133, 134, 135, 136)
"""ICMPv6 types. Were they to wait for an SA, a peer on the same link could not be reached to negotiate one."""


SaKey = tuple[Address, int]
"""Outer destination and SPI: what an SA is found by."""


class Way(IntEnum):
    """The direction of a policy (XFRM_POLICY_*)."""

    IN = 0
    OUT = 1
    FORWARD = 2


class Action(IntEnum):
    """What a policy does with a packet (XFRM_POLICY_ALLOW, _BLOCK); with a template, ALLOW means transform."""

    ALLOW = 0
    BLOCK = 1


@dataclass(frozen=True, slots=True)
class Selector:
    """The packets a policy or SA is for. Protocol 0 is any; `icmp_type` None is any."""

    source: Address
    source_bits: int
    destination: Address
    destination_bits: int
    protocol: int = 0
    icmp_type: int | None = None

    @classmethod
    def hosts(cls, source: Address, destination: Address) -> "Selector":
        """Everything from one host to another."""
        return cls(source, source.max_prefixlen, destination, destination.max_prefixlen)


@dataclass(frozen=True, slots=True)
class Template:
    """The SA a policy asks for. SPI 0: any with the reqid."""

    source: Address
    destination: Address
    spi: int
    reqid: int
    mode: Mode


@dataclass(frozen=True, slots=True)
class Policy:
    """An XFRM policy; at most one of a selector and way is in the kernel."""

    selector: Selector
    way: Way
    template: Template | None
    priority: int
    action: Action = Action.ALLOW


@dataclass(frozen=True, slots=True)
class Past:
    """What an SA has done so far, in the kernel's octets: for the SA that takes its place."""

    replay: bytes
    """Sequence number and replay window (xfrm_replay_state_esn)."""
    current: bytes
    """Octets and packets carried, and since when (xfrm_lifetime_cur)."""


@dataclass(frozen=True, slots=True)
class KernelSa:
    """An XFRM state. The lifetime is in seconds; of octets and packets None means no limit."""

    source: Address
    destination: Address
    esp: EspSa
    selector: Selector
    reqid: int
    mode: Mode
    esn: bool
    encapsulation: tuple[int, int] | None
    """UDP source and destination port of its packets."""
    lifetime: float
    octets: int | None
    packets: int | None
    reserved: bool
    """Inbound: its SPI was reserved, and the kernel holds a larval state that this one replaces."""

    @property
    def key(self) -> SaKey:
        return self.destination, self.esp.spi


@dataclass(frozen=True, slots=True)
class AddSa:
    sa: KernelSa


@dataclass(frozen=True, slots=True)
class RemoveSa:
    key: SaKey


@dataclass(frozen=True, slots=True)
class UpdateSa:
    """Change the UDP ports of an SA in place."""

    sa: KernelSa


@dataclass(frozen=True, slots=True)
class ReplaceSa:
    """Take an SA away and put in place another one that goes on where it ended."""

    old: SaKey
    sa: KernelSa


@dataclass(frozen=True, slots=True)
class PutPolicy:
    """Put a policy in place, in one step with taking `replaced` of the same selector and way away."""

    policy: Policy
    replaced: Policy | None


@dataclass(frozen=True, slots=True)
class RemovePolicy:
    policy: Policy


Operation = AddSa | UpdateSa | ReplaceSa | RemoveSa | PutPolicy | RemovePolicy


def undo(operation: AddSa | PutPolicy) -> Operation:
    """What takes an operation of an installation back."""
    if isinstance(operation, AddSa):
        return RemoveSa(operation.sa.key)
    if operation.replaced is None:
        return RemovePolicy(operation.policy)
    return PutPolicy(operation.replaced, operation.policy)


def sas_between(move: Sequence[Operation], done: int) -> Iterator[SaKey]:
    """The SAs in place after the first `done` operations of a move."""
    for number, operation in enumerate(move):
        match operation:
            case UpdateSa(sa):
                yield sa.key
            case ReplaceSa(old, sa):
                yield sa.key if number < done else old


def exemptions() -> tuple[Policy, ...]:
    """Policies that let IPv6 neighbour discovery pass untouched, whatever the Child SAs in place."""
    nowhere = IPv6Address(0)
    return tuple(
        Policy(Selector(nowhere, 0, nowhere, 0, ICMPV6, icmp_type), way, None, EXEMPTION_PRIORITY)
        for icmp_type in NEIGHBOUR_DISCOVERY
        for way in (Way.IN, Way.OUT)
    )


def own_reqid(reqid: int) -> bool:
    """Whether an SA or template of this reqid is ours."""
    return reqid & REQID_MASK == REQID_BASE
