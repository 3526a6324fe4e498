"""What `test_lifetimes.py` runs in the test kernel, on virtual time: two gateways, what they are to live through, and
what could be seen of it. `python -m tests.kernel.lifetimes SCENARIO FILE` writes that as JSON.

The hosts, their addresses and DNS are those of `bench.soak`: alice and bob, 5 ms apart, with the `xfrm` back end.
"""

import asyncio
import json
import socket
import struct
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from time import time
from typing import Any

from bench.soak import plan
from bench.soak.plan import ALICE, ALICES, BOB, HOSTS, KEYLESS, OPEN, Flow, Kind
from bench.soak.samples import in_kernel
from bench.soak.traffic import ANSWERED_WITHIN, Traffic
from bench.soak.world import World, inside, run
from oe.lab.capture import Frame
from oe.lab.sightings import Kind as Sort
from oe.lab.sightings import Sighting, sight

PAIRS = 16
CLOSED, AND_OPEN = plan.published(PAIRS)[0::2], plan.published(PAIRS)[1::2]
"""Bob's addresses in alice's `private` and `private-or-clear`. Of each, numbers 0, 2, 4, 6 are gateways of their own;
the others delegate to the very first."""
MINUTE, HOUR = 60.0, 3600.0

_ETH_P_ALL, _PACKET_OUTGOING = 3, 4
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_RCVBUFFORCE = 33
_SNAP = 128
_UDP_HEADER = 8


class Wire:
    """What both hosts send to each other, by the two ends of a packet, `ADDRESS ADDRESS` in order."""

    def __init__(self) -> None:
        self._clear: Counter[str] = Counter()
        self._esp: defaultdict[str, Counter[bytes]] = defaultdict(Counter)
        """Packets by SPI."""
        self._ike: defaultdict[str, set[bytes]] = defaultdict(set)
        """The SPIs of both ends of each IKE SA."""
        self._missed = 0
        self._sockets = [_link_of(host) for host in HOSTS]

    def close(self) -> None:
        for one in self._sockets:
            one.close()

    def drain(self) -> None:
        """Look at what waits; all at once, for to wake at every packet would be most of the work."""
        for link in self._sockets:
            with suppress(BlockingIOError):
                while True:
                    data, source = link.recvfrom(_SNAP)
                    seen = sight(Frame(0, "", data)) if source[2] == _PACKET_OUTGOING else None
                    if seen is not None and seen.source.version == 4:
                        self._note(seen)
            _, missed = struct.unpack("=II", link.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
            self._missed += missed

    def _note(self, seen: Sighting) -> None:
        ends = " ".join(sorted(map(str, seen.ends)))
        spis = seen.payload[_UDP_HEADER : _UDP_HEADER + 16]
        match seen.kind:
            case Sort.ESP:
                self._esp[ends][seen.payload[:4]] += 1
            case Sort.IKE if any(spis[8:]):
                self._ike[ends].add(spis)
            case Sort.CLEAR:
                self._clear[ends] += 1

    def plain(self) -> dict[str, Any]:
        """Clear packets, those of each ESP SA, IKE SAs, and the packets that were not seen."""
        return {
            "clear": dict(self._clear),
            "esp": {ends: list(packets.values()) for ends, packets in self._esp.items()},
            "ike": {ends: len(spis) for ends, spis in self._ike.items()},
            "missed": self._missed,
        }


def _link_of(host: str) -> socket.socket:
    with inside(host):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL))
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
    made.bind(("eth0", _ETH_P_ALL))
    return made


@dataclass(slots=True)
class Stage:
    """Where a scenario plays."""

    world: World
    traffic: Traffic
    wire: Wire
    sas: list[int] = field(default_factory=list)
    """Of alice, now and then."""

    async def until(self, at: float) -> None:
        await asyncio.sleep(at - self.traffic.now)

    async def watch(self, pause: float, until: float) -> None:
        """Count SAs, and look at the wire."""
        while self.traffic.now + pause < until:
            await asyncio.sleep(pause)
            self.sas.append(in_kernel(ALICE)[0])
            self.wire.drain()


