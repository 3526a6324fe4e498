"""What this machine is: its addresses, the back end it can run, who resolves names on it."""

from contextlib import closing
from dataclasses import replace

from oe.config import Backend as BackendChoice
from oe.config import Config
from oe.dnskeys.loopback import resolver_owner
from oe.errors import MachineLacks
from oe.gateway import OwnSide
from oe.ipsec import route_wire
from oe.ipsec.model import Backend, BackendName, Probe
from oe.ipsec.netlink import NETLINK_ROUTE, Netlink
from oe.ipsec.probe import create, probe
from oe.model import Address, Interval, PublicKey
from oe.policy.groups import PolicySet
from oe.trap.spec import TrapSpec, Tunnel

ROOT = 0


def global_addresses() -> tuple[Address, ...]:
    """Addresses that packets may come from, in the network namespace of this thread. Raises KernelError."""
    with closing(Netlink(NETLINK_ROUTE)) as netlink:
        messages = netlink.dump(route_wire.GETADDR, route_wire.encode_address_query(), "addresses")
    return tuple(filter(None, (route_wire.decode_address(message.body) for message in messages)))


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


def own_side(config: Config, present: tuple[Address, ...], keys: tuple[PublicKey, ...]) -> OwnSide:
    """Who we are by this configuration, on a machine with the addresses `present`. Raises what `own_addresses` does."""
    return OwnSide(own_addresses(config.gateway.addresses, present), config.gateway.serve, keys)


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
    device = backend.tunnel_interface
    return replace(
        floor_spec(config, policies),
        resolver_uids=tuple(sorted(resolver_users(config) - {ROOT})),
        tunnel=Tunnel(device, backend.tunnel_mtu) if device is not None else None,
    )


def floor_spec(config: Config, policies: PolicySet) -> TrapSpec:
    """What can be said of the trap before there is a tunnel or a resolver: enough for the floor."""
    intervals: tuple[Interval, ...] = (*policies.intervals(4), *policies.intervals(6))
    closed, open_ = config.gateway.queues
    return TrapSpec(
        intervals=intervals,
        queue_closed=closed,
        queue_open=open_,
        served=config.gateway.serve,
        resolvers=config.dns.resolvers,
        ike_port=config.ike.port,
        nat_port=config.ike.nat_port,
        max_decisions=max(config.gateway.max_pairs, 1024),
    )
