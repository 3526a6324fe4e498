"""What a first packet of a host pair would lead to: the steps of `oe.gateway.outbound`, with nobody negotiating.

Pure: the policy, our own side and two DNS answers go in, a `Forecast` comes out. A test holds it against the
coordinator.
"""

from dataclasses import dataclass

from oe.gateway.candidates import Candidate, Credentials, candidates, own_credentials
from oe.gateway.context import OwnSide
from oe.model import Address, Group, HostPair, KeyAnswer, LookupOutcome, PairState
from oe.policy.outcome import Anonymous, GroupSettings, Outcome, anonymous_for, decide, may_use
from oe.policy.select import Selection
from oe.reasons import Reason


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would become of the pair."""

    state: PairState | None
    """NEGOTIATING: IKE would begin. None: such packets are never trapped, and go their way in clear."""
    reason: Reason | None = None
    """Why it is not encrypted; None where it might be, and where no group has a say."""
    detail: str = ""
    fallback: Outcome | None = None
    """How long the decision stands; while negotiating, what follows when every gateway stays silent."""
    gateways: tuple[Candidate, ...] = ()
    """In the order in which they would be tried; equals are shuffled."""
    credentials: Credentials | None = None
    """Who we would say that we are."""
    asks_anonymously: bool = False
    """The pair goes in clear, and behind that the peer is asked for an anonymous tunnel."""

    @property
    def is_refusal(self) -> bool:
        """The group asks for encryption, and it would not come about."""
        return self.fallback is not None and self.state is not PairState.NEGOTIATING


def by_address(pair: HostPair, own: OwnSide, present: tuple[Address, ...], selection: Selection) -> Forecast | None:
    """What can be said without DNS; None: DNS has to be asked about both ends. `present`: the machine's addresses."""
    source, destination = pair.source, pair.destination
    if destination in present or destination.is_loopback:
        return Forecast(None, detail="the destination is this host itself")
    if destination.is_multicast or destination.is_unspecified:
        return Forecast(None, detail="the destination is no single host")
    if source not in present and not own.serves(source):
        return Forecast(None, detail=f"{source} is no address of ours and in no net of gateway.serve")
    match selection.reason:
        case None:
            return None
        case Reason.POLICY_BLOCK:
            return Forecast(PairState.BLOCKED, Reason.POLICY_BLOCK)
        case reason:
            return Forecast(PairState.CLEAR, reason)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What DNS says of the destination and of the source. None: nothing before the setup budget was spent."""

    theirs: KeyAnswer | None
    ours: KeyAnswer | None
    lasts: float | None
    """Seconds for which the answer about the destination may be used."""


def by_dns(pair: HostPair, group: Group, settings: GroupSettings, own: OwnSide, evidence: Evidence) -> Forecast:
    """What follows from the answers, in the order of the coordinator."""
    theirs = evidence.theirs
    grade, lasts = (theirs.grade, evidence.lasts) if theirs is not None else (None, None)
    asks = anonymous_for(group, settings) is Anonymous.ASK and own.is_own(pair.source)
    gateways = _gateways(theirs, settings, own)
    credentials = _credentials(pair.source, evidence.ours, own, asks=asks)
    for fault in (gateways, credentials):
        if isinstance(fault, _Fault):
            outcome = decide(group, fault.reason, grade, settings, lasts)
            keyless = fault.reason is Reason.NO_KEY and outcome.state is PairState.CLEAR
            return Forecast(outcome.state, fault.reason, fault.detail, outcome, asks_anonymously=keyless and asks)
    assert isinstance(gateways, tuple)
    assert isinstance(credentials, Credentials)
    silence = Reason.OWN_KEY_UNPUBLISHED if credentials.is_anonymous else Reason.PEER_SILENT
    fallback = decide(group, silence, grade, settings, lasts)
    return Forecast(PairState.NEGOTIATING, fallback=fallback, gateways=gateways, credentials=credentials)


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why an attempt would end before its first IKE message."""

    reason: Reason
    detail: str


_LATE = _Fault(Reason.DNS_TIMEOUT, "the setup budget is spent")


def _gateways(theirs: KeyAnswer | None, settings: GroupSettings, own: OwnSide) -> tuple[Candidate, ...] | _Fault:
    if theirs is None:
        return _LATE
    if theirs.outcome is not LookupOutcome.FOUND:
        return _Fault(theirs.reason or Reason.NO_KEY, theirs.detail)
    refused = may_use(theirs.grade, settings.dnssec)
    if refused is not None:
        return _Fault(refused, f"the answer is {theirs.grade}, the group has dnssec = {settings.dnssec}")
    return candidates(theirs, own, bytes) or _Fault(Reason.NO_USABLE_KEY, "no record names a gateway that we can reach")


def _credentials(source: Address, ours: KeyAnswer | None, own: OwnSide, *, asks: bool) -> Credentials | _Fault:
    if ours is None:
        return _LATE
    credentials = own_credentials(ours, own)
    if isinstance(credentials, Credentials):
        return credentials
    if credentials is Reason.OWN_KEY_UNPUBLISHED and asks:
        return Credentials(source, is_anonymous=True)
    return _Fault(credentials, f"DNS does not name us with our key for {source}")
