"""The secret behind our tokens of quick crash detection (RFC 6290 5.1): made once, kept for every life of the daemon.

Whoever knows it can end our peers' IKE SAs, and no more than that.
"""

import os
import stat
from pathlib import Path

from oe.errors import ConfigError
from oe.model import Secret

OCTETS = 32
FILE = "crash-secret"


def load(directory: Path) -> Secret:
    """The secret in `directory`; both are made if they are missing (0700, 0600).

    Raises ConfigError when it cannot be read or made, or when others may know it.
    """
    path = directory / FILE
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return _read(path)
        except FileNotFoundError:
            return _make(path)
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: {error.strerror}") from None


def _read(path: Path) -> Secret:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        octets = file.read(OCTETS + 1)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path}: a secret with mode {mode:04o} may be known to others; remove it, another is made")
    if len(octets) != OCTETS:
        raise ConfigError(f"{path}: {len(octets)} octets, must be {OCTETS}; remove it, another is made")
    return Secret(octets)


def _make(path: Path) -> Secret:
    """A new secret under its name in one step: no crash leaves a part of it, and of two daemons one wins."""
    octets = os.urandom(OCTETS)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(descriptor)
        os.link(beside, path)
    except FileExistsError:
        return _read(path)
    finally:
        beside.unlink()
    return Secret(octets)
