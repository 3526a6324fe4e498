"""The resolver against a scripted server on loopback."""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

import dns.flags
import dns.message
import pytest

from oe.dnskeys.resolver import TURN, Resolver
from oe.messages import KeysLookedUp, LookUpKeys
from oe.model import Address, Grade, KeyAnswer, LookupOutcome, SocketAddress
from oe.reasons import Reason
from tests.dnskeys.fake_server import FakeServer, Script
from tests.dnskeys.replies import ED_KEY, SOA, ipseckey, reply
from tests.waiting import PATIENCE

OWNER = ip_address("192.0.2.1")
NAME = "1.2.0.192.in-addr.arpa."


def is_ipseckey(query: bytes) -> bool:
    return query[-15:-13] == b"\x00\x2d"


def found(query: bytes, over_tcp: bool) -> bytes:
    """An IPSECKEY record and no TXT."""
    return reply(query, [ipseckey(NAME)] if is_ipseckey(query) else [], [SOA], ad=True)


class Asker:
    """A resolver with somebody who waits for its answers."""

    def __init__(self, *servers: SocketAddress, mark: int = 0) -> None:
        self.resolver = Resolver(list(servers), mark, self._arrived, time.monotonic)
        self._waiting: dict[int, asyncio.Future[KeyAnswer]] = {}
        self.resolver.start()

    def _arrived(self, event: KeysLookedUp) -> None:
        self._waiting.pop(event.ticket).set_result(event.answer)

    async def ask(self, owner: Address = OWNER, patience: float = PATIENCE) -> KeyAnswer:
        ticket = len(self._waiting)
        future: asyncio.Future[KeyAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = future
        self.resolver.look_up(LookUpKeys(ticket, owner, time.monotonic() + patience))
        assert not future.done(), "answered from inside look_up"
        return await future


def against(script: Script, work: Callable[[FakeServer, Asker], Awaitable[None]]) -> None:
    async def run() -> None:
        async with FakeServer(script) as server:
            asker = Asker(server.address)
            try:
                await work(server, asker)
            finally:
                asker.resolver.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("script", "outcome", "grade", "reason"),
    [
        (found, LookupOutcome.FOUND, Grade.SECURE, None),
        (lambda query, tcp: reply(query, [], [SOA]), LookupOutcome.NO_KEY, Grade.INSECURE, Reason.NO_KEY),
        (
            lambda query, tcp: reply(query, [], [SOA], rcode="NXDOMAIN", ad=True),
            LookupOutcome.NO_KEY,
            Grade.SECURE,
            Reason.NO_KEY,
        ),
        (
            lambda query, tcp: reply(query, rcode="REFUSED"),
            LookupOutcome.FAILED,
            Grade.INDETERMINATE,
            Reason.DNS_FAILED,
        ),
        (
            lambda query, tcp: reply(query, rcode="SERVFAIL"),
            LookupOutcome.FAILED,
            Grade.INDETERMINATE,
            Reason.DNS_FAILED,
        ),
        (
            lambda query, tcp: found(query, tcp) if query[3] & 0x10 else reply(query, rcode="SERVFAIL"),
            LookupOutcome.BOGUS,
            Grade.BOGUS,
            Reason.DNS_BOGUS,
        ),
        (
            lambda query, tcp: found(query, tcp) if tcp else reply(query, tc=True),
            LookupOutcome.FOUND,
            Grade.SECURE,
            None,
        ),
        (
            lambda query, tcp: None if tcp else reply(query, tc=True),
            LookupOutcome.FAILED,
            Grade.INDETERMINATE,
            Reason.DNS_TIMEOUT,
        ),
        (lambda query, tcp: None, LookupOutcome.FAILED, Grade.INDETERMINATE, Reason.DNS_TIMEOUT),
        (lambda query, tcp: b"junk", LookupOutcome.FAILED, Grade.INDETERMINATE, Reason.DNS_TIMEOUT),
    ],
)
def test_outcomes(script: Script, outcome: LookupOutcome, grade: Grade, reason: Reason | None) -> None:
    async def work(server: FakeServer, asker: Asker) -> None:
        answer = await asker.ask(patience=0.2 if reason is Reason.DNS_TIMEOUT else PATIENCE)
        assert (answer.outcome, answer.grade, answer.reason) == (outcome, grade, reason)
        assert [d.key for d in answer.delegations] == ([ED_KEY] if outcome is LookupOutcome.FOUND else [])

    against(script, work)


