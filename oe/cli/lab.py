"""`oe lab`: a small internet in network namespaces, and what the gateways in it do with traffic."""

from pathlib import Path

import click

from oe.config import Backend
from oe.lab import shell
from oe.lab.holder import Options


@click.group(invoke_without_command=True)
@click.option("--only", default="", metavar="TEXT", help="Drive only the rows whose flow and group contain TEXT.")
@click.option(
    "--backend",
    type=click.Choice([backend.value for backend in Backend]),
    default=Backend.AUTO.value,
    show_default=True,
    help="Who does ESP in every host.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table, and no progress.")
@click.option(
    "--pcap", type=click.Path(file_okay=False, path_type=Path), help="Write what each link showed to this directory."
)
@click.option("--keep", is_flag=True, help="Leave the lab up afterwards.")
@click.option(
    "--pace",
    type=click.FloatRange(1.0, 100.0),
    default=1.0,
    show_default=True,
    help="How many times slower than usual this machine is: everybody waits so much longer.",
)
@click.pass_context
def lab(ctx: click.Context, only: str, backend: str, as_json: bool, pcap: Path | None, keep: bool, pace: float) -> None:
    """Build a small internet in network namespaces, drive traffic through every policy group, and show what the wire
    showed.

    Real servers, real daemons, real packets; nothing of this machine is touched and nothing is left behind. Exit code 1
    if anything went otherwise than it must. Needs nsd, unbound, iproute2 and nftables; root, or user namespaces.
    """
    if ctx.invoked_subcommand is not None:
        return
    status = shell.run(Options(backend, only, keep, as_json, pace), pcap)
    if keep:
        click.echo(shell.hints(), err=True)
    ctx.exit(status)


@lab.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("host")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def enter(host: str, command: tuple[str, ...]) -> None:
    """Run COMMAND, or a shell, inside HOST of the lab that was kept."""
    shell.enter(host, command)


@lab.command()
def down() -> None:
    """End the lab that was kept."""
    shell.down()
