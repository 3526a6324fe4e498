"""The lab's map: hosts, addresses, policy groups. Data only; documentation address ranges only.

```
 dns  alice  bob  carol  dave  mallory  frank  gate ── client
  └─────┴─────┴─────┴─ router ─┴───────┴──────┘
```

Every packet between two hosts crosses `router`, where it is captured. Two address plans make one set of policy files
exercise everything: the address of a *remote* host says which group it has on alice's and the gate's side, and the
address that alice uses says which group she has on the far side.

| nets                                                        | group i, in the order of `Group`    |
| ----------------------------------------------------------- | ----------------------------------- |
| 198.51.100.(32 i)/27, 2001:db8:1:i::/64                     | of alice and the gate for the others |
| 192.0.2.(32 + 32 i)/27, 2001:db8:2:i::/64                   | of the others for alice             |
| 192.0.2.0/27, 2001:db8::/64                                 | nobody's: dns, gate, router         |
| 192.0.2.192/27                                              | clients behind the gate             |
| 203.0.113.0/27, .32/27, .64/27 (unsigned reverse zone)      | private-or-clear, private, unlisted |
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network

from oe.model import Address, Group, Network

GROUPS = tuple(Group)

ROUTER = IPv4Address("192.0.2.1")
RESOLVED_BY = IPv4Address("192.0.2.2")
GATE = IPv4Address("192.0.2.3")
GATE6 = IPv6Address("2001:db8::3")
CLIENTS = IPv4Network("192.0.2.192/27")
CLIENT = IPv4Address("192.0.2.193")
"""Delegates to the gate."""
CALLED_CLIENT = IPv4Address("192.0.2.194")
"""Delegates to the gate as well; other hosts call it."""
UNDELEGATED_CLIENT = IPv4Address("192.0.2.195")
"""Behind the gate, but its owner published nothing."""
UNSIGNED_OPEN = IPv4Network("203.0.113.0/27")
UNSIGNED_PRIVATE = IPv4Network("203.0.113.32/27")
UNSIGNED_BOB = IPv4Address("203.0.113.1")
UNSIGNED_PRIVATE_BOB = IPv4Address("203.0.113.33")
REDIRECTED = IPv4Address("203.0.113.2")
"""Its unsigned record names `VICTIM` as gateway."""
UNLISTED = IPv4Address("203.0.113.65")
"""In nobody's policy files."""


def remote_net(group: Group, version: int = 4) -> Network:
    """The net whose hosts alice (and the gate) treat as `group`."""
    index = GROUPS.index(group)
    return ip_network(f"198.51.100.{32 * index}/27" if version == 4 else f"2001:db8:1:{index}::/64")


def remote(group: Group, number: int, version: int = 4) -> Address:
    """Address `number` (1-30) of the net that alice treats as `group`."""
    return remote_net(group, version)[number]


def alice_net(group: Group, version: int = 4) -> Network:
    """The net whose one host, alice, the others treat as `group`."""
    index = GROUPS.index(group)
    return ip_network(f"192.0.2.{32 + 32 * index}/27" if version == 4 else f"2001:db8:2:{index}::/64")


def alice(group: Group, version: int = 4) -> Address:
    """The address of alice for which the others have `group`."""
    return alice_net(group, version)[1]


# Numbers in the remote nets. A row drives traffic between two addresses that no other row uses, so every first packet
# is a first packet and every capture belongs to one row.
BOB_TCP, BOB_UDP, BOB_ICMP, BOB_BURST, BOB_MATRIX = range(1, 6)
BOB_CLIENTS, BOB_TXT, BOB_VICTIM, BOB_BULK, BOB_CROSSED = range(6, 11)
CAROL, CAROL_UDP, CAROL_ICMP, CAROL_CLIENTS, CAROL_FRESH = range(11, 16)
DAVE, MALLORY, FRANK = range(21, 24)

VICTIM = remote(Group.PRIVATE_OR_CLEAR, BOB_VICTIM)
"""An address of bob that publishes nothing; an unsigned record of somebody else points at it."""

