"""Namespaces and the directories of hosts, inside the test kernel, which forgets them."""

import subprocess
from contextlib import closing
from pathlib import Path

from bench.soak.world import inside
from oe.ipsec.netlink import NETLINK_XFRM, Netlink
from oe.ipsec.xfrm_wire import GETSA, decode_sa

ROOT = Path("/run/oe-interop")


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


def spis(host: str) -> frozenset[str]:
    """The SPIs of all SAs in a host's kernel, in hexadecimal. Asked so often that a program for it would be most of all
    work."""
    with inside(host), closing(Netlink(NETLINK_XFRM)) as netlink:
        seen = [decode_sa(message.body) for message in netlink.dump(GETSA, b"", "SAs")]
    # The kernel shows what it only asks for as well, without an SPI.
    return frozenset(f"{sa.key[1]:08x}" for sa in seen if sa is not None and sa.key[1] != 0)
