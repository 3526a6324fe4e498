"""A lab with Libreswan as the gateway of both hosts, and cold first connections in it.

`python -m bench.libreswan ROOT FLAVOUR KEYED KEYLESS`, in fresh namespaces and in the test kernel. ROOT is what
`packaging/rivals/build libreswan` made. Hosts, links, echo servers and capture are those of `oe lab`; only the gateways
differ. Prints one JSON object, of the same form as bench.samples.

Cold means: pluto runs, has its traps in the kernel, and has never spoken with this address of the peer. No two samples
share a destination.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.samples import BARE, KEYLESS, PACE, connect, milliseconds
from oe.lab import plan
from oe.lab.capture import Capture
from oe.lab.plan import HOST, Host, alice, remote, remote_net
from oe.lab.probes import Echoes
from oe.lab.sightings import Wire, sight, summarise
from oe.lab.world import LabBroken, World, directory
from oe.model import Address, Group

_ALICE, _BOB, _CAROL = HOST["alice"], HOST["bob"], HOST["carol"]
_SOURCE = alice(Group.PRIVATE_OR_CLEAR)
KEYED = tuple(
    (_SOURCE, remote(Group.PRIVATE_OR_CLEAR, number))
    for number in (plan.BOB_TCP, plan.BOB_UDP, plan.BOB_ICMP, plan.BOB_BURST, plan.BOB_MATRIX, plan.BOB_CLIENTS)
)
"""Pairs of which both ends encrypt: pluto wants a connection of its own for each address of the far host."""

_PATIENCE = 20.0
_CALM = 0.3
"""Seconds of quiet before a sample and before the wire is looked at."""
_PROGRAMS = "/usr/libexec/ipsec"


@dataclass(frozen=True, slots=True)
class Flavour:
    """What is set for the opportunistic groups beyond what they need to exist."""

    title: str
    settings: tuple[str, ...]


FLAVOURS = {
    "hold": Flavour(
        "Libreswan, as its example", ("negotiationshunt=hold", "failureshunt=passthrough", "retransmit-timeout=2s")
    ),
    "quick": Flavour(
        "Libreswan, tuned for speed",
        ("negotiationshunt=passthrough", "failureshunt=passthrough", "leftupdown=%disabled"),
    ),
}
"""`hold` sets what the project's example of anonymous opportunistic encryption sets. `quick` is the quickest that we
found: packets after the first pass in clear while the daemon negotiates, and no script runs at either end."""


@dataclass(frozen=True, slots=True)
class GroupConnection:
    """An opportunistic group of pluto's: its own address, and the net of the peers, in a file of the group's name."""

    name: str
    own: Address
    peers: str

    def text(self, flavour: Flavour) -> str:
        lines = (
            f"left={self.own}",
            "right=%opportunisticgroup",
            "authby=null",
            "leftid=%null",
            "rightid=%null",
            *flavour.settings,
            "auto=route",
        )
        return f"conn {self.name}\n" + "".join(f"  {line}\n" for line in lines)


def groups(host: Host) -> tuple[GroupConnection, ...]:
    """The groups of a gateway: alice's has all her peers, bob has one for each address that a sample connects to."""
    if host is _ALICE:
        return (GroupConnection("private-or-clear", _SOURCE, str(remote_net(Group.PRIVATE_OR_CLEAR))),)
    return tuple(GroupConnection(f"bob-{number}", own, f"{_SOURCE}/32") for number, (_, own) in enumerate(KEYED))


class Libreswan(World):
    """The lab with pluto in place of our daemon, on alice and bob, and without DNS: nobody here asks any."""

    def __init__(self, root: Path, flavour: Flavour) -> None:
        super().__init__("none", PACE)
        self._root = root
        self._flavour = flavour

    @classmethod
    @asynccontextmanager
    async def up(cls, root: Path, flavour: Flavour) -> AsyncIterator["Libreswan"]:
        """The lab as long as the block lasts."""
        world = cls(root, flavour)
        try:
            await world._start(lambda _: None)
            yield world
        finally:
            await world._stop()

    async def _start_resolvers(self, anchors: list[str]) -> None:
        for host in (_ALICE, _BOB, _CAROL):
            await self._until(f"{host.name}/agent", (directory(host) / "agent.sock").exists)

    async def _start_gateways(self) -> None:
        for host in (_ALICE, _BOB):
            self._furnish(host)
            pluto = f"{_PROGRAMS}/pluto", "--config", "/etc/ipsec.conf", "--nofork"
            await self._run(host, "pluto", "chroot", str(_root_of(host)), *pluto)
        for host in (_ALICE, _BOB):
            await self._until(f"{host.name}/pluto", partial(_is_armed, host))
        await asyncio.sleep(_CALM)

    def _furnish(self, host: Host) -> None:
        """A root for a host's pluto: that of the rival, with a layer for the host's own files over it."""
        layers = directory(host) / "layers"
        for made in (_root_of(host), layers / "upper", layers / "work"):
            made.mkdir(parents=True)
        _mount(
            "overlay", host, "", "-o", f"lowerdir={self._root},upperdir={layers / 'upper'},workdir={layers / 'work'}"
        )
        _mount("proc", host, "proc")
        _mount("tmpfs", host, "run")
        subprocess.run(["mount", "--bind", "/dev", _root_of(host) / "dev"], check=True)
        (_root_of(host) / "run/pluto").mkdir()
        for path, text in _files(host, self._flavour).items():
            (_root_of(host) / path).parent.mkdir(parents=True, exist_ok=True)
            (_root_of(host) / path).write_text(text)
        subprocess.run(["chroot", _root_of(host), "ipsec", "initnss"], check=True, capture_output=True)


