"""`oe run`: hands the configuration to the daemon and gives back its exit code."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from oe.cli.main import main
from oe.config import Config
from oe.errors import MachineLacks


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_the_daemons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    (tmp_path / "oe.toml").write_text('[paths]\nrun = "run"\n')
    seen = []

    def run(config: Config, path: Path | None) -> int:
        seen.append((config.paths.run, path))
        return code

    monkeypatch.setattr("oe.cli.run.run_daemon", run)
    result = CliRunner().invoke(main, ["run", "--config", str(tmp_path / "oe.toml")])
    assert result.exit_code == code
    assert seen == [(tmp_path / "run", tmp_path / "oe.toml")]


def test_what_the_machine_lacks_is_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "oe.toml").touch()

    def run(_config: Config, _path: Path | None) -> int:
        raise MachineLacks("no CAP_NET_ADMIN", "run as root")

    monkeypatch.setattr("oe.cli.run.run_daemon", run)
    result = CliRunner().invoke(main, ["run", "--config", str(tmp_path / "oe.toml")])
    assert result.exit_code == 3
    assert result.stderr == "oe: no CAP_NET_ADMIN; run as root\n"


def test_a_missing_configuration_is_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["run", "--config", str(tmp_path / "oe.toml")])
    assert result.exit_code == 2
    assert "no such file" in result.stderr
