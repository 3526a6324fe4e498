"""Responder CPU per full handshake, ours and charon's: `python -m bench.charon`, as root. See docs/performance.md.

Both are processes with real UDP sockets (bench.responders). They take turns, a round each, and the kernel's scheduler
says what CPU time all threads of each got. A round of bench.responder is between them: our engine and key hand alone.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.command import begin_alone, tell
from bench.figures import Spread, console
from bench.handshake import Pair, Phase
from bench.responders import AT_ONCE, Link, Responder, charon, ours, run
from oe.errors import OeError

BUDGET = 1.0
"""Ours to charon's."""
_CHECKOUT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Result:
    """Spreads are over rounds: microseconds of CPU per handshake, and as parts of charon's in the same round."""

    handshakes: int
    spreads: dict[str, Spread]
    ratios: dict[str, Spread]

    def plain(self) -> dict[str, Any]:
        return {
            "handshakes": self.handshakes,
            "unit": "us CPU per handshake",
            "responders": {name: spread.plain(1) for name, spread in self.spreads.items()},
            "ratios": {name: spread.plain(2) for name, spread in self.ratios.items()},
            "budget": BUDGET,
        }


CHARON, OURS, ENGINE = "charon", "oe", "oe, engine and key hand alone"


def _in_process(pair: Pair, handshakes: int) -> float:
    """As bench.responder has it: without sockets, event loop and thread."""
    pair.responder.spent = dict.fromkeys(Phase, 0)
    for _ in range(handshakes):
        pair.run()
    return sum(pair.responder.spent.values()) / handshakes / 1000


def compare(rival: Responder, own: Responder, rounds: int, turns: int, progress: Console) -> Result:
    """`rounds` times `turns` of `AT_ONCE` handshakes with each."""

    def played(responder: Responder) -> float:
        began = responder.cpu()
        for _ in range(turns):
            responder.handshakes(monotonic())
        return (responder.cpu() - began) / turns / AT_ONCE

    pair = Pair()
    found: dict[str, list[float]] = {CHARON: [], OURS: [], ENGINE: []}
    for number in track(range(-1, rounds), "handshakes", console=progress, transient=True):
        figures = {CHARON: played(rival), OURS: played(own), ENGINE: _in_process(pair, turns * AT_ONCE)}
        if number >= 0:  # The one before is to warm up.
            for name, figure in figures.items():
                found[name].append(figure)
    return Result(rounds * turns * AT_ONCE, *summarise(found))


def summarise(found: dict[str, list[float]]) -> tuple[dict[str, Spread], dict[str, Spread]]:
    """Spreads of all, and ratios of the others to charon, round by round."""
    ratios = {
        name: Spread.of([value / theirs for value, theirs in zip(values, found[CHARON], strict=True)])
        for name, values in found.items()
        if name != CHARON
    }
    return {name: Spread.of(values) for name, values in found.items()}, ratios


def measure(base: Path, rounds: int, turns: int, progress: Console) -> Result:
    """Both responders, in this process's namespaces, which must be its own. Raises MachineLacks."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oe-charon-")))
        run("mount", "-t", "tmpfs", "tmpfs", scratch)
        stack.callback(run, "umount", "-R", "--lazy", scratch)
        rival, own = (stack.enter_context(each) for each in (charon(base, scratch, Link(1)), ours(scratch, Link(2))))
        return compare(rival, own, rounds, turns, progress)


def show(result: Result) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", title="CPU per full handshake", title_justify="left")
    table.add_column("µs", no_wrap=True)
    for name in ("min", "median", "max"):
        table.add_column(name, justify="right")
    for name, spread in result.spreads.items():
        table.add_row(name, *spread.cells(0))
    for name, spread in result.ratios.items():
        table.add_row(f"[bold]{name} / {CHARON}", *spread.cells(2))
    console().print(table)
    console().print(f"{result.handshakes} handshakes with each; budget {BUDGET}")


@click.command()
@click.option("--rounds", default=20, show_default=True)
@click.option("--turns", default=10, show_default=True, help=f"Of {AT_ONCE} handshakes, in each round with each.")
@click.option("--json", "as_json", is_flag=True)
@click.option("--base", type=click.Path(path_type=Path), help="The rival's root, if it is built already.")
@click.option("--inside", is_flag=True, hidden=True)
def main(rounds: int, turns: int, as_json: bool, base: Path | None, inside: bool) -> None:
    """Responder CPU per full IKEv2 handshake, ours and charon's, as root."""
    try:
        if base is None:
            base = Path(run(_CHECKOUT / "packaging/rivals/build", "strongswan-userspace").strip())
        if not inside:
            begin_alone("bench.charon", "--base", str(base), mounts=True)
        result = measure(base, rounds, turns, Console(stderr=True))
    except OeError as error:
        raise click.ClickException(str(error)) from None
    tell(as_json, result.plain, lambda: show(result))


if __name__ == "__main__":
    main()
