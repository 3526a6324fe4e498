"""Private keys: made, kept, used, never shown."""

import errno
import os
import stat
from base64 import b64encode
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from oe.errors import ConfigError, MachineLacks
from oe.keystore import KeyStore, KeyType, PrivateKey, SigningError, generate, load, public_key_of
from oe.model import KeyAlgorithm, PublicKey, SignatureScheme

PSS = [SignatureScheme.RSA_PSS_SHA256, SignatureScheme.RSA_PSS_SHA384, SignatureScheme.RSA_PSS_SHA512]
ECDSA = [SignatureScheme.ECDSA_SHA256, SignatureScheme.ECDSA_SHA384, SignatureScheme.ECDSA_SHA512]
DIGESTS: list[hashes.HashAlgorithm] = [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()]


@pytest.fixture(scope="module")
def keys() -> tuple[rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey]:
    return (
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
    )


def write(path: Path, pem: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(pem)
    path.chmod(mode)
    return path


def pem_of(key: PrivateKey | dsa.DSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("kind", "algorithm", "octets"),
    [
        (KeyType.RSA2048, KeyAlgorithm.RSA, 1 + 3 + 256),
        (KeyType.RSA3072, KeyAlgorithm.RSA, 1 + 3 + 384),
        (KeyType.ECDSA_P256, KeyAlgorithm.ECDSA, 64),
        (KeyType.ED25519, KeyAlgorithm.EDDSA, 32),
    ],
)
def test_a_new_key_is_private_and_loads(tmp_path: Path, kind: KeyType, algorithm: KeyAlgorithm, octets: int) -> None:
    directory = tmp_path / "etc" / "keys"
    before = os.umask(0)
    try:
        path = generate(directory, kind)
    finally:
        os.umask(before)
    assert path == directory / f"0001-{kind}.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    (public,) = load(directory).public_keys
    assert (public.algorithm, len(public.data)) == (algorithm, octets)


def test_a_key_is_never_replaced_by_accident(tmp_path: Path) -> None:
    path = generate(tmp_path, KeyType.ED25519)
    octets = path.read_bytes()
    with pytest.raises(ConfigError, match=r"already holds 0001-ed25519\.pem; `oe key new --beside`"):
        generate(tmp_path, KeyType.ED25519)
    assert path.read_bytes() == octets
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_listed_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    with pytest.raises(ConfigError, match="keys: Not a directory"):
        load(tmp_path / "keys")


def test_who_may_not_look_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", deny)
    with pytest.raises(MachineLacks, match=f"no right to read {tmp_path}; run as root"):
        load(tmp_path)


def test_a_rollover_puts_the_new_key_first(tmp_path: Path) -> None:
    generate(tmp_path, KeyType.ED25519)
    (old,) = load(tmp_path).public_keys
    assert generate(tmp_path, KeyType.ECDSA_P256, beside=True).name == "0002-ecdsa-p256.pem"
    new, still = load(tmp_path).public_keys
    assert (new.algorithm, still) == (KeyAlgorithm.ECDSA, old)


def test_numbers_count_not_letters(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    for name in ("9-a.pem", "10-b.pem", "own.pem"):
        write(tmp_path / name, pem_of(ed25519.Ed25519PrivateKey.generate()))
    write(tmp_path / "11-c.pem", pem_of(key))
    write(tmp_path / "notes.txt", b"no key", 0o644)
    public = load(tmp_path).public_keys
    assert len(public) == 4
    assert public[0] == public_key_of(key.public_key())
    assert generate(tmp_path, KeyType.ED25519, beside=True).name == "0012-ed25519.pem"


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "0001-ed25519.pem").symlink_to(target)
    with pytest.raises(ConfigError):
        generate(keys, KeyType.ED25519)
    assert not target.exists()


def test_a_file_in_the_way_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("")
    with pytest.raises(ConfigError, match="keys"):
        generate(tmp_path / "keys", KeyType.ED25519)


def test_no_directory_is_no_keys(tmp_path: Path) -> None:
    assert load(tmp_path / "none").public_keys == ()
    assert load(tmp_path).public_keys == ()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o601, 0o620])
