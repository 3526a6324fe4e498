"""What we print is what dnspython and we ourselves read."""

from ipaddress import ip_address

import dns.rdatatype
import dns.zonefile
from hypothesis import given
from hypothesis import strategies as st

from oe.dnskeys.names import reverse_name
from oe.dnskeys.publish import zone_lines
from oe.dnskeys.records import decode_ipseckey
from oe.model import Address, Delegation, PublicKey, RecordKind
from tests.dnskeys.replies import ED_KEY, RSA_KEY, encoded

V4, V6 = ip_address("192.0.2.1"), ip_address("2001:db8::1")


def read(lines: tuple[str, ...]) -> list[Delegation]:
    found = []
    for line in lines:
        (rrset,) = dns.zonefile.read_rrsets(line, rdclass=None, default_ttl=1, origin=".", relativize=False)
        assert rrset.rdtype == dns.rdatatype.IPSECKEY
        for rdata in rrset:
            decoded = decode_ipseckey(rdata.to_wire() or b"")
            assert isinstance(decoded, Delegation)
            found.append(decoded)
    return found


def test_the_line_for_oneself_is_the_form_libreswan_reads() -> None:
    (line,) = zone_lines(V4, [RSA_KEY])
    assert line == f"1.2.0.192.in-addr.arpa. 3600 IN IPSECKEY 10 0 2 . {encoded(RSA_KEY)}"


def test_a_gateway_elsewhere_is_named() -> None:
    (line,) = zone_lines(V6, [ED_KEY], V4)
    assert line.startswith(reverse_name(V6) + " ")
    assert line.endswith(f" IN IPSECKEY 10 1 4 192.0.2.1 {encoded(ED_KEY)}")


def test_oneself_as_gateway_gets_both_forms() -> None:
    assert [delegation.gateway for delegation in read(zone_lines(V6, [ED_KEY], V6))] == [None, V6]


def test_a_rollover_publishes_all_keys() -> None:
    assert [delegation.key for delegation in read(zone_lines(V4, [ED_KEY, RSA_KEY]))] == [ED_KEY, RSA_KEY]


@given(st.sampled_from([RSA_KEY, ED_KEY]), st.ip_addresses(), st.sampled_from([V4, V6]))
def test_others_read_what_was_meant(key: PublicKey, owner: Address, gateway: Address) -> None:
    lines = zone_lines(owner, [key], gateway)
    assert read(lines)[-1] == Delegation(RecordKind.IPSECKEY, 10, gateway, None, key)
    assert {line.split()[0] for line in lines} == {reverse_name(owner)}
