"""What all IKE SAs of one engine share: settings, the books of SAs and tickets, and the ordered output."""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

from oe.ike.admission import HalfOpen
from oe.ike.child import Child
from oe.ike.sa import Asker, IkeSa, Role
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.messages import IkeOutput, Note, Rejected
from oe.model import Address, Identity, PublicKey, Reason, SocketAddress

Entropy = Callable[[int], bytes]


class Context:
    """The books of an engine. Everything that leaves it goes through `emit`, in order."""

    def __init__(
        self,
        settings: IkeSettings,
        own_keys: tuple[PublicKey, ...],
        entropy: Entropy,
        tickets: Iterator[int],
        child_ids: Iterator[int],
    ) -> None:
        self.settings = settings
        self.own_keys = own_keys
        self.entropy = entropy
        self.child_ids = child_ids
        self.output: list[IkeOutput] = []
        self.sas: dict[int, IkeSa] = {}
        """By our SPI."""
        self.beginnings: dict[tuple[SocketAddress, int], IkeSa] = {}
        """As responder: by the initiator's socket and SPI, to know a repeated IKE_SA_INIT request."""
        self.children: dict[int, tuple[IkeSa, Child]] = {}
        self.half_open = HalfOpen(settings.half_open_limit, settings.half_open_limit_per_source)
        self.stopping = False
        self._tickets = tickets
        self._askers: dict[int, tuple[IkeSa, Asker]] = {}
        self._by_identity: dict[Identity, set[IkeSa]] = {}

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
        if sa.role is Role.RESPONDER:
            self.beginnings[sa.remote, sa.remote_spi] = sa
            self.half_open.enter(sa.remote.address)
            sa.counted_as = sa.remote.address
        if sa.peer_identity is not None:
            self.identify(sa, sa.peer_identity)

    def identify(self, sa: IkeSa, identity: Identity) -> None:
        """`sa` is with this peer: expected by us, or claimed by the peer."""
        sa.peer_identity = identity
        self._by_identity.setdefault(identity, set()).add(sa)

    def with_identity(self, identity: Identity) -> set[IkeSa]:
        """All IKE SAs with a peer that has, claims, or is expected to have this identity; a copy."""
        return set(self._by_identity.get(identity, ()))

    def no_longer_half_open(self, sa: IkeSa) -> None:
        """The peer behind `sa` is authenticated, or `sa` is gone: its place in the budget is free."""
        if sa.counted_as is not None:
            self.half_open.leave(sa.counted_as)
            sa.counted_as = None

    def forget(self, sa: IkeSa) -> None:
        """Take `sa`, which is GONE, out of the books."""
        self.withdraw(sa)
        self.no_longer_half_open(sa)
        self.sas.pop(sa.local_spi, None)
        if sa.beginning is not None:
            self.beginnings.pop(sa.beginning, None)
        if sa.peer_identity is not None and (others := self._by_identity.get(sa.peer_identity)) is not None:
            others.discard(sa)
            if not others:
                del self._by_identity[sa.peer_identity]
