"""Key derivation against RFC 7296's formulas, written down a second time with another HMAC."""

import hashlib
import hmac
from itertools import count

import pytest

from oe.ike.keymat import IkeKeys, derive_additional, derive_child, derive_ike, derive_rekeyed_ike, esp_sas
from oe.ike.registry import PrfId
from oe.model import EspCipher, EspSa, Secret

NONCES = (b"i" * 32, b"r" * 32)
SPIS = (0x0102030405060708, 0x1112131415161718)
SPI_OCTETS = bytes.fromhex("01020304050607081112131415161718")
SHARED = Secret(b"g^ir")
NAMES = {PrfId.HMAC_SHA2_256: "sha256", PrfId.HMAC_SHA2_384: "sha384", PrfId.HMAC_SHA2_512: "sha512"}


def prf(id: PrfId, key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, getattr(hashlib, NAMES[id])).digest()


def stream(id: PrfId, key: bytes, seed: bytes, octets: int) -> bytes:
    blocks = [b""]
    for number in count(1):
        if sum(map(len, blocks)) >= octets:
            break
        blocks.append(prf(id, key, blocks[-1] + seed + bytes((number,))))
    return b"".join(blocks)[:octets]


def in_order(keys: IkeKeys) -> bytes:
    return b"".join(s.octets for s in (keys.sk_d, keys.sk_ei, keys.sk_er, keys.sk_pi, keys.sk_pr))


@pytest.mark.parametrize("bits", [128, 256])
@pytest.mark.parametrize("id", NAMES)
def test_keys_of_an_ike_sa(id: PrfId, bits: int) -> None:
    keys = derive_ike(id, bits, SHARED, NONCES, SPIS)
    seed = prf(id, b"".join(NONCES), SHARED.octets)
    assert in_order(keys) == stream(id, seed, b"".join(NONCES) + SPI_OCTETS, len(in_order(keys)))
    size, sealing = len(seed), bits // 8 + 4
    lengths = [len(s.octets) for s in (keys.sk_d, keys.sk_ei, keys.sk_er, keys.sk_pi, keys.sk_pr)]
    assert lengths == [size, sealing, sealing, size, size]


@pytest.mark.parametrize("bits", [128, 256])
@pytest.mark.parametrize("id", NAMES)
def test_an_additional_key_exchange_gives_new_keys_of_all(id: PrfId, bits: int) -> None:
    old = derive_ike(id, bits, SHARED, NONCES, SPIS)
    new = derive_additional(old, Secret(b"SK(1)"), NONCES, SPIS)
    seed = prf(id, old.sk_d.octets, b"SK(1)" + b"".join(NONCES))
    assert in_order(new) == stream(id, seed, b"".join(NONCES) + SPI_OCTETS, len(in_order(old)))
    assert new.prf is id


def test_a_replaced_ike_sa_starts_from_the_old_sk_d_and_the_old_prf() -> None:
    old = derive_ike(PrfId.HMAC_SHA2_256, 128, SHARED, NONCES, SPIS)
    new = derive_rekeyed_ike(old, PrfId.HMAC_SHA2_512, 256, Secret(b"new"), NONCES, SPIS)
    seed = prf(PrfId.HMAC_SHA2_256, old.sk_d.octets, b"new" + b"".join(NONCES))
    expected = stream(PrfId.HMAC_SHA2_512, seed, b"".join(NONCES) + SPI_OCTETS, len(in_order(new)))
    assert in_order(new) == expected
    assert new.prf is PrfId.HMAC_SHA2_512
    hybrid = derive_rekeyed_ike(old, PrfId.HMAC_SHA2_512, 256, Secret(b"new"), NONCES, SPIS, Secret(b"SK(1)"))
    seed = prf(PrfId.HMAC_SHA2_256, old.sk_d.octets, b"new" + b"".join(NONCES) + b"SK(1)")
    assert in_order(hybrid) == stream(PrfId.HMAC_SHA2_512, seed, b"".join(NONCES) + SPI_OCTETS, len(in_order(new)))


@pytest.mark.parametrize("shared", [None, Secret(b"new")])
@pytest.mark.parametrize(("cipher", "octets"), [(EspCipher.AES_GCM_16_128, 20), (EspCipher.AES_GCM_16_256, 36)])
def test_keys_of_a_child_sa(cipher: EspCipher, octets: int, shared: Secret | None) -> None:
    ike = derive_ike(PrfId.HMAC_SHA2_384, 256, SHARED, NONCES, SPIS)
    child = derive_child(ike, cipher, NONCES, shared)
    seed = (shared.octets if shared else b"") + b"".join(NONCES)
    expected = stream(PrfId.HMAC_SHA2_384, ike.sk_d.octets, seed, 2 * octets)
    assert (child.initiator.octets, child.responder.octets) == (expected[:octets], expected[octets:])


def test_one_end_receives_with_what_the_other_sends_with() -> None:
    cipher = EspCipher.AES_GCM_16_256
    keys = derive_child(derive_ike(PrfId.HMAC_SHA2_256, 256, SHARED, NONCES, SPIS), cipher, NONCES, None)
    inbound, outbound = esp_sas(keys, cipher, True, 0x1001, 0x2002)
    assert esp_sas(keys, cipher, False, 0x2002, 0x1001) == (outbound, inbound)
    assert outbound == EspSa(0x2002, cipher, keys.initiator)


def test_no_key_reaches_a_log() -> None:
    keys = derive_ike(PrfId.HMAC_SHA2_256, 256, SHARED, NONCES, SPIS)
    assert keys.sk_d.octets.hex() not in repr(keys)
    assert "Secret(32 octets)" in repr(keys)
