"""`oe flush`: forget decisions and tunnels, so that the next packet decides anew."""

from pathlib import Path

import click

from oe.cli.options import ADDRESS
from oe.cli.words import counted
from oe.control import ask
from oe.errors import OeError
from oe.model import Address


class NothingKnown(OeError):
    """There is no such pair."""


@click.command()
@click.argument("source", type=ADDRESS, required=False)
@click.argument("destination", type=ADDRESS, required=False)
@click.pass_obj
def flush(run_dir: Path, source: Address | None, destination: Address | None) -> None:
    """Forget what was decided for SOURCE and DESTINATION, or for all pairs, and delete the tunnels behind it.

    The next packet of such a pair is a first packet again: held, looked up, negotiated.
    """
    request: dict[str, object] = {"ask": "flush"}
    if source is not None:
        if destination is None:
            raise click.UsageError("a pair is two addresses: SOURCE and DESTINATION")
        if source.version != destination.version:
            raise click.UsageError(f"{source} and {destination}: both IPv4, or both IPv6")
        request |= {"source": str(source), "destination": str(destination)}
    forgotten = ask(run_dir, request)["pairs"]
    assert isinstance(forgotten, int)
    if source is not None and not forgotten:
        raise NothingKnown(f"nothing is known of {source} → {destination}; `oe status` lists what is")
    click.echo(f"{counted(forgotten, 'pair')} forgotten")
