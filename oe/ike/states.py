"""The lives of an IKE SA and of a Child SA: which steps lead where, and which requests are heard in which state.

Everything that decides about legality stands in the tables; code elsewhere asks them and keeps no flags of its own.

    initiator  STARTED ──keys agreed──▶ AUTHENTICATING ──authenticated──▶ ESTABLISHED ──▶ CLOSING ──▶ GONE
    responder  HALF_OPEN ──peer claims an identity──▶ AUTHENTICATING ──authenticated──▶ ESTABLISHED ──▶ ...
    hybrid     STARTED or HALF_OPEN ──more keys agreed──▶ INTERMEDIATE ──▶ AUTHENTICATING or HALF_OPEN ──▶ ...
    successor                                                   ──rekeyed──▶ ESTABLISHED ──▶ ...
    rekeyed    ESTABLISHED ──its Child SAs moved──▶ REPLACED ──▶ CLOSING or LINGERING ──▶ GONE

LINGERING is how a responder ends: nothing is left but its last answer, kept for repetitions of the request.
"""

from enum import StrEnum

from oe.ike.registry import ExchangeType


class State(StrEnum):
    STARTED = "started"
    """We sent IKE_SA_INIT."""
    HALF_OPEN = "half-open"
    """We answered IKE_SA_INIT."""
    INTERMEDIATE = "intermediate"
    """Keys are agreed, an additional key exchange is under way (RFC 9370)."""
    AUTHENTICATING = "authenticating"
    """Keys are agreed, IKE_AUTH is under way."""
    ESTABLISHED = "established"
    REPLACED = "replaced"
    """Its successor has its Child SAs; only its Delete is still to come."""
    CLOSING = "closing"
    """We said that it is over and wait for the answer."""
    LINGERING = "lingering"
    """Over; only repetitions of the peer's last request are answered."""
    GONE = "gone"
    """Forgotten; answers that still come are late."""


class Step(StrEnum):
    """What moves an IKE SA from state to state."""

    KEYS_AGREED = "keys-agreed"
    MORE_KEYS_AGREED = "more-keys-agreed"
    INTERMEDIATE_ANSWERED = "intermediate-answered"
    AUTH_REQUESTED = "auth-requested"
    AUTHENTICATED = "authenticated"
    REKEYED = "rekeyed"
    GOODBYE_SENT = "goodbye-sent"
    LAST_ANSWER_SENT = "last-answer-sent"
    DROPPED = "dropped"


STEPS: dict[tuple[State, Step], tuple[State, str]] = {
    (State.STARTED, Step.KEYS_AGREED): (
        State.AUTHENTICATING,
        "the responder's IKE_SA_INIT gave proposal, key share and nonce; our signature and an SPI are asked for",
    ),
    (State.STARTED, Step.MORE_KEYS_AGREED): (
        State.INTERMEDIATE,
        "the responder's IKE_SA_INIT chose an additional key exchange: ours asks for it",
    ),
    (State.HALF_OPEN, Step.MORE_KEYS_AGREED): (
        State.INTERMEDIATE,
        "our IKE_SA_INIT chose an additional key exchange: nothing but the peer's half of it is heard",
    ),
    (State.INTERMEDIATE, Step.KEYS_AGREED): (
        State.AUTHENTICATING,
        "the responder's IKE_INTERMEDIATE gave its half; our signature and an SPI are asked for",
    ),
    (State.INTERMEDIATE, Step.INTERMEDIATE_ANSWERED): (
        State.HALF_OPEN,
        "the additional key exchange is answered; IKE_AUTH follows, under the keys of both",
    ),
    (State.HALF_OPEN, Step.AUTH_REQUESTED): (
        State.AUTHENTICATING,
        "an IKE_AUTH request under the agreed keys claims an identity; its keys are asked for",
    ),
    (State.AUTHENTICATING, Step.AUTHENTICATED): (
        State.ESTABLISHED,
        "both ends proved who they are; a refused Child SA does not change that",
    ),
    (State.AUTHENTICATING, Step.GOODBYE_SENT): (
        State.CLOSING,
        "the responder did not prove its identity and is told so in an INFORMATIONAL of our own (RFC 7296 2.21.2)",
    ),
    (State.ESTABLISHED, Step.REKEYED): (
        State.REPLACED,
        "a successor was agreed, under keys of its own, and has its Child SAs (RFC 7296 2.8, 2.18)",
    ),
    (State.ESTABLISHED, Step.GOODBYE_SENT): (State.CLOSING, "we deleted it and wait for the answer"),
    (State.REPLACED, Step.GOODBYE_SENT): (State.CLOSING, "who began the rekey that holds deletes the old one"),
    (State.AUTHENTICATING, Step.LAST_ANSWER_SENT): (
        State.LINGERING,
        "the initiator was refused; if the refusal is lost it will ask again",
    ),
    (State.HALF_OPEN, Step.LAST_ANSWER_SENT): (State.LINGERING, "the initiator's IKE_AUTH was malformed"),
    (State.INTERMEDIATE, Step.LAST_ANSWER_SENT): (
        State.LINGERING,
        "the initiator's half was not what was agreed on; it may ask again",
    ),
    (State.ESTABLISHED, Step.LAST_ANSWER_SENT): (
        State.LINGERING,
        "the peer deleted it, or asked what makes no sense (RFC 7296 2.21.3); it may ask again",
    ),
    (State.REPLACED, Step.LAST_ANSWER_SENT): (State.LINGERING, "the peer began the rekey and deleted the old one"),
    (State.CLOSING, Step.LAST_ANSWER_SENT): (State.LINGERING, "both deleted it at once"),
    (State.STARTED, Step.DROPPED): (State.GONE, "nobody answered, or nobody wants it any more"),
    (State.HALF_OPEN, Step.DROPPED): (State.GONE, "the peer began and came no further in time"),
    (State.INTERMEDIATE, Step.DROPPED): (State.GONE, "the other end came no further in time"),
    (State.AUTHENTICATING, Step.DROPPED): (State.GONE, "no answer came in time, from the peer or from our own side"),
    (State.ESTABLISHED, Step.DROPPED): (
        State.GONE,
        "the peer is dead, has replaced it (INITIAL_CONTACT), or has shown that it lost it (RFC 6290)",
    ),
    (State.REPLACED, Step.DROPPED): (State.GONE, "the peer died before the old one was deleted"),
    (State.CLOSING, Step.DROPPED): (State.GONE, "our Delete was answered, or will not be"),
    (State.LINGERING, Step.DROPPED): (State.GONE, "no repetition is expected any more"),
}
"""(state, step) → (next state, the story). What is not listed is a mistake of ours, never of a peer."""