def flow(
    source: IPv4Address,
    destination: IPv4Address,
    pause: float,
    times: tuple[float, float],
    kind: Kind = Kind.STEADY,
    octets: int = 8,
) -> Flow:
    host = ALICE if source in ALICES else BOB
    return Flow(kind, *times, host, source, destination, (pause, pause), octets)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`settings` of the daemons, as `World` takes them; what people send; and what else happens meanwhile."""

    settings: str
    flows: tuple[Flow, ...]
    happen: Callable[[Stage], Coroutine[Any, Any, None]]
    pause: float
    """Seconds between two counts of SAs."""
    unpublished: tuple[IPv4Address, ...] = ()

    @property
    def ends(self) -> float:
        return max(flow.ends for flow in self.flows)


# --- minutes: short lifetimes and dense traffic ---------------------------------------------------------------------


async def nothing(_stage: Stage) -> None:
    """Only time passes."""


ALL_SIX = (0.0, 6 * MINUTE)
MINUTES = Scenario(
    'child-lifetime = "1m"\nike-lifetime = "2m"\nchild-octets = "1MiB"\nliveness = "1m"',
    (
        flow(ALICES[0], CLOSED[0], 0.2, ALL_SIX),
        flow(ALICES[0], CLOSED[1], 1.0, ALL_SIX),  # in the same IKE SA
        flow(AND_OPEN[0], ALICES[0], 0.2, ALL_SIX),
        flow(OPEN, CLOSED[2], 0.5, ALL_SIX),  # both begin at once
        flow(CLOSED[2], OPEN, 0.5, ALL_SIX),
        flow(OPEN, AND_OPEN[2], 0.05, (60.0, 160.0), octets=1300),  # three quarters of 1 MiB in half a minute
    ),
    nothing,
    pause=10.0,
)


# --- hours: default lifetimes but for the IKE SA's ------------------------------------------------------------------

THE_DAY = (0.0, 2.25 * HOUR)
ONCE, A_WHILE = CLOSED[2], AND_OPEN[2]
"""They talk once, and for five minutes."""
UNTRUSTED, REFUSED = AND_OPEN[4], CLOSED[4]
"""Their keys go, one in each group."""
LATE = CLOSED[6]
"""Its key comes late."""
KEYLESS_ONE = KEYLESS[0]


async def change_dns(stage: Stage) -> None:
    """A key comes, two go."""
    await stage.until(700)
    stage.world.publish()
    await stage.until(1800)
    stage.world.publish((UNTRUSTED, REFUSED))


HOURS = Scenario(
    'ike-lifetime = "80m"\nliveness = "30s"',
    (
        flow(ALICES[0], CLOSED[0], 4.0, THE_DAY),
        flow(AND_OPEN[0], ALICES[0], 4.0, THE_DAY),
        flow(OPEN, KEYLESS_ONE, 8.0, THE_DAY, Kind.KEYLESS),
        flow(OPEN, UNTRUSTED, 17.0, THE_DAY),
        flow(OPEN, REFUSED, 20.0, THE_DAY, Kind.SILENT),
        flow(OPEN, LATE, 20.0, THE_DAY, Kind.SILENT),
        flow(OPEN, ONCE, 10.0, (100.0, 101.0)),
        flow(OPEN, A_WHILE, 10.0, (100.0, 400.0)),
    ),
    change_dns,
    pause=600.0,
    unpublished=(LATE,),
)


# --- deaths: who is killed is missed, and replaced, within seconds --------------------------------------------------


async def kill(stage: Stage) -> None:
    """Bob's daemon dies and comes back; bob's machine forgets all, and the daemon comes later; alice's daemon dies."""
    world = stage.world
    await stage.until(20)
    world.kill_daemon(BOB)
    await stage.until(22)
    world.start_daemon(BOB)
    await stage.until(40)
    world.kill_daemon(BOB)
    for command in (("xfrm", "state", "flush"), ("xfrm", "policy", "flush")):
        run("ip", "-n", BOB, *command)
    run("ip", "netns", "exec", BOB, "nft", "flush", "ruleset")
    await stage.until(120)
    world.start_daemon(BOB)
    await stage.until(160)
    world.kill_daemon(ALICE)
    await stage.until(162)
    world.start_daemon(ALICE)


DEATHS = Scenario(
    '[group.private-or-clear]\npublished-but-unreachable = "clear"',
    tuple(flow(*ends, 0.5, (0.0, 180.0), Kind.SILENT) for ends in ((ALICES[0], CLOSED[0]), (OPEN, AND_OPEN[2]))),
    kill,
    pause=20.0,
)

SCENARIOS = {"minutes": MINUTES, "hours": HOURS, "deaths": DEATHS}


# --- playing --------------------------------------------------------------------------------------------------------


async def play(world: World, scenario: Scenario) -> dict[str, Any]:
    """What was seen; times are seconds since the traffic began."""
    answered: defaultdict[Flow, list[float]] = defaultdict(list)
    traffic = Traffic(Random(1), lambda flow, at: answered[flow].append(round(at, 3)))
    stage = Stage(world, traffic, Wire())
    zero = time() - traffic.now
    async with asyncio.TaskGroup() as group:
        group.create_task(traffic.run(sorted(scenario.flows, key=lambda one: one.begins)))
        group.create_task(scenario.happen(stage))
        group.create_task(stage.watch(scenario.pause, scenario.ends))
    await asyncio.sleep(ANSWERED_WITHIN)
    books = traffic.close_books().plain()
    traffic.close()
    stage.wire.drain()
    stage.wire.close()
    return {
        "traffic": books,
        "flows": [{"pair": list(map(str, one.pair)), "answered": answered[one]} for one in scenario.flows],
        "sas": stage.sas,
        "wire": stage.wire.plain(),
        "log": {host: list(told(world.told(host), zero)) for host in HOSTS},
        "reasons": {host: world.status(host)["reasons"] for host in HOSTS},
    }


def told(lines: Iterable[dict[str, str]], zero: float) -> Iterable[dict[str, Any]]:
    """Log lines with the time when they were written."""
    for line in lines:
        stamp = line.get("timestamp")
        yield line | {"at": None if stamp is None else round(datetime.fromisoformat(stamp).timestamp() - zero, 3)}


def main() -> None:
    name, target = sys.argv[1:]
    scenario = SCENARIOS[name]
    with World(PAIRS, scenario.settings, unpublished=scenario.unpublished) as world:
        seen = asyncio.run(play(world, scenario))
        world.stop_daemons()
        seen["after"] = {host: in_kernel(host)[:2] for host in HOSTS}
    Path(target).write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
