"""From a Child SA to the kernel operations that put it in place, in the order that leaks nothing, and back.

In place, a Child SA of the pair S → D between the gateways G (ours) and P (the peer's) is

    inbound SA     P → G   only for packets D → S
    in, fwd policy D → S   must have come through an SA of this pair
    outbound SA    G → P   only for packets S → D
    out policy     S → D   goes through exactly this outbound SA

The SAs of all Child SAs of a pair share one reqid. Its `in` and `fwd` policies ask for that reqid, so in a rekey the
old SA and the new one are both accepted; the `out` policy names the SPI too, so there is no doubt which one is used.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv6Address

from oe.ipsec.model import SOFT_PACKETS
from oe.ipsec.succession import Succession
from oe.model import Address, ChildSa, Directions, Encapsulation, EspSa, HostPair, Mode

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
class KernelSa:
    """An XFRM state. Times in seconds; 0 packets: no limit."""

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
    soft_packets: int
    reserved: bool
    """Its SPI was reserved: the kernel holds a larval state that this one replaces."""


@dataclass(frozen=True, slots=True)
class AddSa:
    sa: KernelSa


@dataclass(frozen=True, slots=True)
class RemoveSa:
    destination: Address
    spi: int


@dataclass(frozen=True, slots=True)
class PutPolicy:
    """Put a policy in place, in one step with taking `replaced` of the same selector and way away."""

    policy: Policy
    replaced: Policy | None


@dataclass(frozen=True, slots=True)
class RemovePolicy:
    policy: Policy


Operation = AddSa | RemoveSa | PutPolicy | RemovePolicy


def undo(operation: AddSa | PutPolicy) -> Operation:
    """What takes an operation of an installation back."""
    match operation:
        case AddSa(sa):
            return RemoveSa(sa.destination, sa.esp.spi)
        case PutPolicy(policy, None):
            return RemovePolicy(policy)
        case PutPolicy(policy, replaced):
            return PutPolicy(replaced, policy)


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


PolicyKey = tuple[Selector, Way]
SaKey = tuple[Address, int]
"""Outer destination and SPI."""


@dataclass(slots=True)
class _Placed:
    """What is in place of one Child SA."""

    child: ChildSa
    reqid: int
    sas: list[SaKey] = field(default_factory=list)
    policies: list[PolicyKey] = field(default_factory=list)


class Book:
    """What was asked of the kernel and is in place. It plans; `record` and `forget` follow what really happened."""

    def __init__(self) -> None:
        self._placed: dict[int, _Placed] = {}
        self._policies: Succession[PolicyKey, Policy] = Succession()
        self._reqids: Succession[HostPair, int] = Succession()

    def plan_install(self, child: ChildSa, directions: Directions) -> tuple[AddSa | PutPolicy, ...]:
        """The operations that put one half or both of a Child SA in place, in order."""
        reqid = self._reqid(child)
        operations: list[AddSa | PutPolicy] = []
        if directions is not Directions.OUTBOUND:
            operations.append(AddSa(_inbound_sa(child, reqid)))
            operations += self._puts(_inbound_policies(child, reqid))
        if directions is not Directions.INBOUND:
            operations.append(AddSa(_outbound_sa(child, reqid)))
            operations += self._puts((_outbound_policy(child, reqid),))
        return tuple(operations)

    def record(self, child: ChildSa, operations: tuple[AddSa | PutPolicy, ...]) -> None:
        """The operations of `plan_install` were carried out."""
        placed = self._placed.setdefault(child.id, _Placed(child, self._reqid(child)))
        self._reqids.claim(child.pair, child.id, placed.reqid)
        for operation in operations:
            match operation:
                case AddSa(sa):
                    placed.sas.append((sa.destination, sa.esp.spi))
                case PutPolicy(policy):
                    key = (policy.selector, policy.way)
                    placed.policies.append(key)
                    self._policies.claim(key, child.id, policy)

    def plan_removal(self, child: int) -> tuple[Operation, ...]:
        """The operations that take away what is in place of a Child SA, policies first.

        A place that an older Child SA of the pair also wants goes back to it; one that a newer holds stays.
        """
        placed = self._placed.get(child)
        if placed is None:
            return ()
        operations: list[Operation] = []
        for key in reversed(placed.policies):
            current, next_one = self._policies.holder(key), self._policies.holder(key, without=child)
            if current is None or current == next_one:
                continue
            operations.append(RemovePolicy(current) if next_one is None else PutPolicy(next_one, current))
        operations += [RemoveSa(destination, spi) for destination, spi in reversed(placed.sas)]
        return tuple(operations)

    def forget(self, child: int) -> None:
        """The operations of `plan_removal` were carried out."""
        placed = self._placed.pop(child, None)
        if placed is None:
            return
        self._reqids.resign(placed.child.pair, child)
        for key in placed.policies:
            self._policies.resign(key, child)

    def children(self) -> tuple[int, ...]:
        return tuple(self._placed)

    def child_of(self, key: SaKey) -> ChildSa | None:
        """The Child SA whose inbound or outbound SA that is."""
        return next((placed.child for placed in self._placed.values() if key in placed.sas), None)

    def _reqid(self, child: ChildSa) -> int:
        """That of the pair's Child SAs in place, else one by the number of this Child SA."""
        shared = self._reqids.holder(child.pair)
        return REQID_BASE + 1 + child.id % (~REQID_MASK & 0xFFFF_FFFF) if shared is None else shared

    def _puts(self, policies: tuple[Policy, ...]) -> list[AddSa | PutPolicy]:
        return [PutPolicy(policy, self._policies.holder((policy.selector, policy.way))) for policy in policies]


def _inbound_sa(child: ChildSa, reqid: int) -> KernelSa:
    selector = Selector.hosts(child.pair.destination, child.pair.source)
    return _sa(child, reqid, child.remote, child.local, child.inbound, selector, reserved=True)


def _outbound_sa(child: ChildSa, reqid: int) -> KernelSa:
    selector = Selector.hosts(child.pair.source, child.pair.destination)
    return _sa(child, reqid, child.local, child.remote, child.outbound, selector, reserved=False)


def _sa(
    child: ChildSa, reqid: int, source: Address, destination: Address, esp: EspSa, selector: Selector, *, reserved: bool
) -> KernelSa:
    ports = child.encapsulation and _ports(child.encapsulation, inbound=reserved)
    soft_packets = 0 if child.esn or reserved else SOFT_PACKETS
    return KernelSa(
        source, destination, esp, selector, reqid, child.mode, child.esn, ports, child.lifetime, soft_packets, reserved
    )


def _ports(encapsulation: Encapsulation, *, inbound: bool) -> tuple[int, int]:
    ports = (encapsulation.local_port, encapsulation.remote_port)
    return (ports[1], ports[0]) if inbound else ports


def _inbound_policies(child: ChildSa, reqid: int) -> tuple[Policy, ...]:
    """`fwd` is for packets to clients behind us; transport mode serves nobody but the gateway itself."""
    selector = Selector.hosts(child.pair.destination, child.pair.source)
    template = Template(child.remote, child.local, 0, reqid, child.mode)
    ways = (Way.IN, Way.FORWARD) if child.mode is Mode.TUNNEL else (Way.IN,)
    return tuple(Policy(selector, way, template, PRIORITY) for way in ways)


def _outbound_policy(child: ChildSa, reqid: int) -> Policy:
    selector = Selector.hosts(child.pair.source, child.pair.destination)
    template = Template(child.local, child.remote, child.outbound.spi, reqid, child.mode)
    return Policy(selector, Way.OUT, template, PRIORITY)
