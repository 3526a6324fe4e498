"""Offers, choices, answers; the peers' proposals have the shape that Libreswan and strongSwan give them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oe.ike.payloads import NotifyPayload, Proposal, SaPayload, Transform
from oe.ike.proposals import (
    IKE_GROUPS,
    ChosenEsp,
    ChosenIke,
    accept_esp,
    accept_ike,
    choose_esp,
    choose_ike,
    describe,
    invalid_ke,
    offer_esp,
    offer_ike,
    refusals,
    requested_group,
)
from oe.ike.registry import EncryptionId, KeyExchangeId, NotifyType, PrfId, ProtocolId, TransformType
from oe.model import EspCipher
from oe.wire import Reader
from tests.ike.strategies import sa_payloads

X25519, P256, MODP = KeyExchangeId.CURVE25519, KeyExchangeId.ECP_256, KeyExchangeId.MODP_2048
SPI = bytes.fromhex("c0ffee01")


def encryption(id: int, bits: int | None = None) -> Transform:
    return Transform(TransformType.ENCRYPTION, id, bits)


GCM_256, GCM_128 = encryption(20, 256), encryption(20, 128)
CHACHA, CBC_256, CBC_128 = encryption(28), encryption(12, 256), encryption(12, 128)
PRF_512, PRF_256 = Transform(TransformType.PRF, 7), Transform(TransformType.PRF, 5)
HMAC_512, HMAC_256 = Transform(TransformType.INTEGRITY, 14), Transform(TransformType.INTEGRITY, 12)
NO_INTEGRITY = Transform(TransformType.INTEGRITY, 0)
ESN, NO_ESN = Transform(TransformType.ESN, 1), Transform(TransformType.ESN, 0)
NO_ADDITIONAL = Transform(TransformType.ADDITIONAL_KEY_EXCHANGE_1, 0)


def groups(*numbers: int) -> tuple[Transform, ...]:
    return tuple(Transform(TransformType.KEY_EXCHANGE, number) for number in numbers)


LIBRESWAN_GROUPS = groups(19, 20, 21, 31, 16, 15, 14, 18)
LIBRESWAN_IKE = SaPayload(
    (
        Proposal(1, ProtocolId.IKE, b"", (GCM_256, PRF_512, PRF_256, NO_INTEGRITY, *LIBRESWAN_GROUPS)),
        Proposal(2, ProtocolId.IKE, b"", (GCM_128, PRF_512, PRF_256, NO_INTEGRITY, *LIBRESWAN_GROUPS)),
        Proposal(3, ProtocolId.IKE, b"", (CHACHA, PRF_512, PRF_256, NO_INTEGRITY, *LIBRESWAN_GROUPS)),
        Proposal(4, ProtocolId.IKE, b"", (CBC_256, PRF_512, PRF_256, HMAC_512, HMAC_256, *LIBRESWAN_GROUPS)),
    )
)
STRONGSWAN_IKE = SaPayload(
    (
        Proposal(1, ProtocolId.IKE, b"", (CBC_128, CBC_256, HMAC_256, PRF_256, *groups(31, 19, 14))),
        Proposal(2, ProtocolId.IKE, b"", (CHACHA, GCM_128, GCM_256, PRF_256, PRF_512, *groups(31, 19, 14))),
    )
)
LIBRESWAN_ESP = SaPayload(
    (
        Proposal(1, ProtocolId.ESP, SPI, (GCM_256, NO_INTEGRITY, ESN, NO_ESN)),
        Proposal(2, ProtocolId.ESP, SPI, (CHACHA, NO_INTEGRITY, ESN, NO_ESN)),
    )
)


def over_the_wire(payload: SaPayload) -> SaPayload:
    return SaPayload.decode(Reader(payload.body(), "test"))


def test_libreswan_and_we_agree() -> None:
    chosen = choose_ike(LIBRESWAN_IKE, P256)
    assert chosen is not None
    assert (chosen.number, chosen.encryption_bits, chosen.prf, chosen.group) == (1, 256, PrfId.HMAC_SHA2_512, P256)
    assert chosen.answer().proposals == (
        Proposal(1, ProtocolId.IKE, b"", (GCM_256, PRF_512, NO_INTEGRITY, *groups(19))),
    )


def test_strongswan_and_we_agree_on_its_second_proposal() -> None:
    chosen = choose_ike(STRONGSWAN_IKE, X25519)
    assert chosen is not None
    assert (chosen.number, chosen.encryption_bits, chosen.prf, chosen.group) == (2, 256, PrfId.HMAC_SHA2_512, X25519)


@pytest.mark.parametrize("group", IKE_GROUPS)
def test_the_group_of_the_public_value_wins(group: KeyExchangeId) -> None:
    chosen = choose_ike(LIBRESWAN_IKE, group)
    assert chosen is not None
    assert chosen.group == group


@pytest.mark.parametrize("kept", [PrfId.HMAC_SHA2_256, PrfId.HMAC_SHA2_384, PrfId.HMAC_SHA2_512])
def test_a_rekey_keeps_the_prf(kept: PrfId) -> None:
    """Which PRF expands SKEYSEED when it changes is understood in two ways out there."""
    chosen = choose_ike(offer_ike(), X25519, kept=kept)
    assert chosen is not None
    assert chosen.prf is kept
    prfs = [one.id for one in offer_ike(kept=kept).proposals[0].transforms if one.kind is TransformType.PRF]
    assert prfs == [kept]


def test_a_prf_that_is_not_offered_again_cannot_be_kept() -> None:
    chosen = choose_ike(offer_ike(kept=PrfId.HMAC_SHA2_256), X25519, kept=PrfId.HMAC_SHA2_512)
    assert chosen is not None
    assert chosen.prf is PrfId.HMAC_SHA2_256


@pytest.mark.parametrize("group", [KeyExchangeId.MODP_8192, KeyExchangeId(999), None])
def test_a_public_value_we_cannot_use_gives_our_favourite(group: KeyExchangeId | None) -> None:
    chosen = choose_ike(LIBRESWAN_IKE, group)
    assert chosen is not None
    assert chosen.group == X25519


def test_esp_of_libreswan() -> None:
    chosen = choose_esp(LIBRESWAN_ESP)
    assert chosen == ChosenEsp(1, EspCipher.AES_GCM_16_256, True, None, 0xC0FFEE01, (GCM_256, NO_INTEGRITY, ESN))
    assert chosen.answer(0xABCDEF01).proposals[0].spi == bytes.fromhex("abcdef01")


@pytest.mark.parametrize(
    ("transforms", "cipher", "esn"),
    [
        ((GCM_128, NO_ESN), EspCipher.AES_GCM_16_128, False),
        ((GCM_128, GCM_256, NO_ESN, ESN), EspCipher.AES_GCM_16_256, True),
        ((GCM_256,), EspCipher.AES_GCM_16_256, False),
        ((GCM_256, *groups(0), NO_ESN), EspCipher.AES_GCM_16_256, False),
        ((GCM_256, NO_ADDITIONAL, NO_ESN), EspCipher.AES_GCM_16_256, False),
    ],
)
def test_esp_that_we_take(transforms: tuple[Transform, ...], cipher: EspCipher, esn: bool) -> None:
    chosen = choose_esp(SaPayload((Proposal(1, ProtocolId.ESP, SPI, transforms),)))
    assert chosen is not None
    assert (chosen.cipher, chosen.esn, chosen.group) == (cipher, esn, None)


@pytest.mark.parametrize(
    ("proposal", "why"),
    [
        (Proposal(1, ProtocolId.ESP, SPI, (CBC_256, HMAC_512, ESN)), "ENCRYPTION: AES_CBC-256 not accepted"),
        (Proposal(1, ProtocolId.ESP, SPI, (GCM_256, HMAC_512, ESN)), "INTEGRITY: HMAC_SHA2_512_256 not accepted"),
        (Proposal(1, ProtocolId.ESP, SPI, (GCM_256, *groups(31), ESN)), "KEY_EXCHANGE: CURVE25519 not accepted"),
        (Proposal(1, ProtocolId.ESP, SPI, (encryption(20), ESN)), "ENCRYPTION: AES_GCM_16 not accepted"),
        (Proposal(1, ProtocolId.ESP, SPI, (encryption(20, 192), ESN)), "ENCRYPTION: AES_GCM_16-192 not accepted"),
        (Proposal(1, ProtocolId.ESP, SPI, (ESN,)), "no ENCRYPTION"),
        (Proposal(1, ProtocolId.ESP, SPI, ()), "no ENCRYPTION"),
        (Proposal(1, ProtocolId.ESP, SPI[:3], (GCM_256, ESN)), "SPI c0ffee"),
        (Proposal(1, ProtocolId.ESP, b"", (GCM_256, ESN)), "SPI missing"),
        (Proposal(1, ProtocolId.ESP, b"\0\0\0\xff", (GCM_256, ESN)), "SPI 000000ff"),
        (Proposal(1, ProtocolId.IKE, b"\0" * 8, (GCM_256, PRF_256, *groups(31))), "SPI 0000000000000000"),
        (Proposal(1, ProtocolId.IKE, b"", (GCM_256, *groups(31))), "no PRF"),
        (Proposal(1, ProtocolId.IKE, b"", (GCM_256, PRF_256)), "no KEY_EXCHANGE"),
        (Proposal(1, ProtocolId.IKE, b"", (GCM_256, PRF_256, *groups(2, 5))), "KEY_EXCHANGE: MODP_1024, MODP_1536 not"),
        (
            Proposal(1, ProtocolId.IKE, b"", (GCM_256, PRF_256, *groups(31), Transform(TransformType(77), 1))),
            "UNKNOWN_77: number 1 not",
        ),
        (
            Proposal(1, ProtocolId.IKE, b"", (Transform(TransformType.ENCRYPTION, 20, 256, False), PRF_256)),
            "AES_GCM_16-256 with an unknown attribute not accepted",
        ),
        (Proposal(1, ProtocolId.AH, SPI, (HMAC_512, NO_ESN)), "protocol AH"),
    ],
)
def test_what_we_do_not_take_and_why(proposal: Proposal, why: str) -> None:
    offered = SaPayload((proposal,))
    assert choose_ike(offered, X25519) is None
    assert choose_esp(offered) is None
    (refusal,) = refusals(offered)
    assert refusal.startswith("proposal 1: ")
    assert why in refusal


def test_accepted_proposals_are_not_explained() -> None:
    assert refusals(LIBRESWAN_IKE, P256) == (
        "proposal 3: ENCRYPTION: CHACHA20_POLY1305 not accepted",
        "proposal 4: ENCRYPTION: AES_CBC-256 not accepted",
    )


def test_unknown_transforms_are_skipped_one_by_one() -> None:
    odd = (encryption(250, 256), GCM_128, PRF_256, Transform(TransformType.PRF, 99), *groups(4000, 31))
    chosen = choose_ike(SaPayload((Proposal(7, ProtocolId.IKE, b"", odd),)), X25519)
    assert chosen is not None
    assert (chosen.number, chosen.transforms) == (7, (GCM_128, PRF_256, *groups(31)))


@pytest.mark.parametrize("group", IKE_GROUPS)
def test_our_own_ike_offer_is_answered_and_accepted(group: KeyExchangeId) -> None:
    offered = offer_ike((group,), bytes(range(1, 9)))
    chosen = choose_ike(over_the_wire(offered), group)
    assert chosen is not None
    assert chosen.spi == bytes(range(1, 9))
    accepted = accept_ike(offered, over_the_wire(chosen.answer(b"\x99" * 8)))
    assert accepted is not None
    assert accepted.spi == b"\x99" * 8
    assert (accepted.prf, accepted.group, accepted.encryption_bits) == (chosen.prf, group, 256)


@pytest.mark.parametrize("group", [None, *IKE_GROUPS])
def test_our_own_esp_offer_is_answered_and_accepted(group: KeyExchangeId | None) -> None:
    offered = offer_esp(0xC0FFEE01, group)
    chosen = choose_esp(over_the_wire(offered), group)
    assert chosen is not None
    assert (chosen.spi, chosen.group, chosen.esn) == (0xC0FFEE01, group, True)
    accepted = accept_esp(offered, over_the_wire(chosen.answer(0xABCDEF01)))
    assert accepted is not None
    assert (accepted.spi, accepted.group, accepted.cipher) == (0xABCDEF01, group, chosen.cipher)


def test_the_integrity_transform_of_an_answer_may_say_none() -> None:
    answered = SaPayload((Proposal(1, ProtocolId.ESP, SPI, (GCM_256, NO_INTEGRITY, NO_ESN)),))
    accepted = accept_esp(offer_esp(0xC0FFEE02), answered)
    assert accepted is not None
    assert not accepted.esn


@pytest.mark.parametrize(
    "answered",
    [
        (),
        (Proposal(1, ProtocolId.ESP, SPI, (GCM_256, ESN)), Proposal(1, ProtocolId.ESP, SPI, (GCM_256, ESN))),
        (Proposal(2, ProtocolId.ESP, SPI, (GCM_256, ESN)),),
        (Proposal(1, ProtocolId.IKE, SPI, (GCM_256, ESN)),),
        (Proposal(1, ProtocolId.ESP, SPI, (GCM_256, GCM_128, ESN)),),
        (Proposal(1, ProtocolId.ESP, SPI, (GCM_256,)),),
        (Proposal(1, ProtocolId.ESP, SPI, (CBC_256, ESN)),),
        (Proposal(1, ProtocolId.ESP, SPI, (GCM_256, HMAC_512, ESN)),),
        (Proposal(1, ProtocolId.ESP, b"", (GCM_256, ESN)),),
    ],
)
def test_an_answer_that_is_no_choice_of_ours_is_not_accepted(answered: tuple[Proposal, ...]) -> None:
    assert accept_esp(offer_esp(0xC0FFEE02), SaPayload(answered)) is None
    assert accept_ike(offer_ike(), SaPayload(answered)) is None


def test_a_group_with_a_public_value_is_agreed_in_create_child_sa() -> None:
    offered = SaPayload((Proposal(1, ProtocolId.ESP, SPI, (GCM_256, *groups(14, 31), ESN)),))
    for group in (MODP, X25519):
        chosen = choose_esp(offered, group)
        assert chosen is not None
        assert chosen.group == group
    other = choose_esp(offered, P256)
    assert other is not None
    assert other.group == X25519, "the caller sees that it is not P-256 and answers INVALID_KE_PAYLOAD"


def test_invalid_ke_says_which_group_we_want_and_is_followed_only_into_our_offer() -> None:
    assert invalid_ke(MODP) == NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, b"\0\x0e")
    assert requested_group(invalid_ke(MODP), offer_ike()) == MODP
    assert requested_group(invalid_ke(MODP), offer_ike((X25519, P256))) is None
    assert requested_group(invalid_ke(KeyExchangeId.MODP_1024), offer_ike()) is None
    assert requested_group(NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, b"\x0e"), offer_ike()) is None


def test_descriptions() -> None:
    assert [describe(t) for t in (GCM_256, PRF_512, NO_ESN, *groups(19))] == [
        "AES_GCM_16-256",
        "HMAC_SHA2_512",
        "NO_ESN",
        "ECP_256",
    ]


@given(sa_payloads, st.sampled_from(IKE_GROUPS))
def test_any_offer_is_chosen_from_or_explained(offered: SaPayload, group: KeyExchangeId) -> None:
    ike, esp = choose_ike(offered, group), choose_esp(offered, group)
    if ike is None and esp is None:
        assert len(refusals(offered, group)) == len(offered.proposals)
    if isinstance(ike, ChosenIke):
        assert ike.encryption_bits in (128, 256)


liked = st.sampled_from([GCM_256, GCM_128, CBC_128, PRF_512, PRF_256, NO_INTEGRITY, ESN, NO_ESN, *groups(14, 31, 2)])


@given(st.lists(liked, max_size=9).map(tuple), st.sampled_from(IKE_GROUPS))
def test_what_is_chosen_was_offered(transforms: tuple[Transform, ...], group: KeyExchangeId) -> None:
    offered = SaPayload((Proposal(1, ProtocolId.IKE, b"", transforms), Proposal(2, ProtocolId.ESP, SPI, transforms)))
    for chosen in (choose_ike(offered, group), choose_esp(offered, group)):
        if chosen is not None:
            assert set(chosen.transforms) <= set(transforms)
            assert {t.kind for t in chosen.transforms} == {t.kind for t in transforms}
            assert all(t.id == EncryptionId.AES_GCM_16 for t in chosen.transforms if t.kind == TransformType.ENCRYPTION)


# --- additional key exchange (RFC 9370) --------------------------------------------------------------------------

ML_KEM_768, ML_KEM_1024 = KeyExchangeId.ML_KEM_768, KeyExchangeId.ML_KEM_1024
BOTH = (ML_KEM_768, ML_KEM_1024)


def additional(*methods: int, position: int = 1) -> tuple[Transform, ...]:
    kind = TransformType(TransformType.ADDITIONAL_KEY_EXCHANGE_1 + position - 1)
    return tuple(Transform(kind, method) for method in methods)


def suite(number: int, *more: Transform) -> Proposal:
    return Proposal(number, ProtocolId.IKE, b"", (GCM_256, PRF_512, *groups(X25519), *more))


def test_both_kinds_are_offered_the_hybrid_one_first() -> None:
    hybrid, plain = offer_ike(additional=BOTH).proposals
    assert (hybrid.number, plain.number) == (1, 2)
    assert hybrid.transforms == (*plain.transforms, *additional(*BOTH))
    assert plain == replace(offer_ike().proposals[0], number=2)


@pytest.mark.parametrize("able", [(), (ML_KEM_768,), (ML_KEM_1024,), BOTH])
@pytest.mark.parametrize("offered", [(), (ML_KEM_768,), (ML_KEM_1024,), BOTH])
def test_two_ends_agree_on_what_both_can_do(
    offered: tuple[KeyExchangeId, ...], able: tuple[KeyExchangeId, ...]
) -> None:
    offer = offer_ike(additional=offered)
    chosen = choose_ike(over_the_wire(offer), X25519, able)
    assert chosen is not None
    assert chosen.additional == next((method for method in able if method in offered), None)
    accepted = accept_ike(offer, over_the_wire(chosen.answer()))
    assert accepted is not None
    assert (accepted.additional, accepted.group) == (chosen.additional, X25519)


def test_hybrid_is_preferred_wherever_it_stands() -> None:
    offered = SaPayload((suite(1), suite(2, *additional(ML_KEM_768))))
    chosen = choose_ike(offered, X25519, BOTH)
    assert chosen is not None
    assert (chosen.number, chosen.additional) == (2, ML_KEM_768)


@pytest.mark.parametrize(
    ("more", "number"),
    [
        (additional(ML_KEM_768, 0), 1),
        (additional(35, 0), 1),
        ((*additional(ML_KEM_768), *additional(ML_KEM_1024, 0, position=2)), 1),
        ((*additional(ML_KEM_768), *additional(ML_KEM_1024, position=2)), 2),
        (additional(ML_KEM_768, position=3), 2),
        (additional(35), 2),
        (additional(X25519), 2),
    ],
)
def test_only_the_first_position_is_used(more: tuple[Transform, ...], number: int) -> None:
    # A proposal that insists on what we do not do gives way to the next one.
    chosen = choose_ike(SaPayload((suite(1, *more), suite(2))), X25519, BOTH)
    assert chosen is not None
    assert chosen.number == number


def test_refusals_name_the_additional_key_exchange() -> None:
    offered = SaPayload((suite(1, *additional(ML_KEM_768)),))
    assert choose_ike(offered, X25519) is None
    assert refusals(offered) == ("proposal 1: ADDITIONAL_KEY_EXCHANGE_1: ML_KEM_768 not accepted",)
    assert refusals(offered, additional=BOTH) == ()


@pytest.mark.parametrize(
    "answered",
    [
        suite(1),
        suite(1, *additional(*BOTH)),
        suite(1, *additional(0)),
        suite(1, *additional(35)),
        suite(1, *additional(ML_KEM_768, position=2)),
        suite(2, *additional(ML_KEM_768)),
    ],
)
def test_an_answer_takes_one_method_of_the_hybrid_proposal(answered: Proposal) -> None:
    assert accept_ike(offer_ike(additional=BOTH), SaPayload((answered,))) is None


def test_without_a_method_groups_only_are_offered() -> None:
    (proposal,) = offer_ike(spi=b"12345678").proposals
    assert all(transform.kind < TransformType.ADDITIONAL_KEY_EXCHANGE_1 for transform in proposal.transforms)
