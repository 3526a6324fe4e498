"""Which back end can this machine run?"""

from ipaddress import IPv4Address

from oe.errors import KernelError, MachineLacks
from oe.ipsec import xfrm_wire as wire
from oe.ipsec.esp_socket import EspSocket
from oe.ipsec.model import Backend, BackendName, Marks, Probe
from oe.ipsec.netlink import NETLINK_XFRM, Netlink
from oe.ipsec.operations import RESERVED_REQID, KernelSa, Selector
from oe.ipsec.tun import Tun
from oe.ipsec.userspace import UserspaceBackend
from oe.ipsec.xfrm import XfrmBackend
from oe.model import EspCipher, EspSa, Mode, Secret

_NOBODY = IPv4Address("192.0.2.1")
_NOWHERE = IPv4Address("192.0.2.2")
"""RFC 5737: no packet goes there, so the SA of the test never carries one."""

_TEST_DEVICE = "oe-probe"


def probe() -> Probe:
    """The kernel's ESP where it has one, else ours. Raises MachineLacks when neither can be had.

    The first ESP SA may load modules and run their self-tests, for a second or two: better here than in a handshake.
    """
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
    try:
        return XfrmBackend()
    except OSError as error:
        raise MachineLacks(f"XFRM netlink cannot be opened: {error.strerror}", "use the userspace back end") from error


def _try_xfrm() -> str | None:
    """Why the kernel's ESP cannot be used; None if it can."""
    esp = EspSa(0x6F65_6F65, EspCipher.AES_GCM_16_256, Secret(bytes(36)))
    selector = Selector.hosts(_NOBODY, _NOWHERE)
    sa = KernelSa(_NOBODY, _NOWHERE, esp, selector, RESERVED_REQID, Mode.TUNNEL, True, None, 1.0, 0, reserved=False)
    try:
        netlink = Netlink(NETLINK_XFRM)
    except OSError as error:
        return f"XFRM netlink: {error.strerror}"
    try:
        netlink.request(wire.NEWSA, wire.encode_sa(sa), "try", "ESP")
        netlink.request(wire.DELSA, wire.encode_sa_id(sa.key), "remove", "ESP test SA")
    except KernelError as error:
        return str(error)
    finally:
        netlink.close()
    return None
