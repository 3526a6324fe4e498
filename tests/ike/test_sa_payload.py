import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.errors import ParseError
from oe.ike.registry import ProtocolId, TransformType
from oe.ike.sa_payload import MAX_PROPOSALS, Proposal, SaPayload, Transform
from oe.wire import Reader
from tests.ike.strategies import sa_payloads


def decode(octets: bytes) -> SaPayload:
    return SaPayload.decode(Reader(octets, "test"))


GCM_256 = bytes.fromhex("0300000c 01000014 800e0100")
PRF_512 = bytes.fromhex("00000008 02000007")


def proposal(transforms: bytes, count: int, last: int = 0) -> bytes:
    return bytes((last, 0)) + (8 + len(transforms)).to_bytes(2, "big") + bytes((1, 1, 0, count)) + transforms


@given(sa_payloads)
def test_what_was_encoded_decodes_to_the_same(payload: SaPayload) -> None:
    assert decode(payload.body()) == payload


@given(st.binary(max_size=200))
def test_garbage_is_a_value_or_a_parse_error(octets: bytes) -> None:
    try:
        decode(octets)
    except ParseError:
        return


@given(sa_payloads, st.data())
def test_mutations_are_a_value_or_a_parse_error(payload: SaPayload, data: st.DataObject) -> None:
    octets = bytearray(payload.body())
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(octets[: data.draw(st.integers(0, len(octets)))]))
    except ParseError:
        return


def test_octets_of_a_known_proposal() -> None:
    transforms = (Transform(TransformType.ENCRYPTION, 20, 256), Transform(TransformType.PRF, 7))
    expected = SaPayload((Proposal(1, ProtocolId.IKE, b"", transforms),))
    assert decode(proposal(GCM_256 + PRF_512, 2)) == expected
    assert expected.body() == proposal(GCM_256 + PRF_512, 2)


@pytest.mark.parametrize(
    "attribute",
    [
        "800f0100",  # another fixed attribute
        "0012000401020304",  # a variable one
        "000e00020100",  # key length in variable form
        "800e0100800e0080",  # key length twice
    ],
)
def test_a_transform_with_an_odd_attribute_is_kept_but_marked(attribute: str) -> None:
    octets = bytes.fromhex(attribute)
    transform = bytes((0, 0, 0, 8 + len(octets), 1, 0, 0, 20)) + octets
    found = decode(proposal(transform, 1)).proposals[0].transforms[0]
    assert (found.id, found.is_understood) == (20, False)


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (b"", "need 8 octets"),
        (proposal(GCM_256 + PRF_512, 3), "'last' field is 0"),
        (proposal(GCM_256 + PRF_512, 1), "'last' field is 3"),
        (proposal(GCM_256 + PRF_512, 2, last=1), "'last' field is 1"),
        (proposal(GCM_256 + PRF_512, 2, last=2), "need 8 octets, have 0"),
        (proposal(GCM_256 + PRF_512, 2) + b"\0", "1 octets left over"),
        (proposal(PRF_512 + b"\0", 1), "1 octets left over"),
        (bytes((0, 0, 0, 7, 1, 1, 0, 0)), "need -1 octets"),
        (bytes((0, 0, 0, 8, 1, 1, 4, 0)), "SPI"),
        (proposal(bytes((0, 0, 0, 7, 2, 0, 0, 7)), 1), "need -1 octets"),
        (proposal(bytes((0, 0, 0, 10, 1, 0, 0, 20, 0x80, 14)), 1), "attribute length"),
        (proposal(bytes((0, 0, 0, 12, 1, 0, 0, 20, 0, 99, 255, 255)), 1), "attribute value"),
        (proposal(PRF_512, 1, last=2) * MAX_PROPOSALS + proposal(PRF_512, 1), "more than 32 proposals"),
    ],
)
def test_what_disagrees_with_itself_is_a_parse_error(octets: bytes, what: str) -> None:
    with pytest.raises(ParseError, match=what):
        decode(octets)
