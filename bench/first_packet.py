"""The first packet, ours and a rival's: `python -m bench.first_packet`. See docs/performance.md.

Cold first TCP connections to a host that encrypts and to one that does not, through `oe` and through Libreswan, in one
run of the test kernel: the machine's own may lack ESP, and the same kernel serves both.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from bench.figures import Spread, console
from bench.libreswan import FLAVOURS
from oe.errors import MachineLacks, OeError

KEYED_BUDGET = 1 / 20
"""Our part of the time of either Libreswan."""
KEYLESS_BUDGET = 5.0
"""Milliseconds beyond the DNS time, in the test kernel."""
_CHECKOUT = Path(__file__).parents[1]
_PATIENCE = 1800.0

TITLES = {"oe": "oe", **{name: flavour.title for name, flavour in FLAVOURS.items()}}
KEYED, KEYED_6, STARTED, SECOND, KEYLESS, BARE = (
    "peer encrypts: first connect",
    "peer encrypts: first connect, IPv6",
    "peer encrypts: first of all, daemons just started",
    "peer encrypts: second connect, in the tunnel",
    "peer does not: first connect",
    "no trap: connect",
)
BEYOND_DNS = "peer does not: first connect less DNS"


def run(rounds: int, keyed: int | None = None, keyless: int | None = None) -> dict[str, Any]:
    """Boot the test kernel and play there; what bench.contest prints. Raises MachineLacks."""
    root = _output(_CHECKOUT / "packaging/rivals/build", "libreswan").strip()
    counts = [str(count) for count in (keyed, keyless) if count is not None]
    inside = sys.executable, "-m", "bench.contest", root, str(rounds), *counts
    samples: dict[str, Any] = json.loads(_output(_CHECKOUT / "packaging/kernel/run", *inside))
    return samples


def _output(program: Path, *arguments: str) -> str:
    """Standard output; standard error is ours, with the progress that it tells."""
    done = subprocess.run(
        [program, *arguments], stdout=subprocess.PIPE, text=True, cwd=_CHECKOUT, timeout=_PATIENCE, check=False
    )
    if done.returncode:
        raise MachineLacks(f"{program.name} {' '.join(arguments)} failed", "what it lacks is said above")
    return done.stdout


def summarise(samples: dict[str, Any]) -> dict[str, Any]:
    """The samples of a run as one document; milliseconds.

    Ratios are of IPv4, which all contenders speak here: the reverse names of IPv6, 32 labels deep, take a resolver
    longer. The first connection of a lab to a host that encrypts is the first work of daemons that have just started,
    and stands in a row of its own.
    """
    rows = [
        {"what": what, "contender": name, **Spread.of(times).plain(1), "lost": lost, "samples": times}
        for name, labs in samples["labs"].items()
        for what, (times, lost) in _columns(labs).items()
        if times
    ]
    medians = {(row["what"], row["contender"]): row["median"] for row in rows}
    ratios = {
        what: {name: round(medians[what, name] / medians[what, "oe"], 1) for name in FLAVOURS}
        for what in (KEYED, KEYLESS)
    }
    return {
        "unit": "ms",
        **{name: samples[name] for name in ("kernel", "rival", "rounds")},
        "rows": rows,
        "ratios": ratios,
        "budgets": {"keyed, part of the rival's": KEYED_BUDGET, "keyless, beyond DNS": KEYLESS_BUDGET},
    }


def _columns(labs: list[dict[str, Any]]) -> dict[str, tuple[list[float], int]]:
    """Times and packets lost of each row that a contender has."""
    starting = [lab["keyed"][0] for lab in labs if lab["keyed"]]
    keyed = [one for lab in labs for one in lab["keyed"][1:]]
    keyless = [one for lab in labs for one in lab["keyless"]]
    everything = [*starting, *keyed, *keyless]
    old, new = ([one for one in keyed if one.get("version", 4) == version] for version in (4, 6))
    return {
        KEYED: ([one["first"] for one in old], _lost(old)),
        KEYED_6: ([one["first"] for one in new], _lost(new)),
        STARTED: ([one["first"] for one in starting], _lost(starting)),
        SECOND: ([one["second"] for one in keyed], 0),
        KEYLESS: ([one["first"] for one in keyless], _lost(keyless)),
        BEYOND_DNS: ([one["first"] - one["dns"] for one in keyless if "dns" in one], 0),
        BARE: ([one["bare"] for one in everything], 0),
    }


def _lost(samples: list[dict[str, Any]]) -> int:
    """Of the first connections and, if it ever happens, of the second ones."""
    return sum(one["lost"] for one in samples)


def show(document: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.title = f"Cold first TCP connect, oe and {document['rival']}"
    table.add_column("ms", no_wrap=True)
    for name in ("samples", "min", "median", "max", "lost", "× oe"):
        table.add_column(name, justify="right")
    for what in (KEYED, KEYED_6, STARTED, SECOND, KEYLESS, BEYOND_DNS, BARE):
        table.add_row(f"[bold]{what}[/bold]")
        for row in (row for row in document["rows"] if row["what"] == what):
            ratio = document["ratios"].get(what, {}).get(row["contender"])
            figures = [str(row["count"]), *(f"{row[key]:.1f}" for key in ("min", "median", "max")), str(row["lost"])]
            table.add_row(f"  {TITLES[row['contender']]}", *figures, f"{ratio:.0f}" if ratio else "")
    console().print(table)
    console().print(
        f"test kernel {document['kernel']}, rounds: {document['rounds']}; budgets: peer encrypts "
        f"1/{1 / KEYED_BUDGET:.0f} of the rival's time and no packet lost, peer does not DNS + {KEYLESS_BUDGET:.0f} ms"
    )


@click.command()
@click.option(
    "--rounds", default=3, show_default=True, help="Labs of each contender, in turn; about three minutes each."
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw all samples, as PNG or SVG.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every sample, instead of the table.")
def main(rounds: int, plot: Path | None, as_json: bool) -> None:
    """Cold first TCP connect through oe and through Libreswan, in the test kernel."""
    try:
        if plot is not None:
            from bench.plot import draw  # noqa: PLC0415 - only a drawing needs matplotlib
        document = summarise(run(rounds))
    except ImportError:
        raise click.ClickException("matplotlib is missing; run: .venv/bin/pip install --editable '.[bench]'") from None
    except OeError as error:
        raise click.ClickException(str(error)) from None
    if plot is not None:
        draw(document, plot)
    if as_json:
        click.echo(json.dumps(document))
    else:
        show(document)


if __name__ == "__main__":
    main()
