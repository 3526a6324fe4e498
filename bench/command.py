"""What the commands of several measurements have in common."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import click


def begin_alone(module: str, *options: str, mounts: bool = False) -> NoReturn:
    """Run `module` again with the options of this process and `--inside`, in a network namespace of its own; as root.

    `mounts`: a mount namespace as well. This process ends with its exit code.
    """
    namespaces = ("--net", "--mount") if mounts else ("--net",)
    again = sys.executable, "-m", module, *sys.argv[1:], *options, "--inside"
    sys.exit(subprocess.run(("unshare", *namespaces, *again), check=False).returncode)


def tell(as_json: bool, plain: Callable[[], Mapping[str, Any]], show: Callable[[], None]) -> None:
    """One line of JSON, or the tables."""
    if as_json:
        click.echo(json.dumps(plain()))
    else:
        show()
