"""The forecast against the coordinator: what is foretold of a first packet is what becomes of it."""

from ipaddress import ip_address, ip_network
from itertools import product

import pytest

from oe.cli.forecast import Evidence, Forecast, by_address, by_dns
from oe.gateway import OwnSide
from oe.model import ID_NULL, Address, Grade, Group, HostPair, KeyAnswer, PairState
from oe.negotiation import NegotiationEnded
from oe.policy.outcome import Anonymous, GroupSettings, Unreachable
from oe.policy.select import select
from oe.reasons import Reason
from tests.gateway.script import (
    CLIENT,
    OTHER,
    OTHER_KEY,
    OUR_KEY,
    OURS,
    PEER,
    PRIVATE_PEER,
    Script,
    delegation,
    found,
    group_settings,
    missing,
)

SERVED = ("203.0.113.0/24",)
OWN = OwnSide((OURS, ip_address("2001:db8::1")), tuple(map(ip_network, SERVED)), (OUR_KEY,))


def answers_about(owner: Address) -> list[KeyAnswer]:
    """What DNS may say of a destination."""
    return [
        found(owner, delegation()),
        found(owner, delegation(), expires=20.0),
        found(owner, delegation(), grade=Grade.INSECURE),
        found(owner, delegation(), grade=Grade.INDETERMINATE),
        found(owner, delegation(gateway=OTHER, precedence=20), delegation(precedence=5), delegation(OTHER_KEY)),
        found(owner, delegation(gateway=OURS)),
        found(owner, delegation(name="gateway.example")),
        missing(owner, expires=600.0),
        missing(owner, grade=Grade.INSECURE),
        missing(owner, Reason.DNS_TIMEOUT, Grade.INDETERMINATE),
        missing(owner, Reason.DNS_BOGUS, Grade.BOGUS),
        missing(owner, Reason.MALFORMED_RECORD, Grade.INSECURE),
        missing(owner, Reason.UNSIGNED_DELEGATION, Grade.INSECURE),
    ]


def answers_about_us(owner: Address) -> list[KeyAnswer]:
    gateway = None if owner == OURS else OURS
    return [
        found(owner, delegation(OUR_KEY, gateway)),
        found(owner, delegation(OTHER_KEY, gateway)),
        missing(owner),
        missing(owner, Reason.DNS_FAILED, Grade.INDETERMINATE),
    ]


def silence(script: Script) -> None:
    """Every gateway stays silent, one after the other."""
    ended = 0
    while ended < len(script.negotiations()):
        ticket = script.negotiations()[ended].ticket
        script.engine_says(NegotiationEnded(ticket, Reason.PEER_SILENT, "", authenticated=False))
        ended += 1


@pytest.mark.parametrize("anonymous", Anonymous)
@pytest.mark.parametrize("unreachable", Unreachable)
@pytest.mark.parametrize("source", [OURS, CLIENT], ids=str)
@pytest.mark.parametrize("destination", [PEER, PRIVATE_PEER], ids=str)
def test_the_coordinator_does_what_is_foretold(
    destination: Address, source: Address, unreachable: Unreachable, anonymous: Anonymous
) -> None:
    settings = group_settings(anonymous, unreachable)
    for theirs, ours in product(answers_about(destination), answers_about_us(source)):
        script = Script(served=SERVED, answers=(theirs, ours), anonymous=anonymous, unreachable=unreachable)
        forecast = foretold(script, settings, HostPair(source, destination), theirs, ours)
        script.trap(destination, source)
        compare(forecast, script, HostPair(source, destination))


