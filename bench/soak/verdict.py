"""What must hold at the end of a soak. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil

from bench.soak.plan import Kind
from bench.soak.samples import Moment, Sample
from bench.soak.traffic import Books
from oe.model import PairState

WARM = 2
"""Hours after which as many pairs are known as ever will be; from then on nothing may grow."""
RSS_TOLERANCE = 0.03
"""Caches that are bounded by count still fill: the answers for all names, the pairs seen. A day needs some 1 MiB for
them; a leak of 1 KiB for each tunnel would be 2.4 MiB more, of 70."""
DESCRIPTOR_TOLERANCE = 2
"""A question to the resolver may be open at the very moment."""
TWO = 2
"""SAs of a protected pair, one each way."""
CHANGING = 0.1
"""Share of the pairs that may have two Child SAs, the old one and its successor: that takes seconds of an hour."""


def complaints(logs: Mapping[str, Sequence[Mapping[str, str]]]) -> Iterator[str]:
    """Errors in the log lines of each host."""
    for host, lines in logs.items():
        for line in lines:
            if line["level"] == "error":
                yield f"{host} complains: {line['event']} {line.get('error', '')}".rstrip()


def faults(moments: Sequence[Moment], books: Books, *, lossless: bool = True) -> Iterator[str]:
    """One sentence for everything that should not be. `moments`: before, each hour, after; all in order.

    `lossless`: the link loses nothing, so every datagram to somebody who is there has to be answered.
    """
    first, last = moments[0], moments[-1]
    hours = [moment for moment in moments if moment.phase == "traffic"]
    for host in first.hosts:
        yield from _left(host, first.hosts[host], last.hosts[host])
        if len(hours) > WARM:
            yield from _grown(host, hours[WARM - 1].hosts[host], hours[-1].hosts[host])
        for moment in hours:
            yield from _piled_up(host, moment.hosts[host])
    if lossless:
        yield from _lost(books)
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


def _piled_up(host: str, sample: Sample) -> Iterator[str]:
    """Child SAs that have a successor must go."""
    protected = sample.states.get(PairState.PROTECTED, 0)
    if sample.sas > TWO * (protected + ceil(CHANGING * protected)):
        yield f"{host}: {sample.sas} SAs for {protected} protected pairs"


def _lost(books: Books) -> Iterator[str]:
    for kind in (Kind.STEADY, Kind.KEYED, Kind.CROSSED, Kind.KEYLESS):
        missing = books.lost[kind] + books.refused[kind]
        if missing:
            yield f"{missing} of {books.sent[kind]} datagrams of {kind} flows lost"
