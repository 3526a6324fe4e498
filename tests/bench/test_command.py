import json
import subprocess
import sys

import click
import pytest

from bench.command import begin_alone, tell


@pytest.mark.parametrize(("mounts", "namespaces"), [(False, ("--net",)), (True, ("--net", "--mount"))])
def test_it_begins_again_with_its_options_and_ends_with_that_exit_code(
    monkeypatch: pytest.MonkeyPatch, mounts: bool, namespaces: tuple[str, ...]
) -> None:
    begun: list[tuple[str, ...]] = []

    def run(command: tuple[str, ...], *, check: bool) -> subprocess.CompletedProcess[bytes]:
        assert not check
        begun.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr("bench.command.subprocess.run", run)
    monkeypatch.setattr(sys, "argv", ["some", "--rounds", "2"])
    with pytest.raises(SystemExit) as ended:
        begin_alone("bench.some", "--base", "there", mounts=mounts)
    assert ended.value.code == 3
    expected = sys.executable, "-m", "bench.some", "--rounds", "2", "--base", "there", "--inside"
    assert begun == [("unshare", *namespaces, *expected)]


def test_it_tells_json_or_tables(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (True, False):
        tell(as_json, lambda: {"figure": 1}, lambda: click.echo("a table"))
    line, table = capsys.readouterr().out.splitlines()
    assert (json.loads(line), table) == ({"figure": 1}, "a table")
