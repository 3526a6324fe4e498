"""AUTH: what it covers, how a signature names its algorithm, whether it is good (RFC 7296 2.15, RFC 7427, RFC 8420).

    InitiatorSignedOctets = first message as sent | Nr | prf(SK_pi, RestOfInitIDPayload) [| IntAuth]
    AUTH data, method 14  = length (8) | ASN.1 AlgorithmIdentifier | signature
               9, 10      = r | s, P-256 with SHA-256 or P-384 with SHA-384 (RFC 4754)
               13         = prf(prf(SK_pi, "Key Pad for IKEv2"), InitiatorSignedOctets) (RFC 7619)

Method 13 says that two messages come from one end and nothing about who that is. It has functions of its own, so that
no path through `verify` can take it for a proof.
"""

import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from oe.errors import ParseError
from oe.ike.crypto import prf
from oe.ike.payloads import AuthPayload, IdPayload, NotifyPayload
from oe.ike.publickeys import load
from oe.ike.registry import AuthMethod, HashId, NotifyType, PrfId
from oe.model import KeyAlgorithm, PublicKey, Secret, SignatureScheme
from oe.wire import Reader

OFFERED_HASHES = (HashId.SHA2_512, HashId.SHA2_384, HashId.SHA2_256, HashId.IDENTITY)
"""What we say we can verify with, in SIGNATURE_HASH_ALGORITHMS."""

_HASHES: dict[HashId, HashAlgorithm] = {
    HashId.SHA2_256: SHA256(),
    HashId.SHA2_384: SHA384(),
    HashId.SHA2_512: SHA512(),
}


@dataclass(frozen=True, slots=True)
class _Algorithm:
    """How a scheme stands on the wire, and what it asks for."""

    identifier: bytes
    """DER of the AlgorithmIdentifier (RFC 7427 appendix A, RFC 8420 2)."""
    key: KeyAlgorithm
    hash: HashId


