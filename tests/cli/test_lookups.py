"""One-shot lookups against a scripted server on loopback."""

import asyncio
from ipaddress import ip_address

import pytest

from oe.cli import lookups
from oe.cli.lookups import Looked, look_up
from oe.model import Address, Grade, LookupOutcome
from oe.reasons import Reason
from tests.dnskeys.fake_server import FakeServer, Script
from tests.dnskeys.replies import SOA, ipseckey, reply

OWNER, OTHER = ip_address("192.0.2.1"), ip_address("192.0.2.2")


def script(query: bytes, over_tcp: bool) -> bytes:
    """An IPSECKEY record at OWNER's name, and nothing else."""
    known = b"\x011\x012\x010\x03192" in query and query[-15:-13] == b"\x00\x2d"
    return reply(query, [ipseckey("1.2.0.192.in-addr.arpa.")] if known else [], [SOA], ad=True)


def asked(script: Script, *owners: Address) -> dict[Address, Looked]:
    async def run() -> dict[Address, Looked]:
        async with FakeServer(script) as server:
            return await asyncio.to_thread(look_up, [server.address], owners)

    return asyncio.run(run())


def test_answers_come_in_the_order_of_the_questions_with_what_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "PATIENCE", 60.0)
    found = asked(script, OTHER, OWNER, OTHER)
    assert list(found) == [OTHER, OWNER]
    assert [looked.answer.outcome for looked in found.values()] == [LookupOutcome.NO_KEY, LookupOutcome.FOUND]
    assert {looked.answer.grade for looked in found.values()} == {Grade.SECURE}
    assert all(0 < looked.took < lookups.PATIENCE for looked in found.values())
    for owner, lifetime in ((OTHER, 300), (OWNER, 600)):  # since the server said so
        assert lifetime - found[owner].took <= found[owner].lasts + 1e-6
        assert found[owner].lasts <= lifetime + 1e-6


def test_silence_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "PATIENCE", 0.05)
    looked = asked(lambda query, over_tcp: None, OWNER)[OWNER]
    assert looked.answer.reason is Reason.DNS_TIMEOUT
    assert looked.took >= 0.05
    assert looked.lasts == 0.0


def test_nobody_to_ask_about() -> None:
    assert asked(script) == {}
