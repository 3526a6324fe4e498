"""Zone templates become zones that a validating resolver believes, except where they are spoiled on purpose."""

from base64 import b64encode
from datetime import UTC, datetime
from ipaddress import ip_address

import dns.dnssec
import dns.exception
import dns.name
import dns.node
import dns.rdataset
import dns.rdatatype
import dns.rrset
import dns.zone
import pytest

from oe.errors import ConfigError
from oe.lab import plan
from oe.lab.world import OTHER_KEY, zone_templates
from oe.lab.zonefiles import PublishedKey, fill, sign
from oe.model import KeyAlgorithm, PublicKey

NOW = datetime.now(UTC)
KEYS = {
    name: PublishedKey(number, b64encode(bytes([number]) * length).decode())
    for name, number, length in (
        ("alice", 3, 64),
        ("bob", 2, 388),
        ("dave", 3, 64),
        ("frank", 3, 64),
        ("gate", 4, 32),
        (OTHER_KEY, 3, 64),
    )
}


def _zone(origin: str) -> dns.zone.Zone:
    text = fill((zone_templates() / f"{origin}.zone").read_text(), KEYS)
    if origin in plan.SIGNED_ZONES:
        text = sign(origin, text, NOW, plan.BOGUS_OWNERS).text
    return dns.zone.from_text(text, origin=origin, relativize=False)


def _rrset(zone: dns.zone.Zone, owner: dns.name.Name, kind: str, covers: str = "NONE") -> dns.rrset.RRset:
    rdataset = zone.find_rdataset(owner, kind, covers)
    return dns.rrset.from_rdata_list(owner, rdataset.ttl, list(rdataset))


def _is_valid(zone: dns.zone.Zone, owner: str) -> bool:
    assert zone.origin is not None
    name = dns.name.from_text(owner)
    keys: dict[dns.name.Name, dns.node.Node | dns.rdataset.Rdataset] = {
        zone.origin: _rrset(zone, zone.origin, "DNSKEY")
    }
    try:
        dns.dnssec.validate(_rrset(zone, name, "IPSECKEY"), _rrset(zone, name, "RRSIG", "IPSECKEY"), keys)
    except dns.exception.ValidationFailure:
        return False
    return True


def test_placeholders_are_replaced_outside_comments() -> None:
    text = fill("; <bob.key> is bob's\n1 IPSECKEY 10 0 <bob.algorithm> . <bob.key>", KEYS)
    assert text == f"; <bob.key> is bob's\n1 IPSECKEY 10 0 2 . {KEYS['bob'].key}"


@pytest.mark.parametrize("line", ["<nobody.key>", "<bob.colour>"])
def test_an_unknown_placeholder_is_an_error(line: str) -> None:
    with pytest.raises(ConfigError, match="nothing is known"):
        fill(line, KEYS)


def test_character_strings_hold_the_whole_key() -> None:
    strings = KEYS["bob"].strings.split(" ")
    assert all(len(string) <= 255 for string in strings)
    assert "".join(string.strip('"') for string in strings) == KEYS["bob"].key


def test_a_published_key_is_what_the_record_carries() -> None:
    assert PublishedKey.of(PublicKey(KeyAlgorithm.EDDSA, bytes(32))) == PublishedKey(4, b64encode(bytes(32)).decode())


def test_signatures_hold_and_spoiled_ones_do_not() -> None:
    zone = _zone("100.51.198.in-addr.arpa")
    for group in plan.GROUPS:
        assert _is_valid(zone, plan.remote(group, plan.BOB_TCP).reverse_pointer)
        assert not _is_valid(zone, plan.remote(group, plan.FRANK).reverse_pointer)


def test_the_trust_anchor_is_the_zones_own_key() -> None:
    origin = "2.0.192.in-addr.arpa"
    signed = sign(origin, fill((zone_templates() / f"{origin}.zone").read_text(), KEYS), NOW)
    zone = dns.zone.from_text(signed.text, origin=origin, relativize=False)
    assert zone.origin is not None
    (key,) = _rrset(zone, zone.origin, "DNSKEY")
    assert signed.trust_anchor == f"{origin}. IN DS {dns.dnssec.make_ds(zone.origin, key, 'SHA256').to_text()}"


def test_the_zones_publish_what_the_plan_says() -> None:
    zones = [_zone(origin) for origin in (*plan.SIGNED_ZONES, *plan.UNSIGNED_ZONES)]
    published = {
        name.to_text(omit_final_dot=True)
        for zone in zones
        for name, node in zone.nodes.items()
        if any(rdataset.rdtype in (dns.rdatatype.IPSECKEY, dns.rdatatype.TXT) for rdataset in node.rdatasets)
    }
    silent = {plan.VICTIM, plan.UNDELEGATED_CLIENT, plan.UNLISTED}
    for host in plan.HOSTS:
        for address in host.addresses:
            expected = address == plan.REDIRECTED or (host.name not in ("dns", "carol") and address not in silent)
            assert (address.reverse_pointer in published) == expected, address


def test_clients_delegate_to_the_gate() -> None:
    zone = _zone("2.0.192.in-addr.arpa")
    for client in (plan.CLIENT, plan.CALLED_CLIENT):
        (record,) = _rrset(zone, dns.name.from_text(client.reverse_pointer), "IPSECKEY")
        assert ip_address(record.gateway) == plan.GATE
