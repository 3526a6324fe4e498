"""Child SAs for the tests: the two ends of one, and addresses to use."""

from dataclasses import replace
from ipaddress import ip_address

from oe.model import Address, ChildSa, EspCipher, EspSa, HostPair, Mode, Secret

OURS, THEIRS = ip_address("10.77.0.1"), ip_address("10.77.0.2")
OURS6, THEIRS6 = ip_address("fd77::1"), ip_address("fd77::2")
CLIENT, FAR_CLIENT = ip_address("10.78.0.9"), ip_address("10.79.0.9")


def key(cipher: EspCipher, seed: int) -> Secret:
    """Key and salt that differ in every octet."""
    size = 20 if cipher is EspCipher.AES_GCM_16_128 else 36
    return Secret(bytes((seed + number) % 256 for number in range(size)))


def child(
    number: int = 1,
    pair: tuple[Address, Address] = (OURS, THEIRS),
    gateways: tuple[Address, Address] = (OURS, THEIRS),
    cipher: EspCipher = EspCipher.AES_GCM_16_128,
    spis: tuple[int, int] = (0x1001, 0x2002),
    esn: bool = True,
    mode: Mode = Mode.TUNNEL,
    lifetime: float = 3600.0,
    octets: int | None = None,
) -> ChildSa:
    """A Child SA as our end sees it; SPIs are (inbound, outbound)."""
    return ChildSa(
        id=number,
        pair=HostPair(*pair),
        local=gateways[0],
        remote=gateways[1],
        inbound=EspSa(spis[0], cipher, key(cipher, 1)),
        outbound=EspSa(spis[1], cipher, key(cipher, 101)),
        esn=esn,
        mode=mode,
        encapsulation=None,
        lifetime=lifetime,
        fail_closed=True,
        octets=octets,
    )


def mirrored(ours: ChildSa) -> ChildSa:
    """The same Child SA as the peer's end sees it."""
    return replace(
        ours,
        pair=HostPair(ours.pair.destination, ours.pair.source),
        local=ours.remote,
        remote=ours.local,
        inbound=ours.outbound,
        outbound=ours.inbound,
    )
