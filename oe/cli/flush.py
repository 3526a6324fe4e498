"""`oe flush`: forget decisions and tunnels, so that the next packet decides anew."""

from pathlib import Path

import click

from oe.cli.key import ADDRESS
from oe.control import ask
from oe.model import Address


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
        request |= {"source": str(source), "destination": str(destination)}
    ask(run_dir, request)
