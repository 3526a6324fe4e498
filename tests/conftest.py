"""Tiers: tests that need more than a Python say so with a marker, and say why when they cannot run.

With OE_REQUIRE_ALL_TIERS=1 such a test fails instead of being skipped: in CI nothing is left out in silence. Then it
is also an error if the whole run leaves a namespace, a link or a process behind.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

NAMESPACE_TOOLS = ("unshare", "ip", "nft")
TIERS = {"netns": NAMESPACE_TOOLS, "world": (*NAMESPACE_TOOLS, "nsd", "unbound", "ping")}
"""Marker: the programs its tests start. All of them need namespaces."""

ALL_TIERS = os.environ.get("OE_REQUIRE_ALL_TIERS") == "1"
TUN = Path("/dev/net/tun")

os.environ["PATH"] += ":/usr/sbin:/sbin"  # a plain user's PATH lacks ip, nft and nsd


# How long an example takes says something of the machine's load, nothing of the code. In CI the examples are always
# the same: a run that fails there fails everywhere.
settings.register_profile("oe", deadline=None, derandomize=ALL_TIERS)
settings.load_profile("oe")


@cache
def obstacle(tier: str) -> str | None:
    """Why tests of this tier cannot run here, None if they can."""
    missing = [tool for tool in TIERS[tier] if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (packaging/setup installs them)"
    if os.geteuid() != 0:
        return "needs root; `make test` runs the tests in a user namespace where that is allowed"
    if not os.access(TUN, os.R_OK | os.W_OK):
        return f"{TUN} cannot be opened: the module tun is not loaded, or this user may not"
    trial = subprocess.run(
        ["unshare", "--net", "nft", "add table inet probe"], capture_output=True, text=True, check=False, timeout=30
    )
    return f"no network namespace with nftables: {trial.stderr.strip()}" if trial.returncode else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for tier in TIERS:
        if item.get_closest_marker(tier) is not None and (why := obstacle(tier)) is not None:
            if ALL_TIERS:
                pytest.fail(f"tier {tier} cannot run: {why}", pytrace=False)
            pytest.skip(f"tier {tier}: {why}")


def traces() -> set[str]:
    """What a run may leave on the machine, as far as it can be seen from here."""
    namespaces = Path("/run/netns")
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        *(f"namespace {path.name}" for path in (namespaces.iterdir() if namespaces.is_dir() else ())),
        *(f"link {name}" for _, name in socket.if_nameindex()),
        *(f"process {Path(f'/proc/{child}/cmdline').read_text()[:80]!a}" for child in children),
    }


@pytest.fixture(scope="session", autouse=ALL_TIERS)
def _nothing_is_left_behind() -> Iterator[None]:
    before = traces()
    yield
    assert traces() - before == set()
