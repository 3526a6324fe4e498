"""Both ends at work on the same SA: what a CREATE_CHILD_SA request of the peer is told meanwhile (RFC 7296 2.25).

What is not in the table is answered as usual; of two equal SAs that come of that, nonces say which one goes (2.8.1).
"""

from collections.abc import Collection
from enum import StrEnum

from oe.ike.registry import NotifyType


class Ask(StrEnum):
    """What a CREATE_CHILD_SA request wants."""

    NEW_CHILD = "new-child"
    REKEY_CHILD = "rekey-child"
    REKEY_IKE = "rekey-ike"


class Situation(StrEnum):
    """How it stands with us."""

    IKE_ENDS = "ike-ends"
    IKE_REKEYED = "ike-rekeyed"
    CHILD_CHANGES = "child-changes"
    CHILD_UNKNOWN = "child-unknown"
    CHILD_ENDS = "child-ends"


_LATER = NotifyType.TEMPORARY_FAILURE

COLLISIONS: dict[tuple[Situation, Ask], tuple[NotifyType, str]] = {
    (Situation.IKE_ENDS, Ask.NEW_CHILD): (_LATER, "we delete the IKE SA, or it has a successor"),
    (Situation.IKE_ENDS, Ask.REKEY_CHILD): (_LATER, "its Child SAs went to the successor, or go with it"),
    (Situation.IKE_ENDS, Ask.REKEY_IKE): (_LATER, "it is rekeyed already, or not wanted any more"),
    (Situation.IKE_REKEYED, Ask.NEW_CHILD): (_LATER, "we asked to rekey the IKE SA: which one would have it?"),
    (Situation.IKE_REKEYED, Ask.REKEY_CHILD): (_LATER, "we asked to rekey the IKE SA, and its Child SAs move"),
    (Situation.CHILD_CHANGES, Ask.REKEY_IKE): (_LATER, "we asked to make, rekey or delete a Child SA of it"),
    (Situation.CHILD_UNKNOWN, Ask.REKEY_CHILD): (
        NotifyType.CHILD_SA_NOT_FOUND,
        "there is no such Child SA, or not any more",
    ),
    (Situation.CHILD_ENDS, Ask.REKEY_CHILD): (_LATER, "we delete that Child SA, or it has a successor"),
}
"""(how it stands with us, what the peer asks) → (what it is told, the story)."""


def refusal(ask: Ask, situations: Collection[Situation]) -> NotifyType | None:
    """What the table says; of several situations the one that stands first counts. None: answer as usual."""
    found = (COLLISIONS.get((situation, ask)) for situation in Situation if situation in situations)
    return next((told[0] for told in found if told is not None), None)
