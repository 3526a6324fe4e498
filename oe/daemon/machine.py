"""What this machine is: its addresses, the back end it can run, who resolves names on it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pyroute2 import IPRoute

from oe.config import Backend as BackendChoice
from oe.config import Config
from oe.dnskeys.loopback import resolver_owner
from oe.errors import MachineLacks
from oe.ipsec.model import Backend, BackendName, Probe
from oe.ipsec.probe import create, probe
from oe.model import Address, Interval
from oe.policy.groups import PolicySet
from oe.trap.spec import TrapSpec, Tunnel

ROOT = 0
_SCOPE_GLOBAL = 0
_NOT_USABLE = 0x20 | 0x40 | 0x08
"""IFA_F_DEPRECATED, IFA_F_TENTATIVE, IFA_F_DADFAILED: addresses that packets should not come from."""

_UP = 0x1
_LOOPBACK = 0x8
"""IFF_UP, IFF_LOOPBACK."""
_OUTER = 40 + 8 + 8 + 16
"""Octets that ESP with AES-GCM puts round a packet, IPv6 outside: IP, SPI and sequence number, IV, ICV (RFC 4106)."""


@dataclass(frozen=True, slots=True)
class Network:
    """What the kernel says of addresses and links, at one moment."""

    addresses: tuple[Address, ...]
    """Global ones that packets may come from."""
    mtus: Mapping[str, int]
    """By name, of links that are up, loopback left out."""


def look_around() -> Network:
    """Ask the kernel, in the network namespace of this thread. Not from inside an event loop: it runs one."""
    with IPRoute() as route:
        links = ((dict(message["attrs"]), message["flags"]) for message in route.get_links())
        mtus = {link["IFLA_IFNAME"]: link["IFLA_MTU"] for link, flags in links if flags & _UP and not flags & _LOOPBACK}
        return Network(tuple(filter(None, map(_usable, route.get_addr()))), mtus)


def _usable(message: Any) -> Address | None:
    attributes = dict(message["attrs"])
    text = attributes.get("IFA_LOCAL") or attributes.get("IFA_ADDRESS")
    if not text or message["scope"] != _SCOPE_GLOBAL or attributes.get("IFA_FLAGS", message["flags"]) & _NOT_USABLE:
        return None
    address = ip_address(text)
    return None if address.is_loopback else address


def own_addresses(configured: tuple[Address, ...], present: tuple[Address, ...]) -> tuple[Address, ...]:
    """Addresses to negotiate from: those of the configuration, else every one that this machine has.

    Raises MachineLacks when a configured address is not here, or none is.
    """
    missing = [str(address) for address in configured if address not in present]
    if missing:
        raise MachineLacks(
            f"this machine does not have the address {', '.join(missing)}",
            f"correct [gateway] addresses; it has {', '.join(map(str, present)) or 'none'}",
        )
    if not present:
        raise MachineLacks("this machine has no global address", "configure the network before starting oe")
    return configured or present


def choose_backend(choice: BackendChoice) -> tuple[Backend, Probe]:
    """The back end that the configuration asks for, or the best that this kernel has. Raises MachineLacks."""
    if choice is BackendChoice.AUTO:
        found = probe()
    else:
        found = Probe(BackendName(choice.value), "the configuration asks for it")
    return create(found.backend), found


def largest_inner(links: Iterable[int]) -> int:
    """The largest packet, in octets, whose ESP packet still fits through the narrowest of `links` (MTUs).

    Padding aligns inner packet and trailer to 4 octets (RFC 4303 2.4). Larger packets arrive all the same, in
    fragments; TCP is told this size so that it needs none.
    """
    return (min(links, default=1500) - _OUTER) // 4 * 4 - 2


def resolver_users(config: Config) -> set[int]:
    """Uids of the resolvers on this machine: what they ask of the world must not wait for an answer of theirs.

    `ROOT` is no resolver's own user: to let it pass would let every program of root pass.
    """
    owners = (resolver_owner(server) for server in config.dns.resolvers)
    return {owner for owner in owners if owner is not None}


def trap_spec(config: Config, policies: PolicySet, backend: Backend, mtus: Mapping[str, int]) -> TrapSpec:
    """The trap for this policy on this machine."""
    intervals: tuple[Interval, ...] = (*policies.intervals(4), *policies.intervals(6))
    closed, open_ = config.gateway.queues
    device = backend.tunnel_interface
    return TrapSpec(
        intervals=intervals,
        queue_closed=closed,
        queue_open=open_,
        served=config.gateway.serve,
        resolvers=config.dns.resolvers,
        resolver_uids=tuple(sorted(resolver_users(config) - {ROOT})),
        tunnel=_tunnel(device, mtus) if device is not None else None,
        ike_port=config.ike.port,
        nat_port=config.ike.nat_port,
        max_decisions=max(config.gateway.max_pairs, 1024),
    )


def _tunnel(device: str, mtus: Mapping[str, int]) -> Tunnel:
    return Tunnel(device, largest_inner(mtu for name, mtu in mtus.items() if name != device))
