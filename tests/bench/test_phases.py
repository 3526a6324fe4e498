"""Phases of a connection, from sightings."""

from ipaddress import ip_address

import pytest

from bench.phases import NAMES, OUR_DNS, THEIR_DNS, Connection, phases
from oe.ike.message import Header
from oe.ike.registry import ExchangeType
from oe.lab.sightings import Kind, Sighting

A, B = ip_address("192.0.2.1"), ip_address("192.0.2.2")
SECOND = 1_000_000_000


def seen(milliseconds: int, kind: Kind, payload: bytes = b"", link: str = "near") -> Sighting:
    return Sighting(100 * SECOND + milliseconds * 1_000_000, link, A, B, kind, payload)


def ike(milliseconds: int, exchange: ExchangeType, *, is_response: bool) -> Sighting:
    header = Header(1, 2, exchange, is_response, from_initiator=not is_response, message_id=0)
    return seen(milliseconds, Kind.IKE, bytes(8) + header.encode(0, 28))


CONNECTION = Connection(100.0, 100.020)
HANDSHAKE = [
    seen(1, Kind.DNS),
    seen(3, Kind.DNS),
    ike(4, ExchangeType.IKE_SA_INIT, is_response=False),
    ike(6, ExchangeType.IKE_SA_INIT, is_response=True),
    ike(7, ExchangeType.IKE_AUTH, is_response=False),
    seen(8, Kind.DNS, link="far"),
    seen(9, Kind.DNS, link="far"),
    ike(12, ExchangeType.IKE_AUTH, is_response=True),
    seen(15, Kind.ESP),
    seen(16, Kind.ESP),
]


def test_phases_fill_the_time_from_connect_to_connected() -> None:
    found = phases(CONNECTION, HANDSHAKE, "near", "far")
    assert [found[name] for name in NAMES] == pytest.approx([4, 2, 1, 5, 3, 5], abs=1e-3)
    assert (found[OUR_DNS], found[THEIR_DNS]) == pytest.approx((2, 1), abs=1e-3)


def test_what_was_before_the_connection_is_none_of_it() -> None:
    early = ike(-5, ExchangeType.IKE_SA_INIT, is_response=False)
    assert phases(CONNECTION, [early, *HANDSHAKE], "near", "far") == phases(CONNECTION, HANDSHAKE, "near", "far")


@pytest.mark.parametrize("lacking", [2, 3, 4, 7])
def test_a_milestone_that_was_not_seen_makes_no_phases(lacking: int) -> None:
    assert phases(CONNECTION, HANDSHAKE[:lacking] + HANDSHAKE[lacking + 1 :], "near", "far") == {}
