"""Every command finds its hand, and every question its answer."""

import asyncio
import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import get_args

import pytest

from oe.daemon.hands import Hands, Tools
from oe.errors import KernelError
from oe.ipsec.model import BackendEvent, BackendName, Loop, UdpSockets
from oe.keystore import SigningError
from oe.messages import (
    ChildExpired,
    ChildInstalled,
    Command,
    CountersRead,
    Decide,
    Drop,
    Event,
    Finish,
    InstallChild,
    KeepMapping,
    LookUpKeys,
    MoveChild,
    Note,
    OctetsSigned,
    ReadCounters,
    Release,
    RemoveChild,
    ReserveSpi,
    SendDatagram,
    SignOctets,
    SpiReserved,
    Undecide,
)
from oe.model import (
    MARK_EXEMPT,
    MARK_SHIELD_CLOSED,
    MARK_SHIELD_OPEN,
    Address,
    ChildCounters,
    ChildSa,
    Directions,
    Encapsulation,
    HostPair,
    KeyAlgorithm,
    Mode,
    PublicKey,
    SignatureScheme,
    SocketAddress,
    Verdict,
)
from oe.reasons import Reason
from oe.trap.queue import QueueStatistics
from tests.gateway.script import OURS, PEER, child

PAIR = HostPair(OURS, PEER)
KEY = PublicKey(KeyAlgorithm.EDDSA, bytes(32))
REFUSED = KernelError("add", "SA", 12, "out of memory")


@dataclass
class Machine:
    """All tools in one fake: it writes down what it was told."""

    tunnel_interface: str | None = None
    refuses: bool = False
    children: int = 1
    told: list[tuple[object, ...]] = field(default_factory=list)

    name = BackendName.USERSPACE
    modes = frozenset({Mode.TUNNEL})
    encapsulates = False

    def _told(self, *what: object) -> None:
        if self.refuses:
            raise REFUSED
        self.told.append(what)

    def release(self, ids: Iterable[int], bits: int) -> None:
        self._told("release", tuple(ids), bits)

    def drop(self, ids: Iterable[int]) -> None:
        self._told("drop", tuple(ids))

    def statistics(self) -> dict[int, QueueStatistics]:
        return {50: QueueStatistics(1, 2, 3)}

    def decide(self, pair: HostPair, verdict: Verdict, lifetime: float, fail_closed: bool) -> None:
        self._told("decide", pair, verdict, lifetime, fail_closed)

    def undecide(self, pair: HostPair) -> None:
        self._told("undecide", pair)

    def send(self, datagram: SendDatagram) -> None:
        self._told("send", datagram.data)

    def keep_mapping(self, mapping: KeepMapping) -> None:
        self._told("keep", mapping.remote)

    def look_up(self, question: LookUpKeys) -> None:
        self._told("look up", question.owner)

    def sign(self, public_key: PublicKey, scheme: SignatureScheme, octets: bytes) -> bytes:
        if self.refuses:
            raise SigningError("no such key")
        return b"signed " + octets


@dataclass
class FakeBackend:
    """Its part as back end; `statistics` has another meaning there."""

    machine: Machine
    name = BackendName.USERSPACE
    modes = frozenset({Mode.TUNNEL})
    encapsulates = False

    @property
    def tunnel_interface(self) -> str | None:
        return self.machine.tunnel_interface

    @property
    def tunnel_mtu(self) -> int:
        return 1400

    def join(self, sockets: UdpSockets) -> None:
        self.machine.told.append(("join",))

    def start(self, loop: Loop, on_event: Callable[[BackendEvent], None]) -> None:
        self.machine.told.append(("start",))

    def reserve_spi(self, local: Address, remote: Address) -> int:
        self.machine._told("spi", local, remote)
        return 0x1234

    def install(self, child: ChildSa, directions: Directions) -> None:
        self.machine._told("install", child.id, directions)

    def remove(self, child: int) -> None:
        self.machine._told("remove", child)

    def move(self, child: int, remote: Address, encapsulation: Encapsulation | None) -> None:
        self.machine._told("move", child, remote, encapsulation)

    def count(self, then: Callable[[Iterator[ChildCounters] | KernelError], None]) -> None:
        rows = (ChildCounters(number, 2, 3, 4, 5) for number in range(1, 1 + self.machine.children))
        then(REFUSED if self.machine.refuses else rows)

    def statistics(self) -> Mapping[Reason, int]:
        return {}

    def close(self) -> None:
        self.machine.told.append(("close",))


