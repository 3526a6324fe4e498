"""Tiers: tests that need more than a Python say so with a marker, and say why when they cannot run.

With OE_REQUIRE_ALL_TIERS=1 such a test fails instead of being skipped: in CI nothing is left out in silence.
"""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

NAMESPACE_TOOLS = ("unshare", "ip", "nft")
TIERS = {"netns": NAMESPACE_TOOLS, "world": (*NAMESPACE_TOOLS, "nsd", "unbound", "ping")}
"""Marker: the programs its tests start. All of them need namespaces."""

os.environ["PATH"] += ":/usr/sbin:/sbin"  # a plain user's PATH lacks ip, nft and nsd


@cache
def obstacle(tier: str) -> str | None:
    """Why tests of this tier cannot run here, None if they can."""
    missing = [tool for tool in TIERS[tier] if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (packaging/setup installs them)"
    if os.geteuid() != 0:
        return "needs root; `make test` runs the tests in a user namespace where that is allowed"
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun: load the module tun"
    trial = subprocess.run(
        ["unshare", "--net", "nft", "add table inet probe"], capture_output=True, text=True, check=False, timeout=30
    )
    return f"no network namespace with nftables: {trial.stderr.strip()}" if trial.returncode else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for tier in TIERS:
        if item.get_closest_marker(tier) is not None and (why := obstacle(tier)) is not None:
            if os.environ.get("OE_REQUIRE_ALL_TIERS") == "1":
                pytest.fail(f"tier {tier} cannot run: {why}", pytrace=False)
            pytest.skip(f"tier {tier}: {why}")
