"""What we offer, what we accept, and what was agreed (RFC 7296 2.7, 3.3).

    IKE   AES-GCM-16 256, 128 | HMAC-SHA2-512, -384, -256 | X25519, P-256, P-384, MODP-3072, MODP-2048
          then, in a proposal of its own, the same with ML-KEM-768 or -1024 as additional key exchange 1 (RFC 9370)
    ESP   AES-GCM-16 256, 128 | ESN, no ESN

The order is our preference. A proposal of the peer is taken whole or not at all; of each transform type in it we take
the one that we like best and skip those that we do not know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from oe.ike.kem import KEMS
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
IKE_ADDITIONAL = KEMS
"""Methods for an additional key exchange in IKE_INTERMEDIATE, best liked first; empty where the machine has none."""

_CIPHERS = tuple(Transform(TransformType.ENCRYPTION, EncryptionId.AES_GCM_16, bits) for bits in (256, 128))
_PRFS = tuple(
    Transform(TransformType.PRF, id) for id in (PrfId.HMAC_SHA2_512, PrfId.HMAC_SHA2_384, PrfId.HMAC_SHA2_256)
)
_ESNS = tuple(Transform(TransformType.ESN, id) for id in (EsnId.ESN, EsnId.NO_ESN))
_GROUPS = {group: Transform(TransformType.KEY_EXCHANGE, group) for group in IKE_GROUPS}
_NO_INTEGRITY = Transform(TransformType.INTEGRITY, IntegrityId.NONE)
_NO_GROUP = Transform(TransformType.KEY_EXCHANGE, KeyExchangeId.NONE)
_KEMS = {method: Transform(TransformType.ADDITIONAL_KEY_EXCHANGE_1, method) for method in IKE_ADDITIONAL}
_NO_ADDITIONAL = tuple(
    Transform(kind, KeyExchangeId.NONE)
    for kind in TransformType
    if TransformType.ADDITIONAL_KEY_EXCHANGE_1 <= kind <= TransformType.ADDITIONAL_KEY_EXCHANGE_7
)

_ESP_CIPHERS = {256: EspCipher.AES_GCM_16_256, 128: EspCipher.AES_GCM_16_128}


@dataclass(frozen=True, slots=True, eq=False)
class Wishes:
    """What we take; those of one occasion are made once, and are known by identity."""

    by_kind: dict[TransformType, tuple[Transform, ...]]
    """Best liked first."""


@dataclass(frozen=True, slots=True)
class ChosenIke:
    """The agreed algorithms of an IKE SA."""

    number: int
    """Of the proposal they were taken from; the answer repeats it."""
    encryption_bits: int
    """AES key size of AES-GCM-16."""
    prf: PrfId
    group: KeyExchangeId
    additional: KeyExchangeId | None
    """Method of the additional key exchange that follows in IKE_INTERMEDIATE; None: there is none."""
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


def offer_ike(
    groups: Sequence[KeyExchangeId] = IKE_GROUPS,
    spi: bytes = b"",
    additional: Sequence[KeyExchangeId] = (),
    kept: PrfId | None = None,
) -> SaPayload:
    """Our offer for an IKE SA. `groups`: out of `IKE_GROUPS`; `spi`: our new IKE SPI in a rekey.

    `kept`: the PRF of the IKE SA that is rekeyed, then the only one. With another, peers differ over which of the two
    expands SKEYSEED (RFC 7296 2.18 says the new one), and could not read each other afterwards.

    With `additional`, out of `IKE_ADDITIONAL`, two proposals: with the additional key exchange, and without it for a
    peer that does not know the transform type and so must refuse the first one whole (RFC 9370 2.2.1).
    """
    prfs = [prf for prf in _PRFS if kept in (None, prf.id)]
    transforms = (*_CIPHERS, *prfs, *(_GROUPS[group] for group in groups))
    plain = Proposal(2 if additional else 1, ProtocolId.IKE, spi, transforms)
    if not additional:
        return SaPayload((plain,))
    hybrid = Proposal(1, ProtocolId.IKE, spi, (*transforms, *(_KEMS[method] for method in additional)))
    return SaPayload((hybrid, plain))


def offer_esp(spi: int, group: KeyExchangeId | None = None) -> SaPayload:
    """Our offer for a Child SA that we receive on `spi`; with `group`, for a CREATE_CHILD_SA with that KE payload."""
    transforms = (*_CIPHERS, *(() if group is None else (_GROUPS[group],)), *_ESNS)
    return SaPayload((Proposal(1, ProtocolId.ESP, spi.to_bytes(4, "big"), transforms),))


def offer_esp_with_pfs(spi: int, groups: Sequence[KeyExchangeId]) -> SaPayload:
    """Our offer for a CREATE_CHILD_SA: with a key exchange of one of `groups`, or else without."""
    (plain,) = offer_esp(spi).proposals
    with_pfs = (*plain.transforms, *(_GROUPS[group] for group in groups))
    return SaPayload((replace(plain, transforms=with_pfs), replace(plain, number=2)))


# --- choosing --------------------------------------------------------------------------------------------------


def _group_wishes(first: KeyExchangeId | None) -> tuple[Transform, ...]:
    liked = _GROUPS.get(first) if first is not None else None
    rest = tuple(_GROUPS.values())
    return rest if liked is None else (liked, *(group for group in rest if group is not liked))


@lru_cache(maxsize=64)
def _ike_wishes(
    ke_group: KeyExchangeId | None, additional: tuple[KeyExchangeId, ...], kept: PrfId | None = None
) -> Wishes:
    # Of the seven additional key exchanges we do the first; a proposal that insists on more is not for us.
    kems = tuple(_KEMS[method] for method in additional)
    nones = {none.kind: (none,) for none in _NO_ADDITIONAL}
    return Wishes(
        {
            TransformType.ENCRYPTION: _CIPHERS,
            TransformType.PRF: tuple(sorted(_PRFS, key=lambda prf: prf.id != kept)),
            TransformType.INTEGRITY: (_NO_INTEGRITY,),
            TransformType.KEY_EXCHANGE: _group_wishes(ke_group),
            **nones,
            TransformType.ADDITIONAL_KEY_EXCHANGE_1: (*kems, *nones[TransformType.ADDITIONAL_KEY_EXCHANGE_1]),
        }
    )


@lru_cache(maxsize=64)
def _esp_wishes(ke_group: KeyExchangeId | None) -> Wishes:
    # Without a KE payload nothing but NONE can be agreed (RFC 7296 1.2 of IKE_AUTH).
    return Wishes(
        {
            TransformType.ENCRYPTION: _CIPHERS,
            TransformType.INTEGRITY: (_NO_INTEGRITY,),
            TransformType.KEY_EXCHANGE: (_NO_GROUP,) if ke_group is None else (*_group_wishes(ke_group), _NO_GROUP),
            TransformType.ESN: _ESNS,
            **{none.kind: (none,) for none in _NO_ADDITIONAL},
        }
    )


_REQUIRED = {
    ProtocolId.IKE: (TransformType.ENCRYPTION, TransformType.PRF, TransformType.KEY_EXCHANGE),
    # RFC 7296 3.3.3 wants ESN too; where it is left out, there is only one thing it can mean.
    ProtocolId.ESP: (TransformType.ENCRYPTION,),
}


# Peers offer the same with every negotiation.
@lru_cache(maxsize=64)
def _pick(
    protocol: ProtocolId, transforms: tuple[Transform, ...], wishes: Wishes
) -> Mapping[TransformType, Transform] | TransformType:
    """One transform per kind of those offered, in their order of kinds; or the kind for which there is none."""
    offered = set(transforms)
    taken: dict[TransformType, Transform] = {}
    for transform in transforms:
        kind = transform.kind
        if kind in taken:
            continue
        liked = next((wish for wish in wishes.by_kind.get(kind, ()) if wish in offered), None)
        if liked is None:
            return kind
        taken[kind] = liked
    return next((kind for kind in _REQUIRED[protocol] if kind not in taken), taken)


def _spi_is_good(proposal: Proposal) -> bool:
    if proposal.protocol == ProtocolId.IKE:
        return len(proposal.spi) == 0 or (len(proposal.spi) == 8 and any(proposal.spi))
    # 1 to 255 are reserved, 0 never leaves a host (RFC 4303 2.1).
    return len(proposal.spi) == 4 and any(proposal.spi[:3])


def _take(proposal: Proposal, protocol: ProtocolId, wishes: Wishes) -> Mapping[TransformType, Transform] | None:
    if proposal.protocol != protocol or not _spi_is_good(proposal):
        return None
    taken = _pick(proposal.protocol, proposal.transforms, wishes)
    return None if isinstance(taken, TransformType) else taken


def _chosen_ike(proposal: Proposal, taken: Mapping[TransformType, Transform]) -> ChosenIke:
    additional = taken.get(TransformType.ADDITIONAL_KEY_EXCHANGE_1)
    return ChosenIke(
        proposal.number,
        taken[TransformType.ENCRYPTION].key_bits or 0,
        PrfId(taken[TransformType.PRF].id),
        KeyExchangeId(taken[TransformType.KEY_EXCHANGE].id),
        KeyExchangeId(additional.id) if additional is not None and additional.id != KeyExchangeId.NONE else None,
        proposal.spi,
        tuple(taken.values()),
    )


def _chosen_esp(proposal: Proposal, taken: Mapping[TransformType, Transform]) -> ChosenEsp:
    group = taken.get(TransformType.KEY_EXCHANGE, _NO_GROUP)
    return ChosenEsp(
        proposal.number,
        _ESP_CIPHERS[taken[TransformType.ENCRYPTION].key_bits or 0],
        TransformType.ESN in taken and taken[TransformType.ESN].id == EsnId.ESN,
        None if group is _NO_GROUP else KeyExchangeId(group.id),
        int.from_bytes(proposal.spi, "big"),
        tuple(taken.values()),
    )


def choose_ike(
    offered: SaPayload,
    ke_group: KeyExchangeId | None,
    additional: Sequence[KeyExchangeId] = (),
    kept: PrfId | None = None,
) -> ChosenIke | None:
    """As responder: what we take of an offer; None: NO_PROPOSAL_CHOSEN (`refusals` says why).

    The initiator has already sent a public value of `ke_group`: if that is one we accept it wins, since any other
    costs a round trip. When `group` of the result is not `ke_group`, answer with `invalid_ke(result.group)`.
    `additional`: out of `IKE_ADDITIONAL`, what we would do in IKE_INTERMEDIATE; empty when the peer does not know that
    exchange. A proposal with one of them is preferred, wherever it stands among those that we could take.
    `kept`: the PRF of the IKE SA that is rekeyed; it wins, for the reason that `offer_ike` gives.
    """
    wishes = _ike_wishes(ke_group, tuple(additional), kept)
    found = [
        _chosen_ike(proposal, taken)
        for proposal in offered.proposals
        if (taken := _take(proposal, ProtocolId.IKE, wishes)) is not None
    ]
    return next((chosen for chosen in found if chosen.additional is not None), found[0] if found else None)


def choose_esp(offered: SaPayload, ke_group: KeyExchangeId | None = None) -> ChosenEsp | None:
    """The same for a Child SA. `ke_group`: that of the KE payload in CREATE_CHILD_SA; None: there is none."""
    wishes = _esp_wishes(ke_group)
    for proposal in offered.proposals:
        if (taken := _take(proposal, ProtocolId.ESP, wishes)) is not None:
            return _chosen_esp(proposal, taken)
    return None


# --- accepting an answer ---------------------------------------------------------------------------------------


def _answered(offered: SaPayload, answered: SaPayload) -> tuple[Proposal, dict[TransformType, Transform]] | None:
    """The one proposal of an answer, if it takes one transform per kind out of one of ours (RFC 7296 2.7)."""
    if len(answered.proposals) != 1:
        return None
    answer = answered.proposals[0]
    ours = next((p for p in offered.proposals if (p.number, p.protocol) == (answer.number, answer.protocol)), None)
    taken = {transform.kind: transform for transform in answer.transforms}
    if ours is None or len(taken) != len(answer.transforms) or not _spi_is_good(answer):
        return None
    # Beside an AEAD, "no integrity algorithm" may be said or not (RFC 7296 3.3).
    said = {transform for transform in answer.transforms if transform != _NO_INTEGRITY}
    is_ours = said <= set(ours.transforms)
    is_whole = all(transform.kind in taken for transform in ours.transforms)
    return (answer, taken) if is_ours and is_whole else None


def accept_ike(offered: SaPayload, answered: SaPayload) -> ChosenIke | None:
    """As initiator: what the responder took of our offer; None when that is not in the offer."""
    found = _answered(offered, answered)
    return None if found is None else _chosen_ike(*found)


def accept_esp(offered: SaPayload, answered: SaPayload) -> ChosenEsp | None:
    """The same for a Child SA."""
    found = _answered(offered, answered)
    return None if found is None else _chosen_esp(*found)


# --- INVALID_KE_PAYLOAD ----------------------------------------------------------------------------------------


def invalid_ke(group: KeyExchangeId) -> NotifyPayload:
    """INVALID_KE_PAYLOAD: "send a KE payload of this group" (RFC 7296 1.2, 3.10.1)."""
    return NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, group.to_bytes(2, "big"))


def requested_group(notify: NotifyPayload, offered: SaPayload) -> KeyExchangeId | None:
    """The group that an INVALID_KE_PAYLOAD asks for; None when we did not offer it (then do not follow it)."""
    if len(notify.data) != 2:
        return None
    group = _GROUPS.get(KeyExchangeId(int.from_bytes(notify.data, "big")))
    is_offered = group is not None and any(group in proposal.transforms for proposal in offered.proposals)
    return KeyExchangeId(group.id) if group is not None and is_offered else None


# --- explaining ------------------------------------------------------------------------------------------------

_NAMES: dict[TransformType, type[Registry]] = {
    TransformType.ENCRYPTION: EncryptionId,
    TransformType.PRF: PrfId,
    TransformType.INTEGRITY: IntegrityId,
    TransformType.ESN: EsnId,
    TransformType.KEY_EXCHANGE: KeyExchangeId,
    **{none.kind: KeyExchangeId for none in _NO_ADDITIONAL},
}


def describe(transform: Transform) -> str:
    """A transform for people: `AES_GCM_16-256`, `ECP_256`."""
    registry = _NAMES.get(transform.kind)
    name = f"number {transform.id}" if registry is None else registry(transform.id).name
    size = "" if transform.key_bits is None else f"-{transform.key_bits}"
    return f"{name}{size}" if transform.is_understood else f"{name}{size} with an unknown attribute"


def refusals(
    offered: SaPayload, ke_group: KeyExchangeId | None = None, additional: Sequence[KeyExchangeId] = ()
) -> tuple[str, ...]:
    """For each proposal that `choose_ike` or `choose_esp` does not take: why, for the log."""
    found = ((proposal.number, _refusal(proposal, ke_group, additional)) for proposal in offered.proposals)
    return tuple(f"proposal {number}: {why}" for number, why in found if why)


def _refusal(proposal: Proposal, ke_group: KeyExchangeId | None, additional: Sequence[KeyExchangeId]) -> str:
    if proposal.protocol not in (ProtocolId.IKE, ProtocolId.ESP):
        return f"protocol {proposal.protocol.name}"
    if not _spi_is_good(proposal):
        return f"SPI {proposal.spi.hex() or 'missing'}"
    is_ike = proposal.protocol == ProtocolId.IKE
    wishes = _ike_wishes(ke_group, tuple(additional)) if is_ike else _esp_wishes(ke_group)
    taken = _pick(proposal.protocol, proposal.transforms, wishes)
    if not isinstance(taken, TransformType):
        return ""
    found = ", ".join(describe(t) for t in proposal.transforms if t.kind == taken)
    return f"{taken.name}: {found} not accepted" if found else f"no {taken.name}"