_OPEN, _SECRET = Group.PRIVATE_OR_CLEAR, Group.PRIVATE


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace. `key` is the type of key that `oe key new` makes for it, None where nothing is published."""

    name: str
    addresses: tuple[Address, ...]
    key: str | None = None
    runs_oe: bool = False
    behind: str | None = None
    """The host that forwards for it; None: linked to the router."""
    serves: tuple[Network, ...] = ()
    policies: Mapping[Group, tuple[Network, ...]] = field(default_factory=dict)

    @property
    def link(self) -> str:
        """The router's interface towards it."""
        return f"to-{self.name}"


def _numbers(host_numbers: Mapping[Group, Iterable[int]], version: int = 4) -> tuple[Address, ...]:
    return tuple(remote(group, number, version) for group, numbers in host_numbers.items() for number in numbers)


_ALICE_POLICIES: dict[Group, tuple[Network, ...]] = {g: (remote_net(g), remote_net(g, 6)) for g in GROUPS}
_ALICE_POLICIES[_OPEN] += (UNSIGNED_OPEN,)
_ALICE_POLICIES[_SECRET] += (UNSIGNED_PRIVATE,)
_OTHERS_POLICIES: dict[Group, tuple[Network, ...]] = {g: (alice_net(g), alice_net(g, 6)) for g in GROUPS}
_OTHERS_POLICIES[_OPEN] += (CLIENTS,)

_BOB_NUMBERS = {group: (*range(BOB_TCP, BOB_TXT + 1), BOB_BULK, BOB_CROSSED) for group in GROUPS}

HOSTS = (
    Host("dns", (RESOLVED_BY,)),
    Host(
        "alice",
        (*(alice(g) for g in GROUPS), *(alice(g, 6) for g in GROUPS)),
        key="ecdsa-p256",
        runs_oe=True,
        policies=_ALICE_POLICIES,
    ),
    Host(
        "bob",
        (
            *_numbers(_BOB_NUMBERS),
            VICTIM,
            UNSIGNED_BOB,
            UNSIGNED_PRIVATE_BOB,
            *_numbers({_SECRET: (BOB_TCP, BOB_UDP, BOB_ICMP), _OPEN: (BOB_TCP, BOB_UDP, BOB_ICMP)}, 6),
        ),
        key="rsa3072",
        runs_oe=True,
        policies=_OTHERS_POLICIES,
    ),
    Host(
        "carol",
        (
            *_numbers({group: range(CAROL, CAROL_FRESH + 1) for group in GROUPS}),
            REDIRECTED,
            UNLISTED,
            *_numbers({_SECRET: (CAROL,), _OPEN: (CAROL,)}, 6),
        ),
    ),
    Host("dave", _numbers(dict.fromkeys(GROUPS, (DAVE,))), key="ecdsa-p256"),
    Host(
        "mallory",
        _numbers(dict.fromkeys(GROUPS, (MALLORY,))),
        key="ed25519",
        runs_oe=True,
        policies=_OTHERS_POLICIES,
    ),
    Host("frank", _numbers(dict.fromkeys(GROUPS, (FRANK,))), key="ecdsa-p256"),
    Host("gate", (GATE, GATE6), key="ed25519", runs_oe=True, serves=(CLIENTS,), policies=_ALICE_POLICIES),
    Host("client", (CLIENT, CALLED_CLIENT, UNDELEGATED_CLIENT), behind="gate"),
)

HOST = {host.name: host for host in HOSTS}


def host_of(address: Address) -> Host:
    """The host that has `address`; KeyError when none has."""
    for host in HOSTS:
        if address in host.addresses:
            return host
    raise KeyError(str(address))


# --- DNS -------------------------------------------------------------------------------------------------------

SIGNED_ZONES = ("2.0.192.in-addr.arpa", "100.51.198.in-addr.arpa", "8.b.d.0.1.0.0.2.ip6.arpa")
UNSIGNED_ZONES = ("113.0.203.in-addr.arpa",)
BOGUS_OWNERS = tuple(ip_address(address).reverse_pointer for address in HOST["frank"].addresses)
"""Names whose signatures are spoiled after signing."""
