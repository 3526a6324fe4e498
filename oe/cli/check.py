"""`oe check`: is what the operator wrote usable, and what does it come to?"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from oe.cli.lookups import look_up
from oe.cli.options import configured
from oe.config import Config, load_config
from oe.daemon.machine import global_addresses, own_side
from oe.daemon.reload import misnamed
from oe.errors import ConfigError
from oe.gateway import OwnSide
from oe.gateway.candidates import own_credentials
from oe.keystore import load as load_keys
from oe.model import Group, KeyAnswer, LookupOutcome, PublicKey
from oe.policy.files import load_policies
from oe.policy.groups import PolicySet
from oe.policy.outcome import Dnssec
from oe.reasons import Reason


@click.command()
@configured
@click.option(
    "--dns", "asks_dns", is_flag=True, help="Ask the resolvers whether our key is published, and how trusted."
)
@click.pass_context
def check(ctx: click.Context, path: Path | None, asks_dns: bool) -> None:
    """Read configuration, policy groups and keys, and say what is wrong with them.

    Prints how many nets each group has, and our keys. Problems go to standard error: exit code 2. What is allowed and
    seldom meant goes there too, as a warning. With --dns the exit code is 1 if peers cannot find our key for one of our
    addresses.
    """
    read = load_config(path)
    load = load_policies(read.paths.policies)
    problems = [*map(str, load.problems), *misnamed(read.paths.policies)]
    if problems:
        raise ConfigError("\n".join(problems))
    nets = Counter(entry.group for entry in load.policies.entries)
    for group in Group:
        click.echo(f"{group.value:17} {nets[group]:6} nets")
    keys = load_keys(read.paths.keys).public_keys
    for key in keys:
        newest = ", the newest" if keys[1:] and key == keys[0] else ""
        click.echo(f"{'key':17} {key.fingerprint} {key.algorithm.name}{newest}")
    for warning in _warnings(read, load.policies, keys):
        click.echo(f"warning: {warning}", err=True)
    if asks_dns:
        ctx.exit(0 if _is_published(read, keys) else 1)


def _warnings(config: Config, policies: PolicySet, keys: tuple[PublicKey, ...]) -> Iterator[str]:
    if not policies.entries:
        yield f"no group lists a net, so that everything goes in clear; write them to {config.paths.policies}"
    if not keys:
        yield f"no key yet, so that no peer can verify us; make one with `oe key new --dir {config.paths.keys}`"
    distant = [str(server) for server in config.dns.resolvers if not server.address.is_loopback]
    strict = [group for group in Group if config.settings(group).dnssec is not Dnssec.ANY]
    used = {entry.group for entry in policies.entries} & set(strict) - {Group.CLEAR, Group.BLOCK}
    if distant and used:
        yield (
            f"dns.resolvers: answers of {', '.join(distant)} count for nothing in {', '.join(sorted(used))}, being "
            "unproven; ask a validating resolver on this host"
        )


def _is_published(config: Config, keys: tuple[PublicKey, ...]) -> bool:
    """Print what DNS says of each of our addresses; whether all of it is fine."""
    own = own_side(config, global_addresses(), keys)
    fine = True
    for address, looked in look_up(config.dns.resolvers, own.addresses).items():
        answer, fault = looked.answer, _fault(looked.answer, own, config)
        told = f"{_published(answer, own)}, after {1000 * looked.took:.0f} ms" if fault is None else fault
        click.echo(f"{address!s:17} {answer.grade.value:13} {told}")
        fine = fine and fault is None
    return fine


def _fault(answer: KeyAnswer, own: OwnSide, config: Config) -> str | None:
    """Why peers could not verify us at this address, and what to do."""
    found = own_credentials(answer, own)
    remedy = f"publish what `oe key show --address {answer.owner}` prints"
    if answer.outcome is LookupOutcome.FAILED:
        return f"{found}: {answer.detail}; look at the resolvers, {', '.join(map(str, config.dns.resolvers))}"
    if isinstance(found, Reason):
        return f"{found}: {answer.detail}; {remedy}, or wait: caches keep the old answer"
    return None


def _published(answer: KeyAnswer, own: OwnSide) -> str:
    """Which of our keys is: the newest of them signs, as soon as no cache is without it."""
    published = {delegation.key for delegation in answer.delegations}
    if own.keys[0] in published:
        return "published"
    signer = next(key for key in own.keys if key in published)
    return f"published is {signer.fingerprint}, which signs until {own.keys[0].fingerprint} is"
