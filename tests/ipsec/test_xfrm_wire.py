"""XFRM messages: sizes and offsets of linux/xfrm.h, golden octets, round trips, noise.

That the kernel and `ip xfrm` read them as meant is shown in test_xfrm.py.
"""

import struct
import sys
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.errors import ParseError
from oe.ipsec import xfrm_wire as wire
from oe.ipsec.netlink_wire import NativeReader, attribute, decode_attributes
from oe.ipsec.operations import AddSa, KernelSa, Past, Policy, PutPolicy, Selector, Way, exemptions
from oe.ipsec.plan import Book
from oe.ipsec.reconcile import SeenSa
from oe.model import Address, ChildSa, Directions, EspCipher, Mode, SocketAddress
from tests.ipsec.children import CLIENT, FAR_CLIENT, OURS, OURS6, THEIRS, THEIRS6, child

SA_SIZE, POLICY_SIZE, POLICY_ID_SIZE, SA_ID_SIZE, TEMPLATE_SIZE = 224, 168, 64, 24, 64
LITTLE = pytest.mark.skipif(sys.byteorder != "little", reason="golden octets of a little-endian machine")


def sas(one: ChildSa) -> list[KernelSa]:
    return [step.sa for step in Book().plan_install(one, Directions.BOTH) if isinstance(step, AddSa)]


def policies(one: ChildSa) -> list[Policy]:
    return [step.policy for step in Book().plan_install(one, Directions.BOTH) if isinstance(step, PutPolicy)]


def attributes(octets: bytes) -> dict[int, bytes]:
    return decode_attributes(NativeReader(octets, "test"))


def test_structures_have_the_kernels_sizes() -> None:
    sa, policy = sas(child())[1], policies(child())[-1]
    assert len(wire.encode_policy_info(policy)) == POLICY_SIZE
    assert len(wire.encode_policy_id(policy.selector, policy.way)) == POLICY_ID_SIZE
    assert len(wire.encode_sa_id(sa.key)) == SA_ID_SIZE
    assert len(wire.encode_spi_request(THEIRS, OURS, 1)) == SA_SIZE + 8
    assert sorted(attributes(wire.encode_sa(sa)[SA_SIZE:])) == [18, 23]
    assert {kind: len(value) for kind, value in attributes(wire.encode_policy(policy)[POLICY_SIZE:]).items()} == {5: 64}


@LITTLE
def test_golden_policy_id() -> None:
    octets = wire.encode_policy_id(Selector.hosts(OURS, THEIRS), Way.OUT)
    assert octets.hex() == (
        "0a4d0002" + "00" * 12 + "0a4d0001" + "00" * 12  # destination, source
        + "00" * 8 + "0200" + "20" + "20" + "00" + "000000"  # ports, family, prefixes, protocol
        + "00" * 8 + "00000000" + "01" + "000000"  # device, user; index, direction
    )  # fmt: skip


@LITTLE
def test_golden_template() -> None:
    template = attributes(wire.encode_policy(policies(child(4))[-1])[POLICY_SIZE:])[5]
    assert template.hex() == (
        "0a4d0002" + "00" * 12 + "00002002" + "32000000"  # destination, SPI, ESP
        + "0200" + "0000" + "0a4d0001" + "00" * 12  # family, source
        + "0500006f" + "01" + "000000" + "ffffffff" * 3  # reqid, tunnel, any algorithm
    )  # fmt: skip