def test_every_query_has_its_own_port_and_asks_for_proof() -> None:
    async def work(server: FakeServer, asker: Asker) -> None:
        for n in range(1, 9):
            await asker.ask(ip_address(f"192.0.2.{n}"))
        # Sixteen draws of a port may hit one twice. With eight ports both queries of a lookup would share one.
        assert len(server.peers) > 10
        for query, _ in server.heard:
            assert query.flags & dns.flags.AD
            assert query.ednsflags & dns.flags.DO
        assert len({query.id for query, _ in server.heard}) > 10

    against(lambda query, tcp: reply(query, [], [SOA]), work)


def test_the_second_question_is_answered_from_the_cache_until_it_is_forgotten() -> None:
    async def work(server: FakeServer, asker: Asker) -> None:
        first = await asker.ask()
        server.script = lambda query, tcp: None
        assert await asker.ask() == first
        server.script = found
        asker.resolver.forget(OWNER)
        assert (await asker.ask()).expires > first.expires

    against(found, work)


def test_a_lost_query_is_repeated() -> None:
    lost: list[bytes] = []

    def lossy(query: bytes, over_tcp: bool) -> bytes | None:
        if len(lost) < 2:
            lost.append(query)
            return None
        return found(query, over_tcp)

    async def work(server: FakeServer, asker: Asker) -> None:
        assert (await asker.ask()).outcome is LookupOutcome.FOUND

    against(lossy, work)


def test_a_dead_server_costs_no_time() -> None:
    async def run() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            dead = SocketAddress(ip_address("127.0.0.1"), taken.getsockname()[1])
        async with FakeServer(found) as server:
            asker = Asker(dead, server.address)
            assert (await asker.ask()).outcome is LookupOutcome.FOUND
            asker.resolver.close()

    asyncio.run(run())


def test_a_server_that_cannot_be_reached_is_a_failure() -> None:
    async def run() -> None:
        asker = Asker(SocketAddress(ip_address("255.255.255.255"), 53))
        answer = await asker.ask(patience=0.2)
        assert (answer.outcome, answer.reason) == (LookupOutcome.FAILED, Reason.DNS_TIMEOUT)
        asker.resolver.close()

    asyncio.run(run())


def test_replies_from_elsewhere_never_arrive() -> None:
    """The kernel filters them: the socket is connected."""

    async def run() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            async with FakeServer(found, replies_from=stranger) as server:
                asker = Asker(server.address)
                assert (await asker.ask(patience=0.2)).reason is Reason.DNS_TIMEOUT
                async with asyncio.timeout(PATIENCE):
                    await server.has_heard.wait()
                asker.resolver.close()

    asyncio.run(run())


def test_closing_leaves_no_socket_open() -> None:
    async def run() -> None:
        async with FakeServer(lambda query, tcp: None) as server:
            # Time stands still: nothing is asked a second time, and all is sent in one turn of the loop.
            resolver = Resolver([server.address], 0, lambda _: None, lambda: 0.0)
            resolver.start()
            before = len(os.listdir("/proc/self/fd"))
            for n in range(1, 20):
                resolver.look_up(LookUpKeys(n, ip_address(f"192.0.2.{n}"), 9.0))
            for _ in range(3):
                await asyncio.sleep(0)
            assert len(os.listdir("/proc/self/fd")) == before + 38
            resolver.close()
            assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(run())


@pytest.mark.skipif(os.geteuid() != 0, reason="SO_MARK needs CAP_NET_ADMIN")
def test_a_mark_does_not_hinder() -> None:
    async def run() -> None:
        async with FakeServer(found) as server:
            asker = Asker(server.address, mark=0x10000)
            assert (await asker.ask()).outcome is LookupOutcome.FOUND
            asker.resolver.close()

    asyncio.run(run())


def test_answers_that_come_all_at_once_do_not_keep_the_event_loop() -> None:
    """A hundred wait for one owner, and what each starts takes half a turn: after three others have their turn."""

    async def run() -> None:
        times, turns = [0.0], []
        answered: list[KeysLookedUp] = []

        def take(event: KeysLookedUp) -> None:
            answered.append(event)
            times.append(times[-1] + TURN / 2)

        async with FakeServer(found) as server:
            resolver = Resolver([server.address], 0, take, lambda: times[-1])
            resolver.start()
            for ticket in range(100):
                resolver.look_up(LookUpKeys(ticket, OWNER, 1000.0))
            while len(answered) < 100:
                before = len(answered)
                await asyncio.sleep(0)
                turns.append(len(answered) - before)
            resolver.close()
        assert max(turns) == 3

    asyncio.run(run())
