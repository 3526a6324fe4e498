"""`oe status`: what a running daemon does with each host pair."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from oe.cli.options import NET
from oe.cli.words import counted, duration
from oe.control import ask
from oe.model import Network

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
@click.argument("net", type=NET, required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on one line.")
@click.option("--watch", is_flag=True, help="Ask again every second, until interrupted.")
@click.pass_obj
def status(run_dir: Path, net: Network | None, as_json: bool, watch: bool) -> None:
    """Show each host pair: its group, its state and why, and how far the DNS answer behind it can be trusted.

    With NET, an address or a net, those pairs only that have an end in it.
    """

    def document() -> Document:
        found = ask(run_dir, {"ask": "status"})
        return found if net is None else found | {"pairs": within(net, found)}

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


def within(net: Network, document: Document) -> list[dict[str, Any]]:
    """The pairs that have an end in `net`."""
    return [
        pair for pair in document["pairs"] if any(ip_address(pair[end]) in net for end in ("source", "destination"))
    ]


def picture(document: Document) -> RenderableType:
    """The status document as people read it: a headline, what is wrong, and the table of pairs."""
    headline = Text(
        f"oe {document['version']}, back end {document['backend']} ({document['backend_why']}), "
        f"up {duration(document['uptime'])}, {_counts(document['pairs'])}"
    )
    problems = [Text(f"policy: {problem}", style="red") for problem in document["policy_problems"]]
    return Group(headline, *problems, _table(document["pairs"]))


def _counts(pairs: list[dict[str, Any]]) -> str:
    """How many pairs there are, and how many of them in each state."""
    states = Counter(pair["state"] for pair in pairs)
    each = ", ".join(f"{states[state]} {state}" for state in STYLES if states[state])
    return counted(len(pairs), "pair") + (f": {each}" if each else "")


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
