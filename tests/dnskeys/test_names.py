"""Reverse names and host names."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import dns.name
import dns.reversename
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from oe.dnskeys.names import checked_host, host_labels, reverse_labels, reverse_name, shown
from oe.errors import ParseError


def test_reverse_names() -> None:
    assert reverse_name(ip_address("192.0.2.10")) == "10.2.0.192.in-addr.arpa."
    nibbles = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
    assert reverse_name(ip_address("2001:db8::1")) == nibbles


@given(st.ip_addresses())
def test_reverse_names_are_those_of_dnspython(address: IPv4Address | IPv6Address) -> None:
    assume(not isinstance(address, IPv6Address) or address.ipv4_mapped is None)  # dnspython names the v4 one
    theirs = dns.reversename.from_address(str(address))
    assert dns.name.from_text(reverse_name(address)) == theirs
    assert (*reverse_labels(address), b"") == theirs.labels


def test_host_names() -> None:
    assert host_labels("Gate.Example.") == (b"gate", b"example")
    assert host_labels("_a-1") == (b"_a-1",)
    assert shown(host_labels("Gate.Example")) == "gate.example"


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", ".a", "a b", "a\x00b", "ä.example", "a" * 64, ".".join(["a" * 63] * 4), "a/b", "*"]
)
def test_what_is_no_host_name(text: str) -> None:
    with pytest.raises(ParseError):
        host_labels(text)


def test_a_label_with_a_dot_inside_is_no_host() -> None:
    with pytest.raises(ParseError):
        checked_host((b"a.b", b"example"))


def test_nothing_in_a_shown_name_can_garble_a_terminal() -> None:
    assert shown((b"a\x1b[2J", b"b.c", b"example")) == "a\\027\\0912\\074.b\\046c.example"
    assert shown(()) == "."


@given(st.lists(st.binary(min_size=1, max_size=63), max_size=4))
def test_shown_names_are_plain(labels: list[bytes]) -> None:
    assert shown(tuple(labels)).isprintable()
