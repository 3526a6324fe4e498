"""The configuration file: TOML in, one frozen `Config` out.

Keys are kebab-case. Every table and key may be left out; the defaults below are the documentation of what holds then.
Whatever is wrong is told at once, in one `ConfigError`: where, what was found, what is allowed. Unknown keys are
errors, because a misspelt one would otherwise be a silent default.
"""

import tomllib
from enum import StrEnum
from ipaddress import ip_address
from json import dumps
from pathlib import Path
from re import compile
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from oe.configvalues import (
    at_least_one,
    choice,
    duration,
    near,
    octets,
    read_flag,
    read_network,
    read_own_address,
    read_path,
    read_resolver,
    two_queues,
    whole,
)
from oe.errors import ConfigError
from oe.model import Address, Group, Network, SocketAddress
from oe.policy.outcome import Anonymous, Dnssec, GroupSettings, Unreachable

DEFAULT_PATH = Path("/etc/oe/oe.toml")
LARGEST_FILE = 1024 * 1024
"""Octets."""


class Backend(StrEnum):
    """Who does ESP: the kernel, this process over a TUN device, or whichever a probe finds."""

    AUTO = "auto"
    XFRM = "xfrm"
    USERSPACE = "userspace"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Seconds = float
Port = Annotated[int, whole(1, 65535)]
QueueNumber = Annotated[int, whole(0, 65535)]
ConfiguredPath = Annotated[Path, PlainValidator(read_path)]
DnssecChoice = Annotated[Dnssec, choice(*Dnssec)]


# --- tables ---------------------------------------------------------------------------------------------------------


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_kebab, arbitrary_types_allowed=True)


class Paths(_Table):
    """Where things are. `run` holds the control socket `control.sock`."""

    policies: ConfiguredPath = Path("/etc/oe/policies")
    keys: ConfiguredPath = Path("/etc/oe/keys")
    state: ConfiguredPath = Path("/var/lib/oe")
    run: ConfiguredPath = Path("/run/oe")


class Gateway(_Table):
    """What the gateway serves, and its budgets. Durations are seconds."""

    backend: Annotated[Backend, choice(*Backend)] = Backend.AUTO
    serve: tuple[Annotated[Network, PlainValidator(read_network)], ...] = ()
    """Client nets that this gateway acts for; empty: itself only."""
    addresses: tuple[Annotated[Address, PlainValidator(read_own_address)], ...] = ()
    """Own addresses to use; empty: found from the routes."""
    setup_budget: Annotated[Seconds, duration("100ms", "1m")] = 3.0
    """For DNS and IKE until the first decision; a packet is held no longer."""
    queues: Annotated[tuple[QueueNumber, ...], AfterValidator(two_queues)] = (50, 51)
    """NFQUEUE numbers: that of `private`, which holds when nobody listens, and that of the permissive groups."""
    hold_per_pair: Annotated[int, whole(1, 65536)] = 64
    """Packets of one pair held at a time."""
    hold_in_all: Annotated[int, whole(1, 1048576)] = 16384
    """Packets of all pairs held at a time."""
    max_pairs: Annotated[int, whole(1, 10_000_000)] = 100_000
    """Pairs known at a time."""
    liveness: Annotated[Seconds, duration("1s", "1h")] = 3.0
    """Traffic one way only for so long: ask the peer whether it lives."""
    idle: Annotated[Seconds, duration("2s", "24h")] = 1200.0
    """A tunnel that carried nothing for so long is taken down."""
    child_lifetime: Annotated[Seconds, duration("5s", "24h")] = 3600.0
    """Hard lifetime of a Child SA."""
    child_octets: Annotated[int, octets("1MiB", "1TiB")] = 64 << 30
    """The same in octets of inner packets, each way."""
    ike_lifetime: Annotated[Seconds, duration("10s", "168h")] = 28800.0
    """Hard lifetime of an IKE SA."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hold_per_pair > self.hold_in_all:
            raise ValueError("hold-per-pair no larger than hold-in-all")
        return self


class Ike(_Table):
    """UDP ports of IKE: plain, and with NAT traversal (RFC 3948); what is offered to peers, or not."""

    port: Port = 500
    nat_port: Port = 4500
    additional_key_exchange: Annotated[bool, PlainValidator(read_flag)] = True
    """ML-KEM beside the classical key exchange, with peers that have it (RFC 9370). It costs them a round trip."""
    crash_tokens: Annotated[bool, PlainValidator(read_flag)] = True
    """Give peers a token by which they notice that we lost their tunnels. False where several gateways share an
    address and only one of them knows an IKE SA (RFC 6290 9.2)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.port == self.nat_port:
            raise ValueError("two different numbers for port and nat-port")
        return self


class Dns(_Table):
    """Validating resolvers, asked in this order."""

    resolvers: Annotated[
        tuple[Annotated[SocketAddress, PlainValidator(read_resolver)], ...], AfterValidator(at_least_one)
    ] = (SocketAddress(ip_address("127.0.0.1"), 53),)


