"""Who talks to whom, how, and what is tried. Pure data.

    rsa, ecdsa, ed25519 ── router ─┬─ a host with another IKE daemon, for each case
       (our gateways)              └─ nat ── one more

198.18.0.0/15 and 2001:2::/48 are for benchmarks (RFC 2544, 5180). Validating resolvers answer for their reverse zones
like for any other, which they do not for the documentation nets: Libreswan validates with a resolver that cannot be
told otherwise. All hosts are in one /24 or one /124, so that the zones have no empty names: for what is below those,
unbound's own zones prove too little.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from oe.keystore import KeyType
from oe.model import Address, Group

ZONES = {4: "0.18.198.in-addr.arpa", 6: f"{'0.' * 23}2.0.0.0.1.0.0.2.ip6.arpa"}
"""Where the hosts of a family have their keys."""
ROUTER: Mapping[int, Address] = {4: IPv4Address("198.18.255.1"), 6: IPv6Address("fe80::1")}
NAT = "nat"
NAT_OUTSIDE = IPv4Address("198.18.0.129")
BEHIND_NAT = IPv4Network("198.18.0.192/26")
"""What stands here is known by its own address in DNS, and cannot be reached from outside."""

SMALL = 576
"""Octets of the smallest packet that any host takes (RFC 791)."""


def link(address: Address) -> str:
    """The router's interface towards a host that has this address first."""
    return f"to-{address.version}-{address.packed[-1]}"


class Step(StrEnum):
    """What is tried, in this order; each column of the table."""

    INITIATE = "we begin"
    THEIR_CHILD_REKEY = "they rekey Child"
    THEIR_IKE_REKEY = "they rekey IKE"
    OUR_CHILD_REKEY = "we rekey Child"
    OUR_IKE_REKEY = "we rekey IKE"
    THEIR_DELETE = "they delete"
    RESPOND = "they begin"
    OUR_DELETE = "we delete"
    RESTART_THEN_WE = "they die, we begin"
    RESTART_THEN_THEY = "they die, they begin"


@dataclass(frozen=True, slots=True)
class Own:
    """A gateway of ours."""

    name: str
    key: KeyType
    addresses: tuple[IPv4Address, IPv6Address]


def _own(name: str, key: KeyType, number: int) -> Own:
    return Own(name, key, (IPv4Address("198.18.0.0") + number, IPv6Address("2001:2::") + number))


OWN = {
    own.name: own
    for own in (
        _own("rsa", KeyType.RSA3072, 1),
        _own("ecdsa", KeyType.ECDSA_P256, 2),
        _own("ed25519", KeyType.ED25519, 3),
    )
}


class Product(StrEnum):
    """What `packaging/rivals/build` makes."""

    LIBRESWAN = "libreswan"
    STRONGSWAN = "strongswan"
    STRONGSWAN_NEXT = "strongswan-next"

    @property
    def spelling(self) -> str:
        return "Libreswan" if self is Product.LIBRESWAN else "strongSwan"


@dataclass(frozen=True, slots=True)
class Case:
    """A host with another daemon, and the gateway of ours that it talks to."""

    name: str
    product: Product
    address: Address
    own: Own
    title: str
    key: KeyType | None = None
    """Of the other daemon, published in DNS; None: it has none."""
    settings: tuple[str, ...] = ()
    """Lines of its connection beyond those that every one has."""
    child_settings: tuple[str, ...] = ()
    daemon_settings: tuple[str, ...] = ()
    group: Group = Group.PRIVATE
    """What our gateway has its address in."""
    mtu: int = 1500
    without: Mapping[Step, str] = field(default_factory=dict, hash=False)
    """Steps that make no sense, and why."""

    @property
    def own_address(self) -> Address:
        """Of our gateway, in the family of the other's."""
        return next(address for address in self.own.addresses if address.version == self.address.version)

    @property
    def is_behind_nat(self) -> bool:
        return isinstance(self.address, IPv4Address) and self.address in BEHIND_NAT

    @property
    def link(self) -> str:
        """The router's interface towards it, or towards its NAT."""
        return link(NAT_OUTSIDE if self.is_behind_nat else self.address)

    @property
    def is_anonymous(self) -> bool:
        return self.key is None


def _rival(number: int) -> IPv4Address:
    return IPv4Address("198.18.0.10") + number


def _rival6(number: int) -> IPv6Address:
    return IPv6Address("2001:2::8") + number


