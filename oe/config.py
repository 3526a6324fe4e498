"""The configuration file: TOML in, one frozen `Config` out.

Keys are kebab-case. Every table and key may be left out; the defaults below are the documentation of what holds then.
Whatever is wrong is told at once, in one `ConfigError`: where, what was found, what is allowed. Unknown keys are
errors, because a misspelt one would otherwise be a silent default.
"""

import tomllib
from difflib import get_close_matches
from enum import StrEnum
from ipaddress import ip_address, ip_network
from json import dumps
from pathlib import Path
from re import ASCII, compile
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails

from oe.errors import ConfigError
from oe.model import Address, Group, Network, SocketAddress
from oe.policy.outcome import Dnssec, GroupSettings, Unreachable

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


# --- values: each reader raises ValueError with the text of what is allowed -----------------------------------------

_DURATION = compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)", ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = compile(r"(\d{1,9})(MiB|GiB|TiB)", ASCII)
_UNITS = {"MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def _whole(lowest: int, highest: int) -> PlainValidator:
    def read(value: object) -> int:
        if type(value) is int and lowest <= value <= highest:
            return value
        raise ValueError(f"a whole number from {lowest} to {highest}")

    return PlainValidator(read)


def _duration(shortest: str, longest: str) -> PlainValidator:
    """Seconds as a float, from text such as 500ms, 3s, 2m or 1h; both ends are allowed."""

    def seconds(text: object) -> float | None:
        match = _DURATION.fullmatch(text) if isinstance(text, str) else None
        return float(match[1]) * _SECONDS[match[2]] if match else None

    low, high = seconds(shortest), seconds(longest)

    def read(value: object) -> float:
        found = seconds(value)
        if found is None or low is None or high is None or not low <= found <= high:
            raise ValueError(f'a duration from "{shortest}" to "{longest}", as text with one of the units ms, s, m, h')
        return found

    return PlainValidator(read)


def _octets(fewest: str, most: str) -> PlainValidator:
    """Octets as a number, from text such as 500MiB or 64GiB; both ends are allowed."""

    def octets(text: object) -> int | None:
        match = _SIZE.fullmatch(text) if isinstance(text, str) else None
        return int(match[1]) * _UNITS[match[2]] if match else None

    low, high = octets(fewest), octets(most)

    def read(value: object) -> int:
        found = octets(value)
        if found is None or low is None or high is None or not low <= found <= high:
            raise ValueError(f'a size from "{fewest}" to "{most}", as text with one of the units {", ".join(_UNITS)}')
        return found

    return PlainValidator(read)


def _choice(*choices: StrEnum) -> PlainValidator:
    words = {choice.value: choice for choice in choices}

    def read(value: object) -> StrEnum:
        if isinstance(value, str) and value in words:
            return words[value]
        raise ValueError(", ".join(words) + _near(value, list(words)))

    return PlainValidator(read)


def _read_flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def _read_path(value: object, info: ValidationInfo) -> Path:
    """Relative paths start at the configuration file's directory."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a path, as text")
    base = info.context
    return (base if isinstance(base, Path) else Path("/")) / value


def _read_own_address(value: object) -> Address:
    try:
        address = _read_address(value)
    except ValueError:
        address = None
    if address is None or address.is_unspecified or address.is_multicast:
        raise ValueError("an address of this machine, such as 192.0.2.1 or 2001:db8::1")
    return address


def _read_address(value: object) -> Address:
    if not isinstance(value, str) or "%" in value:
        raise ValueError
    return ip_address(value)


def _read_network(value: object) -> Network:
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        return ip_network(value)
    except ValueError:
        raise ValueError("a net with the host bits zero, such as 192.0.2.0/24 or 2001:db8::/32") from None


def _read_resolver(value: object) -> SocketAddress:
    """`address`, `address:port` or `[v6]:port`; port 53 if none is given."""
    try:
        if not isinstance(value, str):
            raise ValueError
        address, port = value, "53"
        if value.startswith("["):
            address, _, port = value[1:].partition("]:")
        elif value.count(":") == 1:
            address, _, port = value.partition(":")
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
            raise ValueError
        return SocketAddress(_read_address(address), int(port))
    except ValueError:
        raise ValueError("address, address:port or [v6]:port, such as 127.0.0.1, 127.0.0.1:5353, [::1]:53") from None


def _two_queues(queues: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(queues)) != 2:
        raise ValueError("a list of two different numbers from 0 to 65535")
    return queues


def _at_least_one(resolvers: tuple[SocketAddress, ...]) -> tuple[SocketAddress, ...]:
    if not resolvers:
        raise ValueError("at least one resolver")
    return resolvers


Seconds = float
Port = Annotated[int, _whole(1, 65535)]
QueueNumber = Annotated[int, _whole(0, 65535)]
ConfiguredPath = Annotated[Path, PlainValidator(_read_path)]
DnssecChoice = Annotated[Dnssec, _choice(*Dnssec)]


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

    backend: Annotated[Backend, _choice(*Backend)] = Backend.AUTO
    serve: tuple[Annotated[Network, PlainValidator(_read_network)], ...] = ()
    """Client nets that this gateway acts for; empty: itself only."""
    addresses: tuple[Annotated[Address, PlainValidator(_read_own_address)], ...] = ()
    """Own addresses to use; empty: found from the routes."""
    setup_budget: Annotated[Seconds, _duration("100ms", "1m")] = 3.0
    """For DNS and IKE until the first decision; a packet is held no longer."""
    queues: Annotated[tuple[QueueNumber, ...], AfterValidator(_two_queues)] = (50, 51)
    """NFQUEUE numbers: that of `private`, which holds when nobody listens, and that of the permissive groups."""
    hold_per_pair: Annotated[int, _whole(1, 65536)] = 64
    """Packets of one pair held at a time."""
    hold_in_all: Annotated[int, _whole(1, 1048576)] = 16384
    """Packets of all pairs held at a time."""
    max_pairs: Annotated[int, _whole(1, 10_000_000)] = 100_000
    """Pairs known at a time."""
    liveness: Annotated[Seconds, _duration("1s", "1h")] = 5.0
    """Traffic one way only for so long: ask the peer whether it lives."""
    child_lifetime: Annotated[Seconds, _duration("5s", "24h")] = 3600.0
    """Hard lifetime of a Child SA."""
    child_octets: Annotated[int, _octets("1MiB", "1TiB")] = 64 << 30
    """The same in octets of inner packets, each way."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hold_per_pair > self.hold_in_all:
            raise ValueError("hold-per-pair no larger than hold-in-all")
        return self


class Ike(_Table):
    """UDP ports of IKE: plain, and with NAT traversal (RFC 3948)."""

    port: Port = 500
    nat_port: Port = 4500

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.port == self.nat_port:
            raise ValueError("two different numbers for port and nat-port")
        return self


class Dns(_Table):
    """Validating resolvers, asked in this order."""

    resolvers: Annotated[
        tuple[Annotated[SocketAddress, PlainValidator(_read_resolver)], ...], AfterValidator(_at_least_one)
    ] = (SocketAddress(ip_address("127.0.0.1"), 53),)


class ResponderGroup(_Table):
    """Settings of `clear-or-private`, which starts no negotiation and so has no fallback."""

    dnssec: DnssecChoice = GroupSettings().dnssec


class StrictGroup(ResponderGroup):
    """Settings of `private`, which never falls back to clear."""

    published_but_unreachable: Annotated[
        Unreachable, _choice(Unreachable.HOLD, Unreachable.BLOCK, Unreachable.AUTO)
    ] = GroupSettings().published_but_unreachable


class PermissiveGroup(ResponderGroup):
    """Settings of `private-or-clear`."""

    published_but_unreachable: Annotated[Unreachable, _choice(*Unreachable)] = GroupSettings().published_but_unreachable


class Groups(_Table):
    """`clear` and `block` negotiate nothing and have no settings."""

    private: StrictGroup = StrictGroup()
    private_or_clear: PermissiveGroup = PermissiveGroup()
    clear_or_private: ResponderGroup = ResponderGroup()


class Log(_Table):
    level: Annotated[LogLevel, _choice(*LogLevel)] = LogLevel.INFO
    json_lines: Annotated[bool, PlainValidator(_read_flag)] = Field(default=False, alias="json")


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
                return GroupSettings(permissive.dnssec, permissive.published_but_unreachable)
            case Group.CLEAR_OR_PRIVATE:
                return GroupSettings(self.group.clear_or_private.dnssec)
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
    return f"{where}: unknown key; allowed: {', '.join(known)}{_near(path[-1], known)}"


def _near(found: object, known: list[str]) -> str:
    near = get_close_matches(found, known, n=1) if isinstance(found, str) else []
    return f' (did you mean "{near[0]}"?)' if near else ""


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
