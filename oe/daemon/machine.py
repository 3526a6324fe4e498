"""What this machine is: its addresses, the back end it can run, who resolves names on it."""

from collections.abc import Iterable
from ipaddress import ip_address

from pyroute2 import IPRoute

from oe.config import Backend as BackendChoice
from oe.config import Config
from oe.dnskeys.loopback import resolver_owner
from oe.errors import MachineLacks
from oe.ipsec.model import Backend, BackendName, Probe
from oe.ipsec.probe import probe
from oe.ipsec.userspace import UserspaceBackend
from oe.ipsec.xfrm import XfrmBackend
from oe.model import Address, Interval
from oe.policy.groups import PolicySet
from oe.trap.ruleset import TrapSpec, Tunnel

_SCOPE_GLOBAL = 0
_NOT_USABLE = 0x20 | 0x40 | 0x08
"""IFA_F_DEPRECATED, IFA_F_TENTATIVE, IFA_F_DADFAILED: addresses that packets should not come from."""


def own_addresses(configured: tuple[Address, ...]) -> tuple[Address, ...]:
    """Addresses to negotiate from: those of the configuration, else every global one of this machine.

    Raises MachineLacks when a configured address is not here, or none is.
    """
    present = tuple(_global_addresses())
    missing = [str(address) for address in configured if address not in present]
    if missing:
        raise MachineLacks(
            f"this machine does not have the address {', '.join(missing)}",
            f"correct [gateway] addresses; it has {', '.join(map(str, present)) or 'none'}",
        )
    if not present:
        raise MachineLacks("this machine has no global address", "configure the network before starting oe")
    return configured or present


def _global_addresses() -> Iterable[Address]:
    with IPRoute() as route:
        for message in route.get_addr():
            attributes = dict(message["attrs"])
            flags = attributes.get("IFA_FLAGS", message["flags"])
            text = attributes.get("IFA_LOCAL") or attributes.get("IFA_ADDRESS")
            if text and message["scope"] == _SCOPE_GLOBAL and not flags & _NOT_USABLE:
                address = ip_address(text)
                if not address.is_loopback:
                    yield address


def choose_backend(choice: BackendChoice) -> tuple[Backend, Probe]:
    """The back end that the configuration asks for, or the best that this kernel has. Raises MachineLacks."""
    found = Probe(BackendName(choice), "the configuration asks for it") if choice is not BackendChoice.AUTO else probe()
    backend: Backend = XfrmBackend() if found.backend is BackendName.XFRM else UserspaceBackend()
    return backend, found


def trap_spec(config: Config, policies: PolicySet, backend: Backend) -> TrapSpec:
    """The trap for this policy on this machine."""
    intervals: tuple[Interval, ...] = (*policies.intervals(4), *policies.intervals(6))
    closed, open_ = config.gateway.queues
    owners = (resolver_owner(server) for server in config.dns.resolvers if server.address.is_loopback)
    return TrapSpec(
        intervals=intervals,
        queue_closed=closed,
        queue_open=open_,
        served=config.gateway.serve,
        resolvers=config.dns.resolvers,
        resolver_uids=tuple(sorted({owner for owner in owners if owner is not None})),
        tunnel=Tunnel(backend.tunnel_interface, 1438) if backend.tunnel_interface is not None else None,
        max_decisions=max(config.gateway.max_pairs, 1024),
    )
