"""`python -m tests.simulation`: many seeds with a summary, or the story of one."""

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation.scenario import Theme
from tests.simulation.simulation import Result, simulate

CHUNK = 50
SHOWN_FAILURES = 10


def run_chunk(seeds: range) -> list[Result]:
    return [simulate(seed) for seed in seeds]


def results(seeds: range, jobs: int) -> Iterator[list[Result]]:
    """As they come in, not in order of their seeds."""
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    if jobs == 1:
        yield from map(run_chunk, chunks)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(run_chunk, chunk) for chunk in chunks]):
            yield done.result()


def summary(done: Iterable[Result], seconds: float) -> Table:
    """By theme. Of black holes the longest, of agreements the median and the latest."""
    by_theme: dict[Theme, list[Result]] = defaultdict(list)
    for result in done:
        by_theme[result.scenario.theme].append(result)
    total = sum(map(len, by_theme.values()))
    table = Table(title=f"{total} seeds in {seconds:.0f} s, {total / seconds:.0f} per second")
    table.add_column("scenario", no_wrap=True)
    for heading in ("seeds", "failed", "frames", "echoes", "black hole", "agreed after"):
        table.add_column(heading, justify="right", no_wrap=True)
    for theme in Theme:
        rows = by_theme[theme]
        if rows:
            table.add_row(theme, *_figures(rows))
    return table


def _figures(rows: list[Result]) -> tuple[str, ...]:
    failed = sum(bool(row.failure) for row in rows)
    settled = sorted(row.settled_after for row in rows if not row.failure) or [0.0]
    return (
        str(len(rows)),
        f"[red]{failed}[/]" if failed else "0",
        str(sum(row.frames for row in rows)),
        str(sum(row.round_trips for row in rows)),
        f"{max(row.longest_hole for row in rows):.1f} s",
        f"{settled[len(settled) // 2]:.0f} to {settled[-1]:.0f} s",
    )


def many(console: Console, seeds: range, jobs: int) -> int:
    began = time.monotonic()
    done: list[Result] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("seeds", total=len(seeds))
        for chunk in results(seeds, jobs):
            done += chunk
            failed = sum(bool(result.failure) for result in done)
            progress.update(task, advance=len(chunk), description=f"seeds ({failed} failed)")
    console.print(summary(done, time.monotonic() - began))
    failures = sorted((result for result in done if result.failure), key=lambda one: one.scenario.seed)
    if not failures:
        return 0
    kinds = Counter(result.failure.split(": ", 1)[-1].split(" ", 1)[0] for result in failures)
    console.print(f"{len(failures)} failed; first words: {dict(kinds.most_common())}", markup=False)
    for failure in failures[:SHOWN_FAILURES]:
        console.print(f"seed {failure.scenario.seed}: {failure.failure}", markup=False, highlight=False, soft_wrap=True)
    console.print()
    one(console, failures[0].scenario.seed, last=80)
    return 1


def one(console: Console, seed: int, last: int | None) -> int:
    """Tell the story of a seed, or its last lines."""
    result = simulate(seed, tell=True)
    console.print(f"seed {seed}: {result.scenario}", markup=False, highlight=False, soft_wrap=True)
    lines = result.story if last is None else result.story[-last:]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    console.print(f"[red]{result.failure}[/]" if result.failure else "[green]all holds[/]", highlight=False)
    return 1 if result.failure else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="tell the story of this one")
    asked = parser.parse_args()
    # Where nobody looks there is room for whole lines.
    console = Console(width=None if sys.stdout.isatty() else 120)
    if asked.seed is not None:
        return one(console, asked.seed, last=None)
    return many(console, range(asked.first, asked.first + asked.seeds), asked.jobs)


if __name__ == "__main__":
    sys.exit(main())
