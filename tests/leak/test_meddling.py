"""Whatever others do to the host while the daemon runs, not one clear packet to or from the private net is seen."""

import pytest

from tests.leak.traffic import flowing
from tests.leak.wire import Wire
from tests.leak.world import Daemon, World

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]


def test_the_ruleset_is_flushed_again_and_again(peopled: World, live: Daemon, wire: Wire) -> None:
    host, client = peopled.flows()
    with flowing(host, client):
        wire.carries_esp()
        for _ in range(3):
            before = live.told("table-restored")
            peopled.hosts["host"].sh("nft flush ruleset")
            live.says("table-restored", before + 1)
            wire.carries_esp()
    told = live.told("table-restored")
    counted = peopled.reasons()["table-restored"]
    assert counted >= told
    live.says("table-restored", counted)
    assert wire.shows_no_clear_packet()


def test_a_hole_is_made_in_the_table(peopled: World, live: Daemon, wire: Wire) -> None:
    peopled.reasons()  # who answers is done with the restoration before
    before = live.told("table-restored")
    host, client = peopled.flows()
    with flowing(host, client):
        wire.carries_esp()
        peopled.hosts["host"].sh("nft flush chain inet oe output")
        live.says("table-restored", before + 1)
        wire.carries_esp()
    assert wire.shows_no_clear_packet()


def test_the_link_goes_down_and_comes_back(peopled: World, live: Daemon, wire: Wire) -> None:
    with flowing(*peopled.flows()):
        wire.carries_esp()
        peopled.hosts["host"].sh("ip link set to-router down", "ip link set to-router up")
        peopled.hosts["host"].sh("ip -6 addr replace fd02::1/64 dev to-router nodad")
        peopled.route_host()
        wire.carries_esp()
    assert wire.shows_no_clear_packet()


def test_an_address_goes_and_comes_back(peopled: World, live: Daemon, wire: Wire) -> None:
    def known() -> bool:
        """As the log's last word has it; what it says of the test before may come late."""
        return "10.2.0.1" in [line for line in live.log if " addresses " in line][-1]

    with flowing(*peopled.flows()):
        wire.carries_esp()
        live.until(known)
        peopled.hosts["host"].sh("ip addr del 10.2.0.1/24 dev to-router")
        live.until(lambda: not known())
        peopled.hosts["host"].sh("ip addr add 10.2.0.1/24 dev to-router")
        live.until(known)
        peopled.route_host()
        wire.carries_esp()
    assert peopled.reasons()["address-lost"] > 0
    assert wire.shows_no_clear_packet()
