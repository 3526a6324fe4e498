"""ESP octets: against RFC 4106's construction, against scapy as a second opinion, and against an attacker."""

from ipaddress import IPv4Address
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Packet, Raw

from oe.ipsec.esp import InboundEsp, OutboundEsp, addresses_octets, addresses_of
from oe.model import Address, EspCipher, EspSa, HostPair
from oe.reasons import Reason
from tests.ipsec.children import OURS, OURS6, THEIRS, THEIRS6, key

SPI = 0x11223344
CIPHERS = list(EspCipher)


def sa(cipher: EspCipher = EspCipher.AES_GCM_16_128) -> EspSa:
    return EspSa(SPI, cipher, key(cipher, 7))


def inner(source: Address = THEIRS, destination: Address = OURS, size: int = 100) -> bytes:
    """A UDP packet, theirs to ours unless said otherwise."""
    layer = IP if source.version == 4 else IPv6
    return bytes(layer(src=str(source), dst=str(destination)) / UDP(sport=1, dport=2) / Raw(bytes(size)))


def ends(esn: bool = True, pair: HostPair | None = None, window: int = 64) -> tuple[OutboundEsp, InboundEsp]:
    """The peer's outbound and our inbound half of one SA."""
    return OutboundEsp(sa(), esn), InboundEsp(sa(), esn, pair or HostPair(OURS, THEIRS), window)


def sealed(outbound: OutboundEsp, packet: bytes | None = None) -> bytes:
    octets = outbound.seal(inner() if packet is None else packet)
    assert isinstance(octets, bytes)
    return octets


def forged(plain: bytes, sequence: int = 1) -> bytes:
    """ESP octets of a peer that knows the key but not the rules: `plain` is encrypted as it is."""
    octets = sa().key.octets
    header, iv = SPI.to_bytes(4, "big") + sequence.to_bytes(4, "big"), sequence.to_bytes(8, "big")
    return header + iv + AESGCM(octets[:-4]).encrypt(octets[-4:] + iv, plain, header)


# --- the good case ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("esn", [False, True])
@pytest.mark.parametrize("cipher", CIPHERS)
@given(size=st.integers(0, 70))
def test_what_is_sealed_opens(cipher: EspCipher, esn: bool, size: int) -> None:
    outbound, inbound = OutboundEsp(sa(cipher), esn), InboundEsp(sa(cipher), esn, HostPair(OURS6, THEIRS6))
    packet = inner(THEIRS6, OURS6, size)
    octets = sealed(outbound, packet)
    assert len(octets) % 4 == 0
    assert inbound.open(octets) == packet
    assert (outbound.packets, outbound.octets) == (inbound.packets, inbound.octets) == (1, len(packet))


def test_octets_are_those_of_rfc_4106() -> None:
    """Built by hand: nonce is salt and IV, the authenticated octets are SPI and number (section 5)."""
    octets, packet = sa().key.octets, inner(size=1)
    plain = packet + bytes([1]) + bytes([1, 4])
    without_esn = sealed(OutboundEsp(sa(), esn=False), packet)
    header, iv = bytes.fromhex("1122334400000001"), bytes.fromhex("0000000000000001")
    assert without_esn == header + iv + AESGCM(octets[:16]).encrypt(octets[16:] + iv, plain, header)
    with_esn = sealed(OutboundEsp(sa(), esn=True), packet)
    longer = bytes.fromhex("11223344 00000000 00000001")
    assert with_esn == header + iv + AESGCM(octets[:16]).encrypt(octets[16:] + iv, plain, longer)


# --- a second opinion ------------------------------------------------------------------------------------------


def scapy_sa(cipher: EspCipher, esn: int | None, outer: Packet) -> Any:
    """scapy's half; its class has no types."""
    make: Any = SecurityAssociation
    return make(
        ESP,
        spi=SPI,
        crypt_algo="AES-GCM",
        crypt_key=key(cipher, 7).octets,
        tunnel_header=outer,
        esn_en=esn is not None,
        esn=esn or 0,
    )


