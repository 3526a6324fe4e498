"""How far an answer may be believed, and what may be done with it.

Trust needs a resolver on this host: the AD bit of any other crosses a network where others can set it. Doubt is
believed from everyone: who can forge "bogus" can as well forge silence.
"""

from dataclasses import dataclass

from oe.model import Address, Delegation, Grade

_STRENGTH = (Grade.BOGUS, Grade.INDETERMINATE, Grade.INSECURE, Grade.SECURE)


@dataclass(frozen=True, slots=True)
class Evidence:
    """How an answer came."""

    on_loopback: bool
    """The server stands on this host."""
    authenticated: bool
    """It set AD."""
    only_unchecked: bool
    """It refused (SERVFAIL) until it was asked with checking disabled: validation failed."""


def grade(evidence: Evidence) -> Grade:
    """Grade of an answer (RFC 4033 5). A resolver elsewhere can prove nothing: indeterminate."""
    if evidence.only_unchecked:
        return Grade.BOGUS
    if not evidence.on_loopback:
        return Grade.INDETERMINATE
    return Grade.SECURE if evidence.authenticated else Grade.INSECURE


def weaker(one: Grade, other: Grade) -> Grade:
    """Grade of a conclusion that rests on both."""
    return min(one, other, key=_STRENGTH.index)


def may_delegate(grade: Grade, owner: Address | None, delegation: Delegation) -> bool:
    """Whether a record of this grade may send us to that gateway.

    An unsigned one speaks for its owner only (RFC 4025 4.1; a gateway equal to the owner is no redirection):
    else whoever can forge an answer could direct our IKE, and the traffic after it, to any third party.
    """
    speaks_for_itself = delegation.gateway_name is None and delegation.gateway in (None, owner)
    return grade is Grade.SECURE or speaks_for_itself
