"""AUTH: what is signed, how a signature names its algorithm, whether it is good (RFC 7296 2.15, RFC 7427, RFC 8420).

InitiatorSignedOctets = first message as sent | Nr | prf(SK_pi, RestOfInitIDPayload)
AUTH data (method 14) = length (8) | ASN.1 AlgorithmIdentifier | signature
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
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

_PREFERRED = {
    KeyAlgorithm.RSA: (SignatureScheme.RSA_PSS_SHA512, SignatureScheme.RSA_PSS_SHA384, SignatureScheme.RSA_PSS_SHA256),
    KeyAlgorithm.ECDSA: (SignatureScheme.ECDSA_SHA256, SignatureScheme.ECDSA_SHA384, SignatureScheme.ECDSA_SHA512),
    KeyAlgorithm.EDDSA: (SignatureScheme.ED25519,),
}
"""What we sign with, best liked first. PKCS#1 v1.5 is not among it."""


def signed_octets(message: bytes, nonce: bytes, prf_id: PrfId, sk_p: Secret, identity: IdPayload) -> bytes:
    """The octets that one end's AUTH covers (RFC 7296 2.15).

    `message`: its IKE_SA_INIT message as it was on the wire, the one that led to the keys (with a cookie, if any);
    `nonce`: the other end's; `sk_p`: SK_pi for the initiator, SK_pr for the responder; `identity`: its ID payload.
    """
    return message + nonce + prf(prf_id, sk_p.octets, identity.octets)


def offer_hashes() -> NotifyPayload:
    """Our SIGNATURE_HASH_ALGORITHMS notify (RFC 7427 4)."""
    data = b"".join([id.to_bytes(2, "big") for id in OFFERED_HASHES])
    return NotifyPayload(NotifyType.SIGNATURE_HASH_ALGORITHMS, data)


def read_hashes(notify: NotifyPayload | None) -> frozenset[HashId]:
    """What the peer can verify with; empty when it sent none, or one of odd length."""
    if notify is None or len(notify.data) % 2:
        return frozenset()
    numbers = memoryview(notify.data)
    return frozenset(HashId(int.from_bytes(numbers[at : at + 2], "big")) for at in range(0, len(numbers), 2))


def choose_scheme(key: PublicKey, peer_hashes: Collection[HashId]) -> SignatureScheme | None:
    """How to sign with our `key` for a peer that verifies with these hashes; None: there is no common way."""
    return next((scheme for scheme in _PREFERRED[key.algorithm] if _SCHEMES[scheme].hash in peer_hashes), None)


def wrap(scheme: SignatureScheme, signature: bytes) -> AuthPayload:
    """The AUTH payload for a signature (ECDSA: DER Ecdsa-Sig-Value, RFC 7427 3 and RFC 3279 2.2.3)."""
    identifier = _SCHEMES[scheme].identifier
    return AuthPayload(AuthMethod.DIGITAL_SIGNATURE, bytes((len(identifier),)) + identifier + signature)


def _split(auth: AuthPayload) -> tuple[SignatureScheme, bytes] | None:
    """Scheme and signature of a method-14 AUTH; None when it is something else."""
    if auth.method != AuthMethod.DIGITAL_SIGNATURE:
        return None
    reader = Reader(auth.data, "AUTH data")
    try:
        identifier = reader.take(reader.u8("length of AlgorithmIdentifier"), "AlgorithmIdentifier")
    except ParseError:
        return None
    scheme = _BY_IDENTIFIER.get(identifier)
    return None if scheme is None else (scheme, reader.rest())


def verify(auth: AuthPayload, keys: Sequence[PublicKey], octets: bytes) -> PublicKey | None:
    """The first of `keys` that made this AUTH over `octets`, or None. Raises nothing, whatever the peer sent.

    Only method 14 with an algorithm whose hash is in `OFFERED_HASHES` verifies. NULL authentication (method 13,
    RFC 7619) proves nothing: None.
    """
    found = _split(auth)
    if found is None:
        return None
    scheme, signature = found
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
