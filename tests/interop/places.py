"""Namespaces and the directories of hosts, inside the test kernel, which forgets them."""

import ctypes
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/run/oe-interop")
_CLONE_NEWNET = 0x40000000
_SPI = re.compile(r"proto esp spi 0x([0-9a-f]{8})")
_NOBODY = "00000000"
"""The SPI of an SA that the kernel only asks for."""


def directory(host: str) -> Path:
    """Where the files of a host are."""
    return ROOT / host


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run(*argv: object, text: str = "") -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(list(map(str, argv)), input=text, text=True, check=False, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def inside(host: str) -> Iterator[None]:
    """Move the calling thread into the network namespace of a host. What it opens or starts there stays there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{host}", os.O_RDONLY)
    try:
        _enter(there)
        yield
    finally:
        _enter(home)
        os.close(there)
        os.close(home)


def _enter(namespace: int) -> None:
    # `os.setns` came with Python 3.12.
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def spis(host: str) -> frozenset[str]:
    """The SPIs of all SAs in a host's kernel, in hexadecimal."""
    return frozenset(_SPI.findall(run("ip", "-n", host, "xfrm", "state"))) - {_NOBODY}
