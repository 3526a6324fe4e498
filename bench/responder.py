"""Responder CPU per full IKEv2 handshake: `python -m bench.responder`. Method and figures: docs/performance.md.

Handshakes and the floor take turns, a round each, so that both see the same machine.
"""

import pstats
from cProfile import Profile
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from bench.command import tell
from bench.figures import Spread, console
from bench.floor import Floor
from bench.handshake import Pair, Phase

BUDGET = 860.0
"""Microseconds on the reference machine. bench.charon holds the whole process against charon's in one run."""
_WARM_UP = 50
_TOP = 30


@dataclass(frozen=True, slots=True)
class Result:
    """All spreads are over rounds, microseconds of CPU per handshake; `ratio` is responder to floor."""

    handshakes: int
    phases: dict[Phase, Spread]
    responder: Spread
    initiator: Spread
    operations: dict[str, Spread]
    floor: Spread
    ratio: Spread

    def plain(self) -> dict[str, Any]:
        return {
            "handshakes": self.handshakes,
            "unit": "us CPU per handshake",
            "responder": self.responder.plain(1),
            "phases": {phase.value: spread.plain(1) for phase, spread in self.phases.items()},
            "initiator": self.initiator.plain(1),
            "floor": self.floor.plain(1),
            "operations": {name: spread.plain(1) for name, spread in self.operations.items()},
            "ratio": self.ratio.plain(2),
            "handshakes_per_second": round(1e6 / self.responder.median),
            "budget": BUDGET,
        }


def measure(rounds: int, handshakes: int, progress: Console) -> Result:
    """`rounds` times `handshakes` handshakes."""
    pair = Pair()
    for _ in range(min(_WARM_UP, handshakes)):
        pair.run()
    assert pair.responder.scheme is not None
    floor = Floor(pair.responder.private, pair.initiator.private, pair.responder.scheme, tuple(pair.sizes))
    responder, initiator, operations = [], [], []
    for _ in track(range(rounds), "responder", console=progress, transient=True):
        for side in (pair.responder, pair.initiator):
            side.spent = dict.fromkeys(Phase, 0)
        for _ in range(handshakes):
            pair.run()
        responder.append({phase: spent / handshakes / 1000 for phase, spent in pair.responder.spent.items()})
        initiator.append(sum(pair.initiator.spent.values()) / handshakes / 1000)
        operations.append(floor.measure(handshakes))
    totals = [sum(one.values()) for one in responder]
    floors = [sum(one.values()) for one in operations]
    return Result(
        rounds * handshakes,
        {phase: Spread.of([one[phase] for one in responder]) for phase in Phase},
        Spread.of(totals),
        Spread.of(initiator),
        {name: Spread.of([one[name] for one in operations]) for name in floor.operations},
        Spread.of(floors),
        Spread.of([total / least for total, least in zip(totals, floors, strict=True)]),
    )


def show(result: Result) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", title="CPU per full handshake", title_justify="left")
    table.add_column("µs", no_wrap=True)
    for name in ("min", "median", "max"):
        table.add_column(name, justify="right")
    table.add_row("[bold]responder", *result.responder.cells(0))
    for phase, spread in result.phases.items():
        table.add_row(f"  {phase}", *spread.cells(0))
    table.add_row("[bold]floor: its cryptography alone", *result.floor.cells(0))
    for name, spread in result.operations.items():
        table.add_row(f"  {name}", *spread.cells(0))
    table.add_row("[bold]responder / floor", *result.ratio.cells(2))
    table.add_row("initiator, for comparison", *result.initiator.cells(0))
    console().print(table)
    console().print(
        f"{1e6 / result.responder.median:.0f} handshakes/s on one core; budget {BUDGET:.0f} µs on the reference "
        f"machine; {result.handshakes} handshakes"
    )


def profile(handshakes: int) -> None:
    """What the responder does, by function, without what it calls. The profiler itself makes everything slower."""
    seen = Profile()
    pair = Pair(seen)
    for _ in range(_WARM_UP):
        pair.run()
    seen.clear()
    for _ in range(handshakes):
        pair.run()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("own µs", "with callees µs", "calls"):
        table.add_column(name, justify="right")
    table.add_column("function", no_wrap=True)
    rows = []
    for (path, line, name), (_, calls, own, whole, _) in _by_function(seen).items():
        where = f"{'/'.join(path.split('/')[-2:])}:{line} {name}" if line else name
        rows.append((own, whole, calls, where))
    for own, whole, calls, where in sorted(rows, reverse=True)[:_TOP]:
        scale = 1e6 / handshakes
        table.add_row(f"{own * scale:.1f}", f"{whole * scale:.1f}", f"{calls / handshakes:.1f}", Text(where))
    console().print(table)


def _by_function(seen: Profile) -> dict[tuple[str, int, str], tuple[int, int, float, float, object]]:
    """Primitive calls, calls, seconds without and with callees, callers; by file, line and name."""
    found: dict[tuple[str, int, str], tuple[int, int, float, float, object]] = vars(pstats.Stats(seen))["stats"]
    return found


@click.command()
@click.option("--rounds", default=15, show_default=True)
@click.option("--handshakes", default=100, show_default=True, help="In each round.")
@click.option("--profile", "profiled", is_flag=True, help="Show where the responder's time goes instead.")
@click.option("--json", "as_json", is_flag=True)
def main(rounds: int, handshakes: int, profiled: bool, as_json: bool) -> None:
    """Responder CPU per full IKEv2 handshake: RSA-2048, X25519, AES-GCM."""
    if profiled:
        profile(rounds * handshakes)
        return
    result = measure(rounds, handshakes, Console(stderr=True))
    tell(as_json, result.plain, lambda: show(result))


if __name__ == "__main__":
    main()
