"""`oe status`: what a running daemon does with each host pair, and its IKE SAs."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
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
WIDE = 400
"""Columns when the output is no terminal: nothing is folded that a script might look for."""

Row = Mapping[str, Any]
Document = Mapping[str, Any]

STYLES = {"protected": "green", "clear": "yellow", "blocked": "red", "held": "cyan", "negotiating": "cyan"}
IKE_STYLES = {
    "established": "green",
    **dict.fromkeys(("authenticating", "intermediate", "half-open", "started"), "cyan"),
    **dict.fromkeys(("replaced", "closing", "lingering"), ""),
}
COLUMNS = ("source", "destination", "group", "state", "reason", "grade", "peer", "held", "lost", "expires")
AUTHENTICATION = "authentication"
"""A column more, before `held`, where a peer is anonymous; else it would say the same of every tunnel."""

IKE_COLUMNS = ("local", "remote", "role", "state", "authentication", "suite", "spis", "since", "rekey", "children")
"""After `remote` there are `nat` where somebody is behind one, and `identity` where a peer's is not its address."""
IKE_PORT = 500
RIGHT = frozenset({"held", "lost", "expires", "since", "rekey", "children"})
"""Columns of numbers."""
UNFOLDED = frozenset({"source", "destination", "local", "remote"})
UNCUT = frozenset({"authentication", "suite", "spis"})
"""Columns of a narrow terminal that rather break a word than leave out its end."""


@click.command()
@click.argument("net", type=NET, required=False)
@click.option("--ike", is_flag=True, help="Show the IKE SAs in place of the pairs; with --json beside them.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on one line.")
@click.option("--watch", is_flag=True, help="Ask again every second, until interrupted.")
@click.pass_obj
def status(run_dir: Path, net: Network | None, ike: bool, as_json: bool, watch: bool) -> None:
    """Show each host pair: its group, its state and why, and how far the DNS answer behind it can be trusted.

    With NET, an address or a net, those pairs and IKE SAs only that have an end in it.
    """

    def document() -> Document:
        found = ask(run_dir, {"ask": "status"} | ({"ike": True} if ike else {}))
        return found if net is None else found | within(net, found)

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


def within(net: Network, document: Document) -> dict[str, list[Row]]:
    """The rows of each of the document's tables that have an end in `net`."""
    ends = {"pairs": ("source", "destination"), "ike_sas": ("local", "remote")}
    return {
        name: [row for row in document[name] if any(ip_address(row[end]) in net for end in ends[name])]
        for name in ends
        if name in document
    }


def picture(document: Document) -> RenderableType:
    """The status document as people read it: a headline, what is wrong, and the table of pairs or of IKE SAs."""
    if "ike_sas" in document:
        told, table = _counts(document["ike_sas"], "IKE SA", IKE_STYLES), _ike_table(document["ike_sas"])
    else:
        told, table = _counts(document["pairs"], "pair", STYLES), _pair_table(document["pairs"])
    headline = Text(
        f"oe {document['version']}, back end {document['backend']} ({document['backend_why']}), "
        f"up {duration(document['uptime'])}, {told}"
    )
    problems = [Text(f"policy: {problem}", style="red") for problem in document["policy_problems"]]
    return Group(headline, *problems, table)


def _counts(rows: list[Row], noun: str, styles: Mapping[str, str]) -> str:
    """How many rows there are, and how many of them in each state."""
    states = Counter(row["state"] for row in rows)
    each = ", ".join(f"{states[state]} {state}" for state in styles if states[state])
    return counted(len(rows), noun) + (f": {each}" if each else "")


def _pair_table(pairs: list[Row]) -> Table:
    columns = list(COLUMNS)
    if any(pair[AUTHENTICATION] == "anonymous" for pair in pairs):
        columns.insert(columns.index("held"), AUTHENTICATION)
    return _table(columns, ({**pair, "expires": _lasting(pair["expires"])} for pair in pairs), STYLES)


def _ike_table(sas: list[Row]) -> Table:
    columns = list(IKE_COLUMNS)
    if any(sa["nat"] is not None for sa in sas):
        columns.insert(columns.index("role"), "nat")
    if any(sa["identity"] not in (None, sa["remote"]) for sa in sas):
        columns.insert(columns.index("role"), "identity")
    return _table(columns, map(_ike_cells, sas), IKE_STYLES)


def _ike_cells(sa: Row) -> Row:
    """SPIs are ours, then the peer's."""
    exchanges = filter(None, (sa["key_exchange"], sa["additional_key_exchange"]))
    return {
        **sa,
        "local": _socket(sa["local"], sa["local_port"]),
        "remote": _socket(sa["remote"], sa["remote_port"]),
        "authentication": f"{sa['key_algorithm']} {sa['key']}" if sa["key"] else sa["authentication"],
        "suite": f"{sa['encryption']} {sa['prf']} {'+'.join(exchanges)}" if sa["encryption"] else None,
        "spis": f"{sa['spi_local']} {sa['spi_remote'] or '-'}",
        "since": _lasting(sa["since"]),
        "rekey": _lasting(sa["rekey"]),
    }


def _socket(address: str, port: int) -> str:
    if port == IKE_PORT:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _lasting(seconds: float | None) -> str | None:
    return None if seconds is None else duration(seconds)


def _table(columns: list[str], rows: Iterable[Row], styles: Mapping[str, str]) -> Table:
    """A column for each name; in a cell what the row has there, `-` for null."""
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in RIGHT else "left",
            no_wrap=name in UNFOLDED,
            overflow="fold" if name in UNCUT else "ellipsis",
        )
    for row in rows:
        cells = {name: Text("-" if row[name] is None else str(row[name])) for name in columns}
        cells["state"].stylize(styles.get(row["state"], ""))
        table.add_row(*cells.values())
    return table
