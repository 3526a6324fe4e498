"""What all IKE SAs of one engine share: settings, the books of SAs and tickets, and the ordered output."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from oe.ike.admission import Admission
from oe.ike.child import Child
from oe.ike.crypto import Entropy
from oe.ike.sa import Asker, IkeSa, Role
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.messages import Note
from oe.model import Address, HostPair, Identity, PublicKey, Secret, SocketAddress
from oe.negotiation import IkeOutput, Negotiate, NegotiationEnded, Rejected
from oe.reasons import Reason


@dataclass(frozen=True, slots=True)
class Postponed:
    """A negotiation between two attempts."""

    at: float
    negotiation: Negotiate
    end: NegotiationEnded | None


class Context:
    """The books of an engine. Everything that leaves it goes through `emit`, in order."""

    def __init__(
        self,
        settings: IkeSettings,
        own_keys: tuple[PublicKey, ...],
        entropy: Entropy,
        tickets: Iterator[int],
        child_ids: Iterator[int],
        admit: Callable[[Address], bool],
        crash_secret: Secret | None = None,
    ) -> None:
        self.settings = settings
        self.own_keys = own_keys
        self.own_keys_at: Mapping[Address, tuple[PublicKey, ...]] = {}
        """Own addresses that have an order of their own."""
        self.entropy = entropy
        self.child_ids = child_ids
        self.admit = admit
        self.crash_secret = crash_secret
        self.output: list[IkeOutput] = []
        self.sas: dict[int, IkeSa] = {}
        """By our SPI."""
        self.begun: dict[tuple[SocketAddress, int], IkeSa] = {}
        """As responder: by the initiator's socket and SPI, to know a repeated IKE_SA_INIT request."""
        self.children: dict[int, tuple[IkeSa, Child]] = {}
        self.admission = Admission(settings, entropy)
        self.stopping = False
        self.touched: list[IkeSa] = []
        """IKE SAs whose timers changed while another one was at work."""
        self.postponed: list[Postponed] = []
        """Negotiations between two attempts."""
        self._tickets = tickets
        self._askers: dict[int, tuple[IkeSa, Asker]] = {}
        self._by_identity: dict[Identity, dict[IkeSa, None]] = {}
        self._by_pair: dict[HostPair, dict[int, None]] = {}

    # --- negotiations that found no IKE SA, or lost theirs ---

    def postpone(self, negotiation: Negotiate, at: float, end: NegotiationEnded | None = None) -> None:
        """Begin `negotiation` again at `at`, wherever it is best done then; or, with `end`, say so then."""
        self.postponed.append(Postponed(min(at, negotiation.deadline), negotiation, end))

    # --- output ---

    def emit(self, output: IkeOutput) -> None:
        self.output.append(output)

    def reject(self, reason: Reason, remote: Address, detail: str = "") -> None:
        """Say that something of `remote` was refused or ignored."""
        self.output.append(Rejected(reason, remote, detail))

    def note(self, level: str, event: str, *fields: tuple[str, str | int | float]) -> None:
        self.output.append(Note(level, event, fields))

    # --- questions to the outside ---

    def ticket(self, sa: IkeSa, asker: Asker) -> int:
        """A ticket whose answer goes to `asker`, for as long as `sa` exists."""
        ticket = next(self._tickets)
        self._askers[ticket] = (sa, asker)
        sa.tickets.add(ticket)
        return ticket

    def claim(self, ticket: int) -> tuple[IkeSa, Asker] | None:
        """Who waits for this ticket; each is claimed once. None: nobody, or nobody any more."""
        found = self._askers.pop(ticket, None)
        if found is not None:
            found[0].tickets.discard(ticket)
        return found

    def withdraw(self, sa: IkeSa) -> None:
        """What `sa` asked is of no interest any more."""
        for ticket in sa.tickets:
            del self._askers[ticket]
        sa.tickets.clear()

    # --- the books of IKE SAs ---

    def new_spi(self) -> int:
        """An SPI for an IKE SA of ours, unused and not zero."""
        while True:
            spi = int.from_bytes(self.entropy(8), "big")
            if spi and spi not in self.sas:
                return spi

    def enter(self, sa: IkeSa) -> None:
        """`sa` exists from now on."""
        self.sas[sa.local_spi] = sa
        if sa.state is State.HALF_OPEN:
            sa.known_as = (sa.remote, sa.remote_spi)
            self.begun[sa.known_as] = sa
            sa.counted_as = sa.remote.address
            self.admission.enter(sa.counted_as, sa.created)
        if sa.peer_identity is not None:
            self.identify(sa, sa.peer_identity)

    def identify(self, sa: IkeSa, identity: Identity) -> None:
        """`sa` is with this peer: expected by us, or proved by the peer; with ID_NULL, with nobody in particular."""
        self._forget_identity(sa)
        sa.peer_identity = identity
        self._by_identity.setdefault(identity, {})[sa] = None

    def with_identities(self, own: Address, peer: Identity) -> list[IkeSa]:
        """All IKE SAs between our address `own`, which is our identity, and a peer that has proved, or is expected
        to have, the identity `peer`, oldest first."""
        return [sa for sa in self._by_identity.get(peer, ()) if sa.local.address == own]

    def enter_child(self, sa: IkeSa, child: Child) -> None:
        """`child` exists from now on."""
        sa.children[child.sa.id] = child
        self.children[child.sa.id] = (sa, child)
        self._by_pair.setdefault(child.sa.pair, {})[child.sa.id] = None

    def forget_child(self, sa: IkeSa, child: Child) -> None:
        """`child` of `sa` is over."""
        del sa.children[child.sa.id]
        del self.children[child.sa.id]
        others = self._by_pair[child.sa.pair]
        del others[child.sa.id]
        if not others:
            del self._by_pair[child.sa.pair]

    def children_for(self, sa: IkeSa, pair: HostPair) -> list[Child]:
        """All Child SAs for `pair` with the peer of `sa`, whichever IKE SA they are of, oldest first."""
        found = [self.children[id] for id in self._by_pair.get(pair, ())]
        return [
            child
            for owner, child in found
            if owner.peer_identity == sa.peer_identity
            and (owner.local.address, owner.remote.address) == (sa.local.address, sa.remote.address)
        ]

    def same_pair(self, sa: IkeSa, child: Child) -> list[Child]:
        """The others for the pair of `child`, which is one of `sa`."""
        return [other for other in self.children_for(sa, child.sa.pair) if other is not child]

    def bequeath(self, sa: IkeSa, heir: IkeSa) -> None:
        """All Child SAs of `sa`, and the answers it waits for, are those of `heir` from now on."""
        for child in tuple(sa.children.values()):
            del sa.children[child.sa.id]
            heir.children[child.sa.id] = child
            self.children[child.sa.id] = (heir, child)
        for ticket in sa.tickets:
            self._askers[ticket] = (heir, self._askers[ticket][1])
        heir.tickets |= sa.tickets
        sa.tickets.clear()

    def is_crossed(self, sa: IkeSa, pair: HostPair) -> bool:
        """The peer of `sa` has an IKE SA with us that brings, or is about to bring, a Child SA for `pair`."""
        ends = (sa.local.address, sa.remote.address)
        others = [one for one in self.sas.values() if (one.local.address, one.remote.address) == ends and one is not sa]
        return any(
            (one.role is Role.RESPONDER and one.state is State.AUTHENTICATING)
            or any(child.sa.pair == pair and not child.is_closing for child in one.children.values())
            for one in others
        )

    def no_longer_half_open(self, sa: IkeSa) -> None:
        """The peer behind `sa` is authenticated, or `sa` is gone: its place in the budget is free."""
        if sa.counted_as is not None:
            self.admission.leave(sa.counted_as)
            sa.counted_as = None

    def forget(self, sa: IkeSa) -> None:
        """Take `sa`, which is GONE, out of the books."""
        self.withdraw(sa)
        self.no_longer_half_open(sa)
        self.sas.pop(sa.local_spi, None)
        if sa.known_as is not None:
            self.begun.pop(sa.known_as, None)
        self._forget_identity(sa)

    def _forget_identity(self, sa: IkeSa) -> None:
        if sa.peer_identity is not None and (others := self._by_identity.get(sa.peer_identity)) is not None:
            others.pop(sa, None)
            if not others:
                del self._by_identity[sa.peer_identity]