@pytest.mark.parametrize("esn", [None, 0, 5])
@pytest.mark.parametrize("pair", [(OURS, THEIRS), (OURS6, THEIRS6)], ids=["inner4", "inner6"])
@pytest.mark.parametrize("outer", [IP(src="192.0.2.1", dst="192.0.2.2"), IPv6(src="2001:db8::1", dst="2001:db8::2")])
@pytest.mark.parametrize("cipher", CIPHERS)
def test_scapy_and_we_understand_each_other(
    cipher: EspCipher, outer: Packet, pair: tuple[Address, Address], esn: int | None
) -> None:
    second = scapy_sa(cipher, esn, outer)
    packet = inner(pair[1], pair[0], 33)
    layer = IP if packet[0] >> 4 == 4 else IPv6

    inbound = InboundEsp(sa(cipher), esn is not None, HostPair(*pair))
    first_number = (esn or 0) << 32
    if first_number:
        inbound._window.accept(first_number)
    theirs = second.encrypt(layer(packet), seq_num=9, esn_en=esn is not None, esn=esn or 0)
    assert inbound.open(bytes(theirs[ESP])) == packet

    outbound = OutboundEsp(sa(cipher), esn is not None)
    outbound.packets = first_number + 41
    ours = outer.copy() / ESP(sealed(outbound, packet))
    again = second.decrypt(type(outer)(bytes(ours)), verify=False, esn_en=esn is not None, esn=esn or 0)
    assert bytes(again) == packet


# --- numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("esn", "last"), [(False, (1 << 32) - 1), (True, (1 << 64) - 1)])
def test_numbers_run_out_and_never_wrap(esn: bool, last: int) -> None:
    outbound, _ = ends(esn)
    outbound.packets = last - 1
    assert isinstance(outbound.seal(inner()), bytes)
    assert outbound.seal(inner()) is Reason.ESP_SEQUENCE_EXHAUSTED
    assert outbound.seal(inner()) is Reason.ESP_SEQUENCE_EXHAUSTED
    assert outbound.packets == last


def test_esn_goes_on_where_32_bits_end() -> None:
    outbound, inbound = ends()
    outbound.packets = inbound._window.highest = (1 << 32) - 3
    packets = [sealed(outbound) for _ in range(6)]
    for octets in (packets[1], packets[4], packets[0], packets[2], packets[3], packets[5]):
        assert isinstance(inbound.open(octets), bytes)
    assert all(inbound.open(octets) is Reason.ESP_REPLAYED for octets in packets)


@given(st.lists(st.integers(0, 99), max_size=150))
def test_no_packet_opens_twice_in_whatever_order(order: list[int]) -> None:
    outbound, inbound = ends(window=64)
    packets = [sealed(outbound) for _ in range(100)]
    opened = [number for number in order if isinstance(inbound.open(packets[number]), bytes)]
    assert len(opened) == len(set(opened))
    highest = -1
    for number in dict.fromkeys(order):
        if number > highest - 64:
            assert number in opened
        highest = max(highest, number)


def test_a_forged_number_does_not_move_the_window() -> None:
    outbound, inbound = ends(esn=False)
    octets = sealed(outbound)
    assert inbound.open(octets[:4] + b"\xff\xff\xff\xff" + octets[8:]) is Reason.ESP_INTEGRITY_FAILED
    assert inbound.open(octets) == inner()


# --- what a peer may get wrong ---------------------------------------------------------------------------------


def end_of(plain: bytes, next_header: int = 4) -> bytes:
    """Pad correctly."""
    count = -(len(plain) + 2) % 4
    return plain + bytes(range(1, count + 1)) + bytes([count, next_header])


