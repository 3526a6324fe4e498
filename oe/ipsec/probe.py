"""Which back end can this machine run?"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from oe.errors import KernelError, MachineLacks
from oe.ipsec import xfrm_wire as wire
from oe.ipsec.esp_socket import EspSocket
from oe.ipsec.model import Backend, BackendName, Marks, Probe
from oe.ipsec.netlink import NETLINK_XFRM, Netlink
from oe.ipsec.operations import RESERVED_REQID, KernelSa, Selector
from oe.ipsec.tun import Tun
from oe.ipsec.userspace import UserspaceBackend
from oe.ipsec.xfrm import XfrmBackend
from oe.model import Address, EspCipher, EspSa, Mode, Secret

_NOWHERE: tuple[tuple[Address, Address], ...] = (
    (IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")),
    (IPv6Address("100::1"), IPv6Address("100::2")),
)
"""RFC 5737, RFC 6666: no packet goes there, so the SAs of the test never carry one."""

_IPV6 = Path("/proc/thread-self/net/if_inet6")
"""Present where the kernel speaks IPv6."""

_TEST_DEVICE = "oe-probe"


def probe() -> Probe:
    """The kernel's ESP where it has one, else ours. Raises MachineLacks when neither can be had."""
    refusal = _try_xfrm()
    if refusal is None:
        return Probe(BackendName.XFRM, "the kernel has ESP with AES-GCM")
    try:
        Tun(_TEST_DEVICE).close()
        EspSocket(IPv4Address("127.0.0.1"), Marks().exempt).close()
    except MachineLacks as error:
        raise MachineLacks(f"no ESP in the kernel ({refusal}), and {error.missing}", error.remedy) from error
    except OSError as error:
        missing = f"no ESP in the kernel ({refusal}), and no raw sockets ({error.strerror})"
        raise MachineLacks(missing, "run with CAP_NET_RAW and CAP_NET_ADMIN") from error
    return Probe(BackendName.USERSPACE, f"the kernel has no ESP ({refusal}); TUN and raw sockets work")


def create(name: BackendName, device: str = "oe0", marks: Marks | None = None) -> Backend:
    """A back end that is not started yet. Raises MachineLacks."""
    if name is BackendName.USERSPACE:
        return UserspaceBackend(device, marks)
    refusal = _try_xfrm()
    if refusal is not None:
        raise MachineLacks(f"no ESP in the kernel ({refusal})", 'set [gateway] backend to "userspace" or "auto"')
    return XfrmBackend()


def _try_xfrm() -> str | None:
    """Why the kernel's ESP cannot be used; None if it can.

    The first SA of either family makes a kernel load modules and test their ciphers, for a second or two: better here
    than in a handshake.
    """
    try:
        netlink = Netlink(NETLINK_XFRM)
    except OSError as error:
        return f"XFRM netlink: {error.strerror}"
    try:
        for source, destination in _NOWHERE if _IPV6.exists() else _NOWHERE[:1]:
            _try_sa(netlink, _test_sa(source, destination))
    except KernelError as error:
        return str(error)
    finally:
        netlink.close()
    return None


def _try_sa(netlink: Netlink, sa: KernelSa) -> None:
    """Raises KernelError. Whether it was there already, or is gone already, says nothing of what the kernel can do:
    another daemon tries at the same time, one was killed while it did, or this one had to wait for its turn."""
    with _tolerated(errno.EEXIST):
        netlink.request(wire.NEWSA, wire.encode_sa(sa), "try", f"ESP over IPv{sa.source.version}")
    with _tolerated(errno.ESRCH):
        netlink.request(wire.DELSA, wire.encode_sa_id(sa.key), "remove", "ESP test SA")


@contextmanager
def _tolerated(number: int) -> Iterator[None]:
    try:
        yield
    except KernelError as error:
        if error.errno != number:
            raise


def _test_sa(source: Address, destination: Address) -> KernelSa:
    return KernelSa(
        source=source,
        destination=destination,
        esp=EspSa(0x6F65_6F65, EspCipher.AES_GCM_16_256, Secret(bytes(36))),
        selector=Selector.hosts(source, destination),
        reqid=RESERVED_REQID,
        mode=Mode.TUNNEL,
        esn=True,
        encapsulation=None,
        lifetime=1.0,
        octets=None,
        packets=None,
        reserved=False,
    )
