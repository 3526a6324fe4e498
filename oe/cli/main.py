"""`oe`: the group of all commands, and what their failures look like.

Exit codes are a contract: 0 fine, 1 the answer is no, 2 wrong use or bad configuration, 3 the machine lacks something.
"""

from importlib import import_module
from pathlib import Path
from signal import SIG_BLOCK, SIGHUP, pthread_sigmask

import click

from oe.errors import ConfigError, KernelError, MachineLacks, OeError

COMMANDS = {
    "run": "Encrypt traffic to every peer that publishes a key.",
    "floor": "Keep private and block nets shut without a daemon.",
    "reload": "Have a running oe read configuration and policy anew.",
    "status": "Show what a running oe does with each host pair.",
    "explain": "Say what becomes of packets to an address, and why.",
    "flush": "Forget decisions and tunnels; the next packet decides anew.",
    "check": "Read the configuration and say what is wrong with it.",
    "key": "Make keys, and print the records that publish them.",
    "lab": "Build a small internet in network namespaces and watch oe in it.",
}
"""Names, in the order of the help text, with their short help. `oe.cli.NAME` has a click command called NAME."""

EXIT_CODES: tuple[tuple[type[OeError], int], ...] = ((ConfigError, 2), (MachineLacks, 3), (KernelError, 3))
"""Exit codes of errors; any other `OeError` means that the answer is no: 1."""


class House(click.Group):
    """Loads a command's module when it is asked for: `oe status` need not wait for the daemon's code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name == "run":
            # A hangup means a reload, but before the daemon can answer it its default action would end us.
            pthread_sigmask(SIG_BLOCK, {SIGHUP})
        command = getattr(import_module(f"oe.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except OeError as error:
            click.echo(f"oe: {error}", err=True)
            ctx.exit(next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1))


@click.group(
    cls=House,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 fine, 1 the answer is no, 2 wrong use or bad configuration, 3 the machine lacks something.",
)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    default=Path("/run/oe"),
    show_default=True,
    help="Where the control socket of the oe to talk to is.",
)
@click.version_option(package_name="oe", message="oe %(version)s")
@click.pass_context
def main(ctx: click.Context, run_dir: Path) -> None:
    """Opportunistic encryption: IPsec to every peer that publishes a key in DNS."""
    ctx.obj = run_dir
