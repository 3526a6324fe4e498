"""What several commands take on the command line, and say alike."""

from ipaddress import ip_address
from pathlib import Path

import click

from oe.config import DEFAULT_PATH
from oe.errors import ConfigError
from oe.model import Address, Network
from oe.policy.files import parse_network


class AddressType(click.ParamType[Address]):
    """An IPv4 or IPv6 address."""

    name = "address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        try:
            return ip_address(str(value))
        except ValueError:
            self.fail(f"{value!r} is no IPv4 or IPv6 address", param, ctx)


class NetType(click.ParamType[Network]):
    """An address or a net, as in a group's file."""

    name = "net"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Network:
        try:
            return parse_network(str(value))
        except ConfigError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


ADDRESS = AddressType()
NET = NetType()

configured = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    help=f"Configuration file; without it {DEFAULT_PATH}, or the defaults if there is no such file.",
)
"""The configuration file, as `load_config` takes it."""
