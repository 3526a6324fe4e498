"""The kernel back end: Child SAs as XFRM states and policies."""

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from oe.errors import KernelError
from oe.ipsec import xfrm_wire as wire
from oe.ipsec.census import Census, Traffic
from oe.ipsec.model import BackendEvent, BackendName, Loop, UdpSockets
from oe.ipsec.netlink import NETLINK_XFRM, Multicast, Netlink
from oe.ipsec.netlink_wire import EXCLUSIVE, Message
from oe.ipsec.operations import (
    RESERVED_REQID,
    AddSa,
    KernelSa,
    Operation,
    Past,
    Policy,
    PutPolicy,
    RemovePolicy,
    RemoveSa,
    ReplaceSa,
    SaKey,
    UpdateSa,
    exemptions,
    sas_between,
    undo,
)
from oe.ipsec.plan import Book
from oe.ipsec.reconcile import SeenPolicy, SeenSa, left_over, missing
from oe.messages import ChildExpired, PeerMoved
from oe.model import Address, ChildCounters, ChildSa, Directions, Encapsulation, Mode, SocketAddress
from oe.reasons import Reason

_Subject = KernelSa | Policy | str

_GONE = frozenset({errno.ENOENT, errno.ESRCH})
_DRAIN = 64

_STATISTICS = Path("/proc/thread-self/net/xfrm_stat")
_REASONS = {
    "XfrmInHdrError": Reason.ESP_MALFORMED,
    "XfrmInBufferError": Reason.ESP_MALFORMED,
    "XfrmInNoStates": Reason.ESP_UNKNOWN_SPI,
    "XfrmInStateSeqError": Reason.ESP_REPLAYED,
    "XfrmInStateProtoError": Reason.ESP_INTEGRITY_FAILED,
    "XfrmInStateMismatch": Reason.ESP_SELECTOR_MISMATCH,
    "XfrmInTmplMismatch": Reason.ESP_SELECTOR_MISMATCH,
    "XfrmInNoPols": Reason.ESP_SELECTOR_MISMATCH,
    "XfrmInStateExpired": Reason.SA_EXPIRED,
    "XfrmOutNoStates": Reason.NO_OUTBOUND_SA,
    "XfrmOutStateSeqError": Reason.ESP_SEQUENCE_EXHAUSTED,
    "XfrmOutStateExpired": Reason.SA_EXPIRED,
}
"""Counters of the kernel (Documentation/networking/xfrm_proc) and what they are to us."""


