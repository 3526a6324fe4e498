"""`oe reload`: a running daemon reads everything anew."""

import json
from pathlib import Path
from typing import Any

import click

from oe.cli.words import counted
from oe.control import ask

PATIENCE = 120.0
"""Seconds; the kernel takes about three for a hundred thousand nets."""
COLUMNS = ("group", "nets", "added", "removed", "pairs let go")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on one line, with every net and pair.")
@click.pass_obj
def reload(run_dir: Path, as_json: bool) -> None:
    """Have the daemon read configuration, policy and keys anew, and show what has changed.

    All or nothing: if anything is wrong with the files, or needs a restart, the daemon goes on with what it has. Exit
    code 2 then.
    """
    document = ask(run_dir, {"ask": "reload"}, PATIENCE)
    if as_json:
        click.echo(json.dumps(document))
        return
    for line in picture(document):
        click.echo(line)


def picture(document: dict[str, Any]) -> list[str]:
    """The answer as people read it: a table of the groups, and what else there is to say."""
    rows = [[row[name.replace(" ", "_")] for name in COLUMNS] for row in document["groups"]]
    lines = ["{:16} {:>8} {:>8} {:>8} {:>13}".format(*row) for row in (COLUMNS, *rows)]
    if document["settings"]:
        lines.append(f"changed: {', '.join(document['settings'])}")
    lines.append(f"{counted(document['pairs_let_go'], 'pair')} let go, {document['pairs_kept']} kept")
    return lines
