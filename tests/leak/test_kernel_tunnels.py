"""Somebody takes the kernel's SAs and policies away: no clear packet is seen, and the tunnels come back."""

import pytest

from tests.leak.traffic import flowing
from tests.leak.wire import Wire
from tests.leak.world import Daemon, World
from tests.waiting import await_that

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(300)]


@pytest.mark.parametrize("what", ["policy flush", "state flush", "policy deleteall", "state deleteall"])
def test_tunnels_are_taken_away(peopled: World, live: Daemon, wire: Wire, what: str) -> None:
    before, closed = peopled.reasons().get("sa-taken-away", 0), live.told("child-closed")
    with flowing(*peopled.flows()):
        wire.carries_esp()
        peopled.hosts["host"].sh(f"ip xfrm {what}")
        # The log may still be telling of the test before, and ESP be on its way.
        await_that(lambda: peopled.reasons().get("sa-taken-away", 0) > before, "SAs missed")
        live.says("child-closed", closed + 1)
        wire.carries_esp()
    assert wire.shows_no_clear_packet()
