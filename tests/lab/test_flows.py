"""Driving rows: what is asked of the world, and how its answers are judged."""

import asyncio
import struct
from dataclasses import asdict, replace
from typing import Any, cast

import pytest

from oe.lab import flows
from oe.lab.capture import Capture, Frame
from oe.lab.flows import Result, Run
from oe.lab.outcome import Outcome
from oe.lab.plan import Host, alice, remote
from oe.lab.probes import Echoes
from oe.lab.rows import Row
from oe.lab.world import LabBroken, World
from oe.model import Address, Group

START = 1_700_000_000.0
NEAR, FAR = alice(Group.PRIVATE_OR_CLEAR), remote(Group.PRIVATE, 1)
ROW = Row("bob", "tcp", NEAR, FAR, Group.PRIVATE, Outcome.ENCRYPTED, ike=True)
ANSWERED = Echoes(3, 3, 0, 0.01, "", START, START + 1)


class FakeCapture:
    """Frames that the kernel would have captured; readable never, drained by hand."""

    def __init__(self, *frames: Frame) -> None:
        self.frames = list(frames)
        self.missed = 0

    def fileno(self) -> int:
        return -1

    def drain(self) -> None:
        """There is nothing more."""


class FakeWorld:
    """Answers jobs as the agents would; `queued` is the kernel's counter before and after each flow."""

    pace = 1.0

    def __init__(self, echoes: list[Echoes], queued: list[int], pairs: list[dict[str, str]]) -> None:
        self.echoes, self.queued, self.pairs = echoes, queued, pairs
        self.jobs: list[tuple[str, dict[str, Any]]] = []

    async def job(self, host: Host, **job: Any) -> dict[str, Any]:
        self.jobs.append((host.name, job))
        if job["job"] == "probe":
            return asdict(self.echoes.pop(0))
        return {"text": f"   50  123     0 2  128     0     0 {self.queued.pop(0):8d}  1\n" if self.queued else ""}

    async def resolve(self, host: Host, name: str, kind: str) -> None:
        self.jobs.append((host.name, {"name": name, "kind": kind}))

    async def status(self, host: Host) -> dict[str, Any]:
        return {"pairs": self.pairs, "backend": "userspace"}


def frame(source: Address, destination: Address, protocol: int, payload: bytes, after: float) -> Frame:
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
    data = bytes(12) + b"\x08\x00" + header + source.packed + destination.packed + payload
    return Frame(int((START + after) * 1e9), "to-alice", data)


IKE = frame(NEAR, FAR, 17, struct.pack(">HHHH", 500, 500, 36, 0) + bytes(28), 0.1)
ESP = frame(NEAR, FAR, 50, bytes(40), 0.2)
CLEAR = frame(NEAR, FAR, 6, bytes(40), 0.3)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "_SETTLE", 0)


def drive(world: FakeWorld, capture: FakeCapture, *rows: Row) -> Run:
    async def driven() -> Run:
        loop = asyncio.get_running_loop()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "add_reader", lambda *_: None)
            patch.setattr(loop, "remove_reader", lambda *_: None)
            return await flows.drive(cast("World", world), rows, cast("Capture", capture), lambda row: None)

    return asyncio.run(driven())


def result(world: FakeWorld, *frames: Frame, row: Row = ROW) -> Result:
    (only,) = drive(world, FakeCapture(*frames), row).results
    return only


def test_a_good_row() -> None:
    pair = {"source": str(NEAR), "destination": str(FAR), "reason": "protected-as-initiator", "grade": "secure"}
    world = FakeWorld([ANSWERED], [7, 8], [{"source": "x", "destination": "y"}, pair])
    good = result(world, IKE, ESP)
    assert good.ok
    assert (good.outcome, good.delay, good.lost, good.queued) == (Outcome.ENCRYPTED, 0.01, 0, 1)
    assert (good.reason, good.grade) == ("protected-as-initiator", "secure")
    probed = [job for host, job in world.jobs if job.get("job") == "probe" and host == "alice"]
    assert [(job["source"], job["destination"], job["count"]) for job in probed] == [(str(NEAR), str(FAR), 3)]


def test_a_clear_packet_is_a_complaint() -> None:
    bad = result(FakeWorld([ANSWERED], [], []), IKE, CLEAR)
    assert bad.complaints == ("encrypted was expected, clear is observed",)
    assert bad.queued is None
    assert bad.reason == ""


def test_losses_are_a_complaint() -> None:
    bad = result(FakeWorld([replace(ANSWERED, answered=2, lost=1)], [], []), IKE, ESP)
    assert bad.complaints == ("encrypted was expected, encrypted is observed, 1 lost",)


def test_ike_where_none_belongs_is_a_complaint() -> None:
    assert result(FakeWorld([ANSWERED], [], []), IKE, ESP, row=replace(ROW, ike=False)).complaints == (
        "1 IKE messages, none expected",
    )
    assert result(FakeWorld([ANSWERED], [], []), ESP).complaints == ("0 IKE messages, some expected",)
    assert result(FakeWorld([ANSWERED], [], []), ESP, row=replace(ROW, ike=None)).ok


def test_a_second_connection_must_not_come_to_user_space() -> None:
    second = replace(ROW, ike=False, repeats=True)
    bad = result(FakeWorld([ANSWERED], [3, 5], []), ESP, row=second)
    assert bad.complaints == ("2 packets of a decided pair came to user space",)
    assert result(FakeWorld([ANSWERED], [3, 3], []), ESP, row=second).ok


def test_packets_belong_to_the_flow_that_ran_last() -> None:
    later = replace(ANSWERED, started=START + 0.25, ended=START + 2)
    world = FakeWorld([ANSWERED, later], [], [])
    first, second = drive(world, FakeCapture(IKE, ESP, CLEAR), ROW, replace(ROW, name="again", repeats=True)).results
    assert (first.wire.esp, first.wire.clear) == (1, 0)
    assert (second.wire.esp, second.wire.clear) == (0, 1)


def test_only_answers_that_must_come_are_waited_for_long() -> None:
    blocked = Row("dave", "tcp", NEAR, remote(Group.PRIVATE, 2), Group.PRIVATE, Outcome.NOTHING)
    dropped = replace(ROW, destination=remote(Group.PRIVATE, 3), may_lose=1)
    world = FakeWorld([ANSWERED] * 3, [], [])
    drive(world, FakeCapture(), ROW, dropped, blocked)
    probed = [job for _, job in world.jobs if job.get("job") == "probe"]
    long, short, still = flows._ANSWER, flows._SILENCE, flows._STILL_SILENT
    assert [(job["patience"], job["again"]) for job in probed] == [(long, long), (short, long), (short, still)]


def test_timed_rows_run_before_the_others_and_results_keep_the_order() -> None:
    blocked = Row("dave", "tcp", NEAR, remote(Group.PRIVATE, 2), Group.PRIVATE, Outcome.NOTHING)
    silent = replace(ANSWERED, answered=0, lost=1, first_delay=None)
    run = drive(FakeWorld([ANSWERED, silent], [], []), FakeCapture(IKE, ESP), blocked, ROW)
    assert [result.row.name for result in run.results] == ["dave", "bob"]
    assert run.ok
    assert run.backend == "userspace"


def test_an_incomplete_capture_is_worth_nothing() -> None:
    capture = FakeCapture(IKE, ESP)
    capture.missed = 3
    with pytest.raises(LabBroken, match="missed 3 frames"):
        drive(FakeWorld([ANSWERED], [], []), capture, ROW)
