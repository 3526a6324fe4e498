"""`oe run`: the daemon in the foreground."""

from pathlib import Path

import click

from oe.config import DEFAULT_PATH, load_config
from oe.daemon import run as run_daemon


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help=f"Configuration file; without it {DEFAULT_PATH}, or the defaults if there is no such file.",
)
@click.pass_context
def run(ctx: click.Context, config: Path | None) -> None:
    """Encrypt traffic to every peer that publishes a key, until SIGTERM or SIGINT. SIGHUP is `oe reload`.

    Needs root, or CAP_NET_ADMIN and CAP_NET_RAW. Logs to standard error.
    """
    ctx.exit(run_daemon(load_config(config), config))
