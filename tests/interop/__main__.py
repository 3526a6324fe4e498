"""In the test kernel: see `python -m tests.interop --help`."""

import json
import os
import platform
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from oe.lab.capture import write_pcaps
from tests.interop.places import ROOT
from tests.interop.plan import CASES, Case, Product
from tests.interop.steps import STEPS, play
from tests.interop.world import World


@click.command()
@click.option("--rivals", required=True, nargs=len(Product), type=click.Path(path_type=Path), help="Their roots.")
@click.option("--results", required=True, type=click.Path(path_type=Path), help="Where documents and logs go.")
@click.option("--steps", default=len(STEPS), help="How many steps each case takes, of all.")
@click.argument("names", metavar="[CASE]...", nargs=-1)
def main(rivals: tuple[Path, ...], results: Path, steps: int, names: tuple[str, ...]) -> None:
    """Play the cases, all at once; what came of it is RESULTS/interop.json."""
    if os.environ.get("OE_TEST_KERNEL") != "1":
        raise click.UsageError("this is for the test kernel: make test-interop")
    bases = dict(zip(Product, rivals, strict=True))
    cases = [case for case in CASES if case.name in (names or {case.name for case in CASES})]
    started = time.monotonic()
    try:
        document = played(cases, bases, steps, results)
    finally:
        collect_logs(results)
    document["seconds"] = round(time.monotonic() - started)
    (results / "interop.json").write_text(json.dumps(document, indent=1))


def played(cases: Sequence[Case], bases: dict[Product, Path], steps: int, results: Path) -> dict[str, object]:
    with World(cases, bases) as world, ThreadPoolExecutor(len(cases)) as pool:
        print("ready", flush=True)
        told = list(pool.map(lambda case: play(case, world, steps, lambda: collect_logs(results)), cases))
        versions = {case.product: world.rivals[case].version() for case in cases}
        write_pcaps(world.frames, results / "pcap")
    came_of = {case.name: steps for case, steps in zip(cases, told, strict=True)}
    return {"kernel": platform.release(), "versions": versions, "cases": came_of}


def collect_logs(results: Path) -> None:
    for log in (*ROOT.glob("*/*.log"), *ROOT.glob("*/root/run/*.log*")):
        shutil.copy(log, results / f"{log.relative_to(ROOT).parts[0]}-{log.name}")


if __name__ == "__main__":
    main()