def _files(host: Host, flavour: Flavour) -> dict[str, str]:
    """The files of a host's pluto by path. What the package would have put at their place is not there or replaced."""
    configuration = "config setup\n  logfile=/run/pluto.log\n" + "".join(group.text(flavour) for group in groups(host))
    policies = {f"etc/ipsec.d/policies/{group.name}": f"{group.peers}\n" for group in groups(host)}
    return {"etc/ipsec.conf": configuration, "etc/ipsec.secrets": "", **policies}


def _root_of(host: Host) -> Path:
    return directory(host) / "root"


def _mount(kind: str, host: Host, where: str, *options: str) -> None:
    subprocess.run(["mount", "-t", kind, *options, kind, _root_of(host) / where], check=True)


def _is_armed(host: Host) -> bool:
    """Whether the kernel has the trap of every group: a policy whose template has no SA yet."""
    listed = subprocess.run(["ip", "-n", host.name, "xfrm", "policy"], capture_output=True, text=True, check=True)
    return listed.stdout.count("reqid 0 mode") >= len(groups(host))


async def _sample(world: World, capture: Capture, pair: tuple[Address, Address]) -> tuple[Wire, dict[str, Any]]:
    """A first and a second connection of a pair, one that no trap sees, and what the first did to the wire."""
    await asyncio.sleep(_CALM)
    capture.drain()
    capture.frames.clear()
    first = await connect(world, *pair, _PATIENCE)
    await asyncio.sleep(_CALM)
    capture.drain()
    seen = [found for frame in capture.frames if (found := sight(frame)) is not None]
    wire = summarise(seen, _ALICE.link, frozenset(pair), frozenset(pair), b"")
    second, bare = [await connect(world, *each, _PATIENCE) for each in (pair, BARE)]
    return wire, {**_times(first, second, bare), "lost": first.lost + second.lost}


def _times(first: Echoes, second: Echoes, bare: Echoes) -> dict[str, float]:
    return {"first": milliseconds(first), "second": milliseconds(second), "bare": milliseconds(bare)}


async def _keyed(world: World, capture: Capture, pair: tuple[Address, Address]) -> dict[str, Any]:
    wire, found = await _sample(world, capture, pair)
    if not wire.esp or wire.clear:
        raise LabBroken(f"{pair[0]} → {pair[1]}: {wire} on the wire\n{_log()}")
    return found


async def _keyless(world: World, capture: Capture, pair: tuple[Address, Address]) -> dict[str, Any]:
    wire, found = await _sample(world, capture, pair)
    if wire.esp or not wire.ike:
        raise LabBroken(f"{pair[0]} → {pair[1]}: {wire} on the wire, {wire.ike} of IKE\n{_log()}")
    return found


def _log() -> str:
    return (_root_of(_ALICE) / "run/pluto.log").read_text(errors="replace")[-3000:]


async def take(root: Path, flavour: str, keyed: int, keyless: int) -> dict[str, Any]:
    """Build the lab and take so many samples of either kind, at most what there are addresses for."""
    async with Libreswan.up(root, FLAVOURS[flavour]) as world:
        capture = Capture()
        found = {
            "backend": "xfrm",
            "keyed": [await _keyed(world, capture, pair) for pair in KEYED[:keyed]],
            "keyless": [await _keyless(world, capture, pair) for pair in KEYLESS[:keyless]],
        }
        capture.close()
        return found


def main(arguments: Sequence[str]) -> None:
    root, flavour, keyed, keyless = arguments
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "oe-lab", "/run"], check=True)
    print(json.dumps(asyncio.run(take(Path(root), flavour, int(keyed), int(keyless)))))


if __name__ == "__main__":
    main(sys.argv[1:])
