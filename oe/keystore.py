"""Our private keys: made once, kept in files that only we can read, used to sign and never shown.

A key directory holds PEM files (PKCS #8, no passphrase) named NUMBER-TYPE.pem, 0001-rsa3072.pem at first. The highest
number is the newest key and comes first everywhere. A rollover adds a key beside the old one; publish both, and take
the old file away when the new one signs, and then the old record (`oe.gateway.rollover`).
"""

import os
import stat
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from oe.errors import ConfigError, MachineLacks, OeError
from oe.model import KeyAlgorithm, PublicKey, SignatureScheme

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicHalf = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

MIN_RSA_BITS = 2048
PUBLIC_EXPONENT = 65537

_HASHES: dict[SignatureScheme, hashes.HashAlgorithm] = {
    SignatureScheme.RSA_PSS_SHA256: hashes.SHA256(),
    SignatureScheme.RSA_PSS_SHA384: hashes.SHA384(),
    SignatureScheme.RSA_PSS_SHA512: hashes.SHA512(),
    SignatureScheme.ECDSA_SHA256: hashes.SHA256(),
    SignatureScheme.ECDSA_SHA384: hashes.SHA384(),
    SignatureScheme.ECDSA_SHA512: hashes.SHA512(),
}
_PADDINGS = {scheme: padding.PSS(padding.MGF1(digest), digest.digest_size) for scheme, digest in _HASHES.items()}
"""For RSA."""
_SCHEMES = {
    KeyAlgorithm.RSA: {
        SignatureScheme.RSA_PSS_SHA256,
        SignatureScheme.RSA_PSS_SHA384,
        SignatureScheme.RSA_PSS_SHA512,
    },
    KeyAlgorithm.ECDSA: {
        SignatureScheme.ECDSA_SHA256,
        SignatureScheme.ECDSA_SHA384,
        SignatureScheme.ECDSA_SHA512,
    },
    KeyAlgorithm.EDDSA: {SignatureScheme.ED25519},
}
"""Signatures that a key may make; PKCS #1 v1.5 is not among them."""


class KeyType(StrEnum):
    """Keys that can be made; the value is what the command line and file names say."""

    RSA3072 = "rsa3072"
    RSA2048 = "rsa2048"
    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    ED25519 = "ed25519"


class SigningError(OeError):
    """The key store has no such key, or the key cannot make such a signature."""


class KeyStore:
    """The private keys of a directory, newest first. Its `repr` shows public fingerprints only."""

    def __init__(self, keys: tuple[PrivateKey, ...]) -> None:
        self._keys = {public_key_of(key.public_key()): key for key in keys}

    @property
    def public_keys(self) -> tuple[PublicKey, ...]:
        """Newest first."""
        return tuple(self._keys)

    def sign(self, public_key: PublicKey, scheme: SignatureScheme, octets: bytes) -> bytes:
        """Signature over `octets` by the private half of `public_key`, as IKEv2 carries it (RFC 7427, RFC 8420).

        RSASSA-PSS has a salt as long as the hash, ECDSA is a DER sequence of r and s. Takes up to 1 ms for RSA and
        does not hold the interpreter lock. Raises SigningError.
        """
        key = self._keys.get(public_key)
        if key is None:
            raise SigningError(f"no private key belongs to {public_key!r}")
        if scheme not in _SCHEMES[public_key.algorithm]:
            raise SigningError(f"{public_key!r} does not sign with {scheme}")
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(octets)
        digest = _HASHES[scheme]
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(octets, ec.ECDSA(digest))
        return key.sign(octets, _PADDINGS[scheme], digest)

    def __repr__(self) -> str:
        return f"KeyStore({', '.join(map(repr, self._keys))})"


