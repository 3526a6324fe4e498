"""What all IKE SAs of one engine share: settings, the books of SAs and tickets, and the ordered output."""

from collections.abc import Callable, Iterator

from oe.ike.admission import Cookies, HalfOpen
from oe.ike.child import Child
from oe.ike.crypto import Entropy
from oe.ike.sa import Asker, IkeSa, Role
from oe.ike.settings import IkeSettings
from oe.messages import IkeOutput, Note, Rejected
from oe.model import Address, Identity, PublicKey, Reason, SocketAddress


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
    ) -> None:
        self.settings = settings
        self.own_keys = own_keys
        self.entropy = entropy
        self.child_ids = child_ids
        self.admit = admit
        self.output: list[IkeOutput] = []
        self.sas: dict[int, IkeSa] = {}
        """By our SPI."""
        self.begun: dict[tuple[SocketAddress, int], IkeSa] = {}
        """As responder: by the initiator's socket and SPI, to know a repeated IKE_SA_INIT request."""
        self.children: dict[int, tuple[IkeSa, Child]] = {}
        self.half_open = HalfOpen(settings.half_open_limit, settings.half_open_limit_per_source)
        self.cookies = Cookies(entropy, settings.cookie_secret_lifetime)
        self.stopping = False
        self._tickets = tickets
        self._askers: dict[int, tuple[IkeSa, Asker]] = {}
        self._by_identity: dict[Identity, dict[IkeSa, None]] = {}

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
            sa.known_as = (sa.remote, sa.remote_spi)
            self.begun[sa.known_as] = sa
            sa.counted_as = sa.remote.address
            self.half_open.enter(sa.counted_as)
        if sa.peer_identity is not None:
            self.identify(sa, sa.peer_identity)

    def identify(self, sa: IkeSa, identity: Identity) -> None:
        """`sa` is with this peer: expected by us, or proved by the peer."""
        sa.peer_identity = identity
        self._by_identity.setdefault(identity, {})[sa] = None

    def with_identities(self, own: Address, peer: Identity) -> list[IkeSa]:
        """All IKE SAs between our address `own`, which is our identity, and a peer that has proved, or is expected
        to have, the identity `peer`, oldest first."""
        return [sa for sa in self._by_identity.get(peer, ()) if sa.local.address == own]

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
        if sa.known_as is not None:
            self.begun.pop(sa.known_as, None)
        if sa.peer_identity is not None and (others := self._by_identity.get(sa.peer_identity)) is not None:
            others.pop(sa, None)
            if not others:
                del self._by_identity[sa.peer_identity]
