"""AUTH: octets, algorithm identifiers (certificates are the second opinion), signatures good and bad."""

import hmac
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from oe.ike.auth import (
    OFFERED_HASHES,
    choose_scheme,
    is_null_auth,
    null_auth,
    offer_hashes,
    read_hashes,
    signed_octets,
    verify,
    wrap,
)
from oe.ike.crypto import prf
from oe.ike.payloads import AuthPayload, IdPayload, NotifyPayload
from oe.ike.registry import AuthMethod, HashId, NotifyType, PayloadType, PrfId
from oe.model import KeyAlgorithm, PublicKey, Secret, SignatureScheme

OCTETS = b"what is signed"
Hash = SHA256 | SHA384 | SHA512
HASHES: dict[str, Hash] = {"sha256": SHA256(), "sha384": SHA384(), "sha512": SHA512()}
Signer = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey


@cache
def signer(algorithm: KeyAlgorithm) -> Signer:
    match algorithm:
        case KeyAlgorithm.RSA:
            return rsa.generate_private_key(65537, 2048)
        case KeyAlgorithm.ECDSA:
            return ec.derive_private_key(7, ec.SECP256R1())
        case KeyAlgorithm.EDDSA:
            return Ed25519PrivateKey.from_private_bytes(bytes(32))


@cache
def public(algorithm: KeyAlgorithm) -> PublicKey:
    key = signer(algorithm).public_key()
    if isinstance(key, rsa.RSAPublicKey):
        data = b"\3\1\0\1" + key.public_numbers().n.to_bytes(256, "big")
    elif isinstance(key, ec.EllipticCurvePublicKey):
        data = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
    else:
        data = key.public_bytes_raw()
    return PublicKey(algorithm, data)


ALL_KEYS = tuple(public(algorithm) for algorithm in KeyAlgorithm)


def algorithm_of(scheme: SignatureScheme) -> KeyAlgorithm:
    prefixes = {"rsa": KeyAlgorithm.RSA, "ecdsa": KeyAlgorithm.ECDSA, "ed25519": KeyAlgorithm.EDDSA}
    return prefixes[scheme.value.split("-", 1)[0]]


def rsa_padding(scheme: SignatureScheme, digest: Hash) -> padding.PSS | padding.PKCS1v15:
    return padding.PSS(padding.MGF1(digest), digest.digest_size) if "pss" in scheme.value else padding.PKCS1v15()


@cache
def sign(scheme: SignatureScheme, octets: bytes = OCTETS) -> bytes:
    key = signer(algorithm_of(scheme))
    digest = HASHES.get(scheme.value.rsplit("-", 1)[-1], SHA256())
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(octets, rsa_padding(scheme, digest), digest)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(octets, ec.ECDSA(digest))
    return key.sign(octets)


def certificate(scheme: SignatureScheme) -> bytes:
    """A certificate signed that way: its outer AlgorithmIdentifier is the one that AUTH data has."""
    name = x509.Name([])
    key = signer(algorithm_of(scheme))
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(
        datetime(2027, 1, 1, tzinfo=UTC)
    )
    digest = HASHES.get(scheme.value.rsplit("-", 1)[-1], SHA256())
    if isinstance(key, rsa.RSAPrivateKey):
        return builder.sign(key, digest, rsa_padding=rsa_padding(scheme, digest)).public_bytes(Encoding.DER)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return builder.sign(key, digest).public_bytes(Encoding.DER)
    return builder.sign(key, None).public_bytes(Encoding.DER)


def identifier(scheme: SignatureScheme) -> bytes:
    data = wrap(scheme, b"").data
    assert data[0] == len(data) - 1
    return data[1:]


@pytest.mark.parametrize(
    ("scheme", "hexadecimal"),
    [
        # RFC 7427 A.1 to A.4, RFC 8420 2
        (SignatureScheme.RSA_PKCS1_SHA256, "300d06092a864886f70d01010b0500"),
        (SignatureScheme.RSA_PKCS1_SHA384, "300d06092a864886f70d01010c0500"),
        (SignatureScheme.RSA_PKCS1_SHA512, "300d06092a864886f70d01010d0500"),
        (SignatureScheme.ECDSA_SHA256, "300a06082a8648ce3d040302"),
        (SignatureScheme.ECDSA_SHA512, "300a06082a8648ce3d040304"),
        (SignatureScheme.ED25519, "300506032b6570"),
        (
            SignatureScheme.RSA_PSS_SHA256,
            "304106092a864886f70d01010a3034a00f300d06096086480165030402010500"
            "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120",
        ),
    ],
)
def test_identifiers_of_the_rfcs(scheme: SignatureScheme, hexadecimal: str) -> None:
    assert identifier(scheme).hex() == hexadecimal