_UNREACHABLE = "behind a NAT nobody can be called"
_SHUNTS = ("negotiationshunt=hold", "failureshunt=drop")
_BY_RSA = ("leftauth=rsasig", "rightauth=rsasig", "rightrsasigkey=%dnsondemand", *_SHUNTS)
_OPEN_SHUNTS = ("negotiationshunt=passthrough", "failureshunt=passthrough")

CASES = (
    Case(
        "libreswan-rsa",
        Product.LIBRESWAN,
        _rival(1),
        OWN["rsa"],
        "opportunistic group; RSA keys of both ends from IPSECKEY and DNSSEC",
        KeyType.RSA3072,
        _BY_RSA,
    ),
    Case(
        "libreswan-ipv6",
        Product.LIBRESWAN,
        _rival6(1),
        OWN["rsa"],
        "the same over IPv6",
        KeyType.RSA3072,
        _BY_RSA,
    ),
    Case(
        "libreswan-anonymous",
        Product.LIBRESWAN,
        _rival(2),
        OWN["ecdsa"],
        "opportunistic group with authby=null: both ends anonymous",
        settings=("authby=null", "leftid=%null", "rightid=%null", *_OPEN_SHUNTS),
        group=Group.PRIVATE_OR_CLEAR,
    ),
    Case(
        "libreswan-asymmetric",
        Product.LIBRESWAN,
        _rival(3),
        OWN["rsa"],
        "opportunistic group of an anonymous client, that wants our key from DNSSEC",
        settings=(
            *("leftauth=null", "leftid=%null", "rightauth=rsasig", "rightrsasigkey=%dnsondemand"),
            *_OPEN_SHUNTS,
        ),
        group=Group.CLEAR_OR_PRIVATE,
        without=dict.fromkeys((Step.INITIATE, Step.RESTART_THEN_WE), "there is no key to call it by"),
    ),
    Case(
        "strongswan-rsa",
        Product.STRONGSWAN,
        _rival(4),
        OWN["rsa"],
        "raw RSA keys; all proposals as it has them by default",
        KeyType.RSA3072,
    ),
    Case(
        "strongswan-ecdsa",
        Product.STRONGSWAN,
        _rival(5),
        OWN["ecdsa"],
        "raw ECDSA keys, P-256 ours and P-384 theirs",
        KeyType.ECDSA_P384,
        ("proposals = aes256gcm16-prfsha384-x25519",),
        child_settings=("esp_proposals = aes256gcm16-x25519-esn",),
    ),
    Case(
        "strongswan-ed25519",
        Product.STRONGSWAN,
        _rival(6),
        OWN["ed25519"],
        "raw Ed25519 keys",
        KeyType.ED25519,
        ("proposals = aes128gcm16-prfsha256-ecp256", "mobike = no"),
    ),
    Case(
        "strongswan-ipv6",
        Product.STRONGSWAN,
        _rival6(2),
        OWN["ed25519"],
        "the same over IPv6",
        KeyType.ED25519,
        ("proposals = aes128gcm16-prfsha256-ecp256", "mobike = no"),
    ),
    Case(
        "strongswan-hybrid",
        Product.STRONGSWAN_NEXT,
        _rival(7),
        OWN["ecdsa"],
        "X25519 and ML-KEM-768 (RFC 9370)",
        KeyType.ECDSA_P256,
        ("proposals = aes256gcm16-prfsha512-x25519-ke1_mlkem768",),
    ),
    Case(
        "strongswan-nat",
        Product.STRONGSWAN,
        BEHIND_NAT[2],
        OWN["ed25519"],
        "behind a NAT that translates ports",
        KeyType.ED25519,
        without=dict.fromkeys((Step.INITIATE, Step.RESTART_THEN_WE), _UNREACHABLE),
    ),
    Case(
        "strongswan-narrow",
        Product.STRONGSWAN,
        _rival(9),
        OWN["rsa"],
        "a path of 576 octets that loses fragments of IP",
        KeyType.RSA3072,
        ("proposals = aes256gcm16-prfsha512-x25519",),  # IKE_SA_INIT is never fragmented: it has to be short
        daemon_settings=(f"fragment_size = {SMALL}",),
        mtu=SMALL,
    ),
    Case(
        "strongswan-invalid-ke",
        Product.STRONGSWAN,
        _rival(8),
        OWN["ecdsa"],
        "each guesses the other's group wrong: INVALID_KE_PAYLOAD",
        KeyType.ECDSA_P256,
        ("proposals = aes256gcm16-prfsha384-modp4096-ecp384",),
        child_settings=("esp_proposals = aes256gcm16-modp4096-ecp384-noesn",),
    ),
)
