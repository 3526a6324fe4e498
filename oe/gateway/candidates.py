"""From DNS answers to gateways: who may serve a destination, and are our own credentials published?

All functions are pure. Steps I0-I4 and R1-R4 of opportunistic encryption (RFC 4322 3.2, 4.2): an initiator looks up
its own side before it promises anything, a responder looks up the peer's.
"""

from collections.abc import Callable
from dataclasses import dataclass

from oe.gateway.context import OwnSide
from oe.model import ID_NULL, Address, Delegation, Grade, Identity, KeyAnswer, LookupOutcome, PublicKey, RecordKind
from oe.reasons import Reason


@dataclass(frozen=True, slots=True)
class Candidate:
    """A gateway that DNS names for a destination, with every key published for it there."""

    gateway: Address
    keys: tuple[PublicKey, ...]
    grade: Grade
    source: RecordKind | None
    """None: no record names it; it may be anonymous."""
    takes_nobody: bool = False
    """We have no identity for it either, whatever is published."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Our own side of a negotiation: the address that IKE runs from, which is also our identity unless we have none."""

    local: Address
    is_anonymous: bool = False

    @property
    def identity(self) -> Identity:
        return ID_NULL if self.is_anonymous else Identity.of(self.local)


def gateway_of(delegation: Delegation, owner: Address) -> Address | None:
    """The address that answers IKE: the record's gateway, the owner itself for `.`, None for a mere name."""
    if delegation.gateway is not None:
        return delegation.gateway
    return None if delegation.gateway_name is not None else owner


def candidates(answer: KeyAnswer, own: OwnSide, entropy: Callable[[int], bytes]) -> tuple[Candidate, ...]:
    """Gateways for the answer's owner, best precedence first, shuffled among equals (RFC 4025 2.2).

    All keys of one gateway are gathered from all its records. Our own addresses never qualify: a packet to a host
    behind ourselves needs no tunnel. Addresses of a family we do not have are left out.
    """
    ranks: dict[Address, tuple[int, bytes]] = {}
    keys: dict[Address, dict[PublicKey, RecordKind]] = {}
    for delegation in answer.delegations:
        gateway = gateway_of(delegation, answer.owner)
        if gateway is None or delegation.key is None or own.is_own(gateway):
            continue
        if own.address_of_family(gateway.version) is None:
            continue
        known = ranks.get(gateway)
        if known is None or delegation.precedence < known[0]:
            ranks[gateway] = (delegation.precedence, entropy(4) if known is None else known[1])
        keys.setdefault(gateway, {}).setdefault(delegation.key, delegation.kind)
    return tuple(
        Candidate(gateway, tuple(keys[gateway]), answer.grade, next(iter(keys[gateway].values())))
        for gateway in sorted(ranks, key=ranks.__getitem__)
    )


def own_credentials(answer: KeyAnswer, own: OwnSide) -> Credentials | Reason:
    """Is our key published for `answer.owner` (ourselves or a client), and at which of our addresses?

    A tunnel that the peer cannot verify is doomed; better to know before the first IKE message (steps I1, I2, R2).
    """
    if answer.outcome is LookupOutcome.FAILED:
        return answer.reason or Reason.DNS_FAILED
    for delegation in answer.delegations:
        gateway = gateway_of(delegation, answer.owner)
        if gateway is not None and own.is_own(gateway) and delegation.key in own.keys:
            return Credentials(gateway)
    return Reason.OWN_KEY_UNPUBLISHED if own.is_own(answer.owner) else Reason.OWN_CLIENT_UNDELEGATED


def keys_at(answer: KeyAnswer, gateway: Address) -> tuple[PublicKey, ...]:
    """Keys that the answer's owner publishes for IKE at `gateway` (steps R1 and R4)."""
    return tuple(
        delegation.key
        for delegation in answer.delegations
        if delegation.key is not None and gateway_of(delegation, answer.owner) == gateway
    )
