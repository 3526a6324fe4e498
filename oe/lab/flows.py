"""Drives the rows through a running world and says of each what came of it."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from oe.lab import plan
from oe.lab.capture import Capture
from oe.lab.files import SETUP_BUDGET
from oe.lab.outcome import Outcome, judge
from oe.lab.plan import HOST, Host, host_of
from oe.lab.probes import Echoes
from oe.lab.rows import Row
from oe.lab.sightings import Sighting, Wire, sight, summarise
from oe.lab.world import LabBroken, World
from oe.model import Address, Group

_ANSWER = 10.0
"""Seconds to wait for an answer that must come; only a row that goes wrong takes so long."""
_SILENCE = SETUP_BUDGET + 1.0
"""Seconds to wait for a first answer that may fail to come: by then every gateway has decided."""
_STILL_SILENT = 0.3
"""The same for the answer to any other packet."""
_QUEUES = "/proc/net/netfilter/nfnetlink_queue"
_ID_SEQUENCE = 7
"""Column of `_QUEUES` that counts the packets ever queued."""
_SETTLE = 0.1
"""Seconds after the last flow until its last packets have crossed the router."""


@dataclass(frozen=True, slots=True)
class Driven:
    """A flow that has been driven, before the captures are looked at."""

    row: Row
    marker: str
    echoes: Echoes
    queued: int | None
    """Packets that came to user space on the deciding host meanwhile; None where that cannot be told."""
    pair: dict[str, Any]
    """The pair in the deciding gateway's status; empty when it is not there."""


@dataclass(frozen=True, slots=True)
class Result:
    """A row, what came of it, and what is wrong with that."""

    row: Row
    outcome: Outcome
    wire: Wire
    delay: float | None
    """Seconds from the first packet to the first answer."""
    lost: int
    queued: int | None
    reason: str
    grade: str
    complaints: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.complaints


@dataclass(frozen=True, slots=True)
class Run:
    """All results, and what they are to be measured against."""

    results: tuple[Result, ...]
    backend: str
    dns_delay: float
    """Seconds that alice's resolver took for a name it had not been asked before."""

    @property
    def ok(self) -> bool:
        return all(result.ok for result in self.results)


async def drive(world: World, rows: Sequence[Row], capture: Capture, advance: Callable[[Row], None]) -> Run:
    """Drive `rows`, the timed ones one after the other, then all others at once; `advance` is told of each that ends.

    Raises LabBroken when the capture is not complete.
    """
    loop = asyncio.get_running_loop()
    loop.add_reader(capture.fileno(), capture.drain)
    try:
        driven = []
        for row in rows:
            if row.is_timed:
                driven.append(await _drive(world, row))
                advance(row)
        dns_delay = await _dns_delay(world)
        driven += await _together(world, [row for row in rows if not row.is_timed], advance)
        await asyncio.sleep(_SETTLE)
    finally:
        loop.remove_reader(capture.fileno())
    capture.drain()
    if capture.missed:
        raise LabBroken(f"the capture missed {capture.missed} frames: raise net.core.rmem_max")
    sightings = [seen for frame in capture.frames if (seen := sight(frame)) is not None]
    by_row = {done.row: _result(done, _window(done, driven, sightings)) for done in driven}
    backend = (await world.status(HOST["alice"]))["backend"]
    return Run(tuple(by_row[row] for row in rows), str(backend), dns_delay)


async def _together(world: World, rows: Sequence[Row], advance: Callable[[Row], None]) -> list[Driven]:
    async def one(row: Row) -> Driven:
        done = await _drive(world, row)
        advance(row)
        return done

    return list(await asyncio.gather(*(one(row) for row in rows)))


async def _drive(world: World, row: Row) -> Driven:
    decider = HOST[row.decider]
    marker = token_hex(12)
    before = await _queued(world, decider)
    ways = [(row.source, row.destination)] + [(row.destination, row.source)] * row.crossed
    one, *other = await asyncio.gather(*(_probe(world, row, marker, *way) for way in ways))
    echoes = _as_one(one, *other) if other else one
    after = await _queued(world, decider)
    queued = after - before if row.is_timed and before is not None and after is not None else None
    return Driven(row, marker, echoes, queued, _pair(await world.status(decider), row))


