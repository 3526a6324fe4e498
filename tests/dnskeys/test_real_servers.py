"""The whole lookup against nsd and a validating unbound: every grade, both record types, TCP."""

import asyncio
import time
from base64 import b64encode
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from oe.dnskeys.publish import zone_lines
from oe.dnskeys.resolver import Resolver
from oe.keystore import public_key_of
from oe.messages import KeysLookedUp, LookUpKeys
from oe.model import Grade, KeyAnswer, LookupOutcome, RecordKind, SocketAddress
from oe.reasons import Reason
from tests.dnskeys.real_servers import MISSING, Zone, running
from tests.waiting import PATIENCE

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

KEY = public_key_of(rsa.generate_private_key(65537, 2048).public_key())
OTHER = public_key_of(rsa.generate_private_key(65537, 3072).public_key())
GATEWAY = ip_address("192.0.2.254")


def lines(owner: str, gateway: str | None = None) -> str:
    return "\n".join(zone_lines(ip_address(owner), [KEY], ip_address(gateway) if gateway else None)) + "\n"


def txt(owner: str, content: str) -> str:
    name = ip_address(owner).reverse_pointer
    parts = " ".join(f'"{content[at : at + 200]}"' for at in range(0, len(content), 200))
    return f"{name}. 300 IN TXT {parts}\n"


ZONES = [
    Zone(
        "2.0.192.in-addr.arpa.",
        lines("192.0.2.1")
        + lines("192.0.2.2", str(GATEWAY))
        + txt("192.0.2.3", f"X-IPsec-Server(10)={GATEWAY} {b64encode(KEY.data).decode()}")
        + txt("192.0.2.4", "v=spf1 -all")
        + txt("192.0.2.5", f"X-IPsec-Server(10)={GATEWAY}")
        + lines(str(GATEWAY))
        + "6.2.0.192.in-addr.arpa. 300 IN CNAME 6.0-31.2.0.192.in-addr.arpa.\n"
        + lines("192.0.2.6").replace("6.2.0.192", "6.0-31.2.0.192")
        + "".join(
            "7.2.0.192.in-addr.arpa. 300 IN IPSECKEY "
            + f"{n} 1 2 192.0.2.{n + 100} "
            + b64encode(OTHER.data).decode()
            + "\n"
            for n in range(8)
        ),
        signed=True,
    ),
    Zone("100.51.198.in-addr.arpa.", lines("198.51.100.1") + lines("198.51.100.2", "203.0.113.9")),
    Zone("113.0.203.in-addr.arpa.", lines("203.0.113.1"), bogus=True),
    Zone("8.b.d.0.1.0.0.2.ip6.arpa.", lines("2001:db8::1"), signed=True),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SocketAddress]:
    directory: Path = tmp_path_factory.mktemp("dns")
    with running(directory, ZONES) as address:
        yield address


def look_up(server: SocketAddress, *owners: str) -> list[KeyAnswer]:
    async def ask() -> list[KeyAnswer]:
        loop = asyncio.get_running_loop()
        end = time.monotonic() + PATIENCE
        answers: dict[int, asyncio.Future[KeyAnswer]] = {n: loop.create_future() for n in range(len(owners))}

        def arrived(event: KeysLookedUp) -> None:
            if event.answer.reason is Reason.DNS_TIMEOUT and time.monotonic() < end:
                # The machine has let the server sleep: that is no answer of the server's.
                resolver.forget(event.answer.owner)
                resolver.look_up(LookUpKeys(event.ticket, event.answer.owner, end))
            else:
                answers[event.ticket].set_result(event.answer)

        resolver = Resolver([server], 0, arrived, time.monotonic)
        resolver.start()
        for ticket, owner in enumerate(owners):
            resolver.look_up(LookUpKeys(ticket, ip_address(owner), end))
        try:
            return [await answers[ticket] for ticket in range(len(owners))]
        finally:
            resolver.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("owner", "outcome", "grade", "reason"),
    [
        ("192.0.2.1", LookupOutcome.FOUND, Grade.SECURE, None),
        ("192.0.2.2", LookupOutcome.FOUND, Grade.SECURE, None),
        ("192.0.2.6", LookupOutcome.FOUND, Grade.SECURE, None),
        ("2001:db8::1", LookupOutcome.FOUND, Grade.SECURE, None),
        ("192.0.2.77", LookupOutcome.NO_KEY, Grade.SECURE, Reason.NO_KEY),
        ("192.0.2.4", LookupOutcome.NO_KEY, Grade.SECURE, Reason.NO_KEY),
        ("198.51.100.1", LookupOutcome.FOUND, Grade.INSECURE, None),
        ("198.51.100.77", LookupOutcome.NO_KEY, Grade.INSECURE, Reason.NO_KEY),
        ("198.51.100.2", LookupOutcome.UNUSABLE, Grade.INSECURE, Reason.UNSIGNED_DELEGATION),
        ("203.0.113.1", LookupOutcome.BOGUS, Grade.BOGUS, Reason.DNS_BOGUS),
    ],
)
def test_outcomes(
    server: SocketAddress, owner: str, outcome: LookupOutcome, grade: Grade, reason: Reason | None
) -> None:
    asked = time.monotonic()
    (answer,) = look_up(server, owner)
    assert (answer.outcome, answer.grade, answer.reason) == (outcome, grade, reason), answer
    keys = {delegation.key for delegation in answer.delegations}
    assert keys == ({KEY} if outcome is LookupOutcome.FOUND else set())
    assert answer.expires > asked


def test_txt_is_read_where_there_is_no_ipseckey(server: SocketAddress) -> None:
    with_key, without_key = look_up(server, "192.0.2.3", "192.0.2.5")
    for answer in (with_key, without_key):
        (delegation,) = answer.delegations
        assert (delegation.kind, delegation.gateway, delegation.key) == (RecordKind.TXT, GATEWAY, KEY)


def test_an_answer_too_long_for_udp_comes_over_tcp(server: SocketAddress) -> None:
    (answer,) = look_up(server, "192.0.2.7")
    assert [delegation.precedence for delegation in answer.delegations] == list(range(8))
    assert answer.grade is Grade.SECURE


def test_many_at_once(server: SocketAddress) -> None:
    answers = look_up(server, *(f"192.0.2.{n}" for n in range(1, 251)))
    assert {answer.grade for answer in answers} == {Grade.SECURE}
