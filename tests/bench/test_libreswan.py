"""The rival's lab: its addresses and what its daemons are told. The lab itself needs the test kernel and the rival."""

from ipaddress import ip_network

import pytest

from bench.libreswan import FLAVOURS, KEYED, Flavour, groups
from bench.samples import BARE, KEYLESS
from oe.lab.plan import HOST

ALICE, BOB = HOST["alice"], HOST["bob"]


def test_no_destination_occurs_twice() -> None:
    destinations = [destination for _, destination in (*KEYED, *KEYLESS, BARE)]
    assert len(set(destinations)) == len(destinations)


def test_alice_has_every_peer_in_her_group_and_the_control_in_none() -> None:
    (group,) = groups(ALICE)
    peers = ip_network(group.peers)
    assert all(source == group.own and destination in peers for source, destination in (*KEYED, *KEYLESS))
    assert BARE[1] not in peers


def test_bob_has_a_group_of_its_own_name_for_each_address() -> None:
    found = groups(BOB)
    assert {group.own for group in found} == {destination for _, destination in KEYED}
    assert len({group.name for group in found}) == len(found)
    assert all(KEYED[0][0] in ip_network(group.peers) for group in found)


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=FLAVOURS)
def test_a_connection_is_anonymous_and_falls_back_to_clear(flavour: Flavour) -> None:
    text = groups(ALICE)[0].text(flavour)
    assert text.startswith("conn private-or-clear\n  left=192.0.2.")
    assert all(f"  {line}\n" in text for line in ("authby=null", "auto=route", "failureshunt=passthrough"))
