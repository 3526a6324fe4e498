"""Inside the lab: cold first connections of fresh pairs, and the controls beside them. `python -m bench.samples`.

Cold means two things. No key cache of a daemon has a name that the sample waits for: no two samples share a
destination, and no two keyed ones share either address. (A keyless sample does not wait for the answer about our own
address.) And the validating resolvers of both hosts have been made to forget everything, DNSSEC keys of the zones
included, right before the sample.

It builds a lab in the namespaces that it finds itself in, like oe.lab.holder; one run is one lab. Prints one JSON
object: lists of samples, all times in milliseconds.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import dns.message
from pyroute2 import netns

from bench.phases import Connection, phases
from oe.lab import plan
from oe.lab.capture import Capture
from oe.lab.plan import HOST, Host, alice, host_of, remote
from oe.lab.probes import Echoes
from oe.lab.sightings import sight
from oe.lab.world import LabBroken, World, directory
from oe.model import Address, Group

_OPEN = Group.PRIVATE_OR_CLEAR
_FAR_GROUPS = (_OPEN, Group.PRIVATE, Group.CLEAR_OR_PRIVATE)
KEYED = tuple(
    (alice(group, version), remote(_OPEN, number, version))
    for version in (4, 6)
    for group, number in zip(_FAR_GROUPS, (plan.BOB_TCP, plan.BOB_UDP, plan.BOB_ICMP), strict=True)
)
"""Pairs of keyed addresses; no address occurs twice, so that no lookup has been made before."""
KEYLESS = tuple(
    (alice(_OPEN), remote(_OPEN, number))
    for number in (plan.CAROL, plan.CAROL_UDP, plan.CAROL_ICMP, plan.CAROL_CLIENTS, plan.CAROL_FRESH)
)
BARE = alice(_OPEN), remote(Group.CLEAR, plan.CAROL)
"""A pair that no trap sees: its group is `clear`."""

_PATIENCE = 30.0
_CALM = 0.15
"""Seconds of quiet before a sample."""
_RELOAD = 30.0
PACE = 10.0
"""The lab waits that many times as long for its servers, and its gateways for each other: in the test kernel all of
them start at once, on one CPU."""
_ALICE, _BOB = HOST["alice"], HOST["bob"]


class Bench:
    """A running lab to take samples from."""

    def __init__(self, world: World, capture: Capture, dns_socket: socket.socket) -> None:
        self._world = world
        self._capture = capture
        self._dns = dns_socket

    async def keyed(self, source: Address, destination: Address) -> dict[str, Any]:
        """One cold connection that must be encrypted, with its controls."""
        asked = await self._dns_alone(source, destination)
        await self._cold()
        self._capture.drain()
        self._capture.frames.clear()
        first = await self._connect(source, destination)
        await asyncio.sleep(_CALM)
        self._capture.drain()
        seen = [found for frame in self._capture.frames if (found := sight(frame)) is not None]
        connection = Connection(first.started, first.started + (first.first_delay or 0.0))
        await self._expect("protected", source, destination)
        return {
            **await self._with_controls(first, source, destination),
            "version": source.version,
            "dns": asked,
            "phases": phases(connection, seen, _ALICE.link, _BOB.link),
        }

    async def keyless(self, source: Address, destination: Address) -> dict[str, Any]:
        """One cold connection that must go in clear, with its controls."""
        asked = await self._dns_alone(destination)
        await self._cold()
        first = await self._connect(source, destination)
        await self._expect("clear", source, destination)
        return {**await self._with_controls(first, source, destination), "dns": asked}

    async def backend(self) -> str:
        return str((await self._world.status(_ALICE))["backend"])

    async def _with_controls(self, first: Echoes, source: Address, destination: Address) -> dict[str, Any]:
        second = await self._connect(source, destination)
        bare = await self._connect(*BARE)
        return {
            "first": milliseconds(first),
            "second": milliseconds(second),
            "bare": milliseconds(bare),
            "lost": first.lost + second.lost,
        }

    async def _connect(self, source: Address, destination: Address) -> Echoes:
        return await connect(self._world, source, destination, _PATIENCE)

    async def _expect(self, state: str, source: Address, destination: Address) -> None:
        pairs = (await self._world.status(_ALICE))["pairs"]
        ends = str(source), str(destination)
        found = [(pair["state"], pair["reason"]) for pair in pairs if (pair["source"], pair["destination"]) == ends]
        if [each for each, _ in found] != [state]:
            raise LabBroken(f"{source} → {destination} is {found}, not {state}")

    async def _dns_alone(self, *owners: Address) -> float:
        """The questions that a gateway has about these addresses, asked at once of a cold resolver."""
        await self._cold()
        queries = [
            dns.message.make_query(f"{owner.reverse_pointer}.", kind, want_dnssec=True).to_wire()
            for owner in owners
            for kind in ("IPSECKEY", "TXT")
        ]
        missing = {query[:2] for query in queries}
        started = time.perf_counter()
        for query in queries:
            self._dns.send(query)
        while missing:
            missing.discard(self._dns.recv(65_535)[:2])
        return 1000 * (time.perf_counter() - started)

    async def _cold(self) -> None:
        """Both resolvers forget everything: SIGHUP makes unbound read its configuration and drop its caches."""
        for host in (_ALICE, _BOB):
            log = directory(host) / "unbound.log"
            starts = _starts(log)
            os.kill(_resolver(host), signal.SIGHUP)
            deadline = time.monotonic() + _RELOAD
            while _starts(log) == starts or await self._world.resolve(host, "localhost.", "SOA") is None:
                if time.monotonic() > deadline:
                    raise LabBroken(f"{host.name}'s resolver did not reload")
                await asyncio.sleep(0.01)
        await asyncio.sleep(_CALM)


async def connect(world: World, source: Address, destination: Address, patience: float) -> Echoes:
    """A TCP connection with one echo; LabBroken when it does not stand within `patience` seconds.

    Packets lost are the host's retransmission time-outs: the socket's own count lacks the packets that a policy of the
    same host refused.
    """
    host = host_of(source)
    fields = {"source": str(source), "destination": str(destination), "marker": "", "patience": patience}
    before = await _timeouts(world, host)
    echoes = Echoes(**await world.job(host, job="probe", protocol="tcp", count=1, **fields))
    if not echoes.answered:
        raise LabBroken(f"{source} → {destination} did not connect {echoes.error}")
    return replace(echoes, lost=await _timeouts(world, host) - before)


async def _timeouts(world: World, host: Host) -> int:
    """How often a segment of any connection of the host got no answer in time."""
    text = (await world.job(host, job="read", path="/proc/net/netstat"))["text"]
    names, values = [line.split() for line in text.splitlines() if line.startswith("TcpExt:")]
    return int(values[names.index("TCPTimeouts")])


def milliseconds(echoes: Echoes) -> float:
    """How long the first packet waited for its answer."""
    return 1000 * (echoes.first_delay or 0.0)


def _starts(log: Path) -> int:
    return log.read_text(errors="replace").count("start of service")


def _resolver(host: Host) -> int:
    """Process number of the host's unbound; LabBroken when it is gone."""
    configuration = os.fsencode(directory(host) / "unbound.conf")
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        if configuration in entry.read_bytes().split(b"\0"):
            return int(entry.parent.name)
    raise LabBroken(f"{host.name} has no resolver")


