"""The systemd units: they start what there is, with rights that are enough."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import closing
from pathlib import Path

import pytest

from oe.cli.main import COMMANDS, EXIT_CODES
from oe.control import ask
from oe.errors import ConfigError, MachineLacks
from tests.ipsec.netns import Namespace

PACKAGING = Path(__file__).parents[2] / "packaging"
UNITS = sorted(path.name for path in PACKAGING.glob("*.service"))
OE = (sys.executable, "-c", "from oe.cli.main import main; main()")
PATIENCE = 120.0


def service(unit: str) -> dict[str, str]:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # the documented way to keep the case
    parser.read(PACKAGING / unit)
    return dict(parser["Service"])


def confined(unit: str, *arguments: str) -> list[str]:
    """A command with the unit's capabilities, and no way to more."""
    capabilities = service(unit)["CapabilityBoundingSet"].lower().replace("cap_", "+").split()
    return ["setpriv", "--bounding-set", ",".join(["-all", *capabilities]), "--no-new-privs", *OE, *arguments]


@pytest.fixture
def host() -> Iterator[Namespace]:
    with closing(Namespace()) as namespace:
        namespace.sh("ip link add here type veth peer name there")
        namespace.sh("ip address add 192.0.2.1/24 dev here")
        namespace.sh("ip link set here up")
        yield namespace


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "private").write_text("198.51.100.0/24\n")
    file = tmp_path / "oe.toml"
    file.write_text('[paths]\npolicies = "policies"\nkeys = "keys"\nrun = "run"\nstate = "state"\n')
    return file


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_started_is_there(unit: str) -> None:
    started = [value for key, value in service(unit).items() if key.startswith("Exec")]
    assert started
    for command in started:
        program, name, *_ = command.lstrip("-").split()
        assert program == "/usr/local/bin/oe"
        assert name in COMMANDS


def test_what_does_not_mend_itself_is_not_tried_again() -> None:
    assert service("oe.service")["RestartPreventExitStatus"] == str(dict(EXIT_CODES)[ConfigError])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    for unit in UNITS:
        (tmp_path / unit).write_text((PACKAGING / unit).read_text().replace("/usr/local/bin/oe", "/bin/true"))
    command = ["systemd-analyze", "verify", *(str(tmp_path / unit) for unit in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "oe" in line.partition(":")[0]]) == (0, [])


@pytest.mark.netns
def test_the_daemons_capabilities_are_enough(host: Namespace, config: Path) -> None:
    with host.entered():
        daemon = subprocess.Popen(confined("oe.service", "run", "--config", str(config)), stderr=subprocess.PIPE)
    try:
        document = wait_until_ready(config.parent / "run", daemon)
        assert document["pairs"] == []
        assert "table inet oe-guard" in host.sh("nft list tables")
    finally:
        daemon.terminate()
        _, told = daemon.communicate(timeout=PATIENCE)
    assert daemon.returncode == 0, told
    assert b"[error" not in told


def wait_until_ready(run_dir: Path, daemon: subprocess.Popen[bytes]) -> dict[str, object]:
    deadline = time.monotonic() + PATIENCE
    while daemon.poll() is None and time.monotonic() < deadline:
        try:
            return ask(run_dir, {"ask": "status"})
        except MachineLacks:
            time.sleep(0.02)
    raise AssertionError("the daemon does not answer")


@pytest.mark.netns
def test_the_floors_capabilities_are_enough(host: Namespace, config: Path) -> None:
    with host.entered():
        command = confined("oe-floor.service", "floor", "up", "--config", str(config))
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "198.51.100.0/24" in host.sh("nft list set inet oe private4")
