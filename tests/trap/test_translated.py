"""The floor behind source address translation: a packet whose tunnel it takes away does not leave in clear."""

import re
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from ipaddress import ip_address, ip_network
from subprocess import run

import pytest

from oe.model import Group, Interval
from oe.trap.ruleset import render_floor, render_guard
from oe.trap.spec import TrapSpec
from tests.ipsec.netns import Namespace
from tests.waiting import await_that

pytestmark = [pytest.mark.netns, pytest.mark.kernel]

PRIVATE = ip_address("198.51.100.6")
KEY = "0x" + "ab" * 20
SPEC = TrapSpec(
    intervals=(Interval(PRIVATE, PRIVATE, Group.PRIVATE),),
    queue_closed=50,
    queue_open=51,
    served=(ip_network("192.0.2.192/27"),),
)
SEEN = """
table ip seen {
 chain prerouting {
  type filter hook prerouting priority raw;
  ip protocol icmp counter comment "clear"
  ip protocol esp counter comment "esp"
 }
}
"""
MASQUERADE = """
table ip translate {
 chain postrouting {
  type nat hook postrouting priority srcnat;
  oifname "outside" masquerade
 }
}
"""
POOL = MASQUERADE.replace(" masquerade", " snat ip to 203.0.113.77")
"""An address that is neither ours nor a client's: afterwards nothing shows whose packet it was."""
BUT_TUNNELS = MASQUERADE.replace(" masquerade", " rt ipsec missing masquerade")
"""As docs/operations.md has it."""


def nft(namespace: Namespace, text: str) -> None:
    namespace.call(partial(run, ["nft", "-f", "-"], input=text, text=True, check=True))


def tunnel_for(source: str) -> str:
    template = "tmpl src 203.0.113.1 dst 203.0.113.2 proto esp reqid 1 mode tunnel"
    return f"ip xfrm policy add src {source} dst {PRIVATE} dir out {template}"


class Site:
    """client ── gateway, with a tunnel for the client ── world, which counts what it sees"""

    def __init__(self, client: Namespace, gateway: Namespace, world: Namespace) -> None:
        self.client, self.gateway, self.world = client, gateway, world
        gateway.sh(
            f"ip link add inside type veth peer name here netns {client.path}",
            f"ip link add outside type veth peer name here netns {world.path}",
            "ip address add 192.0.2.194/27 dev inside",
            "ip address add 203.0.113.1/24 dev outside",
            "ip link set inside up",
            "ip link set outside up",
            "ip route add default via 203.0.113.2",
            "sysctl -qw net.ipv4.ip_forward=1",
            "ip xfrm state add src 203.0.113.1 dst 203.0.113.2 proto esp spi 256 reqid 1 mode tunnel "
            f"aead rfc4106(gcm(aes)) {KEY} 128",
            tunnel_for("192.0.2.193"),
        )
        client.sh(
            "ip address add 192.0.2.193/27 dev here", "ip link set here up", "ip route add default via 192.0.2.194"
        )
        world.sh("ip address add 203.0.113.2/24 dev here", "ip link set here up")
        # What is sent before the kernel has noticed a carrier is lost.
        for sender, neighbour in ((client, "192.0.2.194"), (gateway, "203.0.113.2")):
            sender.sh(f"ping -c 1 -w 60 {neighbour}")
        nft(world, SEEN)

    def ping(self, sender: Namespace | None = None) -> None:
        command = ["ping", "-c", "2", "-i", "0.1", "-W", "0.2", str(PRIVATE)]
        (sender or self.client).call(partial(run, command, capture_output=True, check=False))

    def seen(self) -> dict[str, int]:
        """Packets that reached the world."""
        listed = self.world.sh("nft list table ip seen")
        return {name: int(number) for number, name in re.findall(r'packets (\d+) bytes \d+ comment "(\w+)"', listed)}

    def sees(self, clear: int, esp: int) -> None:
        """These have reached the world, or will: the kernel may encrypt in a thread of its own."""
        expected = {"clear": clear, "esp": esp}
        with suppress(AssertionError):
            await_that(lambda: self.seen() == expected, "packets in the world")
        assert self.seen() == expected


@pytest.fixture
def site() -> Iterator[Site]:
    with closing(Namespace()) as client, closing(Namespace()) as gateway, closing(Namespace()) as world:
        yield Site(client, gateway, world)


@pytest.mark.parametrize("translation", [MASQUERADE, POOL], ids=["masquerade", "pool"])
@pytest.mark.parametrize(
    "table", [render_floor(SPEC), render_guard(SPEC).replace(" flags owner", "")], ids=["floor", "guard"]
)
def test_a_translated_packet_of_a_client_does_not_leave_in_clear(site: Site, table: str, translation: str) -> None:
    nft(site.gateway, translation)
    site.ping()
    site.sees(clear=2, esp=0)
    nft(site.gateway, "delete table ip translate")
    nft(site.gateway, table)
    site.ping()
    site.sees(clear=2, esp=2)
    nft(site.gateway, translation)
    site.ping()
    assert site.seen()["clear"] == 2


def test_a_translated_packet_of_the_gateway_itself_does_not_leave_in_clear(site: Site) -> None:
    site.gateway.sh(tunnel_for("203.0.113.1"))
    nft(site.gateway, render_floor(SPEC))
    site.ping(site.gateway)
    site.sees(clear=0, esp=2)
    nft(site.gateway, POOL)
    site.ping(site.gateway)
    site.sees(clear=0, esp=2)


def test_what_goes_into_tunnels_can_be_left_untranslated(site: Site) -> None:
    nft(site.gateway, render_floor(SPEC))
    nft(site.gateway, BUT_TUNNELS)
    site.ping()
    site.sees(clear=0, esp=2)
