"""What the table `inet oe` shall do, and where its packets may end. Pure values."""

import re
from dataclasses import dataclass
from enum import StrEnum

from oe.model import Group, Interval, Network, SocketAddress, Verdict

_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}")


class Dropped(StrEnum):
    """Named counters of the table: every place where it drops a packet."""

    REFUSED = "refused"
    """Group `block`, or a pair decided to be blocked; answered with ICMP where the kernel can."""
    UNQUEUED = "unqueued"
    """A `private` packet that found no queue rule."""
    CLEAR_TO_PRIVATE = "clear-to-private"
    """About to leave for a `private` net without a tunnel."""
    CLEAR_FROM_PRIVATE = "clear-from-private"
    """Came from a `private` net without a tunnel."""
    TO_BLOCK = "to-block"
    FROM_BLOCK = "from-block"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The interface of the userspace back end, and the largest packet that fits through it in octets."""

    interface: str
    mtu: int

    def __post_init__(self) -> None:
        if not _INTERFACE.fullmatch(self.interface):
            raise ValueError(f"not an interface name: {self.interface!r}")


@dataclass(frozen=True, slots=True)
class TrapSpec:
    """What the table shall do. `intervals` are disjoint, of both families, in any order."""

    intervals: tuple[Interval, ...]
    queue_closed: int
    """For `private`: without a listener the kernel drops."""
    queue_open: int
    """For `private-or-clear`: without a listener the kernel lets pass."""
    served: tuple[Network, ...] = ()
    """Nets of clients whose forwarded packets are trapped as ours are."""
    resolvers: tuple[SocketAddress, ...] = ()
    """Where our own DNS questions go, UDP or TCP; never trapped."""
    resolver_uids: tuple[int, ...] = ()
    """Users whose questions to any port 53 or 853 are never trapped: a recursive resolver on this machine."""
    tunnel: Tunnel | None = None
    """The userspace tunnel; None: tunnels are the kernel's own (XFRM)."""
    ike_port: int = 500
    nat_port: int = 4500
    """UDP ports of IKE and of ESP in UDP: they reach us from closed nets too."""
    max_decisions: int = 262_144
    """Pairs decided at one time, per family."""

    @property
    def has_closed_nets(self) -> bool:
        """Whether something has to stay shut when the trap is gone."""
        return any(interval.group in (Group.PRIVATE, Group.BLOCK) for interval in self.intervals)


@dataclass(frozen=True, slots=True)
class Kernel:
    """What this kernel's nf_tables can do."""

    native_queue: bool
    """It has the `queue` expression; else the two queue chains are rendered empty, to be filled by a target rule."""
    reject: bool


class Fate(StrEnum):
    """The sets of decided pairs, each per family: what happens to the packets of a pair that is in it.

    Sets, not one map from pair to `goto`: the kernel walks all of such a map, at every change, to see where each
    `goto` leads; at 10,000 pairs that is 0.8 ms per decision, and it grows with them.
    """

    PASSED = "passed"
    DENIED = "denied"
    SHIELDED_CLOSED = "shielded-closed"
    SHIELDED_OPEN = "shielded-open"


def fates(spec: TrapSpec) -> tuple[Fate, ...]:
    """The sets that the table has. The kernel's own tunnels need no shield: XFRM policies find their packets."""
    return tuple(Fate) if spec.tunnel else (Fate.PASSED, Fate.DENIED)


def fate(spec: TrapSpec, verdict: Verdict, *, fail_closed: bool) -> Fate:
    """The set that a pair with this verdict belongs to."""
    if verdict is Verdict.BLOCKED:
        return Fate.DENIED
    if verdict is Verdict.CLEAR or spec.tunnel is None:
        return Fate.PASSED
    return Fate.SHIELDED_CLOSED if fail_closed else Fate.SHIELDED_OPEN
