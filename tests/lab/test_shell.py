"""The outside of the lab: what is refused before anything is built, and how a kept lab is remembered."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from oe.errors import ConfigError
from oe.lab import shell
from oe.lab.holder import Options
from oe.lab.shell import NothingKept


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "oe-lab.json"
    monkeypatch.setattr(shell, "memory", lambda: path)
    return path


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands in for `unshare` and has one child, which stands in for the holder."""
    # It has a process group of its own, so that the fixture ends both, and it waits for its child as `unshare` does.
    script = "sh -c 'echo; exec sleep 600' & wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


def test_a_kept_lab_is_remembered_until_it_is_down(memory: Path, sleeper: subprocess.Popen[bytes]) -> None:
    shell.remember(sleeper.pid)
    pid = shell.kept()
    assert pid is not None
    assert f"PPid:\t{sleeper.pid}\n" in Path(f"/proc/{pid}/status").read_text()
    with pytest.raises(ConfigError, match="up already"):
        shell.run(Options(keep=True))
    shell.down()
    assert shell.kept() is None
    assert not memory.exists()
    assert shell._start_time(pid) is None


def test_a_process_number_that_somebody_else_has_by_now_is_not_ours(memory: Path) -> None:
    memory.write_text(json.dumps({"pid": os.getpid(), "started": 1}))
    assert shell.kept() is None
    with pytest.raises(NothingKept):
        shell.down()


def test_without_a_lab_there_is_nothing_to_enter() -> None:
    with pytest.raises(NothingKept, match="--keep"):
        shell.enter("alice", [])


def test_unknown_hosts_and_rows_are_wrong_use() -> None:
    with pytest.raises(ConfigError, match=r"no host 'trudy'; it has dns, alice, .* and router"):
        shell.enter("trudy", [])
    with pytest.raises(ConfigError, match="'nonsense'"):
        shell.run(Options(only="nonsense"))


def test_entering_becomes_a_command_in_the_hosts_namespaces(
    monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    became: list[str] = []

    def execvp(file: str, argv: list[str]) -> None:
        became.extend(argv)
        raise SystemExit

    monkeypatch.setattr(os, "execvp", execvp)
    shell.remember(sleeper.pid)
    with pytest.raises(SystemExit):
        shell.enter("alice", ["ping", "192.0.2.1"])
    assert became[:3] == ["nsenter", "--target", str(shell.kept())]
    assert became[became.index("--") :] == ["--", "ip", "netns", "exec", "alice", "ping", "192.0.2.1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_with_the_status_that_a_shell_expects(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with shell.ended_by_signals(), pytest.raises(SystemExit) as ended:
        signal.raise_signal(number)
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before
