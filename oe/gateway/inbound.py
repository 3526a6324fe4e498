"""May this peer have this pair? The responder's story (RFC 4322 4.2, steps R1, R2 and R4).

The peer's claim is judged by DNS and by our policy before its signature is looked at: which keys may prove its
identity (R1), does the client on our side delegate to us (R2), does the address on the peer's side delegate to the
peer, and with which key (R4). The lookups run side by side; one wrong answer is enough.

    identity             its keys stand                       and
    an address           at that address                      it is the address on the wire, or there is a NAT
    a name               in the record of the pair's address  that record delegates to this name
    none (RFC 7619)      nowhere                              the group accepts it; the pair's address is the one on
                                                              the wire, and publishes no key
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from oe.gateway.candidates import gateway_of, keys_at, own_credentials
from oe.gateway.context import NEVER_NEGOTIATES, Context
from oe.gateway.pairs import Pair
from oe.model import Address, Anonymity, Group, HostPair, Identity, IdentityKind, KeyAnswer, LookupOutcome, PublicKey
from oe.negotiation import JudgePeer, PeerJudged
from oe.policy.outcome import Anonymous, Dnssec, anonymous_for, may_use
from oe.policy.select import select
from oe.reasons import Reason


@dataclass(slots=True)
class Claim:
    """A claim under judgement: answers by the address they are about, None while a lookup runs."""

    request: JudgePeer
    answers: dict[Address, KeyAnswer | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proof:
    """What may prove the peer's identity, and whether it may have the pair."""

    keys: tuple[PublicKey, ...] = ()
    refusal: Reason | None = None
    """With keys, of the pair only; without, of the peer."""
    anonymity: Anonymity = Anonymity.AUTHENTICATED
    detail: str = ""


