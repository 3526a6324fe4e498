"""ML-KEM: known keys, FIPS 203 written down a second time where hashes suffice, and what is no key or ciphertext."""

from hashlib import sha3_512, sha256, shake_256

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from hypothesis import given
from hypothesis import strategies as st

from oe.errors import ParseError
from oe.ike import kem
from oe.ike.kem import KEMS, SEED_OCTETS, Decapsulation, encapsulate
from oe.ike.registry import KeyExchangeId

ML_KEM_768, ML_KEM_1024 = KeyExchangeId.ML_KEM_768, KeyExchangeId.ML_KEM_1024
PUBLIC = {ML_KEM_768: 1184, ML_KEM_1024: 1568}
CIPHERTEXT = {ML_KEM_768: 1088, ML_KEM_1024: 1568}
RANK = {ML_KEM_768: 3, ML_KEM_1024: 4}
Q = 3329


def half(method: KeyExchangeId, seed: bytes = bytes(range(SEED_OCTETS))) -> Decapsulation:
    return Decapsulation.generate(method, lambda size: seed if size == len(seed) else b"")


def test_both_are_here_the_smaller_one_first() -> None:
    assert KEMS == (ML_KEM_768, ML_KEM_1024)


@pytest.mark.parametrize(
    ("method", "seed", "digest"),
    [
        # Seeds of Wycheproof's vectors (tcId 1 of each set), and SHA-256 of the encapsulation key there.
        (
            ML_KEM_768,
            "cbfc4405d1b2a3a386c94c25e0f2d5f5ee92cb0388ff4d6aa04223086d51c3fd"
            "24752da14c9fc3b8ae0d9e4a8b1016b8d8fc69e229c03ea2ef08a4ae0cffc37f",
            "67fe2cb60768d55758c67bfd5842692dedb14513d581c48db2cd3adf94568106",
        ),
        (
            ML_KEM_1024,
            "8247c17686a8bc0b3afebe6bed1df1dc3ff7fa07c3670f624930235f20aecb43"
            "53ece11faa61f47d946ee501abb9a48029096de63b243a1794c4a760f98cc157",
            "5db6d38ecb5e92dda86dd468931bd4272def51b901c05979ce40053acc85a1e8",
        ),
    ],
)
def test_known_keys(method: KeyExchangeId, seed: str, digest: str) -> None:
    assert sha256(half(method, bytes.fromhex(seed)).public).hexdigest() == digest


@pytest.mark.parametrize("method", KEMS)
def test_a_key_ends_with_the_rho_of_its_seed(method: KeyExchangeId) -> None:
    # FIPS 203 algorithm 13: rho, sigma = G(d | k); the key is ByteEncode12(t) | rho.
    seed = bytes(range(SEED_OCTETS))
    assert half(method, seed).public[-32:] == sha3_512(seed[:32] + bytes((RANK[method],))).digest()[:32]


@pytest.mark.parametrize("method", KEMS)
def test_both_ends_have_the_same_secret(method: KeyExchangeId) -> None:
    ours = half(method)
    ciphertext, secret = encapsulate(method, ours.public)
    assert (len(ours.public), len(ciphertext), len(secret.octets)) == (PUBLIC[method], CIPHERTEXT[method], 32)
    assert ours.shared(ciphertext) == secret
    assert encapsulate(method, ours.public)[0] != ciphertext


@pytest.mark.parametrize("method", KEMS)
def test_a_foreign_ciphertext_gives_a_secret_of_nobody(method: KeyExchangeId) -> None:
    # FIPS 203 algorithm 18, implicit rejection: J(z | c), not an error that could be observed.
    seed, ciphertext = bytes(range(SEED_OCTETS)), b"\x05" * CIPHERTEXT[method]
    assert half(method, seed).shared(ciphertext).octets == shake_256(seed[32:] + ciphertext).digest(32)


@pytest.mark.parametrize("method", KEMS)
def test_a_key_with_a_coefficient_beyond_the_modulus_is_none(method: KeyExchangeId) -> None:
    # FIPS 203 7.2, the modulus check; coefficients are of 12 bits, little endian.
    good = half(method).public
    encapsulate(method, (Q - 1).to_bytes(2, "little") + good[2:])
    with pytest.raises(ParseError, match="not a public value"):
        encapsulate(method, Q.to_bytes(2, "little") + good[2:])


@given(st.sampled_from(KEMS), st.binary(max_size=2000))
def test_nothing_but_a_parse_error_escapes(method: KeyExchangeId, octets: bytes) -> None:
    if len(octets) != CIPHERTEXT[method]:
        with pytest.raises(ParseError):
            half(method).shared(octets)
    if len(octets) != PUBLIC[method]:
        with pytest.raises(ParseError):
            encapsulate(method, octets)


def test_what_openssl_does_not_know_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        @staticmethod
        def from_seed_bytes(_: bytes) -> None:
            raise UnsupportedAlgorithm("ML-KEM-768 is not supported by this backend")

    monkeypatch.setitem(kem._KNOWN, ML_KEM_768, (Old, Old))
    assert [method for method in kem._KNOWN if kem._is_supported(method)] == [ML_KEM_1024]


def test_nothing_secret_is_shown() -> None:
    assert "decapsulate" not in repr(half(ML_KEM_768))