@pytest.mark.parametrize("scheme", SignatureScheme)
def test_identifiers_are_those_of_certificates(scheme: SignatureScheme) -> None:
    assert identifier(scheme) in certificate(scheme)


@pytest.mark.parametrize("scheme", SignatureScheme)
def test_a_good_signature_finds_its_key(scheme: SignatureScheme) -> None:
    auth = wrap(scheme, sign(scheme))
    assert auth.method is AuthMethod.DIGITAL_SIGNATURE
    assert verify(auth, ALL_KEYS, OCTETS) == public(algorithm_of(scheme))


@pytest.mark.parametrize("scheme", SignatureScheme)
def test_nothing_but_the_signed_octets_and_their_key_verifies(scheme: SignatureScheme) -> None:
    auth = wrap(scheme, sign(scheme))
    assert verify(auth, ALL_KEYS, OCTETS + b"\0") is None
    assert verify(auth, (), OCTETS) is None
    assert verify(auth, [key for key in ALL_KEYS if key.algorithm is not algorithm_of(scheme)], OCTETS) is None
    assert verify(AuthPayload(auth.method, auth.data[:-1]), ALL_KEYS, OCTETS) is None
    assert verify(AuthPayload(auth.method, auth.data + b"\0"), ALL_KEYS, OCTETS) is None


def test_a_signature_under_another_name_does_not_verify() -> None:
    names = {scheme: wrap(scheme, sign(SignatureScheme.RSA_PSS_SHA256)) for scheme in SignatureScheme}
    good = [scheme for scheme, auth in names.items() if verify(auth, ALL_KEYS, OCTETS)]
    assert good == [SignatureScheme.RSA_PSS_SHA256]


def test_a_salt_of_another_length_does_not_verify() -> None:
    key = signer(KeyAlgorithm.RSA)
    assert isinstance(key, rsa.RSAPrivateKey)
    signature = key.sign(OCTETS, padding.PSS(padding.MGF1(SHA256()), 20), SHA256())
    assert verify(wrap(SignatureScheme.RSA_PSS_SHA256, signature), ALL_KEYS, OCTETS) is None


def test_a_hash_without_null_parameters_is_understood() -> None:
    # RFC 4055 2.1 lets them be absent; lengths shrink by two for each hash.
    blob = bytes.fromhex(
        "303d06092a864886f70d01010a3030a00d300b0609608648016503040203"
        "a11a301806092a864886f70d010108300b0609608648016503040203a203020140"
    )
    auth = AuthPayload(AuthMethod.DIGITAL_SIGNATURE, bytes((len(blob),)) + blob + sign(SignatureScheme.RSA_PSS_SHA512))
    assert verify(auth, ALL_KEYS, OCTETS) == public(KeyAlgorithm.RSA)


def test_any_of_several_keys_may_verify_and_useless_ones_do_no_harm() -> None:
    good = public(KeyAlgorithm.RSA)
    other = PublicKey(KeyAlgorithm.RSA, good.data[:-1] + bytes((good.data[-1] ^ 2,)))
    broken = PublicKey(KeyAlgorithm.RSA, b"\3\1\0\1short")
    auth = wrap(SignatureScheme.RSA_PSS_SHA512, sign(SignatureScheme.RSA_PSS_SHA512))
    assert verify(auth, (broken, other, good), OCTETS) == good


@pytest.mark.parametrize("method", [AuthMethod.NULL, AuthMethod.RSA_SHA1, AuthMethod.SHARED_KEY_MIC, AuthMethod(201)])
def test_no_other_method_proves_anything(method: AuthMethod) -> None:
    for data in (b"", sign(SignatureScheme.RSA_PSS_SHA256), wrap(SignatureScheme.ED25519, b"").data):
        assert verify(AuthPayload(method, data), ALL_KEYS, OCTETS) is None


@given(st.binary(max_size=300), st.sampled_from([None, *SignatureScheme]))
def test_garbage_verifies_nothing_and_raises_nothing(data: bytes, scheme: SignatureScheme | None) -> None:
    auth = AuthPayload(AuthMethod.DIGITAL_SIGNATURE, data) if scheme is None else wrap(scheme, data)
    assert verify(auth, ALL_KEYS, OCTETS) is None


