"""What may stand behind the keys of the configuration file: each reader takes what TOML gave, and returns the value or
raises ValueError with the text of what is allowed."""

from difflib import get_close_matches
from enum import StrEnum
from ipaddress import ip_address, ip_network
from pathlib import Path
from re import ASCII, compile

from pydantic import PlainValidator, ValidationInfo

from oe.model import Address, Network, SocketAddress

_DURATION = compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)", ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = compile(r"(\d{1,9})(MiB|GiB|TiB)", ASCII)
_UNITS = {"MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def whole(lowest: int, highest: int) -> PlainValidator:
    """A whole number; both ends are allowed."""

    def read(value: object) -> int:
        if type(value) is int and lowest <= value <= highest:
            return value
        raise ValueError(f"a whole number from {lowest} to {highest}")

    return PlainValidator(read)


def duration(shortest: str, longest: str) -> PlainValidator:
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


def octets(fewest: str, most: str) -> PlainValidator:
    """Octets as a number, from text such as 500MiB or 64GiB; both ends are allowed."""

    def number(text: object) -> int | None:
        match = _SIZE.fullmatch(text) if isinstance(text, str) else None
        return int(match[1]) * _UNITS[match[2]] if match else None

    low, high = number(fewest), number(most)

    def read(value: object) -> int:
        found = number(value)
        if found is None or low is None or high is None or not low <= found <= high:
            raise ValueError(f'a size from "{fewest}" to "{most}", as text with one of the units {", ".join(_UNITS)}')
        return found

    return PlainValidator(read)


def choice(*choices: StrEnum) -> PlainValidator:
    """One of these words."""
    words = {one.value: one for one in choices}

    def read(value: object) -> StrEnum:
        if isinstance(value, str) and value in words:
            return words[value]
        raise ValueError(", ".join(words) + near(value, list(words)))

    return PlainValidator(read)


def read_flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def read_path(value: object, info: ValidationInfo) -> Path:
    """Relative paths start at the configuration file's directory."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a path, as text")
    base = info.context
    return (base if isinstance(base, Path) else Path("/")) / value


def read_own_address(value: object) -> Address:
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


def read_network(value: object) -> Network:
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        return ip_network(value)
    except ValueError:
        raise ValueError("a net with the host bits zero, such as 192.0.2.0/24 or 2001:db8::/32") from None


def read_resolver(value: object) -> SocketAddress:
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


def two_queues(queues: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(queues)) != 2:
        raise ValueError("a list of two different numbers from 0 to 65535")
    return queues


def at_least_one(resolvers: tuple[SocketAddress, ...]) -> tuple[SocketAddress, ...]:
    if not resolvers:
        raise ValueError("at least one resolver")
    return resolvers


def near(found: object, known: list[str]) -> str:
    """A hint behind what is allowed, if what was found looks like a slip of the pen; else nothing."""
    close = get_close_matches(found, known, n=1) if isinstance(found, str) else []
    return f' (did you mean "{close[0]}"?)' if close else ""
