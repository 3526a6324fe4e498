"""Policy files on disk: FreeS/WAN's format, one file per group, named after it.

    # lab printers
    192.0.2.0/24        # a net, with the host bits zero
    2001:db8::1         # one address

One net or address per line; `#` begins a comment; blank lines mean nothing. A missing file is an empty group. A bad
line is told and skipped, the others hold: in `private`, though, it may have meant any destination, so the whole policy
closes (`PolicySet.closed`). Host bits are refused rather than masked: `10.1.2.3/8` may mean a host or a net, and only
its author knows which. Names, protocols and ports are not known in this version and are refused likewise.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_address, ip_network
from pathlib import Path

from oe.errors import ConfigError
from oe.model import Group, Network
from oe.policy.groups import STRICTEST_FIRST, Clash, Entry, PolicySet

LARGEST_FILE = 8 * 1024 * 1024
"""Octets; some 400,000 lines. A larger file is not read at all."""
MOST_PROBLEMS = 20
"""Bad lines told one by one, per file; the rest is counted."""

_ALLOWED = "an address or a net per line, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"
_MAPPED = IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a policy file. `line` is 0, and `text` empty, when it concerns the whole file."""

    file: str
    line: int
    text: str
    allowed: str
    """What is wrong, and what is allowed or holds instead."""

    def __str__(self) -> str:
        if not self.line:
            return f"{self.file}: {self.allowed}"
        return f"{self.file}:{self.line}: {_shown(self.text)}: {self.allowed}"


@dataclass(frozen=True, slots=True)
class PolicyLoad:
    """The policy that holds, and all that is wrong with the files."""

    policies: PolicySet
    problems: tuple[Problem, ...]


def load_policies(directory: Path) -> PolicyLoad:
    """Read the five group files of `directory`; symbolic links are followed.

    Raises `ConfigError` if there is no such directory: then it is not known what the operator wants, and a policy in
    place is better kept.
    """
    try:
        os.scandir(directory).close()
    except OSError as error:
        allowed = f"a directory with the files {', '.join(Group)}"
        raise ConfigError(f"{directory}: {error.strerror}; allowed: {allowed}") from None
    entries: list[Entry] = []
    problems: list[Problem] = []
    closed = False
    for group in STRICTEST_FIRST:
        read, bad = _load_file(directory / group.value, group)
        entries += read
        problems += bad
        closed = closed or (group is Group.PRIVATE and bool(bad))
    policies, clashes = PolicySet.of(entries, closed)
    problems += map(_clash, clashes)
    return PolicyLoad(policies, tuple(problems))


def _clash(clash: Clash) -> Problem:
    return Problem(clash.void.file, clash.void.line, clash.void.text, str(clash))


def _load_file(path: Path, group: Group) -> tuple[list[Entry], list[Problem]]:
    try:
        text = _read(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return [], [Problem(str(path), 0, "", f"cannot be read: {why}; allowed: a file this daemon may read")]
    entries: list[Entry] = []
    problems: list[Problem] = []
    bad = 0
    for number, line in _meaningful_lines(text):
        try:
            entries.append(Entry(parse_network(line), group, str(path), number, line))
        except ConfigError as error:
            bad += 1
            if bad <= MOST_PROBLEMS:
                problems.append(Problem(str(path), number, line, str(error)))
    if bad > MOST_PROBLEMS:
        problems.append(Problem(str(path), 0, "", f"{bad - MOST_PROBLEMS} more bad lines; allowed: {_ALLOWED}"))
    return entries, problems


def _read(path: Path) -> str:
    """The text of a file, empty if nothing of that name exists. Raises OSError, or ValueError for an odd file.

    Octets that are no UTF-8 become visible escapes: in a comment they do no harm, elsewhere they make the line a bad
    one.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("not a regular file")
            data = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        if path.is_symlink():
            raise
        return ""
    if len(data) > LARGEST_FILE:
        raise ValueError(f"larger than {LARGEST_FILE} octets")
    return data.decode("utf-8-sig", "backslashreplace")


def _open_at_once(path: str, flags: int) -> int:
    """Without blocking: a FIFO must not stop a reload."""
    return os.open(path, flags | os.O_NONBLOCK)


def _meaningful_lines(text: str) -> Iterator[tuple[int, str]]:
    """Line numbers and lines without comments and blanks. A lone carriage return ends a line, too.

    `str.splitlines` would also break at form feeds and the like, and count lines as no editor does.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        meaning = line.partition("#")[0].strip()
        if meaning:
            yield number, meaning


def parse_network(text: str) -> Network:
    """A net in CIDR form or an address, as a policy file writes it. Raises `ConfigError` that says what is allowed."""
    if len(text.split()) > 1:
        raise ConfigError(f"protocols and ports cannot be given in this version; allowed: {_ALLOWED}")
    address, slash, length = text.partition("/")
    if slash and not (length.isascii() and length.isdigit()):
        raise ConfigError(f"the prefix length is no decimal number; allowed: {_ALLOWED}")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(f"no address and no net (names are not looked up); allowed: {_ALLOWED}") from None
    if "%" in text:
        raise ConfigError(f"an interface cannot be given; allowed: {_ALLOWED}")
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED.prefixlen and network.subnet_of(_MAPPED):
        raise ConfigError("an IPv4 address in IPv6 clothes never occurs on the wire; allowed: plain IPv4")
    if slash and ip_address(address) != network.network_address:
        raise ConfigError(f"host bits are set; allowed: {network} for the net, {address} for the host")
    return network


def _shown(text: str) -> str:
    """Text of a file, safe for a terminal and short."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")