@pytest.mark.parametrize(
    ("algorithm", "hashes", "scheme"),
    [
        (KeyAlgorithm.RSA, {HashId.SHA2_256, HashId.SHA2_384, HashId.SHA2_512}, SignatureScheme.RSA_PSS_SHA512),
        (KeyAlgorithm.RSA, {HashId.SHA2_256, HashId.SHA2_384}, SignatureScheme.RSA_PSS_SHA384),
        (KeyAlgorithm.RSA, {HashId.SHA2_256, HashId.SHA1}, SignatureScheme.RSA_PSS_SHA256),
        (KeyAlgorithm.RSA, {HashId.SHA1, HashId.IDENTITY}, None),
        (KeyAlgorithm.RSA, set(), None),
        (KeyAlgorithm.ECDSA, set(OFFERED_HASHES), SignatureScheme.ECDSA_SHA256),
        (KeyAlgorithm.ECDSA, {HashId.SHA2_512}, SignatureScheme.ECDSA_SHA512),
        (KeyAlgorithm.EDDSA, set(OFFERED_HASHES), SignatureScheme.ED25519),
        (KeyAlgorithm.EDDSA, {HashId.SHA2_512}, None),
    ],
)
def test_choosing_a_scheme(algorithm: KeyAlgorithm, hashes: set[HashId], scheme: SignatureScheme | None) -> None:
    assert choose_scheme(public(algorithm), hashes) is scheme