class ResponderGroup(_Table):
    """Settings of `clear-or-private`, which starts no negotiation: it has no fallback, and asks nobody."""

    dnssec: DnssecChoice = GroupSettings().dnssec
    anonymous: Annotated[Anonymous, choice(Anonymous.NO, Anonymous.ACCEPT)] = GroupSettings().anonymous


class StrictGroup(_Table):
    """Settings of `private`, which never falls back to clear and wants to know its peers."""

    dnssec: DnssecChoice = GroupSettings().dnssec
    published_but_unreachable: Annotated[Unreachable, choice(Unreachable.HOLD, Unreachable.BLOCK, Unreachable.AUTO)] = (
        GroupSettings().published_but_unreachable
    )


class PermissiveGroup(_Table):
    """Settings of `private-or-clear`."""

    dnssec: DnssecChoice = GroupSettings().dnssec
    published_but_unreachable: Annotated[Unreachable, choice(*Unreachable)] = GroupSettings().published_but_unreachable
    anonymous: Annotated[Anonymous, choice(*Anonymous)] = GroupSettings().anonymous


class Groups(_Table):
    """`clear` and `block` negotiate nothing and have no settings."""

    private: StrictGroup = StrictGroup()
    private_or_clear: PermissiveGroup = PermissiveGroup()
    clear_or_private: ResponderGroup = ResponderGroup()


class Log(_Table):
    level: Annotated[LogLevel, choice(*LogLevel)] = LogLevel.INFO
    json_lines: Annotated[bool, PlainValidator(read_flag)] = Field(default=False, alias="json")


class Config(_Table):
    """The whole configuration."""

    paths: Paths = Paths()
    gateway: Gateway = Gateway()
    ike: Ike = Ike()
    dns: Dns = Dns()
    group: Groups = Groups()
    log: Log = Log()

    def settings(self, group: Group) -> GroupSettings:
        """The settings of a group, defaults for those that have none."""
        strict, permissive = self.group.private, self.group.private_or_clear
        match group:
            case Group.PRIVATE:
                return GroupSettings(strict.dnssec, strict.published_but_unreachable)
            case Group.PRIVATE_OR_CLEAR:
                return GroupSettings(permissive.dnssec, permissive.published_but_unreachable, permissive.anonymous)
            case Group.CLEAR_OR_PRIVATE:
                responder = self.group.clear_or_private
                return GroupSettings(responder.dnssec, anonymous=responder.anonymous)
            case _:
                return GroupSettings()


# --- reading --------------------------------------------------------------------------------------------------------


def load_config(path: Path | None = None) -> Config:
    """The configuration at `path`; without one, that of `DEFAULT_PATH`, or all defaults if there is no such file.

    Raises `ConfigError` with every problem of the file, one a line.
    """
    file = DEFAULT_PATH if path is None else path
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        if path is None and not file.is_symlink():
            return Config()
        raise ConfigError(f"{file}: no such file; allowed: a readable TOML file") from None
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; allowed: a readable TOML file") from None
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"{file}: found more than {LARGEST_FILE} octets; allowed: that many")
    return read_config(data, file)


def read_config(data: bytes, file: Path) -> Config:
    """The configuration in the octets of `file`. Raises `ConfigError` as `load_config` does."""
    try:
        tables = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: no valid TOML: {error}; allowed: TOML 1.0 in UTF-8") from None
    try:
        return Config.model_validate(tables, context=file.absolute().parent)
    except ValidationError as error:
        problems = [_problem(detail) for detail in error.errors()]
    if len(problems) == 1:
        raise ConfigError(f"{file}: {problems[0]}")
    raise ConfigError("\n  ".join([f"{file}: {len(problems)} problems", *problems]))


_BARE_KEY = compile(r"[A-Za-z0-9_-]+")
_ALLOWED = {"model_type": "a table", "tuple_type": "a list"}


def _problem(detail: ErrorDetails) -> str:
    """One line: key path, what was found, what is allowed."""
    where = ".".join(part if _BARE_KEY.fullmatch(part) else dumps(part) for part in map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        return _unknown_key(where, *(str(part) for part in detail["loc"]))
    allowed = _ALLOWED.get(detail["type"]) or str(detail.get("ctx", {}).get("error", detail["msg"]))
    return f"{where}: found {_shown(detail['input'])}; allowed: {allowed}"


def _unknown_key(where: str, *path: str) -> str:
    table: type[BaseModel] = Config
    for part in path[:-1]:
        table = next(
            field.annotation
            for field in table.model_fields.values()
            if field.alias == part and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        )
    known = [field.alias or "" for field in table.model_fields.values()]
    return f"{where}: unknown key; allowed: {', '.join(known)}{near(path[-1], known)}"


def _shown(value: object) -> str:
    """A value as TOML would write it, on one short line that is safe for a terminal."""
    match value:
        case bool():
            text = "true" if value else "false"
        case str():
            text = dumps(value)
        case list():
            text = f"[{', '.join(_shown(one) for one in value)}]"
        case dict():
            text = f"{{{', '.join(f'{key} = {_shown(one)}' for key, one in value.items())}}}"
        case _:
            text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
