"""The place where kernel tests run: what it gives back, what it keeps to itself, and how it ends."""

import os
import pty
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.waiting import await_that

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = CHECKOUT / "packaging/kernel"
NOBODY = 65534
AGES = 600
"""Seconds; for so long no test waits."""


def start(*arguments: object, cwd: Path = CHECKOUT, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(TOOLS / "run"), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def run(*arguments: object, cwd: Path = CHECKOUT) -> tuple[int, str, str]:
    """Exit status, output and errors of a run."""
    with start(*arguments, cwd=cwd) as runner:
        output, errors = runner.communicate()
    return runner.returncode, output, errors


def of_guest(directory: Path) -> list[str]:
    """Processes whose command line names something in a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_text()
        except OSError:
            continue
        if str(directory) in line:
            found.append(line)
    return found


def await_guest(directory: Path) -> None:
    await_that(lambda: any(directory.glob("oe-kernel-*/results/up")), "the guest")


def await_end(directory: Path) -> None:
    """A killed process is there until the kernel comes to it; the runner waits for the guest's first one."""
    await_that(lambda: not of_guest(directory), "the guest's end")


def test_output_errors_and_status_are_the_commands() -> None:
    assert run("sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")


def test_the_command_is_root_of_another_kernel_in_the_same_directory(tmp_path: Path) -> None:
    status, output, _ = run("sh", "-c", "id -u; pwd; echo $OE_TEST_KERNEL; uname -v", cwd=tmp_path)
    assert status == 0
    user, directory, inside, version = output.splitlines()
    assert (user, directory, inside) == ("0", str(tmp_path), "1")
    assert version != os.uname().version


def test_nothing_that_a_guest_writes_reaches_the_machine(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("old")
    (tmp_path / "removed").touch()
    elsewhere = Path(f"/oe-test-{os.getpid()}")
    script = (
        f"echo new >kept && rm removed && mkdir made && echo new >{elsewhere} && echo new >{CHECKOUT}/made"
        f" && cat kept made/../kept {elsewhere} {CHECKOUT}/made && ls"
    )
    status, output, errors = run("sh", "-c", script, cwd=tmp_path)
    assert (status, output.split(), errors) == (0, ["new"] * 4 + ["kept", "made"], "")
    assert (tmp_path / "kept").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "removed"]
    assert not elsewhere.exists()
    assert not (CHECKOUT / "made").exists()


def test_results_come_out_also_of_a_command_that_fails(tmp_path: Path) -> None:
    status, _, _ = run("--results", tmp_path / "results", "sh", "-c", "echo text >/run/job/results/file; exit 1")
    assert status == 1
    assert (tmp_path / "results/file").read_text() == "text\n"


def test_what_a_command_leaves_running_is_not_waited_for() -> None:
    began = time.monotonic()
    assert run("sh", "-c", f"sleep {AGES} & echo started")[:2] == (0, "started\n")
    assert time.monotonic() - began < AGES


def test_a_guest_that_is_out_of_time_is_ended(tmp_path: Path) -> None:
    with start("--timeout", "4", "sh", "-c", f"echo begun; sleep {AGES}", TMPDIR=str(tmp_path)) as runner:
        output, errors = runner.communicate()
    assert runner.returncode == 124
    assert output in ("begun\n", "")  # a busy machine may not have come so far
    assert errors.endswith("run: out of time\n")
    await_end(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_guest_ends_with_its_runner(tmp_path: Path) -> None:
    with start("sh", "-c", f"touch /run/job/results/up; sync; sleep {AGES}", TMPDIR=str(tmp_path)) as runner:
        await_guest(tmp_path)
        assert of_guest(tmp_path) != []
        runner.send_signal(signal.SIGTERM)
    assert runner.returncode == 128 + signal.SIGTERM
    await_end(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_guest_that_dies_says_what_it_said_last() -> None:
    status, _, errors = run("sh", "-c", f"echo c >/proc/sysrq-trigger; sleep {AGES}")
    assert status == 125
    assert "Kernel panic" in errors
    assert errors.endswith("run: the guest died\n")


def test_the_kernels_messages_are_there_for_who_wants_them() -> None:
    status, output, errors = run("--verbose", "true")
    assert (status, output) == (0, "")
    assert "Power down" in errors


def test_memory_is_as_much_as_was_asked_for() -> None:
    _, output, _ = run("--memory", "600", "grep", "MemTotal", "/proc/meminfo")
    assert 500_000 < int(output.split()[1]) < 600 * 1024


def test_hours_pass_in_seconds() -> None:
    began = time.monotonic()
    status, output, _ = run("--time-travel", "sh", "-c", "date +%s; sleep 36000; date +%s")
    assert status == 0
    before, after = map(int, output.split())
    assert 36000 <= after - before < 36060
    assert time.monotonic() - began < AGES


def is_mapped(user: int) -> bool:
    ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return os.geteuid() == 0 and any(int(first) <= user < int(first) + int(count) for first, _, count in ranges)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody may read, with the runner and the kernel in it; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o777)
        for tool in ("run", "init"):
            shutil.copy(TOOLS / tool, directory / tool)
        built = subprocess.run([TOOLS / "build"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        shutil.copy(built, directory / "linux")
        yield directory


@pytest.mark.skipif(not is_mapped(NOBODY), reason="in a user namespace: all of it runs as a plain user anyway")
def test_a_plain_user_may_run_it_and_is_root_inside(open_directory: Path) -> None:
    script = ["sh", "-c", "id -u; ip link add type veth"]
    command = [f"{open_directory}/run", "--kernel", f"{open_directory}/linux", *script]
    done = subprocess.run(command, user=NOBODY, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


class Terminal:
    """A runner on a terminal of 30 lines and 100 columns."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        subprocess.run(["stty", "rows", "30", "cols", "100"], stdin=slave, check=True)
        self.runner = subprocess.Popen([str(TOOLS / "run"), *arguments], stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)

    def type(self, line: str) -> None:
        os.write(self._master, f"{line}\n".encode())

    def await_prompt(self) -> None:
        shown = b""
        while b"# " not in shown:
            shown += os.read(self._master, 65536)

    def text(self) -> str:
        """All that it shows until its end."""
        shown = bytearray()
        with suppress(OSError):  # so a terminal tells that nobody has it open any more
            while octets := os.read(self._master, 65536):
                shown += octets
        os.close(self._master)
        self.runner.wait()
        return shown.decode()


def test_a_terminal_is_a_terminal_inside() -> None:
    terminal = Terminal("sh", "-c", "test -t 1 && test -t 2 && stty size </dev/tty1")
    assert terminal.text() == "30 100\r\n"
    assert terminal.runner.returncode == 0


def test_a_shell_talks_to_the_terminal_and_its_status_comes_back() -> None:
    terminal = Terminal("--shell")
    terminal.await_prompt()
    terminal.type("echo $((6 * 7)); tty; exit 5")
    text = terminal.text()
    assert "42\r\n" in text
    assert "/dev/tty0" in text
    assert terminal.runner.returncode == 5
