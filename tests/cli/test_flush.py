"""`oe flush`: what it asks the daemon for, and what it says when the daemon declines."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oe.cli.main import main
from oe.control import Json, Refused
from tests.cli.answering import answering


class Daemon:
    """Keeps every request, and refuses those about 192.0.2.66."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.requests: list[Json] = []

    def flush(self, request: Json) -> Json:
        self.requests.append(request)
        if request.get("source") == "192.0.2.66":
            raise Refused("no such pair")
        return {"pairs": 0 if request.get("source") == "192.0.2.77" else 1}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    with answering(tmp_path, {"flush": daemon.flush}):
        yield daemon


def flush(daemon: Daemon, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--run-dir", str(daemon.run_dir), "flush", *arguments])


def test_without_a_pair_everything_is_forgotten(daemon: Daemon) -> None:
    result = flush(daemon)
    assert (result.exit_code, result.stdout) == (0, "1 pair forgotten\n")
    assert daemon.requests == [{"ask": "flush"}]


def test_a_pair(daemon: Daemon) -> None:
    assert flush(daemon, "2001:DB8::1", "2001:db8::2").exit_code == 0
    assert daemon.requests == [{"ask": "flush", "source": "2001:db8::1", "destination": "2001:db8::2"}]


@pytest.mark.parametrize(
    "arguments",
    [["192.0.2.1"], ["here", "there"], ["192.0.2.1", "2001:db8::1"], ["192.0.2.1", "192.0.2.2", "192.0.2.3"]],
)
def test_anything_else_is_wrong_use(daemon: Daemon, arguments: list[str]) -> None:
    assert flush(daemon, *arguments).exit_code == 2
    assert daemon.requests == []


def test_a_refusal_is_1(daemon: Daemon) -> None:
    result = flush(daemon, "192.0.2.66", "192.0.2.1")
    assert result.exit_code == 1
    assert result.stderr == "oe: no such pair\n"


def test_a_pair_that_nobody_knows_is_1(daemon: Daemon) -> None:
    result = flush(daemon, "192.0.2.77", "192.0.2.1")
    assert result.exit_code == 1
    assert "nothing is known of 192.0.2.77 → 192.0.2.1" in result.stderr
