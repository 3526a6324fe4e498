"""The other tests would notice: without a protection the wire shows clear packets, or the door lets them in.

For each: it alone holds; it is taken away; it leaks. What is taken away is taken from the kernel, or from the daemon
before it starts.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.leak.test_doors import BEHIND, HERE, heard
from tests.leak.traffic import flowing
from tests.leak.wire import Wire
from tests.leak.world import FROM_HOST, Daemon, World

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

WITHOUT_GUARD = "import oe.trap.guard; oe.trap.guard.LIBRARY = 'libnothing.so'"


@contextmanager
def frozen(daemon: Daemon) -> Iterator[None]:
    """It neither answers nor puts anything back."""
    daemon.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, daemon.process.pid, os.WSTOPPED)
    try:
        yield
    finally:
        daemon.process.send_signal(signal.SIGCONT)


def leaks(world: World, wire: Wire) -> bool:
    """Traffic from the host and through it, without anybody to encrypt it."""
    wire.settle()
    wire.clear.clear()
    flows = world.flows()
    with flowing(*flows):
        for flow in flows:
            flow.go_on(10)
        wire.settle()
        if wire.clear:
            wire.until(lambda: {"10.2.0.1", "10.1.0.2"} <= {str(packet.source) for packet in wire.clear}, "both leaks")
    wire.settle()
    return bool(wire.clear)


def test_the_floor_alone(world: World, wire: Wire) -> None:
    """And the inbound check, which is the other half of it."""
    world.oe("floor", "up")
    host = world.hosts["host"]
    assert not leaks(world, wire)
    assert heard(world, "host", HERE[0], FROM_HOST[:1]) == set()
    host.sh("nft flush chain inet oe from-private")
    assert heard(world, "host", HERE[0], FROM_HOST[:1], awaited=True)
    assert heard(world, "client", BEHIND[0], FROM_HOST[:1], awaited=True)
    host.sh("nft flush chain inet oe to-private")
    assert leaks(world, wire)


def test_the_trap_alone(world: World, wire: Wire) -> None:
    """Of a daemon that was killed, so that nobody holds packets and the queue has no listener."""
    with world.running() as daemon:
        daemon.process.kill()
        daemon.end()
    host = world.hosts["host"]
    host.sh("nft flush chain inet oe to-private")
    assert not leaks(world, wire)
    host.sh("nft flush chain inet oe trap-closed")
    assert leaks(world, wire)


def test_the_guard_alone(world: World, wire: Wire) -> None:
    host = world.hosts["host"]
    with world.running() as daemon, frozen(daemon):
        host.sh("nft flush ruleset")
        assert not leaks(world, wire)
        assert heard(world, "host", HERE[0], FROM_HOST[:1]) == set()
    world.forget()
    with world.running(code=WITHOUT_GUARD) as daemon, frozen(daemon):
        assert any("no-guard" in line for line in daemon.log)
        host.sh("nft flush ruleset")
        assert leaks(world, wire)
        assert heard(world, "host", HERE[0], FROM_HOST[:1], awaited=True)


@pytest.mark.kernel
def test_the_floor_alone_when_policies_are_gone(world: World, wire: Wire) -> None:
    """The decisions say that XFRM will do the rest, and XFRM knows nothing of it any more."""
    host = world.hosts["host"]
    flows = world.flows()
    with world.running(code=WITHOUT_GUARD) as daemon:
        with flowing(*flows):
            wire.carries_esp()
            for flow in flows:
                flow.go_on()
        with frozen(daemon):
            host.sh("ip xfrm policy flush")
            assert not leaks(world, wire)
            host.sh("nft flush chain inet oe to-private")
            assert leaks(world, wire)
