"""Key exchange: RFC vectors, replay from entropy, bad public values."""

import random
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from oe.errors import ParseError
from oe.ike.kex import KEY_EXCHANGES, KeyExchange
from oe.ike.registry import KeyExchangeId

X25519, P256, P384 = KeyExchangeId.CURVE25519, KeyExchangeId.ECP_256, KeyExchangeId.ECP_384
MODP_2048, MODP_3072 = KeyExchangeId.MODP_2048, KeyExchangeId.MODP_3072
LENGTHS = {X25519: 32, P256: 64, P384: 96, MODP_2048: 256, MODP_3072: 384}
PRIME_2048 = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
"""RFC 3526 3."""


def fixed(hexadecimal: str) -> Callable[[int], bytes]:
    """Entropy that is just this."""

    def entropy(octets: int) -> bytes:
        value = bytes.fromhex(hexadecimal)
        assert len(value) == octets
        return value

    return entropy


def seeded(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def test_x25519_vector_of_rfc_7748_6_1() -> None:
    alice = KeyExchange.generate(X25519, fixed("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = KeyExchange.generate(X25519, fixed("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    assert alice.public.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob.public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    secret = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert alice.shared(bob.public).octets.hex() == bob.shared(alice.public).octets.hex() == secret


def test_p256_vector_of_rfc_5903_8_1() -> None:
    def half(scalar: str) -> KeyExchange:
        # 40 octets of entropy become the scalar that is one more.
        return KeyExchange.generate(P256, fixed(f"{int(scalar, 16) - 1:080x}"))

    initiator = half("C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433")
    responder = half("C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53")
    assert initiator.public.hex().upper() == (
        "DAD0B65394221CF9B051E1FECA5787D098DFE637FC90B9EF945D0C3772581180"
        "5271A0461CDB8252D61F1C456FA3E59AB1F45B33ACCF5F58389E0577B8990BB3"
    )
    secret = "D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE"
    assert initiator.shared(responder.public).octets.hex().upper() == secret


def test_p384_vector_of_rfc_5903_8_2() -> None:
    def half(scalar: str) -> KeyExchange:
        # 56 octets of entropy become the scalar that is one more.
        return KeyExchange.generate(P384, fixed(f"{int(scalar, 16) - 1:0112x}"))

    initiator = half("099F3C7034D4A2C699884D73A375A67F7624EF7C6B3C0F160647B67414DCE655E35B538041E649EE3FAEF896783AB194")
    responder = half("41CB0779B4BDB85D47846725FBEC3C9430FAB46CC8DC5060855CC9BDA0AA2942E0308312916B8ED2960E4BD55A7448FC")
    assert initiator.public.hex().upper() == (
        "667842D7D180AC2CDE6F74F37551F55755C7645C20EF73E31634FE72B4C55EE6DE3AC808ACB4BDB4C88732AEE95F41AA"
        "9482ED1FC0EEB9CAFC4984625CCFC23F65032149E0E144ADA024181535A0F38EEB9FCFF3C2C947DAE69B4C634573A81C"
    )
    assert responder.public.hex().upper() == (
        "E558DBEF53EECDE3D3FCCFC1AEA08A89A987475D12FD950D83CFA41732BC509D0D1AC43A0336DEF96FDA41D0774A3571"
        "DCFBEC7AACF3196472169E838430367F66EEBE3C6E70C416DD5F0C68759DD1FFF83FA40142209DFF5EAAD96DB9E6386C"
    )
    secret = "11187331C279962D93D604243FD592CB9D0A926F422E47187521287E7156C5C4D603135569B9E9D09CF5D4A270F59746"
    assert initiator.shared(responder.public).octets.hex().upper() == secret


@pytest.mark.parametrize("seed", range(3))
def test_modp_2048_is_powers_of_two(seed: int) -> None:
    exponent = int.from_bytes(seeded(seed)(32), "big") | 1 << 255
    half = KeyExchange.generate(MODP_2048, seeded(seed))
    assert int.from_bytes(half.public, "big") == pow(2, exponent, PRIME_2048)
    peer = pow(2, 12345, PRIME_2048)
    shared = half.shared(peer.to_bytes(256, "big")).octets
    assert shared == pow(peer, exponent, PRIME_2048).to_bytes(256, "big")


@pytest.mark.parametrize("group", KEY_EXCHANGES)
def test_both_ends_agree_and_replay(group: KeyExchangeId) -> None:
    one, other = KeyExchange.generate(group, seeded(1)), KeyExchange.generate(group, seeded(2))
    assert len(one.public) == LENGTHS[group]
    assert one.shared(other.public) == other.shared(one.public)
    assert len(one.shared(other.public).octets) == LENGTHS[group] // (2 if group in (P256, P384) else 1)
    assert KeyExchange.generate(group, seeded(1)).public == one.public
    assert "_agree" not in repr(one)


@pytest.mark.parametrize("group", KEY_EXCHANGES)
def test_a_public_value_of_another_length_is_refused(group: KeyExchangeId) -> None:
    octets = KeyExchange.generate(group, seeded(2)).public
    for wrong in (b"", octets[:1], octets[:-1], octets + b"\0", b"\4" + octets):
        with pytest.raises(ParseError, match=f"{len(wrong)} octets are not a public value of {group.name}"):
            KeyExchange.generate(group, seeded(1)).shared(wrong)


SMALL_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]
"""Points that give zero whatever the private key (RFC 7748 6.1, RFC 8031 2)."""


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_x25519_points_of_small_order_are_refused(point: str) -> None:
    with pytest.raises(ParseError):
        KeyExchange.generate(X25519, seeded(1)).shared(bytes.fromhex(point))


@pytest.mark.parametrize("group", [P256, P384])
def test_points_that_are_not_on_the_curve_are_refused(group: KeyExchangeId) -> None:
    half = KeyExchange.generate(group, seeded(1))
    twisted = bytearray(KeyExchange.generate(group, seeded(2)).public)
    twisted[-1] ^= 1
    for octets in (bytes(twisted), bytes(len(twisted)), b"\xff" * len(twisted)):
        with pytest.raises(ParseError):
            half.shared(octets)


@pytest.mark.parametrize("value", [0, 1, PRIME_2048 - 1, PRIME_2048, PRIME_2048 + 2, 2**2048 - 1])
def test_modp_values_that_fix_the_secret_are_refused(value: int) -> None:
    with pytest.raises(ParseError):
        KeyExchange.generate(MODP_2048, seeded(1)).shared(value.to_bytes(256, "big"))


@given(st.sampled_from([X25519, P256, P384, MODP_2048]), st.binary(max_size=300))
def test_garbage_is_a_secret_or_a_parse_error(group: KeyExchangeId, octets: bytes) -> None:
    try:
        HALVES[group].shared(octets)
    except ParseError:
        return


HALVES = {group: KeyExchange.generate(group, seeded(1)) for group in KEY_EXCHANGES}


@pytest.mark.parametrize(("group", "curve"), [(P256, ec.SECP256R1()), (P384, ec.SECP384R1())])
def test_entropy_at_its_ends_gives_legal_scalars(group: KeyExchangeId, curve: ec.EllipticCurve) -> None:
    generator = ec.derive_private_key(1, curve).public_key().public_numbers()
    lowest = KeyExchange.generate(group, bytes)
    assert lowest.public.startswith(generator.x.to_bytes(len(lowest.public) // 2, "big"))
    KeyExchange.generate(group, lambda octets: b"\xff" * octets)


def test_modp_takes_any_entropy() -> None:
    assert KeyExchange.generate(MODP_2048, bytes).public == pow(2, 1 << 255, PRIME_2048).to_bytes(256, "big")
