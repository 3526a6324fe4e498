"""What a flow came to, judged by its answers and by what the wire showed. Pure."""

from enum import StrEnum

from oe.lab.sightings import Wire


class Outcome(StrEnum):
    ENCRYPTED = "encrypted"
    """Answered, and nothing of it was seen in clear."""
    TURNS_ENCRYPTED = "clear, then encrypted"
    """Answered; clear packets first, ESP after them, no clear packet after the first ESP."""
    IN_CLEAR = "clear"
    """Answered, no ESP."""
    NOTHING = "nothing"
    """No answer, and not one packet of it left."""
    REFUSED = "refused"
    """As NOTHING, and the system told the program at once."""
    UNANSWERED = "no answer"
    """Packets left in clear, and no answer came."""
    MIXED = "mixed"
    """Anything else: clear packets after ESP, ESP without an answer, a readable payload beside ESP."""


ANSWERED = frozenset((Outcome.ENCRYPTED, Outcome.TURNS_ENCRYPTED, Outcome.IN_CLEAR))


def judge(wire: Wire, *, answered: bool, refused: bool) -> Outcome:
    """The outcome of a flow."""
    readable = wire.marker_seen and not wire.clear
    match answered, wire.clear > 0, wire.esp > 0:
        case True, False, True if not readable:
            return Outcome.ENCRYPTED
        case True, True, False:
            return Outcome.IN_CLEAR
        case True, True, True if not wire.clear_after_esp:
            return Outcome.TURNS_ENCRYPTED
        case False, False, False if not readable:
            return Outcome.REFUSED if refused else Outcome.NOTHING
        case False, True, False:
            return Outcome.UNANSWERED
    return Outcome.MIXED
