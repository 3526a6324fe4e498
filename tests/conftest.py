"""Tiers: tests that need more than a Python say so with a marker, and say why when they cannot run.

With OE_REQUIRE_ALL_TIERS=1 such a test fails instead of being skipped: in CI nothing is left out in silence. Then it
is also an error if the whole run leaves a namespace, a link or a process behind. Inside the test kernel, which is made
for these tests, one that cannot run fails in any case.
"""

import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep

import pytest
import structlog
from hypothesis import HealthCheck, settings

NAMESPACE_TOOLS = ("unshare", "ip", "nft")
WORLD_TOOLS = (*NAMESPACE_TOOLS, "nsd", "unbound", "ping")
TIERS = {"netns": NAMESPACE_TOOLS, "world": WORLD_TOOLS, "kernel": WORLD_TOOLS, "guest": (), "interop": ()}
"""Marker: the programs its tests start. All but `guest` and `interop` need namespaces."""

ALL_TIERS = os.environ.get("OE_REQUIRE_ALL_TIERS") == "1"
IN_TEST_KERNEL = os.environ.get("OE_TEST_KERNEL") == "1"
TUN = Path("/dev/net/tun")
CHECKOUT = Path(__file__).resolve().parents[1]
BUILT_KERNELS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oe"

RIVALS = ("libreswan", "strongswan", "strongswan-next")
"""Other IKE daemons, in root file systems that `packaging/rivals/build` makes."""

KERNEL_FEATURES = f"""
ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 256 mode tunnel aead 'rfc4106(gcm(aes))' 0x{"00" * 20} 128
nft 'add table inet probe; add chain inet probe probe; add rule inet probe probe queue to 0'
"""
"""What the tier `kernel` finds in the test kernel, and in that of many a machine."""

os.environ["PATH"] += ":/usr/sbin:/sbin"  # a plain user's PATH lacks ip, nft and nsd


# How long an example takes, to run or to be drawn, says something of the machine's load, nothing of the code. In CI the
# examples are always the same: a run that fails there fails everywhere.
settings.register_profile("oe", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=ALL_TIERS)
settings.load_profile("oe")


@cache
def obstacle(tier: str) -> str | None:
    """Why tests of this tier cannot run here, None if they can."""
    if tier in ("guest", "interop"):
        return unbuilt(tier)
    missing = [tool for tool in TIERS[tier] if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (packaging/setup installs them)"
    if os.geteuid() != 0:
        return "needs root; `make test` runs the tests in a user namespace where that is allowed"
    if not os.access(TUN, os.R_OK | os.W_OK):
        return f"{TUN} cannot be opened: the module tun is not loaded, or this user may not"
    trials = {"no network namespace with nftables": "nft add table inet probe"}
    if tier == "kernel":
        trials["no ESP or no native queue in this kernel; `make test-kernel` has them"] = KERNEL_FEATURES
    faults = (f"{what}: {fault}" for what, commands in trials.items() if (fault := failure(commands)) is not None)
    return next(faults, None)


def unbuilt(tier: str) -> str | None:
    """What a tier that boots the test kernel by itself still waits for."""
    if not any(BUILT_KERNELS.glob("kernel-*/linux")):
        return "the test kernel is not built; `make test-kernel` does it"
    edition = sha256((CHECKOUT / "packaging/rivals/build").read_bytes()).hexdigest()[:16]
    if tier == "interop" and not all((BUILT_KERNELS / f"rivals-{rival}-{edition}").is_dir() for rival in RIVALS):
        return "the other daemons are not there; `make test-interop` installs them, as root"
    return None


def failure(commands: str) -> str | None:
    """What commands complain about in a network namespace of their own; None if they succeed."""
    script = ["unshare", "--net", "sh", "-ec", commands]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=120)
    return done.stderr.strip() if done.returncode else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for tier in TIERS:
        if item.get_closest_marker(tier) is not None and (why := obstacle(tier)) is not None:
            if ALL_TIERS or IN_TEST_KERNEL:
                pytest.fail(f"tier {tier} cannot run: {why}", pytrace=False)
            pytest.skip(f"tier {tier}: {why}")


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """`configure_log` is for a whole process: the next test finds the log as this one did."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        root.setLevel(level)
        root.handlers[:] = handlers


def children() -> Iterator[str]:
    """The command lines of this process's children. Not every kernel lists them in one place, so all are asked."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid():
                yield (process / "cmdline").read_text()


def traces() -> set[str]:
    """What a run may leave on the machine, as far as it can be seen from here."""
    namespaces = Path("/run/netns")
    return {
        *(f"namespace {path.name}" for path in (namespaces.iterdir() if namespaces.is_dir() else ())),
        *(f"link {name}" for _, name in socket.if_nameindex()),
        *(f"process {command[:80]!a}" for command in children()),
    }


@pytest.fixture(scope="session", autouse=ALL_TIERS)
def _nothing_is_left_behind() -> Iterator[None]:
    before = traces()
    yield
    # The kernel takes a link away some time after its namespace.
    end = monotonic() + 30.0
    while (left := traces() - before) and monotonic() < end:
        sleep(0.1)
    assert left == set()