class XfrmBackend:
    """See `oe.ipsec.model.Backend`. Calls block for as long as the kernel works: 0.05 ms a policy, 0.6 ms an SA."""

    name = BackendName.XFRM
    modes = frozenset(Mode)
    encapsulates = True
    tunnel_interface = None
    tunnel_mtu = 0

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_XFRM)
        groups = wire.GROUP_EXPIRE, wire.GROUP_SA, wire.GROUP_POLICY, wire.GROUP_MAPPING
        self._news = Multicast(NETLINK_XFRM, *groups)
        self._obituaries = Multicast(NETLINK_XFRM)
        self._census = Census()
        self._book = Book()
        self._loop: Loop | None = None
        self._on_event: Callable[[BackendEvent], None] = _nobody_listens
        self._reported: set[ChildExpired] = set()
        self._seen_at: dict[int, SocketAddress] = {}
        self._taken_away = 0
        self._statistics_at_start: dict[Reason, int] = {}

    def start(self, loop: Loop, on_event: Callable[[BackendEvent], None]) -> None:
        self._sweep()
        self._exempt()
        self._statistics_at_start = _read_statistics()
        self._loop, self._on_event = loop, on_event
        loop.add_reader(self._news.fileno(), self._hear)

    def join(self, sockets: UdpSockets) -> None:
        sockets.leave_esp_to_kernel()

    def reserve_spi(self, local: Address, remote: Address) -> int:
        body = wire.encode_spi_request(remote, local, RESERVED_REQID)
        subject = f"{remote} → {local}"
        answer = wire.decode_sa(self._netlink.ask(wire.ALLOCSPI, body, "reserve SPI", subject).body)
        if answer is None:
            raise KernelError("reserve SPI", subject, errno.EPROTO, "the answer is not about ESP")
        return answer.key[1]

    def install(self, child: ChildSa, directions: Directions) -> None:
        operations = self._book.plan_install(child, directions)
        done: list[AddSa | PutPolicy] = []
        try:
            for operation in operations:
                self._execute(operation)
                done.append(operation)
        except KernelError:
            failed = operations[len(done)]
            if isinstance(failed, AddSa) and failed.sa.reserved:
                done.append(failed)  # the reservation goes too
            self._take_away(undo(operation) for operation in reversed(done))
            raise
        self._book.record(child, operations)

    def remove(self, child: int) -> None:
        operations = self._book.plan_removal(child)
        self._book.forget(child)
        self._reported -= {ChildExpired(child, hard) for hard in (False, True)}
        self._seen_at.pop(child, None)
        failure = self._take_away(operations)
        if failure is not None:
            raise failure

    def move(self, child: int, remote: Address, encapsulation: Encapsulation | None) -> None:
        was = self._book.child(child)
        if was is None:
            return
        moved = replace(was, remote=remote, encapsulation=encapsulation)
        operations = self._book.plan_move(moved)
        for number, operation in enumerate(operations):
            try:
                self._execute(operation)
            except KernelError:
                # Where the next SA would be there may be a foreign one: only what is surely ours goes.
                self._take_away(RemoveSa(key) for key in sas_between(operations, number))
                raise
        self._book.record_move(moved)
        self._seen_at.pop(child, None)

    def count(self, then: Callable[[Iterator[ChildCounters] | KernelError], None]) -> None:
        if self._loop is None:
            raise RuntimeError("not started")
        try:
            self._census.begin(
                self._loop, lambda seen: then(seen if isinstance(seen, KernelError) else self._rows(seen))
            )
        except KernelError as error:
            then(error)

    def _rows(self, seen: Mapping[SaKey, Traffic]) -> Iterator[ChildCounters]:
        for number in self._book.children():
            child = self._book.child(number)
            if child is None:
                continue  # it went while the rows were being asked for
            keys = (child.local, child.inbound.spi), (child.remote, child.outbound.spi)
            halves = [seen.get(key) if self._book.owners.get(key) == number else None for key in keys]
            if any(halves):
                inbound, outbound = (half or (0, 0) for half in halves)
                yield ChildCounters(number, *inbound, *outbound)

    def statistics(self) -> Mapping[Reason, int]:
        """The kernel's counters of the whole namespace, other users of XFRM included; none if it keeps none."""
        before = self._statistics_at_start
        now = _read_statistics()
        grown = {reason: new for reason, count in now.items() if (new := count - before.get(reason, 0))}
        return grown | ({Reason.SA_TAKEN_AWAY: self._taken_away} if self._taken_away else {})

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._news.fileno())
        self._book = Book()
        self._sweep()
        self._news.close()
        self._obituaries.close()
        self._census.close()
        self._netlink.close()

    # --- operations ------------------------------------------------------------------------------------------

    def _execute(self, operation: Operation) -> None:
        match operation:
            case AddSa(sa):
                try:
                    self._request(wire.UPDSA if sa.reserved else wire.NEWSA, wire.encode_sa(sa), "add", sa)
                except KernelError as error:
                    # The reservation has expired, or there was none: the SPI may still be free.
                    if not (sa.reserved and error.errno in _GONE):
                        raise
                    self._request(wire.NEWSA, wire.encode_sa(sa), "add", sa)
            case UpdateSa(sa):
                self._request(wire.UPDSA, wire.encode_sa(sa), "update", sa)
            case ReplaceSa(old, sa):
                self._request(wire.NEWSA, wire.encode_sa(sa, self._bury(old)), "replace", sa)
            case RemoveSa(key):
                self._request(wire.DELSA, wire.encode_sa_id(key), "remove", _name(key))
            case PutPolicy(policy, None):
                # Not an update: a foreign policy for exactly this pair is not ours to replace.
                self._request(wire.NEWPOLICY, wire.encode_policy(policy), "add policy", policy, EXCLUSIVE)
            case PutPolicy(policy, replaced):
                if policy != replaced:
                    self._request(wire.UPDPOLICY, wire.encode_policy(policy), "replace policy", policy)
            case RemovePolicy(policy):
                body = wire.encode_policy_id(policy.selector, policy.way)
                self._request(wire.DELPOLICY, body, "remove policy", policy)

    def _bury(self, key: SaKey) -> Past:
        """Remove an SA; its very last state, as the kernel tells everybody who listens for removals."""
        with self._obituaries.hearing(wire.GROUP_SA):
            self._netlink.request(wire.DELSA, wire.encode_sa_id(key), "replace", _name(key))
            try:
                while messages := self._obituaries.receive():
                    for message in messages:
                        if message.kind == wire.DELSA and wire.decode_removed_sa(message.body) == key:
                            return wire.decode_farewell(message.body)
            except OSError as error:
                # So many others were removed meanwhile that some were not told.
                raise KernelError("replace", _name(key), error.errno or errno.EIO, "its removal was lost") from error
        raise KernelError("replace", _name(key), errno.EPROTO, "its removal was not announced")

    def _request(self, kind: int, body: bytes, operation: str, subject: _Subject, flags: int = 0) -> None:
        if isinstance(subject, Policy):
            subject = f"{subject.way.name.lower()} {subject.selector.source} → {subject.selector.destination}"
        elif isinstance(subject, KernelSa):
            subject = f"SA {subject.source} → {subject.destination} SPI {subject.esp.spi:08x}"
        self._netlink.request(kind, body, operation, subject, flags)

    def _take_away(self, operations: Iterable[Operation]) -> KernelError | None:
        """Carry out all of it, come what may; what is gone already is as it should be. The first failure, if any."""
        failure: KernelError | None = None
        for operation in operations:
            try:
                self._execute(operation)
            except KernelError as error:
                if error.errno not in _GONE:
                    failure = failure or error
        return failure

    def _exempt(self) -> None:
        for policy in exemptions():
            try:
                self._request(wire.NEWPOLICY, wire.encode_policy(policy), "add policy", policy, EXCLUSIVE)
            except KernelError as error:
                if error.errno != errno.EEXIST:
                    raise
                # Somebody else lets neighbour discovery pass already.

    # --- what the kernel says --------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Remove what is ours and not in the book."""
        stale = list(left_over(self._dump_sas(), self._dump_policies(), self._book.owners, self._book.policies))
        failure = self._take_away(stale)
        if failure is not None:
            raise failure

    def _dump_sas(self) -> list[SeenSa]:
        messages = self._netlink.dump(wire.GETSA, b"", "SAs")
        return [sa for message in messages if (sa := wire.decode_sa(message.body)) is not None]

    def _dump_policies(self) -> list[SeenPolicy]:
        messages = self._netlink.dump(wire.GETPOLICY, b"", "policies")
        return [policy for message in messages if (policy := wire.decode_policy(message.body)) is not None]

    def _hear(self) -> None:
        """Report what is over: expired, or taken away by somebody else. When news were lost, look what is missing."""
        for _ in range(_DRAIN):
            try:
                messages = self._news.receive()
            except OSError:
                self._look_for_missing()
                continue
            if not messages:
                return
            for message in messages:
                self._told(message)

    def _told(self, message: Message) -> None:
        """What we do ourselves is no news."""
        if message.port == self._netlink.port:
            return
        match message.kind:
            case wire.EXPIRE:
                expired = wire.decode_expire(message.body)
                if expired is not None:
                    self._report(self._book.owners.get(expired[0].key), hard=expired[1])
            case wire.DELSA:
                key = wire.decode_removed_sa(message.body)
                child = self._book.owners.get(key) if key is not None else None
                self._report(child, hard=True, foreign=True)
            case wire.DELPOLICY:
                removed = wire.decode_removed_policy(message.body)
                # In a rekey one Child SA leaves a place and another takes it: the news may be of the one before.
                if removed is not None and (removed.policy.selector, removed.policy.way) in self._book.policies:
                    self._look_for_missing()
            case wire.FLUSHSA | wire.FLUSHPOLICY:
                self._look_for_missing()
            case wire.MAPPING:
                mapping = wire.decode_mapping(message.body)
                if mapping is not None and mapping[0] in self._book.owners:
                    self._report_move(self._book.owners[mapping[0]], mapping[1])

    def _look_for_missing(self) -> None:
        """Compare kernel and book. A Child SA that lacks anything is over."""
        try:
            self._exempt()
            seen = {(seen.policy.selector, seen.policy.way) for seen in self._dump_policies()}
            gone = missing(self._dump_sas(), self._book.owners)
        except KernelError:
            return  # the next look may succeed; meanwhile the trap's floor holds
        empty = frozenset(self._book.policies) - seen
        for child in gone | self._book.dependants(empty):
            self._report(child, hard=True, foreign=True)

    def _report(self, child: int | None, *, hard: bool, foreign: bool = False) -> None:
        """Of the two SAs of a Child SA the first one counts."""
        if child is None or not self._reported.isdisjoint({ChildExpired(child, hard), ChildExpired(child, hard=True)}):
            return
        event = ChildExpired(child, hard)
        self._reported.add(event)
        self._taken_away += foreign
        self._on_event(event)

    def _report_move(self, child: int, remote: SocketAddress) -> None:
        """The kernel tells it with every packet; once for each new place is enough."""
        if self._seen_at.get(child) != remote:
            self._seen_at[child] = remote
            self._on_event(PeerMoved(child, remote))


def _read_statistics() -> dict[Reason, int]:
    try:
        lines = _STATISTICS.read_text("ascii").splitlines()
    except OSError:
        return {}
    counts: dict[Reason, int] = {}
    for line in lines:
        name, _, value = line.partition(" ")
        if (reason := _REASONS.get(name.strip())) is not None:
            counts[reason] = counts.get(reason, 0) + int(value)
    return counts


def _name(key: SaKey) -> str:
    return f"SA → {key[0]} SPI {key[1]:08x}"


def _nobody_listens(_event: BackendEvent) -> None:
    """Before the start no SA is in place that anything could happen to."""
