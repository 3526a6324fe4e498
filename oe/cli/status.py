"""`oe status`: what a running daemon does with each host pair."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from oe.control import ask

WATCH_INTERVAL = 1.0
"""Seconds."""
WIDE = 200
"""Columns when the output is no terminal: nothing is folded that a script might look for."""

STYLES = {"protected": "green", "clear": "yellow", "blocked": "red", "held": "cyan", "negotiating": "cyan"}
COLUMNS = ("source", "destination", "group", "state", "reason", "grade", "peer", "held", "lost", "expires")
AUTHENTICATION = "authentication"
"""A column more, before `held`, where a peer is anonymous; else it would say the same of every tunnel."""

Document = Mapping[str, Any]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on one line.")
@click.option("--watch", is_flag=True, help="Ask again every second, until interrupted.")
@click.pass_obj
def status(run_dir: Path, as_json: bool, watch: bool) -> None:
    """Show each host pair: its group, its state and why, and how far the DNS answer behind it can be trusted."""

    def document() -> Document:
        return ask(run_dir, {"ask": "status"})

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    try:
        if as_json:
            click.echo(json.dumps(document()))
            while watch:
                time.sleep(WATCH_INTERVAL)
                click.echo(json.dumps(document()))
        elif watch:
            with Live(picture(document()), console=console, auto_refresh=False, screen=console.is_terminal) as live:
                while True:
                    time.sleep(WATCH_INTERVAL)
                    live.update(picture(document()), refresh=True)
        else:
            console.print(picture(document()))
    except KeyboardInterrupt:
        return


def picture(document: Document) -> RenderableType:
    """The status document as people read it: a headline, what is wrong, and the table of pairs."""
    headline = Text(
        f"oe {document['version']}, back end {document['backend']} ({document['backend_why']}), "
        f"up {duration(document['uptime'])}, {len(document['pairs'])} pairs"
    )
    problems = [Text(f"policy: {problem}", style="red") for problem in document["policy_problems"]]
    return Group(headline, *problems, _table(document["pairs"]))


def _table(pairs: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    columns = list(COLUMNS)
    if any(pair[AUTHENTICATION] == "anonymous" for pair in pairs):
        columns.insert(columns.index("held"), AUTHENTICATION)
    for name in columns:
        numeric = name in ("held", "lost", "expires")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=name in ("source", "destination"))
    for pair in pairs:
        cells = {name: Text("-" if pair[name] is None else str(pair[name])) for name in columns}
        cells["state"].stylize(STYLES.get(pair["state"], ""))
        if pair["expires"] is not None:
            cells["expires"] = Text(duration(pair["expires"]))
        table.add_row(*cells.values())
    return table


def duration(seconds: float) -> str:
    """Seconds as people say them: the two largest units, such as 2h05m or 0s."""
    whole = int(seconds)
    for unit, name, smaller, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit:
            return f"{whole // unit}{name}{whole % unit // smaller:02}{below}"
    return f"{whole}s"
