"""From a Child SA to the kernel operations that put it in place, in the order that leaks nothing, and back.

In place, a Child SA of the pair S → D between the gateways G (ours) and P (the peer's) is

    inbound SA     P → G   only for packets D → S
    in, fwd policy D → S   must have come through an SA of this pair
    outbound SA    G → P   only for packets S → D
    out policy     S → D   goes through exactly this outbound SA

    With transport mode, which is for S = G and D = P, there is no fwd policy: it serves nobody behind a gateway.

The SAs of all Child SAs of a pair share one reqid. Its `in` and `fwd` policies ask for that reqid, so in a rekey the
old SA and the new one are both accepted; the `out` policy names the SPI too, so there is no doubt which one is used.
"""

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field, replace

from oe.ipsec.model import PACKETS
from oe.ipsec.operations import (
    PRIORITY,
    REQID_BASE,
    REQID_MASK,
    Action,
    AddSa,
    KernelSa,
    Operation,
    Policy,
    PutPolicy,
    RemovePolicy,
    RemoveSa,
    ReplaceSa,
    SaKey,
    Selector,
    Template,
    UpdateSa,
    Way,
)
from oe.ipsec.succession import Succession
from oe.model import Address, ChildSa, Directions, EspSa, HostPair, Mode

PolicyKey = tuple[Selector, Way]


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
        self._owners: dict[SaKey, int] = {}

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
                    placed.sas.append(sa.key)
                    self._owners[sa.key] = child.id
                case PutPolicy(policy):
                    key = (policy.selector, policy.way)
                    placed.policies.append(key)
                    self._policies.claim(key, child.id, policy)

    def plan_move(self, moved: ChildSa) -> tuple[Operation, ...]:
        """The operations that follow the peer of a Child SA in place to where `moved` says that it is.

        Where only a UDP port is another, the SAs are changed in place. Else policies block while the SA behind them is
        replaced: nothing passes, and nothing makes the kernel acquire an SA of its own.
        """
        placed = self._placed[moved.id]
        was, reqid, operations = placed.child, placed.reqid, list[Operation]()
        in_place = was.remote == moved.remote and None not in (was.encapsulation, moved.encapsulation)
        for old, sa, policies in (
            (_inbound_sa(was, reqid), _inbound_sa(moved, reqid), _inbound_policies(moved, reqid)),
            (_outbound_sa(was, reqid), _outbound_sa(moved, reqid), (_outbound_policy(moved, reqid),)),
        ):
            if old.key not in placed.sas:
                continue
            if in_place:
                operations.append(UpdateSa(sa))
                continue
            held = [(current, policy) for policy in policies if (current := self._held(moved.id, policy)) is not None]
            shut = [replace(current, action=Action.BLOCK) for current, _policy in held]
            operations += [PutPolicy(block, current) for block, (current, _policy) in zip(shut, held, strict=True)]
            operations.append(ReplaceSa(old.key, sa))
            operations += [PutPolicy(policy, block) for block, (_current, policy) in zip(shut, held, strict=True)]
        return tuple(operations)

    def record_move(self, moved: ChildSa) -> None:
        """The operations of `plan_move` were carried out."""
        placed = self._placed[moved.id]
        keys = {sa(placed.child, placed.reqid).key: sa(moved, placed.reqid).key for sa in (_inbound_sa, _outbound_sa)}
        for key in placed.sas:
            del self._owners[key]
        placed.sas = [keys[key] for key in placed.sas]
        self._owners.update(dict.fromkeys(placed.sas, moved.id))
        placed.child = moved
        for policy in (*_inbound_policies(moved, placed.reqid), _outbound_policy(moved, placed.reqid)):
            if (key_of := (policy.selector, policy.way)) in placed.policies:
                self._policies.alter(key_of, moved.id, policy)

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
        operations += [RemoveSa(sa) for sa in reversed(placed.sas)]
        return tuple(operations)

    def forget(self, child: int) -> None:
        """The operations of `plan_removal` were carried out."""
        placed = self._placed.pop(child, None)
        if placed is None:
            return
        self._reqids.resign(placed.child.pair, child)
        for sa in placed.sas:
            self._owners.pop(sa, None)
        for policy in placed.policies:
            self._policies.resign(policy, child)

    def child(self, number: int) -> ChildSa | None:
        """The Child SA of that number, if anything of it is in place."""
        placed = self._placed.get(number)
        return None if placed is None else placed.child

    def children(self) -> tuple[int, ...]:
        """Child SAs of which anything is in place now."""
        return tuple(self._placed)

    @property
    def owners(self) -> Mapping[SaKey, int]:
        """The SAs in place and the Child SAs they belong to."""
        return self._owners

    @property
    def policies(self) -> Collection[PolicyKey]:
        """The places that policies of ours hold."""
        return self._policies

    def dependants(self, places: Container[PolicyKey]) -> frozenset[int]:
        """The Child SAs that want a policy in any of these places."""
        return frozenset(id for id, placed in self._placed.items() if any(key in places for key in placed.policies))

    def _reqid(self, child: ChildSa) -> int:
        """That of the pair's Child SAs in place, else one by the number of this Child SA."""
        shared = self._reqids.holder(child.pair)
        return REQID_BASE + 1 + child.id % (~REQID_MASK & 0xFFFF_FFFF) if shared is None else shared

    def _held(self, child: int, policy: Policy) -> Policy | None:
        """The policy that this one of the Child SA is to replace; None where another Child SA has the place."""
        key = (policy.selector, policy.way)
        current = self._policies.holder(key)
        return None if self._policies.holder(key, without=child) is current else current

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
    ports = None
    if child.encapsulation is not None:
        ours, theirs = child.encapsulation.local_port, child.encapsulation.remote_port
        ports = (theirs, ours) if reserved else (ours, theirs)
    return KernelSa(
        source=source,
        destination=destination,
        esp=esp,
        selector=selector,
        reqid=reqid,
        mode=child.mode,
        esn=child.esn,
        encapsulation=ports,
        lifetime=child.lifetime,
        octets=child.octets,
        packets=None if child.esn or reserved else PACKETS,
        reserved=reserved,
    )


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
