"""`oe floor` in a namespace of its own; what can be said without a kernel is said first."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from oe.cli.main import main
from oe.control import no_daemon
from tests.ipsec.netns import Namespace

OE = [sys.executable, "-c", "from oe.cli.main import main; main()"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "private").write_text("198.51.100.0/24\n")
    file = tmp_path / "oe.toml"
    file.write_text('[paths]\npolicies = "policies"\nrun = "run"\n')
    return file


@pytest.fixture
def host() -> Iterator[Namespace]:
    with closing(Namespace()) as namespace:
        yield namespace


def floor(host: Namespace, config: Path, verb: str) -> subprocess.CompletedProcess[str]:
    with host.entered():
        command = [*OE, "floor", verb, "--config", str(config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_show_prints_what_up_would_load(config: Path) -> None:
    result = CliRunner().invoke(main, ["floor", "show", "--config", str(config)])
    assert result.exit_code == 0
    assert "add element inet oe private4 { 198.51.100.0-198.51.100.255 }" in result.stdout
    assert "queue to" not in result.stdout


@pytest.mark.netns
def test_up_twice_and_down_twice(host: Namespace, config: Path) -> None:
    for _ in range(2):
        assert floor(host, config, "up").returncode == 0
        assert "198.51.100.0/24" in host.sh("nft list table inet oe")
    for _ in range(2):
        assert floor(host, config, "down").returncode == 0
        assert host.sh("nft list tables") == ""


@pytest.mark.netns
def test_a_bad_private_line_shuts_everything_and_is_told(host: Namespace, config: Path) -> None:
    (config.parent / "policies" / "private").write_text("198.51.100.0/33\n")
    done = floor(host, config, "up")
    assert done.returncode == 2
    assert "private:1:" in done.stderr
    assert "everything is shut" in done.stderr
    assert "0.0.0.0/0" in host.sh("nft list set inet oe private4")
    assert "::/0" in host.sh("nft list set inet oe private6")


@pytest.mark.netns
@pytest.mark.parametrize("verb", ["up", "down"])
def test_not_under_a_running_daemon(host: Namespace, config: Path, verb: str) -> None:
    with no_daemon(config.parent / "run"):  # this process has its place
        done = floor(host, config, verb)
    assert done.returncode == 3
    assert "another oe runs here" in done.stderr
    assert host.sh("nft list tables") == ""