@pytest.mark.parametrize("late", ["theirs", "ours", "both"])
@pytest.mark.parametrize("destination", [PEER, PRIVATE_PEER], ids=str)
def test_so_it_is_when_dns_answers_too_late(destination: Address, late: str) -> None:
    pair = HostPair(OURS, destination)
    theirs = None if late in ("theirs", "both") else found(destination, delegation(), expires=100.0)
    ours = None if late in ("ours", "both") else found(OURS, delegation(OUR_KEY))
    script = Script(answers=tuple(answer for answer in (theirs, ours) if answer is not None))
    forecast = foretold(script, group_settings(), pair, theirs, ours, budget=3.0)
    script.trap(destination)
    script.run_until(3.0)
    status = script.status(destination)
    assert status is not None
    assert (status.state, status.reason) == (forecast.state, Reason.DNS_TIMEOUT)
    assert forecast.fallback is not None
    assert status.expires == 3.0 + forecast.fallback.lifetime


def foretold(
    script: Script,
    settings: dict[Group, GroupSettings],
    pair: HostPair,
    theirs: KeyAnswer | None,
    ours: KeyAnswer | None,
    budget: float = 0.0,
) -> Forecast:
    group = select(script.policies, pair.destination).group
    lasts = theirs.expires - budget if theirs is not None else None
    return by_dns(pair, group, settings[group], OWN, Evidence(theirs, ours, lasts))


def compare(forecast: Forecast, script: Script, pair: HostPair) -> None:
    status = script.status(pair.destination, pair.source)
    assert status is not None
    assert status.state is forecast.state
    assert forecast.fallback is not None
    if forecast.state is PairState.NEGOTIATING:
        assert forecast.credentials is not None
        assert script.negotiations()[0].own_identity == forecast.credentials.identity
        silence(script)
        assert [one.remote.address for one in script.negotiations()] == [one.gateway for one in forecast.gateways]
        assert [one.peer_keys for one in script.negotiations()] == [one.keys for one in forecast.gateways]
        status = script.status(pair.destination, pair.source)
        assert status is not None
        assert status.state is forecast.fallback.state
    else:
        assert status.reason is forecast.reason
        assert any(one.peer_identity == ID_NULL for one in script.negotiations()) is (
            forecast.asks_anonymously and script.answers[pair.source].outcome != "failed"
        )
    assert status.expires == forecast.fallback.lifetime
    assert forecast.is_refusal is (forecast.state is not PairState.NEGOTIATING)


@pytest.mark.parametrize(
    ("source", "destination", "state", "reason"),
    [
        ("192.0.2.1", "198.51.100.130", PairState.CLEAR, Reason.POLICY_CLEAR),
        ("192.0.2.1", "198.51.100.230", PairState.CLEAR, Reason.POLICY_CLEAR),
        ("192.0.2.1", "198.51.100.200", PairState.BLOCKED, Reason.POLICY_BLOCK),
        ("192.0.2.1", "203.0.113.7", PairState.CLEAR, Reason.POLICY_UNLISTED),
        ("192.0.2.1", "192.0.2.1", None, None),
        ("192.0.2.1", "192.0.2.2", None, None),
        ("127.0.0.1", "127.0.0.1", None, None),
        ("192.0.2.1", "224.0.0.1", None, None),
        ("192.0.2.99", "198.51.100.9", None, None),
    ],
)
def test_what_needs_no_dns(source: str, destination: str, state: PairState | None, reason: Reason | None) -> None:
    pair = HostPair(ip_address(source), ip_address(destination))
    present = (*OWN.addresses, ip_address("192.0.2.2"))
    forecast = by_address(pair, OWN, present, select(Script().policies, pair.destination))
    assert forecast is not None
    assert (forecast.state, forecast.reason) == (state, reason)
    assert not forecast.is_refusal


@pytest.mark.parametrize("source", [OURS, CLIENT, ip_address("192.0.2.2")], ids=str)
def test_dns_is_asked_about_what_the_trap_holds(source: Address) -> None:
    """An address that we have and do not use is trapped like the others."""
    pair, present = HostPair(source, PEER), (*OWN.addresses, ip_address("192.0.2.2"))
    selection = select(Script().policies, PEER)
    assert selection.group is Group.PRIVATE_OR_CLEAR
    assert by_address(pair, OWN, present, selection) is None