_ESTABLISHED = frozenset({ExchangeType.CREATE_CHILD_SA, ExchangeType.IKE_FOLLOWUP_KE, ExchangeType.INFORMATIONAL})

HEARD: dict[State, frozenset[ExchangeType]] = {
    State.STARTED: frozenset(),
    State.HALF_OPEN: frozenset({ExchangeType.IKE_AUTH}),
    State.INTERMEDIATE: frozenset({ExchangeType.IKE_INTERMEDIATE}),
    State.AUTHENTICATING: frozenset(),
    State.ESTABLISHED: _ESTABLISHED,
    State.REPLACED: _ESTABLISHED,
    State.CLOSING: _ESTABLISHED,
    State.LINGERING: frozenset(),
    State.GONE: frozenset(),
}
"""Which new requests of the peer are heard; others are `Reason.UNEXPECTED_MESSAGE`.

Repetitions of an answered request are answered in every state but GONE. Responses need no table: only the one to the
request under way, of its exchange type, is heard. IKE_SA_INIT requests belong to no IKE SA yet.
"""


# --- Child SAs -------------------------------------------------------------------------------------------------


class ChildState(StrEnum):
    UP = "up"
    REKEYING = "rekeying"
    """We asked the peer for its successor."""
    REPLACED = "replaced"
    """A successor stands beside it; packets on their way are still received."""
    CLOSING = "closing"
    """Its Delete is under way; nothing is sent through it."""


class ChildStep(StrEnum):
    """What moves a Child SA from state to state. Its end, from any of them, needs no step: it is forgotten."""

    REKEY_SENT = "rekey-sent"
    REKEY_FAILED = "rekey-failed"
    REKEYED = "rekeyed"
    DELETED = "deleted"


CHILD_STEPS: dict[tuple[ChildState, ChildStep], tuple[ChildState, str]] = {
    (ChildState.UP, ChildStep.REKEY_SENT): (
        ChildState.REKEYING,
        "its lifetime, its octets or its sequence numbers come to an end; packets go on through it",
    ),
    (ChildState.REKEYING, ChildStep.REKEY_FAILED): (
        ChildState.UP,
        "refused; asked again after a pause, for as long as its lifetime lasts",
    ),
    (ChildState.UP, ChildStep.REKEYED): (ChildState.REPLACED, "the peer asked for a successor and will delete it"),
    (ChildState.REKEYING, ChildStep.REKEYED): (
        ChildState.REPLACED,
        "the successor that we asked for is agreed, or the peer's, where both asked at once",
    ),
    (ChildState.REPLACED, ChildStep.REKEY_FAILED): (ChildState.UP, "its successor could not be put in place"),
    (ChildState.UP, ChildStep.DELETED): (ChildState.CLOSING, "policy, idleness or the end of its lifetime"),
    (ChildState.REKEYING, ChildStep.DELETED): (ChildState.CLOSING, "the same, while a successor was asked for"),
    (ChildState.REPLACED, ChildStep.DELETED): (
        ChildState.CLOSING,
        "who began the rekey that holds deletes the old one, once nothing of it can be on its way",
    ),
}
"""(state, step) → (next state, the story)."""
