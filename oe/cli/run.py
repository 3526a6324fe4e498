"""`oe run`: the daemon in the foreground."""

from pathlib import Path

import click

from oe.cli.options import configured
from oe.config import load_config
from oe.daemon import run as run_daemon


@click.command()
@configured
@click.pass_context
def run(ctx: click.Context, path: Path | None) -> None:
    """Encrypt traffic to every peer that publishes a key, until SIGTERM or SIGINT. SIGHUP is `oe reload`.

    Needs root, or CAP_NET_ADMIN and CAP_NET_RAW. Logs to standard error.
    """
    ctx.exit(run_daemon(load_config(path), path))
