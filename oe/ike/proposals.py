"""What we offer, what we accept, and what was agreed (RFC 7296 2.7, 3.3).

    IKE   AES-GCM-16 256, 128 | HMAC-SHA2-512, -384, -256 | X25519, P-256, P-384, MODP-3072, MODP-2048
    ESP   AES-GCM-16 256, 128 | ESN, no ESN

The order is our preference. A proposal of the peer is taken whole or not at all; of each transform type in it we take
the one that we like best and skip those that we do not know.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from oe.ike.kex import KEY_EXCHANGES
from oe.ike.payloads import NotifyPayload, Proposal, SaPayload, Transform
from oe.ike.registry import (
    EncryptionId,
    EsnId,
    IntegrityId,
    KeyExchangeId,
    NotifyType,
    PrfId,
    ProtocolId,
    Registry,
    TransformType,
)
from oe.model import EspCipher

IKE_GROUPS = tuple(KEY_EXCHANGES)
"""Groups that we offer and accept, best liked first."""

_CIPHERS = tuple(Transform(TransformType.ENCRYPTION, EncryptionId.AES_GCM_16, bits) for bits in (256, 128))
_PRFS = tuple(
    Transform(TransformType.PRF, id) for id in (PrfId.HMAC_SHA2_512, PrfId.HMAC_SHA2_384, PrfId.HMAC_SHA2_256)
)
_ESNS = tuple(Transform(TransformType.ESN, id) for id in (EsnId.ESN, EsnId.NO_ESN))
_GROUPS = {group: Transform(TransformType.KEY_EXCHANGE, group) for group in IKE_GROUPS}
_NO_INTEGRITY = Transform(TransformType.INTEGRITY, IntegrityId.NONE)
_NO_GROUP = Transform(TransformType.KEY_EXCHANGE, KeyExchangeId.NONE)
_NO_ADDITIONAL = tuple(
    Transform(kind, KeyExchangeId.NONE)
    for kind in TransformType
    if TransformType.ADDITIONAL_KEY_EXCHANGE_1 <= kind <= TransformType.ADDITIONAL_KEY_EXCHANGE_7
)

_ESP_CIPHERS = {256: EspCipher.AES_GCM_16_256, 128: EspCipher.AES_GCM_16_128}

Wishes = dict[TransformType, tuple[Transform, ...]]
"""Per transform type, what we take, best liked first."""


@dataclass(frozen=True, slots=True)
class ChosenIke:
    """The agreed algorithms of an IKE SA."""

    number: int
    """Of the proposal they were taken from; the answer repeats it."""
    encryption_bits: int
    """AES key size of AES-GCM-16."""
    prf: PrfId
    group: KeyExchangeId
    spi: bytes
    """The peer's new IKE SPI (8 octets) in a rekey; empty in IKE_SA_INIT."""
    transforms: tuple[Transform, ...]
    """All that was taken, as the answer repeats it."""

    def answer(self, spi: bytes = b"") -> SaPayload:
        """The SA payload that says so; `spi` is our new IKE SPI in a rekey."""
        return SaPayload((Proposal(self.number, ProtocolId.IKE, spi, self.transforms),))


@dataclass(frozen=True, slots=True)
class ChosenEsp:
    """The agreed algorithms of a Child SA."""

    number: int
    cipher: EspCipher
    esn: bool
    group: KeyExchangeId | None
    """For a CREATE_CHILD_SA with a KE payload; None: keys come from SK_d and nonces alone."""
    spi: int
    """The SPI that the peer receives with: ours for outbound."""
    transforms: tuple[Transform, ...]

    def answer(self, spi: int) -> SaPayload:
        """The SA payload that says so; `spi` is the one that we receive with."""
        return SaPayload((Proposal(self.number, ProtocolId.ESP, spi.to_bytes(4, "big"), self.transforms),))


# --- offering --------------------------------------------------------------------------------------------------


def offer_ike(groups: Sequence[KeyExchangeId] = IKE_GROUPS, spi: bytes = b"") -> SaPayload:
    """Our offer for an IKE SA, one proposal. `groups`: out of `IKE_GROUPS`; `spi`: our new IKE SPI in a rekey."""
    transforms = (*_CIPHERS, *_PRFS, *(_GROUPS[group] for group in groups))
    return SaPayload((Proposal(1, ProtocolId.IKE, spi, transforms),))


def offer_esp(spi: int, group: KeyExchangeId | None = None) -> SaPayload:
    """Our offer for a Child SA that we receive on `spi`; with `group`, for a CREATE_CHILD_SA with that KE payload."""
    transforms = (*_CIPHERS, *(() if group is None else (_GROUPS[group],)), *_ESNS)
    return SaPayload((Proposal(1, ProtocolId.ESP, spi.to_bytes(4, "big"), transforms),))


# --- choosing --------------------------------------------------------------------------------------------------


def _group_wishes(first: KeyExchangeId | None) -> tuple[Transform, ...]:
    liked = _GROUPS.get(first) if first is not None else None
    rest = tuple(_GROUPS.values())
    return rest if liked is None else (liked, *(group for group in rest if group is not liked))


def _ike_wishes(ke_group: KeyExchangeId | None) -> Wishes:
    return {
        TransformType.ENCRYPTION: _CIPHERS,
        TransformType.PRF: _PRFS,
        TransformType.INTEGRITY: (_NO_INTEGRITY,),
        TransformType.KEY_EXCHANGE: _group_wishes(ke_group),
        **{none.kind: (none,) for none in _NO_ADDITIONAL},
    }


def _esp_wishes(ke_group: KeyExchangeId | None) -> Wishes:
    # Without a KE payload the group of the offer is that of rekeys to come: some peers name it all the same.
    return {
        TransformType.ENCRYPTION: _CIPHERS,
        TransformType.INTEGRITY: (_NO_INTEGRITY,),
        TransformType.KEY_EXCHANGE: (_NO_GROUP,) if ke_group is None else (*_group_wishes(ke_group), _NO_GROUP),
        TransformType.ESN: _ESNS,
        **{none.kind: (none,) for none in _NO_ADDITIONAL},
    }