async def _probe(world: World, row: Row, marker: str, source: Address, destination: Address) -> Echoes:
    fields = {
        "protocol": row.protocol,
        "source": str(source),
        "destination": str(destination),
        "marker": marker,
        "count": row.count,
        "patience": world.pace * (_ANSWER if row.is_answered and not row.may_lose else _SILENCE),
        "again": world.pace * (_ANSWER if row.is_answered else _STILL_SILENT),
    }
    return Echoes(**await world.job(host_of(source), job="probe", **fields))


def _as_one(one: Echoes, other: Echoes) -> Echoes:
    """Two flows at the same time, judged as one that is as bad as the worse of them."""
    delays = [echoes.first_delay for echoes in (one, other) if echoes.first_delay is not None]
    return Echoes(
        one.sent + other.sent,
        min(one.answered, other.answered),
        one.lost + other.lost,
        max(delays, default=None),
        one.error or other.error,
        min(one.started, other.started),
        max(one.ended, other.ended),
    )


async def _queued(world: World, host: Host) -> int | None:
    """Packets that ever came to user space on a host; None where the kernel does not tell."""
    lines = (await world.job(host, job="read", path=_QUEUES))["text"].splitlines()
    return sum(int(line.split()[_ID_SEQUENCE]) for line in lines) if lines else None


def _pair(status: dict[str, Any], row: Row) -> dict[str, Any]:
    ends = str(row.source), str(row.destination)
    return next((pair for pair in status["pairs"] if (pair["source"], pair["destination"]) == ends), {})


async def _dns_delay(world: World) -> float:
    name = plan.remote(Group.PRIVATE_OR_CLEAR, plan.CAROL_FRESH).reverse_pointer
    started = time.monotonic()
    await asyncio.gather(*(world.resolve(HOST["alice"], f"{name}.", kind) for kind in ("IPSECKEY", "TXT")))
    return time.monotonic() - started


# --- judging ---------------------------------------------------------------------------------------------------


def _window(done: Driven, driven: Sequence[Driven], sightings: Sequence[Sighting]) -> list[Sighting]:
    """The packets from the start of a flow until the next flow of its pair starts, so that stragglers are seen."""
    started = done.echoes.started
    later = (other.echoes.started for other in driven if other.row.inner == done.row.inner)
    ended = min((start for start in later if start > started), default=math.inf)
    return [seen for seen in sightings if started <= seen.time / 1e9 < ended]


def _result(done: Driven, sightings: Sequence[Sighting]) -> Result:
    row, echoes = done.row, done.echoes
    host = host_of(row.source)
    link = host.link if host.behind is None else HOST[host.behind].link
    wire = summarise(sightings, link, row.inner, row.gateways, done.marker.encode())
    outcome = judge(wire, answered=echoes.answered > 0, refused=bool(echoes.error))
    return Result(
        row,
        outcome,
        wire,
        echoes.first_delay,
        echoes.lost,
        done.queued,
        str(done.pair.get("reason") or ""),
        str(done.pair.get("grade") or ""),
        tuple(_complaints(done, outcome, wire)),
    )


def _complaints(done: Driven, outcome: Outcome, wire: Wire) -> list[str]:
    row = done.row
    complaints = []
    if not row.allows(outcome, done.echoes.lost):
        loss = f", {done.echoes.lost} lost" if done.echoes.lost else ""
        complaints.append(f"{row.expected} was expected, {outcome} is observed{loss}")
    if row.ike is not None and row.ike != (wire.ike > 0):
        complaints.append(f"{wire.ike} IKE messages, {'some' if row.ike else 'none'} expected")
    if row.repeats and done.queued:
        complaints.append(f"{done.queued} packets of a decided pair came to user space")
    return complaints