def generate(directory: Path, kind: KeyType, *, beside: bool = False) -> Path:
    """Make a key and write it to a new file (mode 0600 from its first moment) in `directory` (made with 0700).

    A directory that holds a key already is refused, unless the new key shall stand `beside` the old ones. No file
    is ever overwritten. Raises ConfigError, or MachineLacks where we may not write.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        present = _key_files(directory)
    except PermissionError:
        raise MachineLacks(f"no right to make a key in {directory}", "run as root") from None
    except OSError as error:
        raise ConfigError(f"{directory}: {error.strerror}") from None
    if present and not beside:
        raise ConfigError(
            f"{directory} already holds {present[0].name}; `oe key new --beside` adds one more, "
            "and the old one may go when the log says that the new one signs"
        )
    number = _number(present[0]) + 1 if present else 1
    path = directory / f"{number:04}-{kind}.pem"
    _write_new(path, _new_key(kind).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def load(directory: Path) -> KeyStore:
    """All keys of `directory`; a missing one holds none.

    Raises ConfigError for a directory that others can write to, and for a file that others can read or write, or
    that holds no key or an unsuitable one; MachineLacks where we may not look.
    """
    try:
        if not directory.exists():
            return KeyStore(())
        if directory.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(f"{directory}: others may put keys there; chmod 0700 it")
        files = _key_files(directory)
        return KeyStore(tuple(_load_file(path) for path in files))
    except PermissionError as error:
        raise MachineLacks(f"no right to read {error.filename or directory}", "run as root") from None
    except OSError as error:
        raise ConfigError(f"{error.filename or directory}: {error.strerror}") from None


def public_key_of(key: PublicHalf) -> PublicKey:
    """The octets that IPSECKEY carries for this key (RFC 3110, RFC 6605, RFC 8080)."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return PublicKey(KeyAlgorithm.EDDSA, key.public_bytes(Encoding.Raw, PublicFormat.Raw))
    if isinstance(key, ec.EllipticCurvePublicKey):
        point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return PublicKey(KeyAlgorithm.ECDSA, point[1:])
    numbers = key.public_numbers()
    exponent, modulus = _unsigned(numbers.e), _unsigned(numbers.n)
    length = bytes([len(exponent)]) if len(exponent) < 256 else b"\0" + len(exponent).to_bytes(2, "big")
    return PublicKey(KeyAlgorithm.RSA, length + exponent + modulus)


def _unsigned(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _new_key(kind: KeyType) -> PrivateKey:
    match kind:
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case KeyType.ECDSA_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.ECDSA_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.RSA2048:
            return rsa.generate_private_key(PUBLIC_EXPONENT, 2048)
        case KeyType.RSA3072:
            return rsa.generate_private_key(PUBLIC_EXPONENT, 3072)


def _write_new(path: Path, pem: bytes) -> None:
    """All of it or no file. O_EXCL: neither an older key nor where a planted link leads to is written over."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        path.unlink()
        raise ConfigError(f"{path}: {error.strerror}") from None


def _number(path: Path) -> int:
    digits = path.name.partition("-")[0]
    return int(digits) if digits.isascii() and digits.isdecimal() else 0


def _key_files(directory: Path) -> list[Path]:
    """Newest first; a file whose name has no number counts as the oldest. Raises OSError, as `glob` would not."""
    files = [path for path in directory.iterdir() if path.suffix == ".pem"]
    return sorted(files, key=lambda path: (_number(path), path.name), reverse=True)


def _load_file(path: Path) -> PrivateKey:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                f"{path}: a private key with mode {stat.S_IMODE(status.st_mode):04o} may be known to others; "
                "if it is not, chmod 0600 it, else make a new one"
            )
        if status.st_uid not in (0, os.geteuid()):
            raise ConfigError(f"{path}: the private key belongs to user {status.st_uid}; chown it to root")
        pem = file.read()
    try:
        # Whether the primes of an RSA key are prime takes a tenth of a second, in which no packet is looked after.
        key = load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"{path}: not a private key in PEM form without passphrase") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= MIN_RSA_BITS:
        if not _agrees(key.private_numbers()):
            raise ConfigError(f"{path}: the numbers of this RSA key do not belong together; put back a good copy")
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    raise ConfigError(
        f"{path}: unsuitable key; RSA of {MIN_RSA_BITS} bits or more, ECDSA on P-256 and P-384, Ed25519 are used"
    )


def _agrees(key: rsa.RSAPrivateNumbers) -> bool:
    """All that can be said of an RSA key but that its primes are prime; a signature that verifies shows that."""
    n, e = key.public_numbers.n, key.public_numbers.e
    return (
        key.p * key.q == n
        and key.p != key.q
        and key.d * e % (key.p - 1) == key.d * e % (key.q - 1) == 1
        and (key.dmp1, key.dmq1) == (key.d % (key.p - 1), key.d % (key.q - 1))
        and key.iqmp * key.q % key.p == 1
    )
