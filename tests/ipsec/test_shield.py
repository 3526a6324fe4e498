"""Rules and routes in a real kernel."""

import subprocess
from contextlib import closing

import pytest

from oe.ipsec.model import Marks
from oe.ipsec.shield import Shield
from oe.ipsec.tun import Tun
from tests.ipsec.netns import Namespace

pytestmark = pytest.mark.netns

DESTINATIONS = {"-4": "203.0.113.5", "-6": "2001:db8::5"}


def way(host: Namespace, family: str, mark: int) -> str:
    """Where the kernel would send a packet of that mark; empty: nowhere."""
    command = ["ip", family, "route", "get", DESTINATIONS[family], "mark", str(mark)]
    return host.call(lambda: subprocess.run(command, check=False, capture_output=True, text=True).stdout)


@pytest.fixture
def routed(host: Namespace) -> Namespace:
    """A host with an ordinary default route."""
    host.sh(
        "ip link add name cable type veth peer name other",
        "ip link set cable up",
        "ip link set other up",
        "ip addr add 198.51.100.1/24 dev cable",
        "ip addr add 2001:db8:1::1/64 dev cable nodad",
        "ip route add default dev cable",
        "ip -6 route add default dev cable",
    )
    return host


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_marks_choose_the_way(routed: Namespace, family: str) -> None:
    marks = Marks()
    with routed.entered(), closing(Shield(marks)) as shield:
        tun = Tun("oe0")
        shield.raise_over(tun.index)
        assert "dev cable" in way(routed, family, 0)
        assert "dev cable" in way(routed, family, marks.exempt)
        for mark in (marks.shield_closed, marks.shield_open):
            assert "dev oe0" in way(routed, family, mark)
            assert "dev oe0" in way(routed, family, mark | 0xFF)
        tun.close()
        assert "dev cable" in way(routed, family, marks.shield_open)
        assert "dev cable" not in way(routed, family, marks.shield_closed)
        shield.lower()
        assert "dev cable" in way(routed, family, marks.shield_closed)


def rules_and_tables(host: Namespace) -> str:
    return host.sh("ip -4 rule", "ip -6 rule", "ip -4 route show table all", "ip -6 route show table all proto 111")


def test_nothing_is_left_and_foreign_rules_stay(routed: Namespace) -> None:
    routed.sh("ip rule add fwmark 0x20000 lookup 100 priority 50", "ip -6 rule add fwmark 0x20000 lookup 100")
    before = rules_and_tables(routed)
    with routed.entered(), closing(Shield(Marks())) as shield, closing(Tun("oe0")) as tun:
        shield.raise_over(tun.index)
        assert rules_and_tables(routed).count(" 2851") == 4 + 3 + 3
        shield.lower()
    assert rules_and_tables(routed) == before


def test_what_a_crashed_run_left_is_taken_over(routed: Namespace) -> None:
    before = rules_and_tables(routed)
    with routed.entered():
        for marks in (Marks(shield_closed=0x100000), Marks()):
            with closing(Shield(marks)) as crashed, closing(Tun("oe0")) as tun:
                crashed.raise_over(tun.index)
        with closing(Shield(Marks())) as shield, closing(Tun("oe0")) as tun:
            shield.raise_over(tun.index)
            shield.raise_over(tun.index)
            assert rules_and_tables(routed).count(" 2851") == 4 + 3 + 3
            shield.lower()
    assert rules_and_tables(routed) == before
