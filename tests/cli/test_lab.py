"""`oe lab` on the command line; what it does is tested in tests/lab."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from oe.cli.main import main
from oe.errors import MachineLacks
from oe.lab import shell
from oe.lab.holder import Options


@pytest.fixture(name="asked")
def _asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the command asked of the lab; a lab that fails to be as it should."""
    asked: list[object] = []

    def run(options: Options, captures: Path | None) -> int:
        asked.extend((options, captures))
        return 1

    monkeypatch.setattr(shell, "run", run)
    return asked


def test_options_reach_the_lab_and_its_status_comes_back(asked: list[object], tmp_path: Path) -> None:
    arguments = ["lab", "--only", "bob", "--backend", "userspace", "--json", "--pcap", str(tmp_path)]
    done = CliRunner().invoke(main, arguments)
    assert asked == [Options("userspace", "bob", keep=False, as_json=True), tmp_path]
    assert (done.exit_code, done.output) == (1, "")


def test_a_kept_lab_says_how_to_use_it(asked: list[object]) -> None:
    done = CliRunner().invoke(main, ["lab", "--keep"])
    assert asked == [Options(keep=True), None]
    assert "oe lab enter alice" in done.stderr
    assert "oe lab down" in done.stderr


def test_commands_with_options_of_their_own_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[object] = []
    monkeypatch.setattr(shell, "enter", lambda host, command: entered.extend((host, command)))
    CliRunner().invoke(main, ["lab", "enter", "alice", "ping", "-c1", "--help"])
    assert entered == ["alice", ("ping", "-c1", "--help")]


def test_what_the_machine_lacks_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(options: Options, captures: Path | None) -> int:
        raise MachineLacks("no namespaces", "be root")

    monkeypatch.setattr(shell, "run", run)
    done = CliRunner().invoke(main, ["lab"])
    assert (done.exit_code, done.stderr) == (3, "oe: no namespaces; be root\n")


def test_an_unknown_row_is_wrong_use() -> None:
    assert CliRunner().invoke(main, ["lab", "--only", "nonsense"]).exit_code == 2
