"""`oe floor`: keeps `private` and `block` nets shut while no daemon runs, from boot on."""

from dataclasses import replace
from pathlib import Path

import click

from oe.cli.options import configured
from oe.config import Config, load_config
from oe.control import no_daemon
from oe.daemon.machine import floor_spec
from oe.errors import ConfigError
from oe.policy.files import PolicyLoad, load_policies
from oe.trap.nft import NftTable
from oe.trap.ruleset import render_floor
from oe.trap.spec import Tunnel

NO_SUCH_TUNNEL = Tunnel("oe0", 1400)
"""Where the kernel cannot tell packets of its own tunnels, because it has none."""


@click.group()
def floor() -> None:
    """Keep private and block nets shut without a daemon.

    `oe run` has the floor inside its own table and leaves it behind when it ends. These commands are for the time
    before its first start, and for who wants it gone. They refuse while a daemon runs.
    """


@floor.command(short_help="Load the floor.")
@configured
def up(path: Path | None) -> None:
    """Load the floor of the configured policy; it may stand already.

    A bad line in `private` shuts everything. Exit code 2 if anything is wrong with the policy files, after loading.
    """
    config, load = _read(path)
    with no_daemon(config.paths.run):
        table = NftTable()
        spec = floor_spec(config, load.policies)
        table.install_floor(spec if table.knows_ipsec() else replace(spec, tunnel=NO_SUCH_TUNNEL))
        table.close()
    _complain(load)


@floor.command(short_help="Print what `up` would load.")
@configured
def show(path: Path | None) -> None:
    """Print what `up` would load, for `nft -f`."""
    config, load = _read(path)
    click.echo(render_floor(floor_spec(config, load.policies)), nl=False)
    _complain(load)


@floor.command(short_help="Remove the floor, which opens those nets.")
@configured
def down(path: Path | None) -> None:
    """Remove the floor: private and block nets are open until `oe floor up` or `oe run`."""
    with no_daemon(load_config(path).paths.run):
        table = NftTable()
        table.remove()
        table.close()


def _read(path: Path | None) -> tuple[Config, PolicyLoad]:
    config = load_config(path)
    return config, load_policies(config.paths.policies)


def _complain(load: PolicyLoad) -> None:
    if load.problems:
        shut = ["everything is shut until `private` is mended"] if load.policies.closed else []
        raise ConfigError("\n".join([*map(str, load.problems), *shut]))
