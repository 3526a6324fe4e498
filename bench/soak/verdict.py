"""What must hold at the end of a soak. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from bench.soak.plan import DELAY, Kind
from bench.soak.samples import Moment, Sample
from bench.soak.traffic import Books, Loss

WARM = 2
"""Hours after which as many pairs are known as ever will be; from then on nothing may grow."""
RSS_TOLERANCE = 0.03
"""Caches that are bounded by count still fill: the answers for all names, the pairs seen. A day needs some 1 MiB for
them; a leak of 1 KiB for each tunnel would be 2.4 MiB more, of 70."""
DESCRIPTOR_TOLERANCE = 2
"""A question to the resolver may be open at the very moment."""
IN_FLIGHT = 4 * DELAY
"""Seconds between the sending of a datagram and the end of its tunnel that explain a loss: the way there and back, and
the same again for the news of the end."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the logs of both daemons say that matters here."""

    complaints: tuple[str, ...]
    """Errors."""
    endings: Mapping[frozenset[str], Sequence[float]]
    """When a tunnel of a pair ended, at either end; seconds since 1970."""

    @classmethod
    def by(cls, logs: Mapping[str, Sequence[Mapping[str, str]]]) -> "Told":
        """From the log lines of each host."""
        complaints, endings = [], defaultdict(list)
        for host, lines in logs.items():
            for line in lines:
                if line["level"] == "error":
                    complaints.append(f"{host} complains: {line['event']} {line.get('error', '')}".rstrip())
                elif line["event"] == "child-closed":
                    at = datetime.fromisoformat(line["timestamp"]).timestamp()
                    endings[frozenset(line["pair"].split(" → "))].append(at)
        return cls(tuple(complaints), endings)

    def excuses(self, loss: Loss) -> bool:
        """The datagram or its answer was on its way when the tunnel ended."""
        ends = self.endings.get(frozenset(map(str, loss.flow.pair)), ())
        return any(abs(loss.at - at) <= IN_FLIGHT for at in ends)


def faults(moments: Sequence[Moment], books: Books, told: Told, *, lossless: bool = True) -> Iterator[str]:
    """One sentence for everything that should not be. `moments`: before, each hour, after; all in order.

    `lossless`: the link loses nothing, so every datagram to somebody who is there has to be answered, but for one that
    is on its way while its tunnel ends.
    """
    first, last = moments[0], moments[-1]
    hours = [moment for moment in moments if moment.phase == "traffic"]
    for host in first.hosts:
        yield from _left(host, first.hosts[host], last.hosts[host])
        if len(hours) > WARM:
            yield from _grown(host, hours[WARM - 1].hosts[host], hours[-1].hosts[host])
    yield from told.complaints
    if lossless:
        yield from _lost(books, told)
    if books.answered[Kind.SILENT]:
        yield f"{books.answered[Kind.SILENT]} answers from addresses that nobody has"


def _left(host: str, before: Sample, after: Sample) -> Iterator[str]:
    for what in ("sas", "policies", "elements", "pairs"):
        had, has = getattr(before, what), getattr(after, what)
        if had != has:
            yield f"{host}: {had} {what} before, {has} after"


def _grown(host: str, early: Sample, late: Sample) -> Iterator[str]:
    if late.rss > early.rss * (1 + RSS_TOLERANCE):
        yield f"{host}: memory grew from {early.rss} to {late.rss} KiB"
    if late.descriptors > early.descriptors + DESCRIPTOR_TOLERANCE:
        yield f"{host}: descriptors grew from {early.descriptors} to {late.descriptors}"


def _lost(books: Books, told: Told) -> Iterator[str]:
    excused = Counter(loss.flow.kind for loss in books.losses if told.excuses(loss))
    for kind in (Kind.STEADY, Kind.KEYED, Kind.CROSSED, Kind.KEYLESS):
        missing = books.lost[kind] + books.refused[kind] - excused[kind]
        if missing:
            yield f"{missing} of {books.sent[kind]} datagrams of {kind} flows lost"
