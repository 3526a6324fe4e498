"""`oe check`: is what the operator wrote usable, and what does it come to?"""

from collections import Counter
from pathlib import Path

import click

from oe.config import DEFAULT_PATH, load_config
from oe.errors import ConfigError
from oe.model import Group
from oe.policy.files import load_policies


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help=f"Configuration file; without it {DEFAULT_PATH}, or the defaults if there is no such file.",
)
def check(config: Path | None) -> None:
    """Read the configuration and the policy groups, and say what is wrong with them.

    Prints how many nets each group has. Problems go to standard error; exit code 2 if there are any.
    """
    policies = load_config(config).paths.policies
    load = load_policies(policies)
    if load.problems:
        raise ConfigError("\n".join(map(str, load.problems)))
    nets = Counter(entry.group for entry in load.policies.entries)
    for group in Group:
        click.echo(f"{group.value:17} {nets[group]:6} nets")
