"""`make soak`, or inside the test kernel on virtual time: `python -m bench.soak`."""

import asyncio
import json
import os
import sys
from pathlib import Path
from random import Random

import click
from rich.console import Console
from rich.table import Table

from bench.figures import console
from bench.soak import plan
from bench.soak.samples import Moment, in_kernel, sample
from bench.soak.traffic import Books, Traffic
from bench.soak.verdict import complaints, faults
from bench.soak.world import World

_HOUR = 3600.0
_REST = 2 * _HOUR
"""After the traffic: longer than tunnels and decisions last."""
_SETTINGS = 'liveness = "2m"'
"""At the default of 5 s the daemons would do little but read counters: 35,000 times a day."""


@click.command()
@click.option("--hours", default=24, show_default=True, type=click.IntRange(1), help="Of traffic, on virtual time.")
@click.option("--pairs", default=plan.MOST_PAIRS, show_default=True, type=click.IntRange(8, plan.MOST_PAIRS))
@click.option("--seed", default=1, show_default=True)
@click.option("--loss", default=0.0, show_default=True, help="Percent of packets that each direction loses.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write all samples there.")
def main(hours: int, pairs: int, seed: int, loss: float, target: Path | None) -> None:
    """Two gateways, pairs that come and go; exit status 1 if anything grows, stays or gets lost."""
    if os.environ.get("OE_TEST_KERNEL") != "1":
        raise click.UsageError("this is for the test kernel: packaging/kernel/run --time-travel python -m bench.soak")
    with World(pairs, _SETTINGS, loss) as world:
        moments, books = asyncio.run(soak(world, hours, pairs, seed))
        found = list(faults(moments, books, lossless=not loss))
        found += complaints({host: world.told(host) for host in plan.HOSTS})
        world.stop_daemons()
        found += [f"{host}: SAs or policies after the end" for host in plan.HOSTS if in_kernel(host)[:2] != (0, 0)]
    show(moments, books)
    if target is not None:
        document = {"hours": hours, "pairs": pairs, "seed": seed, "loss": loss, "faults": found}
        document |= {"moments": [moment.plain() for moment in moments], "traffic": books.plain()}
        target.write_text(json.dumps(document, indent=1))
    for fault in found:
        click.echo(fault)
    sys.exit(1 if found else 0)


async def soak(world: World, hours: int, pairs: int, seed: int) -> tuple[list[Moment], Books]:
    """Before, every hour of traffic, and after a rest."""
    chance = Random(seed)  # noqa: S311 - nothing secret hangs on it, and a run can be repeated
    duration = hours * _HOUR
    progress = Console(stderr=True)
    flows = (*plan.steady(pairs, duration), *plan.visits(pairs, duration, chance))
    traffic = Traffic(chance)
    moments = [look(world, traffic, "before")]
    async with asyncio.TaskGroup() as group:
        group.create_task(traffic.run(flows))
        for hour in range(1, hours + 1):
            await asyncio.sleep(max(hour * _HOUR - 1 - traffic.now, 0))
            moments.append(look(world, traffic, "traffic"))
            progress.print(f"hour {hour}: {moments[-1].active} flows")
    await asyncio.sleep(_REST)
    moments.append(look(world, traffic, "after"))
    books = traffic.close_books()
    traffic.close()
    return moments, books


def look(world: World, traffic: Traffic, phase: str) -> Moment:
    return Moment(traffic.now, phase, len(traffic.active), {host: sample(world, host) for host in plan.HOSTS})


def show(moments: list[Moment], books: Books) -> None:
    """Tables on standard output."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("hour", "flows"):
        table.add_column(name, justify="right")
    for host in plan.HOSTS:
        for name in ("pairs", "SAs", "policies", "elements", "MiB", "fds"):
            table.add_column(f"{host}\n{name}" if name == "pairs" else f"\n{name}", justify="right")
    for moment in moments:
        row = [f"{moment.at / _HOUR:.0f}" if moment.phase == "traffic" else moment.phase, str(moment.active)]
        for one in moment.hosts.values():
            row += map(str, (one.pairs, one.sas, one.policies, one.elements))
            row += (f"{one.rss / 1024:.1f}", str(one.descriptors))
        table.add_row(*row)
    console().print(table)
    traffic = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("datagrams", "sent", "answered", "refused", "lost", "slowest ms"):
        traffic.add_column(name, justify="right")
    for kind in plan.Kind:
        counts = (books.sent, books.answered, books.refused, books.lost, books.slowest)
        traffic.add_row(kind, *(str(count[kind]) for count in counts))
    console().print(traffic)


if __name__ == "__main__":
    main()
