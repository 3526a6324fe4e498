"""Asks DNS what the daemon would ask, once, for people who want to see the answers."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from oe.dnskeys.resolver import Resolver
from oe.messages import KeysLookedUp, LookUpKeys
from oe.model import Address, KeyAnswer, SocketAddress

PATIENCE = 10.0
"""Seconds; longer than the daemon lets a packet wait, to tell a slow resolver from a silent one."""
UNMARKED = 0
"""The trap lets questions to the configured resolvers pass in any case."""


@dataclass(frozen=True, slots=True)
class Looked:
    """An answer, and what it took to get it. Times are seconds."""

    answer: KeyAnswer
    took: float
    lasts: float
    """For how long the answer may be used."""

    def within(self, budget: float) -> KeyAnswer | None:
        """The answer, if it took no longer."""
        return self.answer if self.took <= budget else None


def look_up(servers: Iterable[SocketAddress], owners: Iterable[Address]) -> dict[Address, Looked]:
    """The answers about all `owners`, in their order, asked side by side and without a cache of our own."""
    return asyncio.run(_look_up(list(servers), list(dict.fromkeys(owners))))


async def _look_up(servers: list[SocketAddress], owners: list[Address]) -> dict[Address, Looked]:
    loop = asyncio.get_running_loop()
    begun, found, everything = loop.time(), dict[Address, Looked](), asyncio.Event()

    def answered(event: KeysLookedUp) -> None:
        now = loop.time()
        answer = event.answer
        found[answer.owner] = Looked(answer, now - begun, max(answer.expires - now, 0.0))
        if len(found) == len(owners):
            everything.set()

    resolver = Resolver(servers, UNMARKED, answered, loop.time)
    resolver.start()
    try:
        for ticket, owner in zip(count(1), owners, strict=False):
            resolver.look_up(LookUpKeys(ticket, owner, begun + PATIENCE))
        if owners:
            await everything.wait()
    finally:
        resolver.close()
    return {owner: found[owner] for owner in owners}
