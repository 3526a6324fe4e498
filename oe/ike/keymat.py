"""From shared secrets to keys (RFC 7296 2.14, 2.17, 2.18; lengths for AEAD: RFC 5282 7.1, RFC 4106 8.1).

    SKEYSEED = prf(Ni | Nr, g^ir)
    SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr = prf+(SKEYSEED, Ni | Nr | SPIi | SPIr)

An additional key exchange, of which SK(1) is the secret, gives new ones of all (RFC 9370 2.2.2):

    SKEYSEED(1) = prf(SK_d(0), SK(1) | Ni | Nr)

With an AEAD SK_ai and SK_ar have length zero, and each encryption key is followed by its salt of four octets.
"""

from dataclasses import dataclass
from itertools import pairwise

from oe.ike.crypto import PRF_OCTETS, SK_SALT_OCTETS, prf, prf_plus
from oe.ike.registry import PrfId
from oe.model import EspCipher, EspSa, Secret

_ESP_KEY_OCTETS = {EspCipher.AES_GCM_16_128: 16 + 4, EspCipher.AES_GCM_16_256: 32 + 4}


@dataclass(frozen=True, slots=True)
class IkeKeys:
    """The keys of one IKE SA. "Initiator" is the end that sent IKE_SA_INIT, or that began the rekey."""

    prf: PrfId
    sk_d: Secret
    """From it come the keys of Child SAs and of the IKE SA that replaces this one."""
    sk_ei: Secret
    """Encrypts what the initiator sends: AES key and salt, as `SkCipher` takes it."""
    sk_er: Secret
    sk_pi: Secret
    """Goes into the octets that the initiator's AUTH covers."""
    sk_pr: Secret


@dataclass(frozen=True, slots=True)
class ChildKeys:
    """The two halves of a Child SA's KEYMAT, each an AES key and its salt."""

    initiator: Secret
    """For what the initiator of the exchange that made the Child SA sends."""
    responder: Secret


def derive_ike(
    prf_id: PrfId,
    encryption_bits: int,
    shared: Secret,
    nonces: tuple[bytes, bytes],
    spis: tuple[int, int],
) -> IkeKeys:
    """Keys of a new IKE SA (RFC 7296 2.14). `nonces` and `spis`: the initiator's, then the responder's."""
    return _expand(prf_id, encryption_bits, prf(prf_id, b"".join(nonces), shared.octets), nonces, spis)


def derive_additional(old: IkeKeys, shared: Secret, nonces: tuple[bytes, bytes], spis: tuple[int, int]) -> IkeKeys:
    """Keys of the same IKE SA after an additional key exchange that gave `shared` (RFC 9370 2.2.2).

    `nonces` and `spis` are those of IKE_SA_INIT; algorithms stay as they are.
    """
    seed = prf(old.prf, old.sk_d.octets, shared.octets + b"".join(nonces))
    return _expand(old.prf, 8 * (len(old.sk_ei.octets) - SK_SALT_OCTETS), seed, nonces, spis)


def derive_rekeyed_ike(
    old: IkeKeys,
    prf_id: PrfId,
    encryption_bits: int,
    shared: Secret,
    nonces: tuple[bytes, bytes],
    spis: tuple[int, int],
    additional: Secret | None = None,
) -> IkeKeys:
    """Keys of an IKE SA that replaces one with the keys `old` (RFC 7296 2.18).

    SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr [| SK(1)]), with the old PRF; all that follows is with the new one.
    `additional`: SK(1), of an additional key exchange (RFC 9370 2.2.4).
    """
    added = b"" if additional is None else additional.octets
    seed = prf(old.prf, old.sk_d.octets, shared.octets + b"".join(nonces) + added)
    return _expand(prf_id, encryption_bits, seed, nonces, spis)


def _expand(
    prf_id: PrfId, encryption_bits: int, seed: bytes, nonces: tuple[bytes, bytes], spis: tuple[int, int]
) -> IkeKeys:
    size, sealing = PRF_OCTETS[prf_id], encryption_bits // 8 + SK_SALT_OCTETS
    material = b"".join(nonces) + b"".join(spi.to_bytes(8, "big") for spi in spis)
    stream = prf_plus(prf_id, seed, material, 3 * size + 2 * sealing)
    cuts = (0, size, size + sealing, size + 2 * sealing, 2 * size + 2 * sealing, len(stream))
    return IkeKeys(prf_id, *(Secret(stream[a:b]) for a, b in pairwise(cuts)))


def derive_child(keys: IkeKeys, cipher: EspCipher, nonces: tuple[bytes, bytes], shared: Secret | None) -> ChildKeys:
    """KEYMAT of a Child SA (RFC 7296 2.17). `nonces`: the initiator's, then the responder's.

    `shared` is g^ir of a CREATE_CHILD_SA with a KE payload; None for the Child SA of IKE_AUTH.
    """
    seed = (b"" if shared is None else shared.octets) + b"".join(nonces)
    size = _ESP_KEY_OCTETS[cipher]
    stream = prf_plus(keys.prf, keys.sk_d.octets, seed, 2 * size)
    return ChildKeys(Secret(stream[:size]), Secret(stream[size:]))


def esp_sas(
    keys: ChildKeys, cipher: EspCipher, is_initiator: bool, inbound_spi: int, outbound_spi: int
) -> tuple[EspSa, EspSa]:
    """Our inbound and outbound SA. `is_initiator`: we began the exchange that made the Child SA."""
    ours, theirs = (keys.initiator, keys.responder) if is_initiator else (keys.responder, keys.initiator)
    return EspSa(inbound_spi, cipher, theirs), EspSa(outbound_spi, cipher, ours)
