"""`oe key`: our own keys, and the zone lines that publish them."""

from pathlib import Path

import click

from oe.cli.options import ADDRESS
from oe.config import DEFAULT_PATH, Paths, load_config
from oe.dnskeys.publish import zone_lines
from oe.errors import ConfigError
from oe.keystore import KeyType, generate, load
from oe.model import Address

directory = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    callback=lambda _ctx, _param, given: given or load_config().paths.keys,
    help=f"The key directory; without it, that of {DEFAULT_PATH}, or {Paths().keys} if there is no such file.",
)


@click.group()
def key() -> None:
    """Make keys, and print the records that publish them."""


@key.command(short_help="Make a private key.")
@directory
@click.option(
    "--type",
    "kind",
    type=click.Choice([kind.value for kind in KeyType]),
    default=KeyType.RSA3072.value,
    show_default=True,
    help="Every peer reads RSA; the others are smaller and faster.",
)
@click.option("--beside", is_flag=True, help="Make one more key: a rollover.")
def new(directory: Path, kind: str, beside: bool) -> None:
    """Make a private key and print its file's name.

    A directory that holds a key already is left alone, with exit code 2, unless the new one shall stand beside it. It
    is used from the next start or reload on, and signs when DNS has had it for a TTL. Until then the old one does.
    """
    click.echo(generate(directory, KeyType(kind), beside=beside))


@key.command(short_help="Print the zone lines that publish our keys.")
@directory
@click.option("--address", type=ADDRESS, required=True, help="Whose traffic the key protects.")
@click.option("--gateway", type=ADDRESS, help="Who answers IKE for that address, if not the address itself.")
def show(directory: Path, address: Address, gateway: Address | None) -> None:
    """Print zone lines (IPSECKEY, RFC 4025) that publish our keys for an address, and nothing else.

    They belong into the reverse zone of the address, under in-addr.arpa or ip6.arpa.
    """
    keys = load(directory).public_keys
    if not keys:
        raise ConfigError(f"{directory}: no key yet; make one with `oe key new --dir {directory}`")
    for line in zone_lines(address, keys, gateway):
        click.echo(line)