class Stage:
    """Hands over a fake machine, and the events they feed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, machine: Machine) -> None:
        self.events: list[Event] = []
        self._news = asyncio.Event()
        self.finished: list[bool] = []
        backend = FakeBackend(machine)
        tools = Tools(machine, machine, machine, machine, backend, machine)
        self.hands = Hands(tools, loop, self._feed, lambda: self.finished.append(True))

    def _feed(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    async def heard(self) -> None:
        """Until there is an event: a thread signs."""
        await asyncio.wait_for(self._news.wait(), 60)


def carried_out(command: Command, *, refuses: bool = False) -> tuple[Machine, Stage]:
    machine = Machine(refuses=refuses)

    async def play() -> Stage:
        stage = Stage(asyncio.get_running_loop(), machine)
        stage.hands.carry_out(command)
        if isinstance(command, SignOctets):
            await stage.heard()
        stage.hands.close()
        return stage

    return machine, asyncio.run(play())


HERE, THERE = SocketAddress(OURS, 500), SocketAddress(PEER, 500)
SIGN = SignOctets(7, KEY, SignatureScheme.ED25519, b"octets")
MAPPED = Encapsulation(4500, 61000)
INSTALL = InstallChild(3, child(1, PAIR), Directions.BOTH)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (LookUpKeys(1, PEER, 3.0), ("look up", PEER)),
        (SendDatagram(HERE, THERE, b"data"), ("send", b"data")),
        (RemoveChild(4), ("remove", 4)),
        (MoveChild(4, PEER, MAPPED), ("move", 4, PEER, MAPPED)),
        (KeepMapping(HERE, THERE), ("keep", THERE)),
        (Decide(PAIR, Verdict.CLEAR, 5.0, False), ("decide", PAIR, Verdict.CLEAR, 5.0, False)),
        (Undecide(PAIR), ("undecide", PAIR)),
        (Drop((1, 2), Reason.NO_KEY), ("drop", (1, 2))),
    ],
)
def test_command_reaches_its_tool(command: Command, told: tuple[object, ...]) -> None:
    machine, stage = carried_out(command)
    assert machine.told == [told]
    assert stage.events == []


@pytest.mark.parametrize(
    ("verdict", "fail_closed", "bits"),
    [
        (Verdict.CLEAR, False, MARK_EXEMPT),
        (Verdict.PROTECTED, True, MARK_EXEMPT | MARK_SHIELD_CLOSED),
        (Verdict.PROTECTED, False, MARK_EXEMPT | MARK_SHIELD_OPEN),
    ],
)
def test_released_packets_say_by_their_mark_where_they_belong(verdict: Verdict, fail_closed: bool, bits: int) -> None:
    machine, _ = carried_out(Release((1,), verdict, fail_closed))
    assert machine.told == [("release", (1,), bits)]


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (ReserveSpi(2, OURS, PEER), SpiReserved(2, 0x1234)),
        (INSTALL, ChildInstalled(3, 1, Directions.BOTH)),
        (ReadCounters(), CountersRead((ChildCounters(1, 2, 3, 4, 5),))),
        (SIGN, OctetsSigned(7, b"signed octets")),
    ],
)
def test_question_is_answered(command: Command, event: Event) -> None:
    _, stage = carried_out(command)
    assert stage.events == [event]


@pytest.mark.parametrize(
    ("command", "events"),
    [
        (INSTALL, [ChildInstalled(3, 1, Directions.BOTH, Reason.INSTALL_FAILED, str(REFUSED))]),
        (SIGN, [OctetsSigned(7, None)]),
        (ReadCounters(), [CountersRead(())]),
        (ReserveSpi(2, OURS, PEER), []),
        (RemoveChild(4), []),
        (MoveChild(4, PEER, MAPPED), [ChildExpired(4, hard=True)]),
        (Decide(PAIR, Verdict.CLEAR, 5.0, False), []),
        (Undecide(PAIR), []),
    ],
)
def test_refusal_of_the_kernel_is_an_answer_too(command: Command, events: list[Event]) -> None:
    _, stage = carried_out(command, refuses=True)
    assert stage.events == events


def test_many_counters_come_in_portions_with_other_work_between_them() -> None:
    machine = Machine(children=1200)

    async def play() -> list[int]:
        stage = Stage(asyncio.get_running_loop(), machine)
        stage.hands.carry_out(ReadCounters())
        portions = []
        for _ in range(5):
            portions.append(len(stage.events))
            await asyncio.sleep(0)
        stage.hands.close()
        told = [event for event in stage.events if isinstance(event, CountersRead)]
        assert [event.is_last for event in told] == [False, False, True]
        assert [row.child for event in told for row in event.counters] == list(range(1, 1201))
        return portions

    assert asyncio.run(play()) == [1, 2, 3, 3, 3]


def test_a_back_end_that_cannot_move_a_child_sa_leaves_it_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.daemon.test_hands.REFUSED", KernelError("move", "SA", errno.EOPNOTSUPP, "unfit"))
    _, stage = carried_out(MoveChild(4, PEER, MAPPED), refuses=True)
    assert stage.events == []


def test_other_keys_sign_from_then_on() -> None:
    class Others:
        def sign(self, public_key: PublicKey, scheme: SignatureScheme, octets: bytes) -> bytes:
            return b"signed by others"

    async def play() -> list[Event]:
        stage = Stage(asyncio.get_running_loop(), Machine(refuses=True))
        stage.hands.sign_with(Others())
        stage.hands.carry_out(SIGN)
        await stage.heard()
        stage.hands.close()
        return stage.events

    assert asyncio.run(play()) == [OctetsSigned(7, b"signed by others")]


def test_finish_ends_the_daemon() -> None:
    _, stage = carried_out(Finish())
    assert stage.finished == [True]


def test_notes_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    carried_out(Note("info", "pair-clear", (("pair", "a → b"),)))
    written = capsys.readouterr()
    assert "pair-clear" in written.out + written.err


def test_there_is_a_hand_for_every_command() -> None:
    hands = vars(Hands)["carry_out"].dispatcher
    assert all(hands.dispatch(kind) is not hands.dispatch(object) for kind in get_args(Command))


def test_queue_statistics_are_rows() -> None:
    _, stage = carried_out(Undecide(HostPair(ip_address("::1"), ip_address("::2"))))
    assert stage.hands.queue_rows() == ({"queue": 50, "waiting": 1, "dropped_queue_full": 2, "dropped_socket_full": 3},)