def test_fields_of_an_sa_are_where_the_kernel_looks_for_them() -> None:
    inbound, outbound = sas(child(4, pair=(CLIENT, FAR_CLIENT), gateways=(OURS6, THEIRS6), esn=False, lifetime=59.2))
    octets = wire.encode_sa(outbound)
    assert octets[:4] == FAR_CLIENT.packed  # selector
    assert octets[16:20] == CLIENT.packed
    assert struct.unpack_from("=HBB", octets, 40) == (2, 32, 32)
    assert octets[56:72] == THEIRS6.packed  # id
    assert octets[72:77] == b"\x00\x00\x20\x02\x32"
    assert octets[80:96] == OURS6.packed
    never = (1 << 64) - 1
    numbers = (1 << 32) - 1
    assert struct.unpack_from("=8Q", octets, 96) == (never, never, numbers * 3 // 4, numbers, 0, 61, 0, 0)
    assert struct.unpack_from("=IHBBB", octets, 208) == (outbound.reqid, 10, 1, 0, 0)
    assert struct.unpack_from("=8Q", wire.encode_sa(inbound), 96)[2] == never
    assert wire.encode_sa(replace(outbound, esn=True))[216] == 128
    assert wire.encode_sa(replace(outbound, mode=Mode.TRANSPORT))[214] == 0


def test_soft_limits_are_three_quarters_of_the_hard_ones_and_there_is_none_of_time() -> None:
    limits = struct.unpack_from("=6Q", wire.encode_sa(sas(child(octets=1 << 36, lifetime=3600.0))[0]), 96)
    assert (limits[:2], limits[4:]) == ((3 << 34, 1 << 36), (0, 3601))


@pytest.mark.parametrize("lifetime", [0.1, 1.0, 3599.0, 3599.2, 3599.999])
@pytest.mark.parametrize("late", [0.0, 0.5, 0.999])
def test_the_kernel_never_ends_an_sa_before_its_time(lifetime: float, late: float) -> None:
    """It counts whole seconds, from the one in which the SA was added; the owner's timer counts from the moment."""
    hard = struct.unpack_from("=8Q", wire.encode_sa(sas(child(4, lifetime=lifetime))[0]), 96)[5]
    assert lifetime + late <= hard < lifetime + 2


@pytest.mark.parametrize(("cipher", "bits"), [(EspCipher.AES_GCM_16_128, 160), (EspCipher.AES_GCM_16_256, 288)])
def test_algorithm_and_replay_window(cipher: EspCipher, bits: int) -> None:
    sa = sas(child(cipher=cipher))[1]
    found = attributes(wire.encode_sa(sa)[SA_SIZE:])
    assert found[18] == b"rfc4106(gcm(aes))".ljust(64, b"\0") + struct.pack("=II", bits, 128) + sa.esp.key.octets
    assert found[23] == struct.pack("=6I", 8, 0, 0, 0, 0, 256) + bytes(32)


def test_encapsulation_ports_are_big_endian() -> None:
    sa = replace(sas(child())[1], encapsulation=(4500, 61000))
    template = attributes(wire.encode_sa(sa)[SA_SIZE:])[4]
    assert len(template) == 24
    assert struct.unpack_from("=H", template) == (2,)
    assert struct.unpack_from("!HH", template, 2) == (4500, 61000)


def as_shown(sa: KernelSa, octets: int, packets: int) -> bytes:
    """What the kernel sends of an SA: the same structure, with counters."""
    body = bytearray(wire.encode_sa(sa))
    struct.pack_into("=QQ", body, 160, octets, packets)
    return bytes(body)


def test_sas_come_back() -> None:
    for ends in ((OURS, THEIRS), (OURS6, THEIRS6)):
        for sa in sas(child(gateways=ends)):
            assert wire.decode_sa(as_shown(sa, 1234, 5)) == SeenSa(sa.key, sa.reqid, 1234, 5)


def test_expiry_tells_soft_from_hard() -> None:
    sa = sas(child())[0]
    for hard in (0, 1):
        body = as_shown(sa, 0, 0)[:SA_SIZE] + bytes([hard]) + bytes(7)
        assert wire.decode_expire(body) == (SeenSa(sa.key, sa.reqid, 0, 0), bool(hard))


def farewell(sa: KernelSa, replay: bytes) -> bytes:
    """What the kernel sends when an SA is removed."""
    info = as_shown(sa, 1234, 5)[:SA_SIZE]
    return wire.encode_sa_id(sa.key) + attribute(6, info) + attribute(18, bytes(100)) + attribute(23, replay)


def test_an_sa_goes_on_where_the_one_before_ended() -> None:
    sa = sas(child())[1]
    replay = struct.pack("=6I", 8, 70, 60, 1, 0, 256) + bytes(range(32))
    past = wire.decode_farewell(farewell(sa, replay))
    assert past == Past(replay, struct.pack("=QQQQ", 1234, 5, 0, 0))
    found = attributes(wire.encode_sa(sa, past)[SA_SIZE:])
    assert (found[23], found[9]) == (replay, past.current)
    with pytest.raises(ParseError):
        wire.decode_farewell(farewell(sa, replay[:-4]))


@pytest.mark.parametrize(("ends", "family"), [((OURS, THEIRS), 2), ((OURS6, THEIRS6), 10)])
def test_a_mapping_tells_where_a_peer_is_now(ends: tuple[Address, Address], family: int) -> None:
    here, there = ends
    key = (here, 0x1001)
    old, new = there.packed.ljust(16, b"\0"), (there + 1).packed.ljust(16, b"\0")
    body = wire.encode_sa_id(key) + struct.pack("=I", 7) + old + new + struct.pack("!HH", 4500, 61000)
    assert body[20:22] == struct.pack("=H", family)
    assert wire.decode_mapping(body) == (key, SocketAddress(there + 1, 61000))
    assert wire.decode_mapping(body[:22] + b"\x33" + body[23:]) is None  # AH


def test_other_protocols_are_not_ours_to_read() -> None:
    body = bytearray(as_shown(sas(child())[0], 0, 0))
    body[76] = 51  # AH
    assert wire.decode_sa(bytes(body)) is None
    assert wire.decode_expire(bytes(body)) is None


@pytest.mark.parametrize("one", [child(), child(pair=(OURS6, THEIRS6)), child(mode=Mode.TRANSPORT)])
def test_policies_come_back_with_their_reqids(one: ChildSa) -> None:
    for policy in policies(one):
        seen = wire.decode_policy(wire.encode_policy(policy))
        assert seen is not None
        assert policy.template is not None
        assert seen.policy == replace(policy, template=None)
        assert seen.reqids == (policy.template.reqid,)


def test_exemptions_come_back() -> None:
    for policy in exemptions():
        seen = wire.decode_policy(wire.encode_policy(policy))
        assert seen is not None
        assert (seen.policy, seen.reqids) == (policy, ())


@pytest.mark.parametrize(
    ("offset", "octets"),
    [(32, b"\x00\x50"), (48, b"\x01"), (52, b"\x01"), (160, b"\x04"), (161, b"\x07")],
    ids=["port", "device", "user", "way of a socket", "action"],
)
def test_policies_of_a_form_we_never_make_are_passed_over(offset: int, octets: bytes) -> None:
    body = bytearray(wire.encode_policy(policies(child())[0]))
    body[offset : offset + len(octets)] = octets
    assert wire.decode_policy(bytes(body)) is None


def test_removed_sas_are_named_by_address_and_spi() -> None:
    for one in (child(), child(gateways=(OURS6, THEIRS6))):
        for sa in sas(one):
            assert wire.decode_removed_sa(wire.encode_sa_id(sa.key)) == sa.key
    other = bytearray(wire.encode_sa_id(sas(child())[0].key))
    other[22] = 51  # AH
    assert wire.decode_removed_sa(bytes(other)) is None


def test_removed_policies_are_read_from_their_attribute() -> None:
    """The kernel leaves the selector out when the policy was named by its index."""
    for policy in policies(child()):
        body = bytes(len(wire.encode_policy_id(policy.selector, policy.way)))
        seen = wire.decode_removed_policy(body + attribute(7, wire.encode_policy_info(policy)))
        assert seen is not None
        assert (seen.policy.selector, seen.policy.way) == (policy.selector, policy.way)


@given(st.binary(max_size=400))
def test_noise_is_a_value_or_a_parse_error(octets: bytes) -> None:
    decoders = (wire.decode_sa, wire.decode_expire, wire.decode_policy)
    for decode in (
        *decoders,
        wire.decode_removed_sa,
        wire.decode_removed_policy,
        wire.decode_farewell,
        wire.decode_mapping,
    ):
        with suppress(ParseError):
            decode(octets)


@given(st.data())
def test_so_is_a_damaged_message(data: st.DataObject) -> None:
    damaged = bytearray(wire.encode_policy(policies(child())[0]))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ParseError):
        wire.decode_policy(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
