"""May this peer have this pair? The responder's story (RFC 4322 4.2, steps R1, R2 and R4).

The peer's claim is judged by DNS and by our policy before its signature is looked at: which keys may prove its
identity (R1), does the client on our side delegate to us (R2), does the address on the peer's side delegate to the
peer, and with which key (R4). The lookups run side by side; one wrong answer is enough.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from oe.gateway.candidates import gateway_of, keys_at, own_credentials
from oe.gateway.context import NEVER_NEGOTIATES, Context
from oe.messages import JudgePeer, PeerJudged
from oe.model import Address, Group, KeyAnswer, LookupOutcome, PublicKey, Reason
from oe.policy.outcome import Dnssec, may_use
from oe.policy.select import select


@dataclass(slots=True)
class Claim:
    """A claim under judgement: answers by the address they are about, None while a lookup runs."""

    request: JudgePeer
    identity: Address
    answers: dict[Address, KeyAnswer | None] = field(default_factory=dict)


class Inbound:
    """Judges peers. `reply(judgement, now)` goes to the IKE engine, exactly once for each request."""

    def __init__(self, context: Context, reply: Callable[[PeerJudged, float], None]) -> None:
        self._context = context
        self._reply = reply
        self.learn_policies()

    def learn_policies(self) -> None:
        """To be called whenever the policies are others."""
        self._negotiates = any(entry.group not in NEVER_NEGOTIATES for entry in self._context.policies.entries)
        """There is a group at all that may want a tunnel."""

    def admits(self, peer: Address) -> bool:
        """Whether to answer an unknown peer at all: silence for those that the operator lists as clear or block.

        A gateway need not be listed itself to speak for a client that is; what it asks for is judged by the pair.
        """
        selection = select(self._context.policies, peer)
        if selection.entry is None and not selection.closed:
            return self._negotiates
        return selection.group not in NEVER_NEGOTIATES

    def judge(self, request: JudgePeer, now: float) -> None:
        """Start judging; the reply may come at once or after lookups."""
        identity = request.identity.address
        if identity is None or identity != request.remote.address:
            # Without NAT the identity is the address on the wire; anything else is somebody else's name.
            self._refuse_peer(request, Reason.NOT_DELEGATED, f"identity {request.identity} is not its address", now)
            return
        claim = Claim(request, identity)
        wanted = {identity, request.pair.destination}
        if not self._context.own.is_own(request.pair.source):
            wanted.add(request.pair.source)
        claim.answers = dict.fromkeys(wanted)
        for owner in wanted:
            self._context.look_up(owner, request.deadline, lambda answer, at: self._answered(claim, answer, at))

    def _answered(self, claim: Claim, answer: KeyAnswer, now: float) -> None:
        claim.answers[answer.owner] = answer
        if all(known is not None for known in claim.answers.values()):
            self._conclude(claim, {owner: known for owner, known in claim.answers.items() if known is not None}, now)

    def _conclude(self, claim: Claim, answers: dict[Address, KeyAnswer], now: float) -> None:
        request = claim.request
        # Now, not when the claim came: the policy may have changed meanwhile.
        group = select(self._context.policies, request.pair.destination).group
        demand = self._context.settings.groups[group].dnssec
        identity_answer = answers[claim.identity]
        keys = keys_at(identity_answer, claim.identity)
        unusable = _why_unusable(identity_answer, demand)
        if unusable is not None or not keys:
            reason = unusable or Reason.NO_USABLE_KEY
            self._refuse_peer(request, reason, f"{claim.identity}: {identity_answer.detail}", now)
            return
        refusal: Reason | None = None
        if claim.identity != request.pair.destination:
            keys, refusal = _delegated(answers[request.pair.destination], claim.identity, keys, demand)
        refusal = refusal or self._own_refusal(request.pair.source, group, answers)
        if refusal is not None:
            self._context.note("info", "pair-refused", pair=request.pair, peer=claim.identity, reason=refusal)
        self._reply(PeerJudged(request.ticket, keys, refusal, group is Group.PRIVATE), now)

    def _own_refusal(self, source: Address, group: Group, answers: dict[Address, KeyAnswer]) -> Reason | None:
        """Is it ours to give? The pair's group must negotiate, and our client must have asked for us (R2)."""
        if group in NEVER_NEGOTIATES:
            return Reason.NOT_ADMITTED
        if self._context.own.is_own(source):
            return None
        if not self._context.own.serves(source):
            return Reason.TS_UNACCEPTABLE
        credentials = own_credentials(answers[source], self._context.own)
        return credentials if isinstance(credentials, Reason) else None

    def _refuse_peer(self, request: JudgePeer, reason: Reason, detail: str, now: float) -> None:
        self._context.reasons[reason] += 1
        self._context.note("info", "peer-refused", peer=request.remote.address, reason=reason, detail=detail)
        self._reply(PeerJudged(request.ticket, (), reason), now)


def _why_unusable(answer: KeyAnswer, demand: Dnssec) -> Reason | None:
    if answer.outcome is not LookupOutcome.FOUND:
        return answer.reason or Reason.NO_KEY
    return may_use(answer.grade, demand)


def _delegated(
    answer: KeyAnswer, gateway: Address, keys: tuple[PublicKey, ...], demand: Dnssec
) -> tuple[tuple[PublicKey, ...], Reason | None]:
    """Does the address behind the peer name the peer as its gateway, and with which of `keys` (step R4)?

    A record without a key of its own is satisfied by the gateway's. When no key is left the pair is refused, and the
    peer's own keys still authenticate it: it is who it says, it merely may not speak for that address.
    """
    if _why_unusable(answer, demand) is not None:
        return keys, Reason.NOT_DELEGATED
    naming = [delegation for delegation in answer.delegations if gateway_of(delegation, answer.owner) == gateway]
    if any(delegation.key is None for delegation in naming):
        return keys, None
    shared = tuple(key for key in keys if any(delegation.key == key for delegation in naming))
    return (shared, None) if shared else (keys, Reason.NOT_DELEGATED)