def test_a_key_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    generate(tmp_path, KeyType.ED25519).chmod(mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o}.*chmod 0600"):
        load(tmp_path)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 0700"):
        load(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(generate(tmp_path, KeyType.ED25519), 12345, -1)
    with pytest.raises(ConfigError, match="belongs to user 12345"):
        load(tmp_path)


def unsuitable() -> list[tuple[bytes, str]]:
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    return [
        (b"", "not a private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a private key"),
        (locked, "without passphrase"),
        (pem_of(ec.generate_private_key(ec.SECP521R1())), "unsuitable key"),
        (pem_of(rsa.generate_private_key(65537, 1024)), "unsuitable key"),
        (pem_of(dsa.generate_private_key(1024)), "unsuitable key"),
    ]


def test_an_rsa_key_whose_numbers_disagree_is_refused(tmp_path: Path) -> None:
    """As one that a bad disk has changed: its signatures could give the key away. The file's octets are changed."""
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.private_numbers()
    good = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp"):
        number: int = getattr(numbers, name)
        octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
        assert octets in good
        bad = good.replace(octets, (number ^ 4).to_bytes(len(octets), "big"))
        text = b"\n".join((b"-----BEGIN PRIVATE KEY-----", b64encode(bad), b"-----END PRIVATE KEY-----", b""))
        write(tmp_path / "0001-x.pem", text)
        with pytest.raises(ConfigError, match=r"0001-x\.pem: "):
            load(tmp_path)


@pytest.mark.parametrize(("pem", "why"), unsuitable())
def test_unsuitable_keys_are_refused(tmp_path: Path, pem: bytes, why: str) -> None:
    write(tmp_path / "0001-x.pem", pem)
    with pytest.raises(ConfigError, match=why):
        load(tmp_path)


def test_signatures_verify(
    keys: tuple[rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey],
) -> None:
    store = KeyStore(keys)
    of_rsa, of_ecdsa, of_ed25519 = store.public_keys
    for scheme, digest in zip(PSS, DIGESTS, strict=True):
        made = store.sign(of_rsa, scheme, b"octets")
        salted = padding.PSS(padding.MGF1(digest), digest.digest_size)
        keys[0].public_key().verify(made, b"octets", salted, digest)
    for scheme, digest in zip(ECDSA, DIGESTS, strict=True):
        keys[1].public_key().verify(store.sign(of_ecdsa, scheme, b"octets"), b"octets", ec.ECDSA(digest))
    made = store.sign(of_ed25519, SignatureScheme.ED25519, b"octets")
    keys[2].public_key().verify(made, b"octets")
    with pytest.raises(InvalidSignature):
        keys[2].public_key().verify(made, b"other octets")


def test_a_key_makes_only_its_own_signatures(
    keys: tuple[rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey],
) -> None:
    store = KeyStore(keys)
    legal = dict(zip(store.public_keys, (PSS, ECDSA, [SignatureScheme.ED25519]), strict=True))
    for public, schemes in legal.items():
        for scheme in set(SignatureScheme) - set(schemes):
            with pytest.raises(SigningError, match="does not sign with"):
                store.sign(public, scheme, b"octets")


def test_a_key_we_do_not_have_signs_nothing() -> None:
    stranger = PublicKey(KeyAlgorithm.EDDSA, bytes(32))
    with pytest.raises(SigningError, match="no private key"):
        KeyStore(()).sign(stranger, SignatureScheme.ED25519, b"")


def test_public_octets_are_those_of_the_rfcs(
    keys: tuple[rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey],
) -> None:
    of_rsa, of_ecdsa, of_ed25519 = KeyStore(keys).public_keys
    assert of_rsa.data == b"\x03\x01\x00\x01" + keys[0].public_key().public_numbers().n.to_bytes(256, "big")
    point = keys[1].public_key().public_numbers()
    assert of_ecdsa.data == point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")
    assert of_ed25519.data == keys[2].public_key().public_bytes_raw()


def test_a_p384_key_from_file_to_signature(tmp_path: Path) -> None:
    generate(tmp_path, KeyType.ECDSA_P384)
    store = load(tmp_path)
    (public,) = store.public_keys
    assert (public.algorithm, len(public.data)) == (KeyAlgorithm.ECDSA, 96)
    signature = store.sign(public, SignatureScheme.ECDSA_SHA384, b"octets")
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), b"\x04" + public.data)
    point.verify(signature, b"octets", ec.ECDSA(hashes.SHA384()))


def test_nothing_private_is_shown(tmp_path: Path) -> None:
    path = generate(tmp_path, KeyType.ED25519)
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    store = load(tmp_path)
    assert repr(store) == str(store) == f"KeyStore({store.public_keys[0]!r})"
    assert key.private_bytes_raw().hex() not in repr(store)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ConfigError) as refused:
        load(tmp_path)
    assert path.read_text()[30:] not in str(refused.value)
