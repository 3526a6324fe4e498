"""How long the first connection of a new pair waits: `python -m bench.first_connect`. See docs/performance.md.

Each lab is built in namespaces of its own, sampled (bench.samples) and thrown away.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.figures import Spread, console
from bench.phases import NAMES, OUR_DNS, THEIR_DNS
from bench.samples import KEYED, KEYLESS
from oe.errors import MachineLacks

KEYED_BUDGET = 25.0
KEYLESS_BUDGET = 2.0
"""Milliseconds; the second beyond the DNS time."""
_PATIENCE = 300.0
"""Seconds for a lab; in the test kernel everything takes several times as long."""

BARE = "connect that no trap sees"
ROWS = (
    BARE,
    "keyless: DNS alone",
    "keyless: first connect",
    "keyless: first connect less DNS",
    "keyless: second connect",
    "keyed: DNS alone, our half",
    "keyed: first connect",
    "keyed: first of all, daemons just started",
    "keyed: second connect",
)


def sample(backend: str = "auto", keyed: int = len(KEYED), keyless: int = len(KEYLESS)) -> dict[str, Any]:
    """The samples of one lab, as bench.samples prints them. Raises MachineLacks when the lab cannot be built."""
    return isolated("bench.samples", backend, str(keyed), str(keyless))


def isolated(module: str, *arguments: str) -> dict[str, Any]:
    """Run a module of ours in namespaces of its own; what it prints. Raises MachineLacks when it fails."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    inside = (sys.executable, "-m", module, *arguments)
    done = subprocess.run(
        ["unshare", *user, "--mount", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "--", *inside],
        capture_output=True,
        timeout=_PATIENCE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MachineLacks(f"the lab gave no samples: {done.stderr.strip()}", "try `oe lab`, which says more")
    samples: dict[str, Any] = json.loads(done.stdout)
    return samples


def summarise(labs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Samples of some labs as one document; milliseconds.

    The first keyed connection of a lab is the first work of daemons that have just started. It stands in a row of its
    own: what is cold there is not only the caches.
    """
    starting = [lab["keyed"][0] for lab in labs if lab["keyed"]]
    keyed = [one for lab in labs for one in lab["keyed"][1:]]
    keyless = [one for lab in labs for one in lab["keyless"]]
    everything = [*starting, *keyed, *keyless]
    columns = (
        [one["bare"] for one in everything],
        [one["dns"] for one in keyless],
        [one["first"] for one in keyless],
        [one["first"] - one["dns"] for one in keyless],
        [one["second"] for one in keyless],
        [one["dns"] for one in keyed],
        [one["first"] for one in keyed],
        [one["first"] for one in starting],
        [one["second"] for one in keyed],
    )
    known = [one["phases"] for one in keyed if one["phases"]]
    return {
        "unit": "ms",
        "backend": labs[0]["backend"],
        "labs": len(labs),
        "lost": sum(one["lost"] for one in everything),
        "rows": {name: Spread.of(values).plain() for name, values in zip(ROWS, columns, strict=True) if values},
        "phases": {
            name: Spread.of([one[name] for one in known]).plain() for name in (*NAMES, OUR_DNS, THEIR_DNS) if known
        },
        "budgets": {"keyed": KEYED_BUDGET, "keyless beyond DNS": KEYLESS_BUDGET},
    }


def measure(labs: int, backend: str, progress: Console) -> dict[str, Any]:
    """All samples that `labs` labs have addresses for, summed up."""
    steps = track(range(labs), "first connect", console=progress, transient=True)
    return summarise([sample(backend) for _ in steps])


def show(document: dict[str, Any]) -> None:
    bare = document["rows"][BARE]["median"]
    table = _table("First TCP connect, cold caches")
    table.add_column("× bare", justify="right")
    for name, row in document["rows"].items():
        table.add_row(name, *_cells(row), f"{row['median'] / bare:.0f}")
    console().print(table)
    phases = _table("\nA keyed first connect by phase, from the wire")
    for name, row in document["phases"].items():
        phases.add_row(name if name in NAMES else f"  {name}", *_cells(row))
    console().print(phases)
    console().print(
        f"{document['lost']} packets lost; back end {document['backend']}; {document['labs']} labs; budgets: keyed "
        f"{KEYED_BUDGET:.0f} ms, keyless DNS + {KEYLESS_BUDGET:.0f} ms"
    )


def _table(title: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    table.add_column("ms", no_wrap=True)
    for name in ("samples", "min", "median", "max"):
        table.add_column(name, justify="right")
    return table


def _cells(row: dict[str, float]) -> tuple[str, ...]:
    return (str(row["count"]), *(f"{row[key]:.2f}" for key in ("min", "median", "max")))


@click.command()
@click.option("--labs", default=5, show_default=True, help="How many labs to build, one after the other.")
@click.option("--backend", type=click.Choice(["auto", "userspace", "xfrm"]), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(labs: int, backend: str, as_json: bool) -> None:
    """First TCP connect of new pairs in the lab, caches cold."""
    document = measure(labs, backend, Console(stderr=True))
    if as_json:
        click.echo(json.dumps(document))
    else:
        show(document)


if __name__ == "__main__":
    main()
