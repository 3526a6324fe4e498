"""`oe check`: the summary of a good configuration, the problems of a bad one."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oe.cli.main import main


@pytest.fixture
def config(tmp_path: Path) -> Path:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "private").write_text("192.0.2.0/24\n2001:db8::/32  # the lab\n")
    (policies / "clear").write_text("203.0.113.9\n")
    file = tmp_path / "oe.toml"
    file.write_text('[paths]\npolicies = "policies"\n')
    return file


def check(config: Path) -> Result:
    return CliRunner().invoke(main, ["check", "--config", str(config)])


def test_a_good_configuration(config: Path) -> None:
    result = check(config)
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["private", "2", "nets"],
        ["private-or-clear", "0", "nets"],
        ["clear-or-private", "0", "nets"],
        ["clear", "1", "nets"],
        ["block", "0", "nets"],
    ]


def test_every_bad_line_of_a_policy_file_is_told(config: Path) -> None:
    (config.parent / "policies" / "block").write_text("10.0.0.1/8\nexample.org\n")
    result = check(config)
    assert result.exit_code == 2
    assert "block:1:" in result.stderr
    assert "block:2:" in result.stderr


def test_a_misspelt_key(config: Path) -> None:
    config.write_text("[dns]\nresolver = []\n")
    result = check(config)
    assert result.exit_code == 2
    assert "dns.resolver: unknown key" in result.stderr


@pytest.mark.parametrize("missing", ["oe.toml", "policies"])
def test_what_is_not_there(config: Path, missing: str) -> None:
    place = config.parent / missing
    place.rename(config.parent / "elsewhere")
    result = check(config)
    assert result.exit_code == 2
    assert str(place) in result.stderr
