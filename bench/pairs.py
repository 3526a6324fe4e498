"""What a hundred thousand decided pairs cost: `python -m bench.pairs`, as root. See docs/performance.md.

As many first packets to destinations without a key, in `private-or-clear`, one after the other: each is decided and
let go before the next one comes. Then `oe status` asks for all of them, and in the end all of them expire at once.
Times are CPU time of this process, system calls included, so that neighbours matter little.
"""

import asyncio
import os
import sys
from array import array
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, thread_time
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench.books import TTL, Books
from bench.command import begin_alone, tell
from bench.figures import Spread, console
from bench.pauses import Pauses, Work, until_done
from bench.stall import Turns
from oe.control import ControlServer
from oe.daemon.collector import calm
from oe.errors import OeError
from oe.observe import configure_log

BUDGET = 200.0
"""MB of the whole process."""
_SAMPLE = 1000
"""Decisions whose times are compared, at the beginning and at the end."""
_AT_ONCE = 64
"""Packets that are taken out of a queue in one turn of the loop."""
_PHASES = ("lapsed", TTL + 1.0), ("forgotten", 121.0)
"""What becomes of a clear decision that nobody renews, and after how many seconds."""


@dataclass(frozen=True, slots=True)
class Step:
    """After so many pairs. The process's memory in MB; of the decisions since the step before the median in µs and the
    longest in ms, and in ms the longest pause for the garbage collector, which may be a part of it."""

    pairs: int
    memory: float
    decision: float
    longest: float
    collector: float


@dataclass(frozen=True, slots=True)
class Result:
    pairs: int
    before: float
    """MB without a pair."""
    steps: tuple[Step, ...]
    first: Spread
    """µs for each of the first decisions."""
    last: Spread
    elements: int
    """Decisions in the kernel's table."""
    status: Work
    document: int
    """Octets that `oe status --json` printed."""
    status_memory: float
    """MB at the most, until then."""
    ends: dict[str, Work]
    after: float
    """MB with all of them forgotten."""

    @property
    def ratio(self) -> float:
        """How much longer one of the last decisions takes than one of the first, at the median."""
        return self.last.median / self.first.median

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": round(self.ratio, 3), "budget": BUDGET}


def _memory(field: str = "VmRSS") -> float:
    """MB of this process, now or (`VmHWM`) at the most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


async def _fill(books: Books, pairs: int, pauses: Pauses, progress: Console) -> "tuple[tuple[Step, ...], array[float]]":
    """Steps, and what each decision took in µs."""
    steps, took = [], array("d")
    pauses.take()
    for number in range(pairs):
        began = thread_time()
        books.trap(number)
        took.append((thread_time() - began) * 1e6)
        if number % _AT_ONCE == 0:
            books.ring()
            await asyncio.sleep(0)
        if (number + 1) % (pairs // 10) == 0:
            since = took[-(pairs // 10) :]
            steps.append(Step(number + 1, _memory(), median(since), max(since) / 1000, pauses.take()))
            progress.print(f"{number + 1} pairs")
    return tuple(steps), took


async def _status(books: Books, turns: Turns, pauses: Pauses) -> tuple[Work, int]:
    """Have the real `oe status` ask over the real socket."""

    def failed(name: str, error: BaseException) -> None:
        Console(stderr=True).print(f"{name}: {error!r}")

    with TemporaryDirectory() as directory:
        server = ControlServer(Path(directory), {"status": books.status}, failed)
        await server.start()
        turns.restart()
        pauses.take()
        began, cpu = monotonic(), thread_time()
        command = "-c", "from oe.cli.main import main; main()", "--run-dir", directory, "status", "--json"
        # Not through a pipe of ours: to read it would be work of this loop.
        with (Path(directory) / "document").open("wb") as document:
            process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=document)
            await process.wait()
            work = Work(monotonic() - began, thread_time() - cpu, turns.longest * 1000, pauses.take())
            octets = os.fstat(document.fileno()).st_size
        await server.close()
    return work, octets


async def _measure(pairs: int, turns: Turns, progress: Console) -> Result:
    with closing(Books(pairs)) as books, Pauses() as pauses:
        calm()
        before = _memory()
        steps, took = await _fill(books, pairs, pauses, progress)
        if books.released != pairs:
            raise OeError(f"{books.released} of {pairs} packets were let go")
        status, document = await _status(books, turns, pauses)
        at_most, elements = _memory("VmHWM"), books.elements()
        ends = {}
        for name, seconds in _PHASES:
            progress.print(f"all are {name}")
            books.skip(seconds)
            ends[name] = until_done(books.ring, pauses)
        sample = min(_SAMPLE, pairs // 10)
        first, last = Spread.of(took[:sample]), Spread.of(took[-sample:])
        return Result(pairs, before, steps, first, last, elements, status, document, at_most, ends, _memory())


def measure(pairs: int, progress: Console) -> Result:
    """In this process's network namespace, which must be its own. Raises OeError."""
    turns = Turns()
    with open(os.devnull, "w") as nowhere:
        # What the daemon logs costs time, too.
        configure_log("info", json_lines=False, stream=nowhere)
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner:
            return runner.run(_measure(pairs, turns, progress))


def show(result: Result) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", title="Decided pairs", title_justify="left")
    for name in ("pairs", "memory, MB", "µs a decision, median", "longest, ms", "collector, ms"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("0", f"{result.before:.1f}", "", "", "")
    for step in result.steps:
        times = f"{step.decision:.0f}", f"{step.longest:.1f}", f"{step.collector:.1f}"
        table.add_row(str(step.pairs), f"{step.memory:.1f}", *times)
    console().print(table)
    full = result.steps[-1].memory
    each = (full - result.before) * 1000 / result.pairs
    lines = [
        f"{full:.0f} MB, budget {BUDGET:.0f} MB; {each:.2f} kB a pair; {result.after:.0f} MB with all forgotten",
        f"a decision at the end / at the beginning: {result.last.median:.0f} / {result.first.median:.0f} µs "
        f"(medians) = {result.ratio:.2f}; {result.elements} decisions in the kernel",
        f"oe status, {result.document / 1e6:.1f} MB: {result.status.told()}; {result.status_memory:.0f} MB at most",
        *(f"all {name} at once: {work.told()}" for name, work in result.ends.items()),
    ]
    console().print("\n".join(lines))


@click.command()
@click.option("--pairs", default=100_000, show_default=True, type=click.IntRange(10, 131_072))
@click.option("--json", "as_json", is_flag=True)
@click.option("--inside", is_flag=True, hidden=True)
def main(pairs: int, as_json: bool, inside: bool) -> None:
    """What very many decided pairs cost, as root."""
    if not inside:
        begin_alone("bench.pairs")
    try:
        result = measure(pairs, Console(stderr=True))
    except OeError as error:
        raise click.ClickException(str(error)) from None
    tell(as_json, result.plain, lambda: show(result))


if __name__ == "__main__":
    main()
