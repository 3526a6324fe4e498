"""Child SAs as values, for tests of what is decided about them."""

from ipaddress import ip_address

from oe.ike.child import Child, ChildTimer, Origin
from oe.model import ChildSa, EspCipher, EspSa, HostPair, Mode, Secret

HERE, THERE = ip_address("192.0.2.1"), ip_address("192.0.2.2")
PAIR = HostPair(HERE, THERE)
HIGH, LOW = b"\x80" * 32, b"\x01" * 32


def child(
    id: int = 1,
    *,
    ours: bool = True,
    nonces: tuple[bytes, bytes] = (HIGH, HIGH),
    begun: float = 0.0,
    made: float | None = 0.1,
    ends: float = 3600.0,
) -> Child:
    esp = EspSa(id, EspCipher.AES_GCM_16_256, Secret(bytes(36)))
    sa = ChildSa(id, PAIR, HERE, THERE, esp, esp, False, Mode.TUNNEL, None, 1.0, False)
    return Child(sa, Origin(ours, nonces, begun), {ChildTimer.END: ends}, made=made)
