"""Who is there, and who talks to whom when. Pure; chance comes as a seeded generator.

    alice 192.0.2.1, .2 ──── bob 198.18.0.x and 198.18.1.x, each with a key; 198.18.2.x without
                             nobody 198.18.3.x: a key in DNS, and silence

What alice has in `private` is 198.18.0.0/24; bob has 192.0.2.1 there. All else is `private-or-clear`. Every second pair
of bob's addresses is its own gateway and needs an IKE SA of its own; the others delegate to one gateway, whose IKE SAs
they share.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from random import Random

from oe.dnskeys.publish import zone_lines
from oe.model import Group, PublicKey

ALICE, BOB, NOBODY = "alice", "bob", "nobody"
HOSTS = (ALICE, BOB)
ALICES = (IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"))
"""Her addresses; bob has the first one in `private`."""
OPEN = ALICES[1]
_PUBLISHED = (IPv4Address("198.18.0.0"), IPv4Address("198.18.1.0"))
MOST_PAIRS = 500
KEYLESS = tuple(IPv4Address("198.18.2.0") + number for number in range(1, 41))
SILENT = tuple(IPv4Address("198.18.3.0") + number for number in range(1, 11))
POLICIES: dict[str, dict[Group, tuple[str, ...]]] = {
    ALICE: {Group.PRIVATE: ("198.18.0.0/24",), Group.PRIVATE_OR_CLEAR: ("198.18.1.0/24", "198.18.2.0/23")},
    BOB: {Group.PRIVATE: (str(ALICES[0]),), Group.PRIVATE_OR_CLEAR: (str(OPEN),)},
}
ALICE_ZONE, BOB_ZONE = "2.0.192.in-addr.arpa", "18.198.in-addr.arpa"
_BOBS_NETS = tuple(f'{number} TXT "a net"' for number in range(4))
"""Unbound proves that a name does not exist only where the name above it does (1.18.198.in-addr.arpa, for one)."""
_ZONE_HEAD = ("$TTL 600", "@ SOA ns hostmaster 1 3600 600 86400 300", "@ NS ns", "ns A 192.0.2.3")

DELAY = 0.005
"""Seconds on the link, one way. Without it everything would happen at once: on virtual time computing takes none."""
STEADY_PAUSE = 20.0
"""Seconds between the packets of a steady flow."""
_PAUSES = (60.0, 120.0)
"""Seconds between the packets of a visit: from, to."""
_STAY = 900.0
"""Seconds that a visit lasts on average."""
_LONGEST_STAY = 3600.0
VISITS_AN_HOUR = 0.25
"""For each pair."""


class Kind(StrEnum):
    """What is at the other end."""

    STEADY = "steady"
    """A peer with a key; the flow never pauses for long."""
    KEYED = "keyed"
    CROSSED = "crossed"
    """A peer with a key; both sides begin at the same moment."""
    KEYLESS = "keyless"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Flow:
    """Datagrams from one address to another, each of which is echoed. Seconds since the start."""

    kind: Kind
    begins: float
    ends: float
    host: str
    """The one that sends."""
    source: IPv4Address
    destination: IPv4Address
    pauses: tuple[float, float]
    octets: int = 8
    """Of each datagram, at least those of its number."""

    @property
    def pair(self) -> tuple[IPv4Address, IPv4Address]:
        return self.source, self.destination


def published(pairs: int) -> tuple[IPv4Address, ...]:
    """Bob's addresses with a key, half of them in each of his nets."""
    return tuple(_PUBLISHED[number % 2] + 1 + number // 2 for number in range(pairs))


def partner(address: IPv4Address) -> IPv4Address:
    """The address of alice that talks with one of bob's."""
    return ALICES[int(address) // 2 % 2]


def zones(pairs: int, keys: Mapping[str, PublicKey], unpublished: Collection[IPv4Address] = ()) -> dict[str, str]:
    """The reverse zones, unsigned, by name; `keys` of alice, bob and nobody. They lack the addresses `unpublished`."""
    gateway = published(1)[0]
    lines = {ALICE_ZONE: [*_ZONE_HEAD], BOB_ZONE: [*_ZONE_HEAD, *_BOBS_NETS]}
    for address in ALICES:
        lines[ALICE_ZONE] += zone_lines(address, [keys[ALICE]])
    for number, address in enumerate(published(pairs)):
        if address not in unpublished:
            lines[BOB_ZONE] += zone_lines(address, [keys[BOB]], gateway if number // 2 % 2 else None)
    for address in SILENT:
        lines[BOB_ZONE] += zone_lines(address, [keys[NOBODY]])
    return {name: "\n".join([*rows, ""]) for name, rows in lines.items()}


def steady(pairs: int, duration: float) -> tuple[Flow, ...]:
    """Both directions; both groups and both kinds of gateway at the far end."""
    flows = []
    for number, address in enumerate(published(pairs)[:4]):
        ends = (ALICE, partner(address), address) if number % 2 else (BOB, address, partner(address))
        flows.append(Flow(Kind.STEADY, 0.0, duration, *ends, (STEADY_PAUSE, STEADY_PAUSE)))
    return tuple(flows)


def visits(pairs: int, duration: float, chance: Random) -> Iterator[Flow]:
    """Flows that come and go, in the order of their beginnings; at the same rate from the first second to the last."""
    shares = {Kind.KEYED: 77, Kind.CROSSED: 10, Kind.KEYLESS: 10, Kind.SILENT: 3}
    peers = published(pairs)[4:]
    begins = 0.0
    while (begins := begins + chance.expovariate(pairs * VISITS_AN_HOUR / 3600)) < duration:
        ends = min(begins + min(chance.expovariate(1 / _STAY), _LONGEST_STAY), duration)
        kind = chance.choices(tuple(shares), tuple(shares.values()))[0]
        match kind:
            case Kind.KEYLESS | Kind.SILENT:
                there = chance.choice(KEYLESS if kind is Kind.KEYLESS else SILENT)
                ways = [(ALICE, OPEN, there)]
            case _:
                there = chance.choice(peers)
                here = partner(there)
                ways = [(ALICE, here, there), (BOB, there, here)]
                if kind is Kind.KEYED:
                    ways = [chance.choice(ways)]
        for way in ways:
            yield Flow(kind, begins, ends, *way, _PAUSES)
