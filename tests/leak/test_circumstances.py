"""Whatever happens to the daemon, not one clear packet to or from the private net is on the host's wire."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from oe.model import Address
from tests.ipsec.netns import Namespace
from tests.leak.traffic import Traffic, flowing
from tests.leak.wire import ESP, Packet, Wire
from tests.leak.world import FROM_HOST, OE, Daemon, World
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

IKE_SA_INIT, IKE_AUTH = 34, 35

NO_REKEY = """
from functools import partial
import oe.daemon.making as making
making.IkeSettings = partial(making.IkeSettings, rekey_margin=0.0)
"""
EARLY_REKEY = """
import oe.ike.exchanges.child_sa as child_sa
child_sa.before_end = lambda lifetime, margin: 2.0
"""
"""Long before the end: on a machine that halts for a while no tunnel ends meanwhile."""


def all_go_on(*flows: Traffic) -> None:
    for flow in flows:
        flow.go_on()


def test_boot_before_the_daemon(world: World, wire: Wire) -> None:
    assert world.oe("floor", "up").returncode == 0
    flows = world.flows()
    with flowing(*flows):
        all_go_on(*flows)
    assert wire.shows_no_clear_packet()


def test_from_boot_over_the_first_tunnel_to_an_orderly_stop(world: World, wire: Wire) -> None:
    assert world.oe("floor", "up").returncode == 0
    flows = world.flows()
    with flowing(*flows):
        with world.running() as daemon:
            wire.carries_esp()
            assert daemon.end() == 0
        all_go_on(*flows)
    assert wire.shows_no_clear_packet()


# --- killed at every step ----------------------------------------------------------------------------------------

SIGNS: dict[str, Callable[[Packet], bool]] = {
    "our first IKE message": lambda packet: packet.from_host and packet.exchange == IKE_SA_INIT,
    "its answer": lambda packet: not packet.from_host and packet.exchange == IKE_SA_INIT,
    "our proof": lambda packet: packet.from_host and packet.exchange == IKE_AUTH,
    "the peer's proof": lambda packet: not packet.from_host and packet.exchange == IKE_AUTH,
    "the first ESP": lambda packet: packet.from_host and packet.protocol == ESP,
}


class Doomed:
    """A daemon under traffic that somebody kills; `kill` may come before this thread has heard of the start."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._daemon: Daemon | None = None
        self._must_die = False

    def kill(self) -> None:
        self._must_die = True
        if self._daemon is not None:
            self._daemon.process.kill()

    def run(self) -> None:
        """Traffic from its start to its death, and for a while after."""
        flows = self._world.flows()
        with flowing(*flows):
            daemon = self._daemon = self._world.start()
            try:
                if self._must_die:
                    daemon.process.kill()
                daemon.process.wait(PATIENCE)
                all_go_on(*flows)
            finally:
                daemon.process.kill()
                daemon.end()


@pytest.mark.parametrize("sign", SIGNS)
def test_killed_in_a_negotiation(world: World, wire: Wire, sign: str) -> None:
    assert world.oe("floor", "up").returncode == 0
    doomed = Doomed(world)
    # In the thread that sees the sign, so that the next step is not taken meanwhile.
    wire.on_packet = lambda packet: doomed.kill() if SIGNS[sign](packet) else None
    doomed.run()
    assert wire.shows_no_clear_packet()


def test_killed_before_dns_answers(world: World, wire: Wire) -> None:
    assert world.oe("floor", "up").returncode == 0
    doomed = Doomed(world)

    def asked(asker: Namespace, owner: Address) -> None:
        if asker is world.hosts["host"] and str(owner) in FROM_HOST:
            doomed.kill()

    world.names.on_question = asked
    doomed.run()
    assert wire.shows_no_clear_packet()


# --- short of something ------------------------------------------------------------------------------------------


def test_dns_is_dead(world: World, wire: Wire) -> None:
    world.names.silent_to.add(world.hosts["host"])
    flows = world.flows()
    with world.running() as daemon, flowing(*flows):
        daemon.says("pair-blocked")
        all_go_on(*flows)
    assert wire.shows_no_clear_packet()


def test_full_disk_under_the_log(world: World, wire: Wire) -> None:
    """The daemon writes its log to a device that is full from the beginning."""
    assert world.oe("floor", "up").returncode == 0
    flows = world.flows()
    with flowing(*flows), world.hosts["host"].entered(), Path("/dev/full").open("w") as full:
        config = world.directory / "host" / "oe.toml"
        process = subprocess.Popen([*OE, "run", "--config", str(config)], stderr=full)
        try:
            wire.carries_esp()
        finally:
            process.terminate()
            process.wait(PATIENCE)
        all_go_on(*flows)
    assert wire.shows_no_clear_packet()


def test_more_packets_than_anybody_can_hold(world: World, wire: Wire) -> None:
    world.configure(gateway="hold-in-all = 8\nhold-per-pair = 4")
    flood = Traffic(world.hosts["host"], [f"198.18.{128 + n // 250}.{n % 250 + 1}" for n in range(1000)])
    behind = Traffic(world.hosts["client"], [f"2001:db8:8000::{n:x}" for n in range(1, 1000)])
    with world.running(), flowing(flood, behind):
        flood.go_on(2)
        behind.go_on(2)
        assert world.queue_overflows() > 0
    assert wire.shows_no_clear_packet()


def test_tunnels_that_end_by_the_clock(world: World, wire: Wire) -> None:
    world.configure(gateway='child-lifetime = "5s"')
    with world.running(code=NO_REKEY) as daemon, flowing(*world.flows()):
        daemon.says("child-closed")
        wire.carries_esp()
    assert wire.shows_no_clear_packet()


def test_tunnels_that_are_rekeyed(world: World, wire: Wire) -> None:
    world.configure(gateway='child-lifetime = "60s"', group='[log]\nlevel = "debug"')
    with world.running(code=EARLY_REKEY) as daemon, flowing(*world.flows()):
        daemon.says("child-closed", times=4)
        wire.carries_esp()
    assert all("reason=rekeyed" in line for line in daemon.log if "child-closed" in line)
    assert wire.shows_no_clear_packet()
