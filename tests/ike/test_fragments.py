"""Cutting messages and putting fragments together: whatever comes in between, only the peer's own message comes out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.errors import ParseError
from oe.ike.crypto import SkCipher
from oe.ike.fragments import THRESHOLDS, Fragmentation, Plain, Reassembly, cut_again, seal_message
from oe.ike.message import (
    HEADER_OCTETS,
    MAX_FRAGMENTS,
    MAX_MESSAGE_OCTETS,
    Header,
    Message,
    Place,
    decode_message,
    decode_plain,
    encode_chain,
    open_octets,
    seal_chain,
)
from oe.ike.payloads import VendorPayload
from oe.ike.registry import ExchangeType, PayloadType
from oe.model import Secret

KEY, OTHER_KEY = Secret(bytes(range(36))), Secret(bytes(36))
HEADER = Header(1, 2, ExchangeType.IKE_AUTH, False, True, 1)
LARGE = tuple(VendorPayload(bytes([number]) * 200) for number in range(20))


def agreed(version: int = 4, *, marked: bool = False) -> Fragmentation:
    fragmentation = Fragmentation(version)
    fragmentation.agree(marked=marked)
    return fragmentation


def put(reassembly: Reassembly, datagram: bytes, cipher: SkCipher | None = None) -> Plain | None:
    """What a receiver does with a fragment."""
    message = decode_message(datagram)
    assert message.sealed is not None
    place = message.sealed.place
    assert place is not None
    if not reassembly.wants(message.header.message_id, place):
        return None
    plain = open_octets(message, cipher or SkCipher(KEY))
    return None if plain is None else reassembly.put(message, message.sealed, place, plain)


def places(datagrams: tuple[bytes, ...]) -> list[Place | None]:
    return [message.sealed.place for message in map(decode_message, datagrams) if message.sealed is not None]


# --- cutting ---------------------------------------------------------------------------------------------------


def test_what_fits_or_must_not_be_cut_stays_whole() -> None:
    (small,) = seal_message(HEADER, LARGE[:2], SkCipher(KEY), agreed())
    (large,) = seal_message(HEADER, LARGE, SkCipher(KEY), Fragmentation(4))
    for datagram in (small, large):
        message = decode_message(datagram)
        assert message.sealed is not None
        assert message.sealed.place is None
    assert len(large) > 4000


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize(("version", "headers"), [(4, 20 + 8), (6, 40 + 8)])
def test_no_packet_is_larger_than_the_threshold(version: int, headers: int, marked: bool) -> None:
    fragmentation = agreed(version, marked=marked)
    outside = headers + 4 if marked else headers
    for threshold in THRESHOLDS[version]:
        datagrams = seal_message(HEADER, LARGE, SkCipher(KEY), fragmentation)
        assert max(map(len, datagrams)) + outside == threshold
        assert places(datagrams) == [Place(number, len(datagrams)) for number in range(1, len(datagrams) + 1)]
        fragmentation.shrink(datagrams)


def test_only_the_first_fragment_says_what_comes_first() -> None:
    messages = [decode_message(datagram) for datagram in seal_message(HEADER, LARGE, SkCipher(KEY), agreed())]
    assert [message.header for message in messages] == [HEADER] * len(messages)
    assert [message.sealed.first for message in messages if message.sealed] == [PayloadType.VENDOR, 0, 0, 0]


def test_the_largest_message_fits_the_most_fragments() -> None:
    fragmentation = agreed()
    fragmentation.follow(0)
    large = tuple(VendorPayload(bytes(1020)) for _ in range(MAX_MESSAGE_OCTETS // 1024))
    datagrams = seal_message(HEADER, large, SkCipher(KEY), fragmentation)
    assert len(datagrams) <= MAX_FRAGMENTS
    reassembly = Reassembly()
    whole = [put(reassembly, datagram) for datagram in datagrams][-1]
    assert whole is not None
    assert len(whole.octets) == MAX_MESSAGE_OCTETS


# --- probing ---------------------------------------------------------------------------------------------------


def test_room_shrinks_step_by_step_where_size_may_be_the_reason() -> None:
    fragmentation = agreed()
    assert not fragmentation.shrink((bytes(500),))
    assert fragmentation.room == 1252
    assert fragmentation.shrink((bytes(1252), bytes(10)))
    assert fragmentation.room == 548
    assert not fragmentation.shrink((bytes(548),))


@pytest.mark.parametrize("size", [None, 540, 544, 700])
def test_a_peer_that_goes_to_port_4500_leaves_room_for_the_marker(size: int | None) -> None:
    fragmentation = agreed()
    if size is not None:
        fragmentation.follow(size)
    for _ in range(2):
        fragmentation.mark()
        assert fragmentation.room == {None: 1248, 700: 696}.get(size, 544)
    never = Fragmentation(4)
    never.mark()
    assert never.room is None


def test_a_single_message_that_is_larger_than_the_small_threshold_is_cut_too() -> None:
    fragmentation = agreed()
    datagrams = seal_message(HEADER, LARGE[:5], SkCipher(KEY), fragmentation)
    assert len(datagrams) == 1
    assert fragmentation.shrink(datagrams)
    assert len(cut_again(datagrams, SkCipher(KEY), fragmentation)) > 1


def test_nothing_shrinks_without_agreement_nor_below_what_ipv6_guarantees() -> None:
    assert not Fragmentation(4).shrink((bytes(3000),))
    assert not agreed(6).shrink((bytes(1232),))


@given(st.integers(0, 2000))
def test_the_peers_fragments_tell_what_comes_through(size: int) -> None:
    fragmentation = agreed()
    fragmentation.follow(size)
    assert fragmentation.room == min(max(size, 548), 1252)


@given(st.integers(1, 6000), st.integers(549, 1252))
def test_each_cut_has_more_fragments_than_the_one_before(octets: int, first_room: int) -> None:
    """By their number alone the peer tells the sets apart (RFC 7383 2.5.2)."""
    cipher, fragmentation = SkCipher(KEY), agreed()
    fragmentation.follow(first_room)
    payloads = (VendorPayload(bytes(octets)),)
    before = seal_message(HEADER, payloads, cipher, fragmentation)
    if fragmentation.shrink(before):
        after = cut_again(before, cipher, fragmentation)
        assert len(after) > len(before)
        assert max(map(len, after)) <= 548
        assert cut_again(after, cipher, fragmentation) is after
        reassembly = Reassembly()
        whole = [put(reassembly, datagram) for datagram in after][-1]
        assert whole is not None
        assert decode_plain(whole.first, whole.octets) == payloads


# --- putting together ------------------------------------------------------------------------------------------


@given(st.data())
def test_in_any_order_with_duplicates_forgeries_and_older_sets_the_message_comes_out_once(data: st.DataObject) -> None:
    payloads = tuple(VendorPayload(octets) for octets in data.draw(st.lists(st.binary(min_size=300), min_size=4)))
    cipher, fragmentation = SkCipher(KEY), agreed()
    older = seal_message(HEADER, payloads, cipher, fragmentation)
    fragmentation.room = 548
    newest = cut_again(older, cipher, fragmentation)
    forger = SkCipher(OTHER_KEY)
    forged = tuple(
        seal_chain(HEADER, PayloadType.VENDOR, b"forged", forger, Place(number, total))
        for total in (len(newest), len(newest) + 1, MAX_FRAGMENTS)
        for number in (1, total)
    )
    older = older if len(older) > 1 else ()
    stream = data.draw(st.permutations((*newest, *newest, *forged, *older[:-1])))
    reassembly = Reassembly()
    whole = [found for datagram in stream if (found := put(reassembly, datagram)) is not None]
    first, chain = encode_chain(payloads)
    assert [(found.first, found.octets) for found in whole[:1]] == [(first, chain)]


def test_a_set_of_more_fragments_replaces_one_of_fewer_and_never_the_other_way_round() -> None:
    cipher, fragmentation = SkCipher(KEY), agreed()
    few = seal_message(HEADER, LARGE, cipher, fragmentation)
    fragmentation.shrink(few)
    many = cut_again(few, cipher, fragmentation)
    reassembly = Reassembly()
    assert [put(reassembly, datagram) for datagram in (few[0], few[1], many[0])] == [None] * 3
    assert (reassembly.total, reassembly.largest) == (len(many), 548)
    assert [put(reassembly, datagram) for datagram in few] == [None] * len(few)
    assert [put(reassembly, datagram) is not None for datagram in many[1:]] == [False] * (len(many) - 2) + [True]


def test_a_forged_larger_set_replaces_nothing() -> None:
    few = seal_message(HEADER, LARGE, SkCipher(KEY), agreed())
    reassembly = Reassembly()
    put(reassembly, few[0])
    assert put(reassembly, seal_chain(HEADER, 0, b"", SkCipher(OTHER_KEY), Place(2, MAX_FRAGMENTS))) is None
    assert [put(reassembly, datagram) is not None for datagram in few[1:]] == [False, False, True]


def test_a_duplicate_is_not_worth_decrypting() -> None:
    reassembly = Reassembly()
    first, second, *_ = seal_message(HEADER, LARGE, SkCipher(KEY), agreed())
    put(reassembly, first)
    assert not reassembly.wants(1, Place(1, 4))
    assert not reassembly.wants(1, Place(2, 3))
    assert reassembly.wants(1, Place(2, 4))
    assert reassembly.wants(1, Place(1, 5))
    assert reassembly.wants(2, Place(1, 1))
    put(reassembly, second)
    assert not reassembly.wants(1, Place(2, 4))


def test_a_set_of_one_is_whole_at_once() -> None:
    datagram = seal_chain(HEADER, PayloadType.VENDOR, b"\0\0\0\4", SkCipher(KEY), Place(1, 1))
    assert put(Reassembly(), datagram) == Plain(decode_message(datagram), PayloadType.VENDOR, b"\0\0\0\4")


def test_an_empty_fragment_is_a_fragment() -> None:
    reassembly = Reassembly()
    cipher = SkCipher(KEY)
    assert put(reassembly, seal_chain(HEADER, 0, b"\0\0\0\4", cipher, Place(2, 2))) is None
    first = seal_chain(HEADER, PayloadType.VENDOR, b"", cipher, Place(1, 2))
    assert put(reassembly, first) == Plain(decode_message(first), PayloadType.VENDOR, b"\0\0\0\4")


def test_too_much_is_not_kept() -> None:
    reassembly = Reassembly()
    cipher = SkCipher(KEY)
    share = bytes(5000)
    for number in (1, 2, 3):
        put(reassembly, seal_chain(HEADER, 0, share, cipher, Place(number, 4)))
    with pytest.raises(ParseError, match="16384"):
        put(reassembly, seal_chain(HEADER, 0, share, cipher, Place(4, 4)))
    assert reassembly == Reassembly(None, 4, reassembly.largest)


def test_another_message_takes_the_place_of_one_that_never_became_whole() -> None:
    reassembly = Reassembly()
    cipher = SkCipher(KEY)
    put(reassembly, seal_message(HEADER, LARGE, cipher, agreed())[0])
    later = Header(1, 2, ExchangeType.INFORMATIONAL, False, True, 2)
    datagrams = seal_message(later, LARGE, cipher, agreed())
    whole = [put(reassembly, datagram) for datagram in datagrams][-1]
    assert whole is not None
    assert whole.message.header == later


@pytest.mark.parametrize(("number", "total"), [(0, 0), (0, 1), (2, 1), (1, MAX_FRAGMENTS + 1), (0xFFFF, 0xFFFF)])
def test_impossible_places_do_not_parse(number: int, total: int) -> None:
    datagram = seal_chain(HEADER, 0, b"", SkCipher(KEY), Place(number, total))
    with pytest.raises(ParseError, match=f"fragment {number} of {total}"):
        decode_message(datagram)


@given(st.binary(max_size=40))
def test_hostile_fragments_are_a_value_or_a_parse_error(tail: bytes) -> None:
    octets = HEADER.encode(PayloadType.SKF, HEADER_OCTETS + 4 + len(tail))
    octets += b"\0\0" + (4 + len(tail)).to_bytes(2, "big") + tail
    try:
        message = decode_message(octets)
    except ParseError:
        return
    assert isinstance(message, Message)
    assert put(Reassembly(), octets) is None