PACKET = inner()
WRONG = {
    "not a multiple of four": (forged(end_of(PACKET))[:-1], Reason.ESP_MALFORMED),
    "too short": (bytes(32), Reason.ESP_MALFORMED),
    "empty": (b"", Reason.ESP_MALFORMED),
    "other padding": (forged(PACKET + bytes([7, 7, 2, 4])), Reason.ESP_MALFORMED),
    "padding beyond the beginning": (forged(bytes([1, 2, 255, 4])), Reason.ESP_MALFORMED),
    "number zero": (forged(end_of(PACKET), 0), Reason.ESP_REPLAYED),
    "IPv6 that claims to be IPv4": (forged(end_of(inner(THEIRS6, OURS6), 4)), Reason.ESP_MALFORMED),
    "IPv4 that claims to be IPv6": (forged(end_of(PACKET, 41)), Reason.ESP_MALFORMED),
    "the other family": (forged(end_of(inner(THEIRS6, OURS6), 41)), Reason.ESP_SELECTOR_MISMATCH),
    "transport mode": (forged(end_of(PACKET[20:], 17)), Reason.ESP_SELECTOR_MISMATCH),
    "another source": (forged(end_of(inner(IPv4Address("10.77.0.3")))), Reason.ESP_SELECTOR_MISMATCH),
    "another destination": (forged(end_of(inner(THEIRS, IPv4Address("127.0.0.1")))), Reason.ESP_SELECTOR_MISMATCH),
    "the pair the wrong way round": (forged(end_of(inner(OURS, THEIRS))), Reason.ESP_SELECTOR_MISMATCH),
    "half a header": (forged(end_of(PACKET[:19])), Reason.ESP_MALFORMED),
    "half a header, version 6": (forged(end_of(inner(THEIRS6, OURS6)[:39], 41)), Reason.ESP_MALFORMED),
    "longer than it is": (forged(end_of(PACKET[:-1])), Reason.ESP_MALFORMED),
    "longer than it is, version 6": (forged(end_of(inner(THEIRS6, OURS6)[:-1], 41)), Reason.ESP_MALFORMED),
    "header length below five words": (forged(end_of(b"\x44" + PACKET[1:])), Reason.ESP_MALFORMED),
    "shorter than its header": (forged(end_of(PACKET[:2] + b"\0\x13" + PACKET[4:])), Reason.ESP_MALFORMED),
}


@pytest.mark.parametrize(("octets", "reason"), WRONG.values(), ids=WRONG.keys())
def test_wrong_packets_are_dropped_for_their_reason(octets: bytes, reason: Reason) -> None:
    _, inbound = ends(esn=False)
    assert inbound.open(octets) is reason
    assert (inbound.packets, inbound.octets) == (0, 0)


def test_dummy_packets_are_nothing_to_deliver() -> None:
    _, inbound = ends(esn=False)
    assert inbound.open(forged(bytes([9, 9, 0, 59]))) == b""
    assert inbound.packets == 0


@pytest.mark.parametrize("noise", [1, 2, 3, 4, 200, 255])
@pytest.mark.parametrize("pair", [(OURS, THEIRS), (OURS6, THEIRS6)])
def test_padding_against_traffic_analysis_is_cut_off(pair: tuple[Address, Address], noise: int) -> None:
    _, inbound = ends(esn=False, pair=HostPair(*pair))
    packet = inner(pair[1], pair[0])
    assert inbound.open(forged(end_of(packet + b"\xaa" * noise, 4 if pair[0].version == 4 else 41))) == packet


def test_padding_may_be_longer_than_needed() -> None:
    _, inbound = ends(esn=False)
    count = 254 - len(PACKET) % 4
    assert inbound.open(forged(PACKET + bytes(range(1, count + 1)) + bytes([count, 4]))) == PACKET


@given(st.binary(max_size=200), st.booleans())
def test_only_reasons_come_back_from_noise(octets: bytes, esn: bool) -> None:
    _, inbound = ends(esn)
    assert isinstance(inbound.open(octets), Reason)


@given(st.binary(min_size=2, max_size=200), st.booleans())
def test_only_reasons_or_our_packets_come_back_from_a_hostile_peer(plain: bytes, six: bool) -> None:
    pair = HostPair(OURS6, THEIRS6) if six else HostPair(OURS, THEIRS)
    _, inbound = ends(esn=False, pair=pair)
    packet = inbound.open(forged(plain))
    if isinstance(packet, bytes) and packet:
        assert addresses_of(packet) == addresses_octets(pair.destination, pair.source)


@given(st.integers(0, 1199), st.integers(1, 255))
def test_every_octet_counts(position: int, change: int) -> None:
    outbound, inbound = ends()
    octets = bytearray(sealed(outbound))
    position %= len(octets) - 4
    octets[position + 4] ^= change  # the SPI found this SA; the rest is authenticated
    assert isinstance(inbound.open(bytes(octets)), Reason)


def test_secrets_do_not_show() -> None:
    outbound, inbound = ends()
    assert "Secret(20 octets)" in repr(sa())
    for half in (outbound, inbound):
        assert sa().key.octets.hex() not in repr(half)


@given(st.binary(max_size=60))
def test_addresses_are_found_or_nothing(packet: bytes) -> None:
    assert len(addresses_of(packet)) in (0, 8, 32)


def test_addresses_are_those_of_the_header() -> None:
    assert addresses_of(inner()) == addresses_octets(THEIRS, OURS)
    assert addresses_of(inner(THEIRS6, OURS6)) == addresses_octets(THEIRS6, OURS6)
