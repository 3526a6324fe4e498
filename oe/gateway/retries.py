"""Which failed attempts are tried again behind the decision that they led to, and when."""

from math import inf

from oe.reasons import Reason

CROSSED = frozenset({Reason.WE_WERE_REFUSED, Reason.REDUNDANT, Reason.SUPERSEDED, Reason.REPLACED_BY_PEER})
"""What an attempt of ours may come to when both sides began at once, and the peer's counts."""

FIRST = 5.0
"""Seconds after which a failed encryption is tried again; doubles with each try ..."""

LONGEST = 20.0
"""... up to this: a peer that is back, or a way that is, must not wait for long."""

HEARD = 1.0
"""The first pause for a peer that began to answer: it is there, and only something on the way got lost."""

_BOUNDS = {
    Reason.DNS_FAILED: (FIRST, LONGEST),
    Reason.DNS_TIMEOUT: (FIRST, LONGEST),
    Reason.PEER_SILENT: (FIRST, LONGEST),
    Reason.NEGOTIATION_TIMEOUT: (HEARD, LONGEST),
    # It may be an attacker's who was faster once; one that stays wrong is not worth much work.
    Reason.PEER_AUTHENTICATION_FAILED: (FIRST, inf),
    Reason.INSTALL_FAILED: (FIRST, LONGEST),
    Reason.OWN_KEY_UNPUBLISHED: (FIRST, LONGEST),
    Reason.OWN_CLIENT_UNDELEGATED: (FIRST, LONGEST),
    **dict.fromkeys(CROSSED, (FIRST, LONGEST)),
}
"""Failures that may pass by themselves, with their shortest and longest pause. The others wait for their decision to
expire."""


def pause(reason: Reason, tries: int) -> float | None:
    """Seconds until a failure is tried again, after so many tries already; None: it is not."""
    bounds = _BOUNDS.get(reason)
    if bounds is None:
        return None
    first, longest = bounds
    return min(first * 2.0 ** min(tries, 32), longest)
