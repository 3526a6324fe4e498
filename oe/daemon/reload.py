"""What `oe reload` reads, what it refuses, and what it tells.

Everything is read and judged before anything is changed. Files that were good enough for a start may be refused here:
a daemon that starts has to do something about a bad line, one that runs goes on with what it has.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from re import compile

from pydantic import BaseModel

from oe.config import DEFAULT_PATH, Config, load_config
from oe.configvalues import near
from oe.control import Json
from oe.errors import ConfigError
from oe.gateway import Rules
from oe.ike.rehearsal import rehearse
from oe.keystore import KeyStore
from oe.keystore import load as load_keys
from oe.model import Group, Network, PairStatus, PublicKey
from oe.observe import Row
from oe.policy.files import PolicyLoad, load_policies
from oe.policy.groups import PolicySet
from oe.policy.select import select

LIVE = ("gateway.serve", "group.", "log.")
"""How the keys begin that a running daemon can take over; all others are built into sockets, queues and books."""

GIVE_WAY = 0.0001
"""Seconds that the event loop may have to wait for the interpreter, with every system call that it makes, while a
thread reads files. With Python's 5 ms user space ESP all but stands still meanwhile."""

_BACK_UP = compile(r"^\.|~$|\.(bak|old|orig|save|dpkg-\w+)$")
"""What editors and packages leave behind is nobody's slip."""


@dataclass(frozen=True, slots=True)
class Input:
    """All that the operator wrote, read at one time."""

    config: Config
    policies: PolicyLoad
    keys: KeyStore
    misnamed: tuple[str, ...]
    """What `misnamed` found."""

    def rules(self) -> Rules:
        """What of it the coordinator goes by."""
        groups = {group: self.config.settings(group) for group in Group}
        return Rules(self.policies.policies, groups, self.config.gateway.serve, self.keys.public_keys)


def read_input(config: Config) -> Input:
    """The policy and the keys that `config` names. Raises ConfigError; a bad line in a policy file is none."""
    directory = config.paths.policies
    return Input(config, load_policies(directory), load_keys(config.paths.keys), misnamed(directory))


def misnamed(directory: Path) -> tuple[str, ...]:
    """Files in a directory of policies that look like a group's and are none, each in a sentence: nobody reads them."""
    names = [group.value for group in Group]
    found = []
    for path in sorted(directory.iterdir()):
        hint = near(path.name.lower(), names)
        if hint and path.name not in names and not _BACK_UP.search(path.name):
            found.append(
                f"{path}: no group has this name, and nothing reads the file; allowed: {', '.join(names)}{hint}"
            )
    return tuple(found)


def read_anew(path: Path | None, before: Input) -> Input:
    """Everything once more, from the configuration file on; `path` as `load_config` takes it.

    Raises ConfigError for whatever is wrong, a bad line included, and for what only a restart can change.
    """
    config = load_config(path)
    _refuse_what_needs_a_restart(before.config, config, path or DEFAULT_PATH)
    found = read_input(config)
    if found.policies.problems:
        raise ConfigError("\n".join(map(str, found.policies.problems)))
    return found


def judge(found: Input, known: Collection[PublicKey]) -> None:
    """Rehearse with every key that is not known to work. Raises RehearsalFailed."""
    for key in found.keys.public_keys:
        if key not in known:
            rehearse(key, found.keys.sign, os.urandom)


def _refuse_what_needs_a_restart(before: Config, after: Config, file: Path) -> None:
    was, now = dict(_settings(before)), dict(_settings(after))
    fixed = [
        f"{file}: {key}: found {_written(now[key])}; allowed while oe runs: {_written(was[key])}, as at its start; "
        "restart oe to change it"
        for key in _changed(was, now)
        if not key.startswith(LIVE)
    ]
    if fixed:
        raise ConfigError("\n".join(fixed))


def _settings(table: BaseModel, path: str = "") -> Iterator[tuple[str, object]]:
    """Every key with its value, as the file names it: gateway.setup-budget."""
    for name, field in type(table).model_fields.items():
        key, value = f"{path}{field.alias}", getattr(table, name)
        if isinstance(value, BaseModel):
            yield from _settings(value, f"{key}.")
        else:
            yield key, value


def _changed(was: dict[str, object], now: dict[str, object]) -> list[str]:
    return [key for key, value in now.items() if value != was[key]]


def _written(value: object) -> str:
    """A value for people. Floats are durations."""
    match value:
        case float():
            return f"{value:g}s"
        case tuple():
            return f"[{', '.join(map(str, value))}]"
        case _:
            return str(value)


# --- what has changed -----------------------------------------------------------------------------------------------


def report(before: Input, after: Input, let_go: tuple[PairStatus, ...], kept: int) -> Json:
    """The document of `oe reload --json`. `nets` and `pairs` in it are iterators of rows.

    A net's `was` and `is` are groups, null where it stands in none; a pair's `group` is the one that it had.
    """
    was, now = _nets(before.policies.policies), _nets(after.policies.policies)
    moved = [net for net in {**was, **now} if was.get(net) is not now.get(net)]
    added = Counter(now[net] for net in moved if net in now)
    removed = Counter(was[net] for net in moved if net in was)
    listed, left = Counter(now.values()), Counter(pair.group for pair in let_go)
    return {
        "groups": [
            {
                "group": group.value,
                "nets": listed[group],
                "added": added[group],
                "removed": removed[group],
                "pairs_let_go": left[group],
            }
            for group in Group
        ],
        "settings": _changed(dict(_settings(before.config)), dict(_settings(after.config))),
        "keys": [key.fingerprint for key in after.keys.public_keys],
        "pairs_let_go": len(let_go),
        "pairs_kept": kept,
        "nets": ({"net": str(net), "was": was.get(net), "is": now.get(net)} for net in moved),
        "pairs": _pair_rows(let_go, after.policies.policies),
    }


def _nets(policies: PolicySet) -> dict[Network, Group]:
    return {entry.network: entry.group for entry in policies.entries}


def _pair_rows(pairs: tuple[PairStatus, ...], policies: PolicySet) -> Iterator[Row]:
    for status in pairs:
        yield {
            "source": str(status.pair.source),
            "destination": str(status.pair.destination),
            "group": status.group.value,
            "group_now": select(policies, status.pair.destination).group.value,
            "state": status.state.value,
            "reason": status.reason.value,
        }
