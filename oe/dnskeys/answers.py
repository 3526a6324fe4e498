"""What one response says about one name: records, how long it holds, and whether the name exists at all."""

from dataclasses import dataclass
from math import inf

from oe.dnskeys.exchange import Heard
from oe.dnskeys.message import Question, Rcode, Record, Response, Type
from oe.dnskeys.names import Name, shown
from oe.dnskeys.records import Unusable, decode_ipseckey, decode_txt
from oe.dnskeys.trust import may_delegate
from oe.errors import ParseError
from oe.model import Address, Delegation, Grade, LookupOutcome
from oe.reasons import Reason
from oe.wire import Reader

MAX_CHAIN = 8
"""CNAME and DNAME links followed; RFC 2317 needs one or two."""
MAX_DELEGATIONS = 16
"""Records of one owner that are used; every key costs a verification."""

POSITIVE_LIFETIME = (60.0, 86_400.0)
"""Seconds: a found key holds for its TTL, within these. The floor keeps a TTL of 0 from asking for every packet."""
UNUSABLE_LIFETIME = (60.0, 900.0)
"""Records that are no good are looked at again soon, so that a repair is noticed."""
NEGATIVE_CAP = {Grade.SECURE: 10_800.0, Grade.INSECURE: 900.0, Grade.INDETERMINATE: 900.0}
"""Proven absence holds up to 3 h (RFC 2308 5); one that may be forged up to 15 min."""
FAILURE_LIFETIME = {LookupOutcome.BOGUS: 60.0, LookupOutcome.FAILED: 15.0}
"""RFC 2308 7 allows 5 min; a failure must not outlast its cause by much."""

_SOA_MIN_OCTETS = 22
_SEVERITY = (Reason.MALFORMED_RECORD, Reason.UNSIGNED_DELEGATION, Reason.NO_USABLE_KEY)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a response comes to. `lifetime` in seconds from now; 0: not to be kept."""

    outcome: LookupOutcome
    grade: Grade
    reason: Reason | None
    lifetime: float
    delegations: tuple[Delegation, ...] = ()
    detail: str = ""
    name_exists: bool = True
    """False: NXDOMAIN, so that there is no record of any other type either (RFC 8020)."""


def read_answer(question: Question, owner: Address | None, heard: Heard) -> Reading:
    """Read what was heard to `question`; `owner` is the address asked about, None for a gateway's forward name."""
    response, grade = heard.response, heard.grade
    if response is None:
        outcome = LookupOutcome.BOGUS if grade is Grade.BOGUS else LookupOutcome.FAILED
        return Reading(outcome, grade, heard.reason, FAILURE_LIFETIME[outcome], detail=heard.detail)
    name = shown(question.name)
    try:
        records, chain_ttl = _follow(question, response)
    except ParseError as error:
        lifetime = FAILURE_LIFETIME[LookupOutcome.FAILED]
        return Reading(LookupOutcome.FAILED, grade, Reason.DNS_FAILED, lifetime, detail=f"{name}: {error}")
    usable, faults = _sort(records, owner, grade)
    ttl = min([chain_ttl, *(float(record.ttl) for record in records)])
    if usable:
        lifetime = _clamp(ttl, POSITIVE_LIFETIME)
        noted = f"; {len(faults)} more unusable: {faults[0].detail}" if faults else ""
        detail = f"{name}: {len(usable)} usable {usable[0].kind} records{noted}"
        return Reading(LookupOutcome.FOUND, grade, None, lifetime, tuple(usable), detail)
    if faults:
        worst = min(faults, key=lambda fault: _SEVERITY.index(fault.reason))
        lifetime = _clamp(ttl, UNUSABLE_LIFETIME)
        return Reading(LookupOutcome.UNUSABLE, grade, worst.reason, lifetime, detail=f"{name}: {worst.detail}")
    if not records:
        ttl = min(chain_ttl, _negative_ttl(response))
    exists = response.rcode != Rcode.NXDOMAIN
    detail = f"{name}: no record for IPsec" if exists else f"{name}: no such name"
    lifetime = min(ttl, NEGATIVE_CAP[grade])
    return Reading(LookupOutcome.NO_KEY, grade, Reason.NO_KEY, lifetime, detail=detail, name_exists=exists)


def _clamp(ttl: float, bounds: tuple[float, float]) -> float:
    return min(max(ttl, bounds[0]), bounds[1])


def _negative_ttl(response: Response) -> float:
    """min(TTL, MINIMUM) of the SOA; without one, 0: not to be kept (RFC 2308 5)."""
    return min((_minimum(record) for record in response.authority if record.type == Type.SOA), default=0.0)


def _minimum(soa: Record) -> float:
    """MINIMUM is the last of the five 32-bit numbers that end the rdata (RFC 1035 3.3.13)."""
    if len(soa.rdata) < _SOA_MIN_OCTETS:
        return 0.0
    return float(min(soa.ttl, Reader(soa.rdata[-4:], "SOA").u32("minimum")))


def _sort(records: list[Record], owner: Address | None, grade: Grade) -> tuple[list[Delegation], list[Unusable]]:
    """Usable delegations, best precedence first, each once; and what is wrong with the others."""
    usable: dict[Delegation, None] = {}
    faults: list[Unusable] = []
    for record in records[: 4 * MAX_DELEGATIONS]:
        decoded = decode_ipseckey(record.rdata) if record.type == Type.IPSECKEY else decode_txt(record.rdata)
        if isinstance(decoded, Delegation):
            fault = _objection(decoded, owner, grade)
            if fault is None:
                usable[decoded] = None
            else:
                faults.append(fault)
        elif decoded is not None:
            faults.append(decoded)
    return sorted(usable, key=lambda delegation: delegation.precedence)[:MAX_DELEGATIONS], faults


def _objection(delegation: Delegation, owner: Address | None, grade: Grade) -> Unusable | None:
    """Why a well-formed record is not used for this owner."""
    gateway = delegation.gateway
    if not may_delegate(grade, owner, delegation):
        return Unusable(
            Reason.UNSIGNED_DELEGATION, f"unsigned record delegates to {gateway or delegation.gateway_name}"
        )
    if gateway is not None and gateway.is_loopback and not (owner is not None and owner.is_loopback):
        return Unusable(Reason.MALFORMED_RECORD, f"{gateway} cannot be a gateway for others")
    if delegation.key is None and gateway is not None and gateway == owner:
        return Unusable(Reason.NO_USABLE_KEY, "the record looks for its key at its own name")
    return None


def _follow(question: Question, response: Response) -> tuple[list[Record], float]:
    """Records of the asked type at the end of the alias chain, and the least TTL of its links.

    Raises ParseError if the chain is too long, which a loop is too.
    """
    name, ttl = question.name, inf
    for _ in range(MAX_CHAIN + 1):
        if wanted := [record for record in response.answers if record.owner == name and record.type == question.type]:
            return wanted, ttl
        link = _link(name, response.answers)
        if link is None:
            return [], ttl
        name, ttl = link[0], min(ttl, link[1])
    raise ParseError("alias chain", f"more than {MAX_CHAIN} links")


def _link(name: Name, answers: tuple[Record, ...]) -> tuple[Name, float] | None:
    """Where a CNAME at the name, or a DNAME above it (RFC 6672 2.2), leads to, and its TTL."""
    for record in answers:
        if record.target is None:
            continue
        if record.type == Type.CNAME and record.owner == name:
            return record.target, float(record.ttl)
        below = len(name) - len(record.owner)
        if record.type == Type.DNAME and below > 0 and name[below:] == record.owner:
            return name[:below] + record.target, float(record.ttl)
    return None
