"""The life of a host pair, as data.

A pair is unknown (None) until a packet of it is trapped, or until a peer negotiates it with us. A trapped packet is
held while DNS is asked who answers for the destination (HELD) and while IKE negotiates (NEGOTIATING). Then the pair is
PROTECTED by SAs, or a fallback holds: CLEAR, BLOCKED, or HELD again until the next try. Every fallback ends by itself,
and every end leads back to unknown, where the group's trap shows through: nothing that happens to a pair is final.

Two rules explain every row in which nothing changes:

- A living SA beats every fallback. CHILD_INSTALLED leads to PROTECTED from everywhere, whoever began the negotiation,
  and only the end of that SA leads away: the peer's or the lifetime's doing, nobody's use, DNS that no longer vouches
  for the peer, or the operator's hand. The failure of an obsolete attempt, a decision that was overtaken, the expiry of
  the pass entry that stood before: none of them touches a protected pair.
- A fallback stands while it is looked at again. Lookups and negotiations in the background do not take a pair out of
  CLEAR or BLOCKED; only their conclusion does. The kernel is not touched unless the conclusion changes. A clear
  decision whose time is over has LAPSED before it has EXPIRED: a packet that comes in between renews it, and is not
  held while it is looked at again.

Child SAs: CHILD_INSTALLED is reported when the outbound half is in place, CHILD_CLOSED when the pair's last one is
gone. Whoever keeps pairs asks `next_state` for every event; an event that the table does not know for a state is a
mistake of the caller, never of a peer.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from oe.errors import OeError
from oe.model import PairState


class FlowEvent(StrEnum):
    """What can happen to a host pair."""

    TRAPPED = "trapped"
    KEYS_FOUND = "keys-found"
    NEGOTIATION_FAILED = "negotiation-failed"
    DECIDED_CLEAR = "decided-clear"
    DECIDED_BLOCKED = "decided-blocked"
    DECIDED_HOLD = "decided-hold"
    CHILD_INSTALLED = "child-installed"
    CHILD_CLOSED = "child-closed"
    IDLED = "idled"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"
    EXPIRED = "expired"
    FLUSHED = "flushed"


class IllegalTransition(OeError):
    """The table has no row for an event in a state: the caller lost track of the pair."""

    def __init__(self, state: PairState | None, event: FlowEvent) -> None:
        super().__init__(f"host pair is {_name(state)}: {event} cannot happen")
        self.state = state
        self.event = event


@dataclass(frozen=True, slots=True)
class Transition:
    """Where an event leads, and why, in one clause for people."""

    to: PairState | None
    story: str


def _name(state: PairState | None) -> str:
    return "unknown" if state is None else state.value


_HELD, _NEGOTIATING = PairState.HELD, PairState.NEGOTIATING
_PROTECTED, _CLEAR, _BLOCKED = PairState.PROTECTED, PairState.CLEAR, PairState.BLOCKED
_E = FlowEvent

TRANSITIONS: dict[tuple[PairState | None, FlowEvent], Transition] = {
    # unknown: the trap of the pair's group stands in the kernel
    (None, _E.TRAPPED): Transition(_HELD, "first packet: hold it and ask DNS"),
    (None, _E.DECIDED_CLEAR): Transition(_CLEAR, "the policy alone decides"),
    (None, _E.DECIDED_BLOCKED): Transition(_BLOCKED, "the policy alone decides"),
    (None, _E.CHILD_INSTALLED): Transition(_PROTECTED, "the peer came first"),
    (None, _E.FLUSHED): Transition(None, "nothing to forget"),
    # held: DNS is being asked, or a hold waits for the next try
    (_HELD, _E.TRAPPED): Transition(_HELD, "hold one more"),
    (_HELD, _E.KEYS_FOUND): Transition(_NEGOTIATING, "a gateway and its key are known"),
    (_HELD, _E.NEGOTIATION_FAILED): Transition(_HELD, "an obsolete attempt ended"),
    (_HELD, _E.DECIDED_CLEAR): Transition(_CLEAR, "no encryption, and the group lets it pass"),
    (_HELD, _E.DECIDED_BLOCKED): Transition(_BLOCKED, "no encryption, and the group forbids anything else"),
    (_HELD, _E.DECIDED_HOLD): Transition(_HELD, "wait for the next try"),
    (_HELD, _E.CHILD_INSTALLED): Transition(_PROTECTED, "the peer's own negotiation won"),
    (_HELD, _E.CHILD_CLOSED): Transition(_HELD, "a responder's half of an SA was given up"),
    (_HELD, _E.EXPIRED): Transition(None, "the hold ended; the next packet traps again"),
    (_HELD, _E.FLUSHED): Transition(None, "forgotten on the operator's word"),
    # negotiating: packets are held meanwhile
    (_NEGOTIATING, _E.TRAPPED): Transition(_NEGOTIATING, "hold one more"),
    (_NEGOTIATING, _E.KEYS_FOUND): Transition(_NEGOTIATING, "the next gateway is tried"),
    (_NEGOTIATING, _E.NEGOTIATION_FAILED): Transition(_HELD, "every gateway failed; the decision follows"),
    (_NEGOTIATING, _E.DECIDED_CLEAR): Transition(_CLEAR, "the budget is spent; IKE may go on in the background"),
    (_NEGOTIATING, _E.DECIDED_BLOCKED): Transition(_BLOCKED, "the budget is spent; IKE may go on in the background"),
    (_NEGOTIATING, _E.DECIDED_HOLD): Transition(_HELD, "the budget is spent; wait for the next try"),
    (_NEGOTIATING, _E.CHILD_INSTALLED): Transition(_PROTECTED, "encryption"),
    (_NEGOTIATING, _E.CHILD_CLOSED): Transition(_NEGOTIATING, "a responder's half of an SA was given up"),
    (_NEGOTIATING, _E.EXPIRED): Transition(_NEGOTIATING, "the end of an earlier hold; the negotiation has its own"),
    (_NEGOTIATING, _E.FLUSHED): Transition(None, "forgotten on the operator's word"),
    # protected: nothing but the end of its SA or the operator changes it
    (_PROTECTED, _E.TRAPPED): Transition(_PROTECTED, "trapped before the kernel knew: into the tunnel"),
    (_PROTECTED, _E.KEYS_FOUND): Transition(_PROTECTED, "a late answer, or a re-check that changes nothing"),
    (_PROTECTED, _E.NEGOTIATION_FAILED): Transition(_PROTECTED, "an obsolete attempt ended; the SA lives"),
    (_PROTECTED, _E.DECIDED_CLEAR): Transition(_PROTECTED, "overtaken by an SA"),
    (_PROTECTED, _E.DECIDED_BLOCKED): Transition(_PROTECTED, "overtaken by an SA"),
    (_PROTECTED, _E.DECIDED_HOLD): Transition(_PROTECTED, "overtaken by an SA"),
    (_PROTECTED, _E.CHILD_INSTALLED): Transition(_PROTECTED, "rekeyed, or both sides began at once"),
    (_PROTECTED, _E.CHILD_CLOSED): Transition(None, "the last SA is gone; the trap shows through"),
    (_PROTECTED, _E.IDLED): Transition(None, "no packet either way for long; the trap shows through"),
    (_PROTECTED, _E.WITHDRAWN): Transition(None, "its key or delegation is gone from DNS; the trap shows through"),
    (_PROTECTED, _E.EXPIRED): Transition(_PROTECTED, "the end of the fallback that stood before"),
    (_PROTECTED, _E.FLUSHED): Transition(None, "forgotten on the operator's word"),
    # clear: the kernel passes the pair's packets
    (_CLEAR, _E.TRAPPED): Transition(_CLEAR, "trapped before the kernel knew, or it renews: let it pass"),
    (_CLEAR, _E.KEYS_FOUND): Transition(_CLEAR, "negotiated in the background"),
    (_CLEAR, _E.NEGOTIATION_FAILED): Transition(_CLEAR, "the background attempt came to nothing"),
    (_CLEAR, _E.DECIDED_CLEAR): Transition(_CLEAR, "looked at again, renewed"),
    (_CLEAR, _E.DECIDED_BLOCKED): Transition(_BLOCKED, "looked at again: now it must not pass"),
    (_CLEAR, _E.DECIDED_HOLD): Transition(_HELD, "looked at again: now it must wait"),
    (_CLEAR, _E.CHILD_INSTALLED): Transition(_PROTECTED, "encryption replaces the fallback at once"),
    (_CLEAR, _E.CHILD_CLOSED): Transition(_CLEAR, "a responder's half of an SA was given up"),
    (_CLEAR, _E.LAPSED): Transition(_CLEAR, "its time is over; a packet that comes soon renews it"),
    (_CLEAR, _E.EXPIRED): Transition(None, "its time is over; the next packet traps again"),
    (_CLEAR, _E.FLUSHED): Transition(None, "forgotten on the operator's word"),
    # blocked: the kernel drops them
    (_BLOCKED, _E.TRAPPED): Transition(_BLOCKED, "trapped before the kernel knew: drop it"),
    (_BLOCKED, _E.KEYS_FOUND): Transition(_BLOCKED, "negotiated in the background"),
    (_BLOCKED, _E.NEGOTIATION_FAILED): Transition(_BLOCKED, "the background attempt came to nothing"),
    (_BLOCKED, _E.DECIDED_CLEAR): Transition(_CLEAR, "looked at again: now it may pass"),
    (_BLOCKED, _E.DECIDED_BLOCKED): Transition(_BLOCKED, "looked at again, renewed"),
    (_BLOCKED, _E.DECIDED_HOLD): Transition(_HELD, "looked at again: now it may wait"),
    (_BLOCKED, _E.CHILD_INSTALLED): Transition(_PROTECTED, "encryption replaces the fallback at once"),
    (_BLOCKED, _E.CHILD_CLOSED): Transition(_BLOCKED, "a responder's half of an SA was given up"),
    (_BLOCKED, _E.EXPIRED): Transition(None, "its time is over; the next packet traps again"),
    (_BLOCKED, _E.FLUSHED): Transition(None, "forgotten on the operator's word"),
}


def next_state(state: PairState | None, event: FlowEvent) -> PairState | None:
    """Where `event` leads a pair in `state`; None is unknown. Raises `IllegalTransition` where no row says."""
    transition = TRANSITIONS.get((state, event))
    if transition is None:
        raise IllegalTransition(state, event)
    return transition.to


def mermaid() -> str:
    """The table as a Mermaid state diagram, ending in a newline. Rows in which nothing changes are left out."""
    arrows: dict[tuple[PairState | None, PairState | None], list[FlowEvent]] = {}
    for (state, event), transition in TRANSITIONS.items():
        if transition.to is not state:
            arrows.setdefault((state, transition.to), []).append(event)
    lines = ["stateDiagram-v2", "    [*] --> unknown"]
    lines += [f"    {_name(state)} --> {_name(to)}: {_listed(events)}" for (state, to), events in arrows.items()]
    return "\n".join(lines) + "\n"


def _listed(events: Iterable[FlowEvent]) -> str:
    return ", ".join(event.value for event in events)
