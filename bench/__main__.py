"""`make bench`, or `python -m bench`: everything, with few rounds unless asked for many."""

import json

import click
from rich.console import Console

from bench import first_connect, responder
from oe.errors import OeError

_QUICK, _FULL = (7, 100, 2), (25, 200, 10)
"""Rounds and handshakes a round; labs."""


@click.command()
@click.option("--quick/--full", default=True, show_default=True, help="Less than a minute, or some minutes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
def main(quick: bool, as_json: bool) -> None:
    """Responder CPU per handshake, and first connections in the lab. Figures on standard output, progress on error."""
    rounds, handshakes, labs = _QUICK if quick else _FULL
    progress = Console(stderr=True)
    handshake = responder.measure(rounds, handshakes, progress)
    if not as_json:
        responder.show(handshake)
        click.echo()
    try:
        connects = first_connect.measure(labs, "auto", progress)
    except OeError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps({"responder": handshake.plain(), "first_connect": connects}))
    else:
        first_connect.show(connects)


if __name__ == "__main__":
    main()
