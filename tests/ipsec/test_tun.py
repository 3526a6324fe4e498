"""The TUN device in a real kernel."""

from contextlib import closing

import pytest

from oe.errors import MachineLacks
from oe.ipsec.coalesce import PLAIN
from oe.ipsec.tun import Tun
from tests.ipsec.children import OURS, THEIRS
from tests.ipsec.netns import Namespace
from tests.waiting import await_that

pytestmark = pytest.mark.netns


def setting(host: Namespace, path: str) -> str:
    return host.sh(f"cat /proc/sys/net/{path}").strip()


def test_the_device_is_up_quiet_and_only_its_own_settings_change(host: Namespace) -> None:
    def others() -> list[str]:
        return [setting(host, f"ipv4/conf/{name}/rp_filter") for name in ("all", "default", "lo")]

    before = others()
    with host.entered(), closing(Tun("oe-test")) as tun:
        shown = host.sh("ip -d link show oe-test")
        assert "mtu 1415" in shown
        assert "UP" in shown
        assert "addrgenmode none" in shown
        assert setting(host, "ipv4/conf/oe-test/rp_filter") == "2"
        assert setting(host, "ipv6/conf/oe-test/accept_ra") == "0"
        assert "inet6" not in host.sh("ip addr show oe-test")
        assert others() == before
        assert f"{tun.index}: oe-test" in shown
    assert "oe-test" not in host.sh("ip link")


@pytest.mark.parametrize(("link", "tunnel"), [(9000, 1415), (1400, 1315), (1280, 1280), (600, 1280)])
def test_what_fits_the_narrowest_link_fits_the_tunnel(host: Namespace, link: int, tunnel: int) -> None:
    host.sh(f"ip link add name cable mtu {link} type veth peer name other", "ip link set cable up")
    with host.entered(), closing(Tun("oe-test")):
        assert f"mtu {tunnel}" in host.sh("ip link show oe-test")


def test_packets_go_in_and_come_out(host: Namespace) -> None:
    with host.entered(), closing(Tun("oe-test")) as tun:
        host.sh(f"ip addr add {OURS}/32 dev lo", f"ip route add {THEIRS} dev oe-test src {OURS}")
        assert tun.write((PLAIN, ping_request()))
        came: list[bytes] = []

        def is_answered() -> bool:
            came.extend(iter(tun.read, None))
            return bool(came)

        await_that(is_answered, "the answer")
        [answer] = came
        assert answer[12:20] == OURS.packed + THEIRS.packed
        assert answer[20] == 0  # echo reply
        assert tun.read() is None


def test_what_is_no_packet_is_not_taken(host: Namespace) -> None:
    with host.entered(), closing(Tun("oe-test")) as tun:
        assert not tun.write((PLAIN, b"\x10 is neither version 4 nor 6"))
        host.sh("ip link delete oe-test")
        assert not tun.write((PLAIN, ping_request()))
        with pytest.raises(OSError, match="bad state"):
            tun.read()


def test_a_name_has_one_owner(host: Namespace) -> None:
    with host.entered(), closing(Tun("oe-test")), pytest.raises(MachineLacks, match="oe-test") as lack:
        Tun("oe-test")
    assert lack.value.remedy == "end the other daemon"


def ping_request() -> bytes:
    from scapy.layers.inet import ICMP, IP

    return bytes(IP(src=str(THEIRS), dst=str(OURS)) / ICMP())
