"""What the lab tells: a table for people, a document for programs."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from oe.lab.flows import Result, Run
from oe.lab.outcome import Outcome

_STYLES: Mapping[Outcome, str] = {
    Outcome.ENCRYPTED: "green",
    Outcome.TURNS_ENCRYPTED: "green",
    Outcome.IN_CLEAR: "yellow",
    Outcome.MIXED: "bold red",
}
_RIGHT = frozenset({"delay ms", "lost", "user space"})
_COLUMNS = ("", "flow", "group", "expected", "observed", "wire", "delay ms", "lost", "user space", "why")


def document(run: Run, seconds: float) -> dict[str, Any]:
    """Everything as plain JSON values; delays in milliseconds."""
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
        "user_space": result.queued,
        "reason": result.reason,
        "grade": result.grade,
        "ok": result.ok,
        "complaints": list(result.complaints),
    }


def show(run: Run, seconds: float, console: Console) -> None:
    """Print the table, what is wrong, and one line that sums it up."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _RIGHT else "left", no_wrap=True)
    for result in run.results:
        table.add_row(*_cells(result))
    console.print(table)
    for result in run.results:
        for complaint in result.complaints:
            console.print(Text(f"✗ {result.row.name} ({_groups(result)}): {complaint}", style="red"))
    good = sum(result.ok for result in run.results)
    console.print(
        f"{good} of {len(run.results)} rows as expected; back end {run.backend}; "
        f"DNS answers a new name in {1000 * run.dns_delay:.1f} ms; {seconds:.1f} s in all"
    )


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
