"""The lab's first process: process 1 of its own process namespace, root of its own mount and network namespaces.

When it ends, for whatever reason, the kernel ends every process of the lab and takes links, files and namespaces away.
It ends when its work is done, at SIGTERM, and when the `oe lab` that started it is gone: their `Channel` tells.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from oe.errors import MachineLacks, OeError
from oe.lab.capture import Capture, write_pcaps
from oe.lab.flows import Run, drive
from oe.lab.report import document, show
from oe.lab.rows import ROWS, Row
from oe.lab.world import World

_INSIDE, _DONE, _STAY = b"inside\n", b"done ", b"stay\n"
_LONGEST = 65_536


@dataclass(frozen=True, slots=True)
class Options:
    """What `oe lab` was asked for."""

    backend: str = "auto"
    only: str = ""
    """Part of the names of the rows to drive; empty: all rows."""
    keep: bool = False
    as_json: bool = False
    pace: float = 1.0
    """How many times slower than usual the machine is: everybody waits so much longer."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """Those asked for, and those of the same pairs: a second connection needs its first."""
        pairs = {row.inner for row in ROWS if self.only in f"{row.name} ({row.group})"}
        return tuple(row for row in ROWS if row.inner in pairs)


# --- the channel to the process outside ------------------------------------------------------------------------


def hand_over(channel: socket.socket, options: Options, descriptors: list[int]) -> None:
    """Outside: give the holder its options, standard output, standard error and perhaps a directory for captures."""
    with suppress(ConnectionError):  # it died at once; `await_status` says so
        socket.send_fds(channel, [json.dumps(asdict(options)).encode()], descriptors)


def await_status(channel: socket.socket, *, stay: bool) -> int | None:
    """Outside: wait for the holder's exit status, and then have it `stay` or end.

    None: it never came to life. Raises EOFError when it ended without a status.
    """
    with channel.makefile("rb") as lines:
        if _next(lines) != _INSIDE:
            return None
        line = _next(lines)
    if not line.startswith(_DONE):
        raise EOFError("the lab ended before its work was done")
    if stay:
        channel.sendall(_STAY)
    return int(line.removeprefix(_DONE))


def _next(lines: BinaryIO) -> bytes:
    """The next line; empty when the other end is gone, whichever way it went."""
    try:
        return lines.readline()
    except ConnectionError:
        return b""


class Channel:
    """The holder's end. Nobody at the other end means that nobody wants the lab any more: it ends at once."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        message, descriptors, _, _ = socket.recv_fds(self._socket, _LONGEST, 3)
        self.options = Options(**json.loads(message))
        os.dup2(descriptors[0], 1)
        os.dup2(descriptors[1], 2)
        self.captures = Path(f"/proc/self/fd/{descriptors[2]}") if len(descriptors) > 2 else None
        """A directory of the outer mount namespace; None: captures are not wanted."""
        for taken in descriptors[:2]:
            os.close(taken)
        self._tell(_INSIDE)
        self.released = threading.Event()
        """The one outside has gone and wants the lab to stay."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            said = self._socket.recv(_LONGEST)
        except ConnectionError:  # the other end went without having read what we told
            said = b""
        if said != _STAY:
            os._exit(1)
        self.released.set()

    def done(self, status: int) -> None:
        """The rows are driven and the report is printed."""
        self._tell(_DONE + str(status).encode() + b"\n")

    def _tell(self, line: bytes) -> None:
        try:
            self._socket.sendall(line)
        except ConnectionError:
            os._exit(1)


# --- the work --------------------------------------------------------------------------------------------------


async def _work(channel: Channel) -> int:
    options = channel.options
    started = time.monotonic()
    console = Console(stderr=True, quiet=options.as_json or not sys.stderr.isatty())
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        rows = options.rows
        task = progress.add_task("building", total=len(rows))

        def advance(row: Row) -> None:
            progress.update(task, advance=1, description=row.name)

        async with World.running(
            options.backend, lambda step: progress.update(task, description=step), pace=options.pace
        ) as world:
            capture = Capture()
            run = await drive(world, rows, capture, advance)
            capture.close()
            if channel.captures is not None:
                write_pcaps(capture.frames, channel.captures)
            progress.stop()
            _tell(run, time.monotonic() - started, as_json=options.as_json)
            if options.keep:
                channel.done(0 if run.ok else 1)
                await _stay(channel)
    return 0 if run.ok else 1


def _tell(run: Run, seconds: float, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document(run, seconds)))
    else:
        show(run, seconds)
    sys.stdout.flush()


async def _stay(channel: Channel) -> None:
    """Live on until SIGTERM, without holding on to anybody's terminal or pipe."""
    await asyncio.to_thread(channel.released.wait)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    await asyncio.Event().wait()


async def _until_terminated(channel: Channel) -> int:
    work = asyncio.current_task()
    assert work is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    return await _work(channel)


def main(descriptor: int) -> int:
    channel = Channel(descriptor)
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    try:
        # `ip netns` keeps its names in /run, which belongs to the machine and may not be ours to write.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "oe-lab", "/run"], check=True)
        status = asyncio.run(_until_terminated(channel))
    except OeError as error:
        print(f"oe: {error}", file=sys.stderr, flush=True)
        status = 3 if isinstance(error, MachineLacks) else 1
    except asyncio.CancelledError:
        status = 128 + signal.SIGTERM
    except Exception:
        traceback.print_exc()
        status = 1
    channel.done(status)
    return status


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
