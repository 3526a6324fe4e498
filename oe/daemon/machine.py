"""What this machine is: its addresses, the back end it can run, who resolves names on it."""

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


def global_addresses() -> tuple[Address, ...]:
    """Addresses that packets may come from, in the network namespace of this thread.

    Not to be called from inside an event loop: it runs one.
    """
    with IPRoute() as route:
        return tuple(filter(None, map(_usable, route.get_addr())))


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


def resolver_users(config: Config) -> set[int]:
    """Uids of the resolvers on this machine: what they ask of the world must not wait for an answer of theirs.

    `ROOT` is no resolver's own user: to let it pass would let every program of root pass.
    """
    owners = (resolver_owner(server) for server in config.dns.resolvers)
    return {owner for owner in owners if owner is not None}


def trap_spec(config: Config, policies: PolicySet, backend: Backend) -> TrapSpec:
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
        tunnel=Tunnel(device, backend.tunnel_mtu) if device is not None else None,
        ike_port=config.ike.port,
        nat_port=config.ike.nat_port,
        max_decisions=max(config.gateway.max_pairs, 1024),
    )
