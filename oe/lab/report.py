"""What the lab tells: a table for people, a document for programs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from oe.lab.flows import Result, Run
from oe.lab.outcome import Outcome
from oe.model import Group

_STYLES: Mapping[Outcome, str] = {
    Outcome.ENCRYPTED: "green",
    Outcome.TURNS_ENCRYPTED: "green",
    Outcome.IN_CLEAR: "yellow",
    Outcome.MIXED: "bold red",
}
_RIGHT = frozenset({"delay ms", "lost", "queued"})
_COLUMNS = ("", "flow", "group", "expected", "observed", "wire", "delay ms", "lost", "queued", "why")
_DROPPED = ("expected", "queued", "why", "wire")
"""Columns that a narrow terminal does without, in this order; a row that went wrong says below what was expected."""
_WIDE = 200
"""Columns when the output is no terminal: nothing is cut off that somebody might search for."""


def document(run: Run, seconds: float) -> dict[str, Any]:
    """Everything as plain JSON values; delays in milliseconds, `queued` counts packets that came to user space."""
    return {
        "ok": run.ok,
        "backend": run.backend,
        "dns_ms": _ms(run.dns_delay),
        "seconds": round(seconds, 1),
        "rows": [_plain(result) for result in run.results],
    }


def _plain(result: Result) -> dict[str, Any]:
    row, wire = result.row, result.wire
    return {
        "flow": row.name,
        "protocol": row.protocol,
        "source": str(row.source),
        "destination": str(row.destination),
        "group": _groups(result),
        "expected": row.expected.value,
        "observed": result.outcome.value,
        "wire": str(wire),
        "packets": {"esp": wire.esp, "clear": wire.clear, "ike": wire.ike},
        "delay_ms": _ms(result.delay),
        "lost": result.lost,
        "queued": result.queued,
        "reason": result.reason,
        "grade": result.grade,
        "ok": result.ok,
        "complaints": list(result.complaints),
    }


def show(run: Run, seconds: float) -> None:
    """Print the table, the grid of groups against groups, what is wrong, and one line that sums it up."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDE
    console.print(fitting([result for result in run.results if result.row.far_group is None], console))
    pairs = {(result.row.group, result.row.far_group): result for result in run.results if result.row.far_group}
    if pairs:
        console.print("\nThe first flow when both publish a key: the sender's group for the other side, downwards;")
        console.print("the other side's for the sender, across.")
        console.print(_grid(pairs))
    for result in run.results:
        for complaint in result.complaints:
            console.print(Text(f"✗ {result.row.name} ({_groups(result)}): {complaint}", style="red"))
    good = sum(result.ok for result in run.results)
    console.print(
        f"\n{good} of {len(run.results)} flows as expected; back end {run.backend}; "
        f"DNS answers a new name in {1000 * run.dns_delay:.1f} ms; {seconds:.1f} s in all"
    )


def fitting(results: Sequence[Result], console: Console) -> Table:
    """The table with as many columns as the terminal has room for."""
    columns: tuple[str, ...] = _COLUMNS
    unlimited = console.options.update(max_width=_WIDE)
    for dropped in _DROPPED:
        table = _table(results, columns)
        if Measurement.get(console, unlimited, table).maximum <= console.width:
            return table
        columns = tuple(column for column in columns if column != dropped)
    return _table(results, columns)


def _table(results: Iterable[Result], columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in _RIGHT else "left", no_wrap=True)
    for result in results:
        cells = dict(zip(_COLUMNS, _cells(result), strict=True))
        table.add_row(*(cells[name] for name in columns))
    return table


def _grid(pairs: Mapping[tuple[Group | None, Group], Result]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", style="bold", no_wrap=True)
    for far in Group:
        table.add_column(far, no_wrap=True)
    for near in Group:
        table.add_row(near, *(_verdict(pairs.get((near, far))) for far in Group))
    return table


def _verdict(result: Result | None) -> Text:
    if result is None:
        return Text("")
    mark = "" if result.ok else "✗ "
    return Text(mark + result.outcome, style=_STYLES.get(result.outcome, "") if result.ok else "bold red")


def _cells(result: Result) -> list[Text]:
    row, wire = result.row, result.wire
    delay = "" if result.delay is None else f"{1000 * result.delay:.1f}"
    shown = f"{wire} ({wire.ike} IKE)" if wire.ike else str(wire)
    why = f"{result.reason}, {result.grade}" if result.grade else result.reason
    return [
        Text("✓", style="green") if result.ok else Text("✗", style="bold red"),
        Text(row.name),
        Text(_groups(result)),
        Text(row.expected),
        Text(result.outcome, style=_STYLES.get(result.outcome, "")),
        Text(shown),
        Text(delay),
        Text(str(result.lost)),
        Text("" if result.queued is None else str(result.queued)),
        Text(why),
    ]


def _groups(result: Result) -> str:
    near = result.row.group or "unlisted"
    return f"{near} × {result.row.far_group}" if result.row.far_group else str(near)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 2)
