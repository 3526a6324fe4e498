"""`oe explain`: why a pair is treated as it is, and what its next first packet would lead to."""

import json
import socket
from pathlib import Path

import click
from click.core import ParameterSource

from oe.cli.forecast import Evidence, by_address, by_dns
from oe.cli.lookups import look_up
from oe.cli.narrative import Document, Explanation, document, story
from oe.cli.options import ADDRESS, configured
from oe.config import Config, load_config
from oe.control import ask
from oe.daemon.machine import global_addresses, own_side
from oe.errors import MachineLacks, OeError
from oe.keystore import load as load_keys
from oe.model import Address, HostPair
from oe.policy.files import load_policies
from oe.policy.select import select

_ANY_PORT = 9


@click.command()
@click.argument("destination", type=ADDRESS)
@click.option(
    "--from", "source", type=ADDRESS, help="An address of ours or of a client; without it, the one that the route has."
)
@configured
@click.option("--json", "as_json", is_flag=True, help="One JSON object on one line.")
@click.pass_context
def explain(ctx: click.Context, destination: Address, source: Address | None, path: Path | None, as_json: bool) -> None:
    """Say what becomes of packets to DESTINATION, and why.

    Shows the group and the line that chose it, what DNS says about both ends and how far that can be trusted, what a
    first packet would lead to, and what a running oe has decided. It reads the files as they are now, asks the
    resolvers anew, and changes nothing.

    Exit code 1 if the group asks for encryption and none would come about.
    """
    if source is not None and source.version != destination.version:
        raise click.UsageError(f"{source} and {destination}: both IPv4, or both IPv6")
    config = load_config(path)
    explanation = _explain(config, destination, source)
    told = document(explanation) | _decided(_run_dir(ctx, config), destination)
    for line in [json.dumps(told)] if as_json else story(told):
        click.echo(line)
    ctx.exit(1 if explanation.forecast.is_refusal else 0)


def _explain(config: Config, destination: Address, source: Address | None) -> Explanation:
    load, present = load_policies(config.paths.policies), global_addresses()
    problems = tuple(map(str, load.problems))
    own = own_side(config, present, load_keys(config.paths.keys).public_keys)
    pair = HostPair(source or _source_towards(destination), destination)
    selection = select(load.policies, destination)
    forecast = by_address(pair, own, present, selection)
    if forecast is not None:
        return Explanation(pair, selection, problems, forecast)
    looked = look_up(config.dns.resolvers, (destination, pair.source))
    theirs, ours = looked[destination], looked[pair.source]
    budget = config.gateway.setup_budget
    evidence = Evidence(theirs.within(budget), ours.within(budget), theirs.lasts)
    forecast = by_dns(pair, selection.group, config.settings(selection.group), own, evidence)
    resolvers = tuple(map(str, config.dns.resolvers))
    return Explanation(pair, selection, problems, forecast, (theirs, ours), budget, own.keys, resolvers)


def _source_towards(destination: Address) -> Address:
    """The address that the kernel would send from. Connecting a datagram socket sends nothing."""
    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(destination), _ANY_PORT))
        except OSError as error:
            raise MachineLacks(
                f"no route to {destination}: {error.strerror}", "add one, or name the source with --from"
            ) from None
        return type(destination)(probe.getsockname()[0])


def _run_dir(ctx: click.Context, config: Config) -> Path:
    """That of the configuration, unless the command line names another."""
    root = ctx.find_root()
    if root.get_parameter_source("run_dir") is ParameterSource.DEFAULT:
        return config.paths.run
    return Path(root.params["run_dir"])


def _decided(run_dir: Path, destination: Address) -> Document:
    """What a running daemon has for this destination: `now`; null, and `no_answer` says why, if none tells."""
    try:
        status: Document = ask(run_dir, {"ask": "status"})
    except OeError as error:
        return {"now": None, "no_answer": error.missing if isinstance(error, MachineLacks) else str(error)}
    return {"now": [pair for pair in status["pairs"] if pair["destination"] == str(destination)], "no_answer": None}