@cache
def p384() -> tuple[ec.EllipticCurvePrivateKey, PublicKey]:
    key = ec.derive_private_key(11, ec.SECP384R1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return key, PublicKey(KeyAlgorithm.ECDSA, point[1:])


@pytest.mark.parametrize(
    ("hashes", "scheme"),
    [
        (set(OFFERED_HASHES), SignatureScheme.ECDSA_SHA384),
        ({HashId.SHA2_256, HashId.SHA2_512}, SignatureScheme.ECDSA_SHA512),
        ({HashId.SHA2_256}, SignatureScheme.ECDSA_SHA256),
    ],
)
def test_p384_signs_with_a_hash_as_strong_as_it_is(hashes: set[HashId], scheme: SignatureScheme) -> None:
    private, key = p384()
    assert choose_scheme(key, hashes) is scheme
    auth = wrap(scheme, private.sign(OCTETS, ec.ECDSA(HASHES[scheme.value.rsplit("-", 1)[-1]])))
    assert verify(auth, (*ALL_KEYS, key), OCTETS) == key
    assert verify(auth, ALL_KEYS, OCTETS) is None


RFC_4754 = {
    AuthMethod.ECDSA_SHA2_256_P256: (
        bytes.fromhex(
            "2442A5CC0ECD015FA3CA31DC8E2BBC70BF42D60CBCA20085E0822CB04235E970"
            "6FC98BD7E50211A4A27102FA3549DF79EBCB4BF246B80945CDDFE7D509BBFD7D"
        ),
        bytes.fromhex(
            "CB28E0999B9C7715FD0A80D8E47A77079716CBBF917DD72E97566EA1C066957C"
            "86FA3BB4E26CAD5BF90B7F81899256CE7594BB1EA0C89212748BFF3B3D5B0315"
        ),
    ),
    AuthMethod.ECDSA_SHA2_384_P384: (
        bytes.fromhex(
            "96281BF8DD5E0525CA049C048D345D3082968D10FEDF5C5ACA0C64E6465A97EA5CE10C9DFEC21797415710721F437922"
            "447688BA94708EB6E2E4D59F6AB6D7EDFF9301D249FE49C33096655F5D502FAD3D383B91C5E7EDAA2B714CC99D5743CA"
        ),
        bytes.fromhex(
            "FB017B914E29149432D8BAC29A514640B46F53DDAB2C69948084E2930F1C8F7E08E07C9C63F2D21A07DCB56A6AF56EB3"
            "B263A1305E057F984D38726A1B46874109F417BCA112674C528262A40A629AF1CBB9F516CE0FA7D2FF630863A00E8B9F"
        ),
    ),
}
"""Key and signature of "abc", RFC 4754 8.1 and 8.2."""


@pytest.mark.parametrize("method", RFC_4754)
def test_vectors_of_rfc_4754(method: AuthMethod) -> None:
    octets, signature = RFC_4754[method]
    key = PublicKey(KeyAlgorithm.ECDSA, octets)
    assert verify(AuthPayload(method, signature), (*ALL_KEYS, key), b"abc") == key
    assert verify(AuthPayload(method, signature), ALL_KEYS, b"abc") is None
    assert verify(AuthPayload(method, signature), (key,), b"abd") is None


@pytest.mark.parametrize("method", RFC_4754)
def test_the_methods_of_rfc_4754_are_tied_to_their_form(method: AuthMethod) -> None:
    octets, signature = RFC_4754[method]
    key = PublicKey(KeyAlgorithm.ECDSA, octets)
    for other in (*(set(RFC_4754) - {method}), AuthMethod.ECDSA_SHA2_512_P521, AuthMethod.DIGITAL_SIGNATURE):
        assert verify(AuthPayload(other, signature), (key,), b"abc") is None
    for odd in (b"", signature[:-1], signature + b"\0", bytes(len(signature)), b"\xff" * len(signature)):
        assert verify(AuthPayload(method, odd), (key,), b"abc") is None


def test_a_method_of_one_curve_takes_no_key_of_another() -> None:
    private, key = p384()
    for _ in range(8):
        r, s = decode_dss_signature(private.sign(OCTETS, ec.ECDSA(SHA256())))
        data = (r % 2**256).to_bytes(32, "big") + (s % 2**256).to_bytes(32, "big")
        assert verify(AuthPayload(AuthMethod.ECDSA_SHA2_256_P256, data), (key,), OCTETS) is None


def test_vector_of_rfc_8032_7_1() -> None:
    key = PublicKey(
        KeyAlgorithm.EDDSA, bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    )
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert verify(wrap(SignatureScheme.ED25519, signature), (key,), b"\x72") == key


def test_null_authentication_is_a_shared_key_mic_with_sk_p() -> None:
    # RFC 7619 2.1: prf(prf(SK_px, "Key Pad for IKEv2"), <SignedOctets>), RFC 7296 2.15
    def by_definition(key: bytes, data: bytes) -> bytes:
        return hmac.new(key, data, sha256).digest()

    auth = null_auth(PrfId.HMAC_SHA2_256, Secret(b"sk_pi"), OCTETS)
    assert auth.method is AuthMethod.NULL
    assert auth.data == by_definition(by_definition(b"sk_pi", b"Key Pad for IKEv2"), OCTETS)
    assert is_null_auth(auth, PrfId.HMAC_SHA2_256, Secret(b"sk_pi"), OCTETS)


@pytest.mark.parametrize("id", [PrfId.HMAC_SHA2_256, PrfId.HMAC_SHA2_384, PrfId.HMAC_SHA2_512])
def test_null_authentication_is_never_a_proof(id: PrfId) -> None:
    auth = null_auth(id, Secret(b"sk_pi"), OCTETS)
    assert verify(auth, ALL_KEYS, OCTETS) is None
    assert not is_null_auth(auth, id, Secret(b"sk_pr"), OCTETS)
    assert not is_null_auth(auth, id, Secret(b"sk_pi"), OCTETS + b"\0")
    for method in set(AuthMethod) - {AuthMethod.NULL}:
        assert not is_null_auth(AuthPayload(method, auth.data), id, Secret(b"sk_pi"), OCTETS)


@given(st.binary(max_size=80))
def test_garbage_is_not_null_authentication(data: bytes) -> None:
    assert not is_null_auth(AuthPayload(AuthMethod.NULL, data), PrfId.HMAC_SHA2_256, Secret(b"sk_pi"), OCTETS)


def test_hash_notify() -> None:
    assert offer_hashes().data == bytes.fromhex("0004000300020005")
    assert read_hashes(offer_hashes()) == set(OFFERED_HASHES)
    assert read_hashes(None) == frozenset()
    unknown = NotifyPayload(NotifyType.SIGNATURE_HASH_ALGORITHMS, bytes.fromhex("000200ff"))
    assert read_hashes(unknown) == {HashId.SHA2_256, 255}
    assert read_hashes(NotifyPayload(NotifyType.SIGNATURE_HASH_ALGORITHMS, b"\0\2\0")) == frozenset()


def test_signed_octets_are_message_nonce_and_identity_under_the_prf() -> None:
    identity = IdPayload(PayloadType.ID_I, b"\1\xff\xff\xff\xc0\0\2\1")
    octets = signed_octets(b"message", b"nonce", PrfId.HMAC_SHA2_256, Secret(b"sk_pi"), identity)
    assert octets == b"messagenonce" + prf(PrfId.HMAC_SHA2_256, b"sk_pi", identity.octets)
    longer = signed_octets(b"message", b"nonce", PrfId.HMAC_SHA2_256, Secret(b"sk_pi"), identity, b"IntAuth")
    assert longer == octets + b"IntAuth"