class Inbound:
    """Judges peers. `reply(judgement, now)` goes to the IKE engine, exactly once for each request."""

    def __init__(
        self, context: Context, find: Callable[[HostPair], Pair | None], reply: Callable[[PeerJudged, float], None]
    ) -> None:
        self._context = context
        self._find = find
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

    def expect(self, peer: Address, now: float) -> None:
        """Look a peer up that is about to claim its address, while it is at work: the claim finds the answer there, or
        on its way. A peer that claims something else has cost us one lookup, after a key exchange."""
        self._context.look_up(peer, now + self._context.settings.setup_budget, lambda answer, at: None)

    def judge(self, request: JudgePeer, now: float) -> None:
        """Start judging; the reply may come at once or after lookups."""
        group = select(self._context.policies, request.pair.destination).group
        objection = self._objection(request, group)
        if objection is not None:
            self._refuse_peer(request, *objection, now)
            return
        claim = Claim(request)
        wanted = {request.pair.destination}
        if request.identity.address is not None:
            wanted.add(request.identity.address)
        own, source = self._context.own, request.pair.source
        if own.serves(source) and not own.is_own(source):
            # Not for anybody else: a peer that has proved nothing does not choose what we ask DNS.
            wanted.add(source)
        claim.answers = dict.fromkeys(wanted)
        for owner in wanted:
            self._context.look_up(owner, request.deadline, lambda answer, at: self._answered(claim, answer, at))

    def _objection(self, request: JudgePeer, group: Group) -> tuple[Reason, str] | None:
        """What is wrong with the identity before anybody is asked."""
        identity, wire = request.identity, request.remote.address
        if identity.kind is IdentityKind.NULL:
            settings = self._context.settings.groups[group]
            if anonymous_for(group, settings) is Anonymous.NO:
                return Reason.ANONYMOUS_REFUSED, f"{group} takes no anonymous peers"
            if request.pair.destination != wire:
                return Reason.ANONYMOUS_REFUSED, "an anonymous peer speaks for its own address only"
            return None
        if identity.kind is IdentityKind.FQDN:
            return None
        if identity.address is None or (identity.address != wire and not request.nat):
            # Without NAT the identity is the address on the wire; anything else is somebody else's name.
            return Reason.NOT_DELEGATED, f"identity {identity} is not its address"
        return None

    def _answered(self, claim: Claim, answer: KeyAnswer, now: float) -> None:
        claim.answers[answer.owner] = answer
        if all(known is not None for known in claim.answers.values()):
            self._conclude(claim, {owner: known for owner, known in claim.answers.items() if known is not None}, now)

    def _conclude(self, claim: Claim, answers: dict[Address, KeyAnswer], now: float) -> None:
        request = claim.request
        # Now, not only when the claim came: the policy may have changed meanwhile.
        group = select(self._context.policies, request.pair.destination).group
        objection = self._objection(request, group)
        if objection is not None:
            self._refuse_peer(request, *objection, now)
            return
        proof = self._proof(request, group, answers)
        if not proof.keys and proof.anonymity is Anonymity.AUTHENTICATED:
            self._refuse_peer(request, proof.refusal or Reason.NO_USABLE_KEY, proof.detail, now)
            return
        refusal = proof.refusal or self._own_refusal(request.pair.source, group, answers)
        if refusal is not None:
            self._context.note("info", "pair-refused", pair=request.pair, peer=request.identity, reason=refusal)
        closed = group is Group.PRIVATE
        self._reply(PeerJudged(request.ticket, proof.keys, refusal, closed, proof.anonymity), now)

    def _proof(self, request: JudgePeer, group: Group, answers: dict[Address, KeyAnswer]) -> Proof:
        identity, destination = request.identity, answers[request.pair.destination]
        demand = self._context.settings.groups[group].dnssec
        if identity.kind is IdentityKind.NULL:
            return self._of_nobody(request.pair, destination)
        if identity.address is None:
            return _of_name(identity, destination, demand)
        return _of_address(identity.address, answers[identity.address], destination, demand)

    def _of_nobody(self, pair: HostPair, destination: KeyAnswer) -> Proof:
        """An address that publishes a key has a better way, and whoever claims it without is somebody else."""
        known = self._find(pair)
        if destination.outcome in (LookupOutcome.FOUND, LookupOutcome.BOGUS):
            return Proof(refusal=Reason.ANONYMOUS_REFUSED, detail=f"a key is published: {destination.detail}")
        if known is not None and known.anonymity is Anonymity.AUTHENTICATED:
            return Proof(refusal=Reason.ANONYMOUS_REFUSED, detail="an authenticated peer has the pair")
        return Proof(anonymity=Anonymity.ANONYMOUS)

    def _own_refusal(self, source: Address, group: Group, answers: dict[Address, KeyAnswer]) -> Reason | None:
        """Is it ours to give? The pair's group must negotiate, and our client must have asked for us (R2)."""
        if group in NEVER_NEGOTIATES:
            return Reason.NOT_ADMITTED
        if self._context.own.is_own(source):
            return None
        if not self._context.own.serves(source) or source not in answers:
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


def _of_address(identity: Address, own: KeyAnswer, destination: KeyAnswer, demand: Dnssec) -> Proof:
    """The keys at the peer's own address; for another address the peer must be its gateway."""
    keys = keys_at(own, identity)
    unusable = _why_unusable(own, demand)
    if unusable is not None or not keys:
        return Proof(refusal=unusable, detail=f"{identity}: {own.detail}")
    if identity == destination.owner:
        return Proof(keys)
    return Proof(*_delegated(destination, identity, keys, demand))


def _of_name(identity: Identity, destination: KeyAnswer, demand: Dnssec) -> Proof:
    """The keys that the pair's address publishes for a gateway of this name. A name that nobody delegates to proves
    nothing about an address, however good its own keys are."""
    name = identity.data.decode("ascii", "backslashreplace").rstrip(".").lower()
    naming = [one for one in destination.delegations if one.gateway_name and one.gateway_name.lower() == name]
    keys = tuple(one.key for one in naming if one.key is not None)
    unusable = _why_unusable(destination, demand)
    if unusable is not None or not keys:
        return Proof(refusal=unusable or Reason.NOT_DELEGATED, detail=f"{identity}: {destination.detail}")
    return Proof(keys)


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
