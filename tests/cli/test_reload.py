"""`oe reload`: what it shows of the daemon's answer, and its exit codes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oe.cli.main import main
from oe.control import Json, Refused
from oe.errors import ConfigError, OeError
from tests.cli.answering import answering


def answer() -> Json:
    rows = [("private", 2, 1, 0, 0), ("private-or-clear", 0, 0, 1, 3)]
    names = ("group", "nets", "added", "removed", "pairs_let_go")
    return {
        "groups": [dict(zip(names, row, strict=True)) for row in rows],
        "settings": ["group.private.dnssec", "log.level"],
        "keys": [],
        "pairs_let_go": 3,
        "pairs_kept": 12,
        "nets": iter([{"net": "198.51.100.0/24", "was": "private-or-clear", "is": "private"}]),
        "pairs": iter([]),
    }


def reload(run_dir: Path, *arguments: str, error: OeError | None = None) -> Result:
    requests: list[Json] = []

    def verb(request: Json) -> Json:
        requests.append(request)
        if error is not None:
            raise error
        return answer()

    with answering(run_dir, {"reload": verb}):
        result = CliRunner().invoke(main, ["--run-dir", str(run_dir), "reload", *arguments])
    assert requests == [{"ask": "reload"}]
    return result


def test_a_table_of_what_changed(tmp_path: Path) -> None:
    result = reload(tmp_path)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "group                nets    added  removed  pairs let go",
        "private                 2        1        0             0",
        "private-or-clear        0        0        1             3",
        "changed: group.private.dnssec, log.level",
        "3 pairs let go, 12 kept",
    ]


def test_json_has_every_net(tmp_path: Path) -> None:
    document = json.loads(reload(tmp_path, "--json").stdout)
    assert document["nets"] == [{"net": "198.51.100.0/24", "was": "private-or-clear", "is": "private"}]
    assert document["pairs"] == []


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError("private:3: 'x': no net; allowed: nets"), 2), (Refused("the kernel says no"), 1)]
)
def test_what_is_wrong_is_told_on_standard_error(tmp_path: Path, error: OeError, code: int) -> None:
    result = reload(tmp_path, error=error)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"oe: {error}\n")


def test_without_a_daemon(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["--run-dir", str(tmp_path), "reload"]).exit_code == 3
