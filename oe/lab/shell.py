"""Outside the lab: starts its holder in fresh namespaces, enters a lab that was kept, ends it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from oe.errors import ConfigError, MachineLacks, OeError
from oe.lab.holder import Options, await_status, hand_over
from oe.lab.network import ROUTER_NAME
from oe.lab.plan import HOST
from oe.lab.world import ROOT

_ENDS_WITHIN = 10.0
"""Seconds for an orderly end of a kept lab."""
_NAMESPACES = ("--mount", "--net", "--pid")
_PARENT, _STARTED = 1, 19
_AS_ROOT = os.geteuid() == 0


class NothingKept(OeError):
    """No lab is up."""


def run(options: Options, captures: Path | None = None) -> int:
    """Build a lab, drive its rows, print what came of it; the exit status. Captures go to a directory, if one is given.

    Raises MachineLacks where namespaces cannot be made, ConfigError when a lab is to be kept and one is up already.
    """
    if options.keep and kept() is not None:
        raise ConfigError("a lab is up already; end it with `oe lab down`")
    if not options.rows:
        raise ConfigError(f"no row of the lab is called {options.only!r}")
    ours, theirs = socket.socketpair()
    with ours, ended_by_signals():
        holder = _start(theirs)
        try:
            with _descriptors(captures) as descriptors:
                hand_over(ours, options, descriptors)
            status = await_status(ours, stay=options.keep)
            if status is None:
                raise MachineLacks(
                    f"the lab's namespaces cannot be made: {_complaint(holder)}",
                    "run it as root, or allow user namespaces",
                )
            if options.keep:
                remember(holder.pid)
            else:
                holder.wait()
            return status
        except BaseException:
            holder.kill()  # unshare takes the holder with it, and the holder everything else
            holder.wait()
            raise


def enter(host: str, command: Sequence[str]) -> NoReturn:
    """Become `command` (a shell, if empty) inside a host of the kept lab."""
    if host not in HOST and host != ROUTER_NAME:
        raise ConfigError(f"the lab has no host {host!r}; it has {', '.join(HOST)} and {ROUTER_NAME}")
    pid = kept()
    if pid is None:
        raise NothingKept("no lab is up; start one with `oe lab --keep`")
    user = () if _AS_ROOT else ("--user", "--preserve-credentials")
    shell = [os.environ.get("SHELL", "/bin/sh")]
    inside = ["ip", "netns", "exec", host, *(command or shell)]
    argv = ["nsenter", "--target", str(pid), *user, *_NAMESPACES, "--", *inside]
    os.execvp("nsenter", argv)  # noqa: S606 - the terminal and its signals shall be the command's


def down() -> None:
    """End the kept lab, orderly if it can, and wait until it is gone. Raises NothingKept."""
    pid = kept()
    if pid is None:
        raise NothingKept("no lab is up")
    for number, patience in ((signal.SIGTERM, _ENDS_WITHIN), (signal.SIGKILL, _ENDS_WITHIN)):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience
        while kept() == pid and time.monotonic() < deadline:
            time.sleep(0.02)
    memory().unlink(missing_ok=True)


def hints() -> str:
    """How to use a lab that was kept."""
    return (
        f"The lab is up. Hosts: {', '.join(HOST)}, {ROUTER_NAME}.\n"
        "  oe lab enter alice                  a shell in a host\n"
        f"  oe lab enter alice oe --run-dir {ROOT}/alice/run status\n"
        "  oe lab down                         end it"
    )


# --- starting --------------------------------------------------------------------------------------------------


def _start(channel: socket.socket) -> subprocess.Popen[bytes]:
    """`unshare` with the holder as its child. Its own session, so that Ctrl-C reaches us alone and we end it."""
    user = () if _AS_ROOT else ("--user", "--map-root-user")
    holder = (sys.executable, "-m", "oe.lab.holder", str(channel.fileno()))
    with channel:
        return subprocess.Popen(
            ["unshare", *user, *_NAMESPACES, "--mount-proc", "--fork", "--kill-child", "--", *holder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(channel.fileno(),),
            start_new_session=True,
        )


@contextmanager
def _descriptors(captures: Path | None) -> Iterator[list[int]]:
    sys.stdout.flush()
    sys.stderr.flush()
    if captures is None:
        yield [1, 2]
        return
    captures.mkdir(parents=True, exist_ok=True)
    directory = os.open(captures, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield [1, 2, directory]
    finally:
        os.close(directory)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise SystemExit with the status that a shell expects, so that the lab is undone."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _complaint(holder: subprocess.Popen[bytes]) -> str:
    assert holder.stderr is not None
    holder.wait()
    return holder.stderr.read().decode(errors="replace").strip()


# --- remembering a kept lab ------------------------------------------------------------------------------------


def memory() -> Path:
    """The file that remembers a kept lab."""
    fallback = Path("/run") if _AS_ROOT else Path.home() / ".cache"
    return Path(os.environ.get("XDG_RUNTIME_DIR") or fallback) / "oe-lab.json"


def remember(unshare: int) -> None:
    """Note down the holder below an `unshare` process, so that other commands find it."""
    pids = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    pid = next(pid for pid in pids if _field(pid, _PARENT) == unshare)
    memory().write_text(json.dumps({"pid": pid, "started": _start_time(pid)}))


def kept() -> int | None:
    """The kept lab's holder; None when there is none, or when its process number belongs to somebody else by now."""
    try:
        noted = json.loads(memory().read_text())
    except FileNotFoundError:
        return None
    pid = int(noted["pid"])
    return pid if _start_time(pid) == noted["started"] else None


def _start_time(pid: int) -> int | None:
    """Start of a process in clock ticks since boot; None when there is none, or a dead one."""
    return _field(pid, _STARTED)


def _field(pid: int, number: int) -> int | None:
    """A field of `/proc/PID/stat`, counted behind the name (proc(5)); None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[number])
