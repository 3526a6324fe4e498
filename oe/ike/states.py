"""The life of an IKE SA: which steps lead where, and which requests are heard in which state.

Everything that decides about legality stands in the two tables; code elsewhere asks them and keeps no flags of its own.

    initiator  STARTED ──keys agreed──▶ AUTHENTICATING ──authenticated──▶ ESTABLISHED ──▶ CLOSING ──▶ GONE
    responder  HALF_OPEN ──peer claims an identity──▶ AUTHENTICATING ──authenticated──▶ ESTABLISHED ──▶ ...

LINGERING is how a responder ends: nothing is left but its last answer, kept for repetitions of the request.
"""

from enum import StrEnum

from oe.ike.registry import ExchangeType


class State(StrEnum):
    STARTED = "started"
    """We sent IKE_SA_INIT."""
    HALF_OPEN = "half-open"
    """We answered IKE_SA_INIT."""
    AUTHENTICATING = "authenticating"
    """Keys are agreed, IKE_AUTH is under way."""
    ESTABLISHED = "established"
    CLOSING = "closing"
    """We said that it is over and wait for the answer."""
    LINGERING = "lingering"
    """Over; only repetitions of the peer's last request are answered."""
    GONE = "gone"
    """Forgotten; answers that still come are late."""


class Step(StrEnum):
    """What moves an IKE SA from state to state."""

    KEYS_AGREED = "keys-agreed"
    AUTH_REQUESTED = "auth-requested"
    AUTHENTICATED = "authenticated"
    GOODBYE_SENT = "goodbye-sent"
    LAST_ANSWER_SENT = "last-answer-sent"
    DROPPED = "dropped"


STEPS: dict[tuple[State, Step], tuple[State, str]] = {
    (State.STARTED, Step.KEYS_AGREED): (
        State.AUTHENTICATING,
        "the responder's IKE_SA_INIT gave proposal, key share and nonce; our signature and an SPI are asked for",
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
    (State.ESTABLISHED, Step.GOODBYE_SENT): (State.CLOSING, "we deleted it and wait for the answer"),
    (State.AUTHENTICATING, Step.LAST_ANSWER_SENT): (
        State.LINGERING,
        "the initiator was refused; if the refusal is lost it will ask again",
    ),
    (State.ESTABLISHED, Step.LAST_ANSWER_SENT): (State.LINGERING, "the peer deleted it; it may ask again"),
    (State.CLOSING, Step.LAST_ANSWER_SENT): (State.LINGERING, "both deleted it at once"),
    (State.STARTED, Step.DROPPED): (State.GONE, "nobody answered, or nobody wants it any more"),
    (State.HALF_OPEN, Step.DROPPED): (State.GONE, "the peer began and came no further in time"),
    (State.AUTHENTICATING, Step.DROPPED): (State.GONE, "no answer came in time, from the peer or from our own side"),
    (State.ESTABLISHED, Step.DROPPED): (State.GONE, "the peer is dead, or has replaced it (INITIAL_CONTACT)"),
    (State.CLOSING, Step.DROPPED): (State.GONE, "our Delete was answered, or will not be"),
    (State.LINGERING, Step.DROPPED): (State.GONE, "no repetition is expected any more"),
}
"""(state, step) → (next state, the story). What is not listed is a mistake of ours, never of a peer."""


HEARD: dict[State, frozenset[ExchangeType]] = {
    State.STARTED: frozenset(),
    State.HALF_OPEN: frozenset({ExchangeType.IKE_AUTH}),
    State.AUTHENTICATING: frozenset(),
    State.ESTABLISHED: frozenset({ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL}),
    State.CLOSING: frozenset({ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL}),
    State.LINGERING: frozenset(),
    State.GONE: frozenset(),
}
"""Which new requests of the peer are heard; others are `Reason.UNEXPECTED_MESSAGE`.

Repetitions of an answered request are answered in every state but GONE. Responses need no table: only the one to the
request under way, of its exchange type, is heard. IKE_SA_INIT requests belong to no IKE SA yet.
"""