def _socket_in(host: Host) -> socket.socket:
    """A datagram socket to the host's resolver, made in the host's namespace and usable from here."""

    def make() -> socket.socket:
        netns.setns(host.name)
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.settimeout(_PATIENCE)
        made.connect(("127.0.0.1", 53))
        return made

    with ThreadPoolExecutor(1) as visitor:  # setns changes the calling thread, which ends here
        return visitor.submit(make).result()


async def take(backend: str, keyed: int, keyless: int) -> dict[str, Any]:
    """Build a lab and take so many samples of either kind, at most what the plan has addresses for."""
    async with World.running(backend, lambda _: None, pace=PACE) as world:
        capture = Capture()  # Drained between samples: in the test kernel whoever looks on takes the one CPU away.
        with _socket_in(_ALICE) as dns_socket:
            bench = Bench(world, capture, dns_socket)
            found = {
                "backend": await bench.backend(),
                "keyed": [await bench.keyed(*pair) for pair in KEYED[:keyed]],
                "keyless": [await bench.keyless(*pair) for pair in KEYLESS[:keyless]],
            }
        capture.close()
        return found


def main(arguments: Sequence[str]) -> None:
    backend, keyed, keyless = arguments
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "oe-lab", "/run"], check=True)
    print(json.dumps(asyncio.run(take(backend, int(keyed), int(keyless)))))


if __name__ == "__main__":
    main(sys.argv[1:])