def _tlv(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content


def _pss(hash_number: int, salt: int, null: bytes = b"\5\0") -> bytes:
    """id-RSASSA-PSS (RFC 7427 A.4): hash and MGF1 with the same SHA-2, salt as long as the hash.

    `hash_number` is the last arc of 2.16.840.1.101.3.4.2.n; `null` are the parameters beside each hash.
    """
    hash = _tlv(0x30, bytes.fromhex("06096086480165030402") + bytes((hash_number,)) + null)
    mgf = _tlv(0x30, bytes.fromhex("06092a864886f70d010108") + hash)
    parameters = _tlv(0xA0, hash) + _tlv(0xA1, mgf) + _tlv(0xA2, bytes((2, 1, salt)))
    return _tlv(0x30, bytes.fromhex("06092a864886f70d01010a") + _tlv(0x30, parameters))


def _pkcs1(number: int) -> bytes:
    """sha{256,384,512}WithRSAEncryption with NULL parameters (RFC 7427 A.1)."""
    return bytes.fromhex("300d06092a864886f70d0101") + bytes((number, 5, 0))


def _ecdsa(number: int) -> bytes:
    """ecdsa-with-SHA{256,384,512}, no parameters (RFC 7427 A.3)."""
    return bytes.fromhex("300a06082a8648ce3d0403") + bytes((number,))


_SCHEMES = {
    SignatureScheme.RSA_PSS_SHA512: _Algorithm(_pss(3, 64), KeyAlgorithm.RSA, HashId.SHA2_512),
    SignatureScheme.RSA_PSS_SHA384: _Algorithm(_pss(2, 48), KeyAlgorithm.RSA, HashId.SHA2_384),
    SignatureScheme.RSA_PSS_SHA256: _Algorithm(_pss(1, 32), KeyAlgorithm.RSA, HashId.SHA2_256),
    SignatureScheme.RSA_PKCS1_SHA512: _Algorithm(_pkcs1(13), KeyAlgorithm.RSA, HashId.SHA2_512),
    SignatureScheme.RSA_PKCS1_SHA384: _Algorithm(_pkcs1(12), KeyAlgorithm.RSA, HashId.SHA2_384),
    SignatureScheme.RSA_PKCS1_SHA256: _Algorithm(_pkcs1(11), KeyAlgorithm.RSA, HashId.SHA2_256),
    SignatureScheme.ECDSA_SHA256: _Algorithm(_ecdsa(2), KeyAlgorithm.ECDSA, HashId.SHA2_256),
    SignatureScheme.ECDSA_SHA384: _Algorithm(_ecdsa(3), KeyAlgorithm.ECDSA, HashId.SHA2_384),
    SignatureScheme.ECDSA_SHA512: _Algorithm(_ecdsa(4), KeyAlgorithm.ECDSA, HashId.SHA2_512),
    SignatureScheme.ED25519: _Algorithm(bytes.fromhex("300506032b6570"), KeyAlgorithm.EDDSA, HashId.IDENTITY),
}
_BY_IDENTIFIER = {
    **{algorithm.identifier: scheme for scheme, algorithm in _SCHEMES.items()},
    # RFC 4055 2.1: a hash may stand without the NULL, and must be understood either way.
    _pss(3, 64, null=b""): SignatureScheme.RSA_PSS_SHA512,
    _pss(2, 48, null=b""): SignatureScheme.RSA_PSS_SHA384,
    _pss(1, 32, null=b""): SignatureScheme.RSA_PSS_SHA256,
}

_P256_OCTETS, _P384_OCTETS = 64, 96
_RFC_4754 = {
    AuthMethod.ECDSA_SHA2_256_P256: (SignatureScheme.ECDSA_SHA256, _P256_OCTETS),
    AuthMethod.ECDSA_SHA2_384_P384: (SignatureScheme.ECDSA_SHA384, _P384_OCTETS),
}
"""Scheme of a method that names none, and the octets of r | s, which are also those of the key x | y."""


def _preferred(key: PublicKey) -> tuple[SignatureScheme, ...]:
    """What we sign with, best liked first. PKCS#1 v1.5 is not among it."""
    match key.algorithm:
        case KeyAlgorithm.RSA:
            return (SignatureScheme.RSA_PSS_SHA512, SignatureScheme.RSA_PSS_SHA384, SignatureScheme.RSA_PSS_SHA256)
        case KeyAlgorithm.ECDSA if len(key.data) == _P384_OCTETS:
            # The hash that is as strong as the curve; a shorter one would be the weaker part.
            return (SignatureScheme.ECDSA_SHA384, SignatureScheme.ECDSA_SHA512, SignatureScheme.ECDSA_SHA256)
        case KeyAlgorithm.ECDSA:
            return (SignatureScheme.ECDSA_SHA256, SignatureScheme.ECDSA_SHA384, SignatureScheme.ECDSA_SHA512)
        case KeyAlgorithm.EDDSA:
            return (SignatureScheme.ED25519,)


def signed_octets(
    message: bytes, nonce: bytes, prf_id: PrfId, sk_p: Secret, identity: IdPayload, int_auth: bytes = b""
) -> bytes:
    """The octets that one end's AUTH covers (RFC 7296 2.15, RFC 9242 3.3.2).

    `message`: its IKE_SA_INIT message as it was on the wire, the one that led to the keys (with a cookie, if any);
    `nonce`: the other end's; `sk_p`: SK_pi for the initiator, SK_pr for the responder; `identity`: its ID payload;
    `int_auth`: `IntAuth.octets`.
    """
    return message + nonce + prf(prf_id, sk_p.octets, identity.octets) + int_auth


# --- NULL authentication (RFC 7619) ------------------------------------------------------------------------------


def _null_data(prf_id: PrfId, sk_p: Secret, octets: bytes) -> bytes:
    return prf(prf_id, prf(prf_id, sk_p.octets, b"Key Pad for IKEv2"), octets)


def null_auth(prf_id: PrfId, sk_p: Secret, octets: bytes) -> AuthPayload:
    """The AUTH payload of an anonymous end: `octets` of `signed_octets`, `sk_p` as there (RFC 7619 2.1)."""
    return AuthPayload(AuthMethod.NULL, _null_data(prf_id, sk_p, octets))


def is_null_auth(auth: AuthPayload, prf_id: PrfId, sk_p: Secret, octets: bytes) -> bool:
    """It is a good AUTH of an anonymous end. That proves no identity at all: `Anonymity.ANONYMOUS`."""
    return auth.method == AuthMethod.NULL and hmac.compare_digest(auth.data, _null_data(prf_id, sk_p, octets))


# --- signatures --------------------------------------------------------------------------------------------------


@cache
def offer_hashes() -> NotifyPayload:
    """Our SIGNATURE_HASH_ALGORITHMS notify (RFC 7427 4)."""
    data = b"".join([id.to_bytes(2, "big") for id in OFFERED_HASHES])
    return NotifyPayload(NotifyType.SIGNATURE_HASH_ALGORITHMS, data)


def read_hashes(notify: NotifyPayload | None) -> frozenset[HashId]:
    """What the peer can verify with; empty when it sent none, or one of odd length."""
    return frozenset() if notify is None else _hashes(notify.data)


# Nearly all peers say the same.
@lru_cache(maxsize=64)
def _hashes(data: bytes) -> frozenset[HashId]:
    if len(data) % 2:
        return frozenset()
    return frozenset(HashId(int.from_bytes(data[at : at + 2], "big")) for at in range(0, len(data), 2))


def choose_scheme(key: PublicKey, peer_hashes: Collection[HashId]) -> SignatureScheme | None:
    """How to sign with our `key` for a peer that verifies with these hashes; None: there is no common way."""
    return next((scheme for scheme in _preferred(key) if _SCHEMES[scheme].hash in peer_hashes), None)


def wrap(scheme: SignatureScheme, signature: bytes) -> AuthPayload:
    """The AUTH payload for a signature (ECDSA: DER Ecdsa-Sig-Value, RFC 7427 3 and RFC 3279 2.2.3)."""
    identifier = _SCHEMES[scheme].identifier
    return AuthPayload(AuthMethod.DIGITAL_SIGNATURE, bytes((len(identifier),)) + identifier + signature)


def _split(auth: AuthPayload) -> tuple[SignatureScheme, bytes] | None:
    """Scheme and signature of an AUTH, an ECDSA one in DER whatever the method; None when it is something else."""
    if (found := _RFC_4754.get(auth.method)) is not None:
        scheme, size = found
        r, s = auth.data[: size // 2], auth.data[size // 2 :]
        der = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
        return (scheme, der) if len(auth.data) == size else None
    if auth.method != AuthMethod.DIGITAL_SIGNATURE:
        return None
    reader = Reader(auth.data, "AUTH data")
    try:
        identifier = reader.take(reader.u8("length of AlgorithmIdentifier"), "AlgorithmIdentifier")
    except ParseError:
        return None
    named = _BY_IDENTIFIER.get(identifier)
    return None if named is None else (named, reader.rest())


def verify(auth: AuthPayload, keys: Sequence[PublicKey], octets: bytes) -> PublicKey | None:
    """The first of `keys` that made this AUTH over `octets`, or None. Raises nothing, whatever the peer sent.

    Only signatures verify: method 14 with an algorithm whose hash is in `OFFERED_HASHES`, and methods 9 and 10, which
    are tied to their curve. NULL authentication (method 13) proves nothing: None.
    """
    found = _split(auth)
    if found is None:
        return None
    scheme, signature = found
    if auth.method in _RFC_4754:
        keys = [key for key in keys if len(key.data) == _RFC_4754[auth.method][1]]
    return next((key for key in keys if _is_good(scheme, key, signature, octets)), None)


def _is_good(scheme: SignatureScheme, key: PublicKey, signature: bytes, octets: bytes) -> bool:
    algorithm = _SCHEMES[scheme]
    if algorithm.key is not key.algorithm:
        return False
    try:
        match load(key):
            case RSAPublicKey() as rsa:
                rsa.verify(signature, octets, _padding(scheme), _HASHES[algorithm.hash])
            case Ed25519PublicKey() as edwards:
                edwards.verify(signature, octets)
            case curve:
                curve.verify(signature, octets, ec.ECDSA(_HASHES[algorithm.hash]))
    except (InvalidSignature, ParseError):
        return False
    return True


@cache
def _padding(scheme: SignatureScheme) -> padding.AsymmetricPadding:
    if scheme in (
        SignatureScheme.RSA_PKCS1_SHA256,
        SignatureScheme.RSA_PKCS1_SHA384,
        SignatureScheme.RSA_PKCS1_SHA512,
    ):
        return padding.PKCS1v15()
    hash = _HASHES[_SCHEMES[scheme].hash]
    return padding.PSS(padding.MGF1(hash), hash.digest_size)
