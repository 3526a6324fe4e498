"""What is done in each step of a case, and what must be true then."""

import time
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from itertools import islice
from math import inf
from secrets import token_hex

from bench.soak.world import inside
from oe.lab import probes
from oe.lab.capture import Frame
from oe.lab.probes import Echoes, Probe
from oe.lab.sightings import Kind, sight
from oe.model import Group
from tests.interop.places import spis
from tests.interop.plan import SMALL, Case, Step
from tests.interop.rival import await_that
from tests.interop.world import CHILD_LIFETIME, IKE_LIFETIME, World

_FIRST = 30.0
"""Seconds to wait for a first answer: lookup and negotiation on a busy machine."""
_AGAIN = 10.0
_PACE = 0.2
"""Seconds between packets while something is waited for; all cases share a processor."""
_RARELY = 5
"""So many packets between two questions to another daemon, each of which is a program to start."""
_CALM = 60.0
"""Seconds within which an exchange comes to its end at both ends."""
_DEAD = 120.0
"""Seconds within which a peer that died without a word is found out, and there is a new tunnel."""

_CROSSED = 4.0
"""Seconds after which the other one of two negotiations that crossed has come to its end, too, one way or the other."""

_EITHER = ("protected-as-initiator", "protected-as-responder")
_CREATE_CHILD_SA, _RESPONSE = 36, 0x20
"""Exchange type and flag of the IKE header (RFC 7296 3.1), which is never encrypted."""


class Side(Enum):
    """Who sends the first packet of a flow."""

    WE = auto()
    THEY = auto()


class Failed(Exception):
    """The step went otherwise than it must; the text says how."""


class Stage:
    """A case in a running world."""

    def __init__(self, case: Case, world: World) -> None:
        self.case, self.world = case, world
        self.rival = world.rivals[case]
        self.ours, self.theirs = str(case.own_address), str(case.address)
        self.marker = token_hex(12)

    # --- traffic -----------------------------------------------------------------------------------------------

    def talk(self, protocol: str, count: int, *, calls: Side = Side.WE) -> None:
        """Packets, each answered: none is lost, and none is seen in clear.

        A narrow path may lose what is too large, and a rekey just then what is on its way: see `_talk_until`.
        """
        seen, before = len(self.world.frames), spis(self.case.name)
        echoes = self._probe(protocol, count, calls, _FIRST)
        # Also one that had begun before, or that is not over.
        rekeyed = bool(before) and (len(before) > 2 or spis(self.case.name) != before)
        least = count - 1 if rekeyed and protocol == "icmp" else count  # TCP repeats what is lost
        may_lose = rekeyed or (protocol == "bulk" and self.case.mtu == SMALL)
        if echoes.answered < least or (echoes.lost and not may_lose):
            raise Failed(f"{protocol}: {echoes.answered} of {count} answered, {echoes.lost} lost {echoes.error}")
        kinds = self._seen_since(seen, echoes)
        if Kind.ESP not in kinds:
            raise Failed(f"{protocol}: no ESP was seen")
        if Kind.CLEAR in kinds:
            raise Failed(f"{protocol}: seen in clear")

    def _seen_since(self, count: int, flow: Echoes) -> set[Kind]:
        """What passed the router's link to the other end beyond that many frames, to the end of a flow; in clear only
        what is our own."""
        await_that("the end of a flow in the capture", partial(self.world.has_seen, flow.ended))
        frames = [one for one in self._frames(count) if one.time / 1e9 >= flow.started]  # not what is drained late
        kinds: set[Kind] = {
            one.kind for frame in frames if (one := sight(frame)) is not None and one.kind is not Kind.CLEAR
        }
        in_clear = any(self.marker.encode() in frame.data for frame in frames)
        return kinds | {Kind.CLEAR} if in_clear else kinds

    def _frames(self, count: int) -> list[Frame]:
        return [frame for frame in self.world.frames[count:] if frame.link == self.case.link]

    def has_asked(self, count: int) -> bool:
        """Whether the other end began a CREATE_CHILD_SA exchange, as seen beyond that many frames."""
        asked = [one for one in map(sight, self._frames(count)) if one is not None and one.kind is Kind.IKE]
        asked = [one for one in asked if one.source != self.case.own_address]
        # Behind the UDP header, and behind the non-ESP marker where there is one (RFC 3948 2.2).
        headers = [one.payload[8:].removeprefix(bytes(4)) for one in asked]
        return any(one[18:19] == bytes([_CREATE_CHILD_SA]) and not one[19] & _RESPONSE for one in headers)

    def _probe(self, protocol: str, count: int, calls: Side, first: float) -> Echoes:
        host, ends = (self.case.own.name, (self.ours, self.theirs))
        if calls is Side.THEY:
            host, ends = self.case.name, (self.theirs, self.ours)
        with inside(host):
            return probes.run(Probe(protocol, *ends, self.marker, count, first, _AGAIN))

    def answers(self, calls: Side = Side.WE, patience: float = 1.0) -> bool:
        """Whether a single ping is answered."""
        return self._probe("icmp", 1, calls, patience).answered == 1

    def _answers_in_tunnel(self, calls: Side) -> bool:
        seen, echoes = len(self.world.frames), self._probe("icmp", 1, calls, 1.0)
        return echoes.answered == 1 and Kind.CLEAR not in self._seen_since(seen, echoes)

    def talk_all(self, calls: Side = Side.WE) -> None:
        for protocol, count in (("icmp", 3), ("tcp", 3), ("bulk", 1)):
            self.talk(protocol, count, calls=calls)

    def wake(self, calls: Side) -> None:
        """Ping until a tunnel answers. The others drop the packet that wakes them, or let it go in clear, and some go
        on with that while their SAs are there and the policy is not. Where first packets go in clear, both ends begin.
        """
        deadline, well_since = time.monotonic() + _DEAD, inf
        patience = _CROSSED if self.case.group is Group.PRIVATE_OR_CLEAR else 0.0
        while time.monotonic() - well_since < patience:
            if time.monotonic() > deadline:
                raise Failed(f"no tunnel within {_DEAD:.0f} s")
            time.sleep(_PACE)
            is_well = self.answers(calls) and self.spis() and self._answers_in_tunnel(calls)
            well_since = min(well_since, time.monotonic()) if is_well else inf

    def stand(self) -> frozenset[str]:
        """See to it that there is a tunnel; its SPIs."""
        if not self.spis():
            self.wake(Side.WE if Step.INITIATE not in self.case.without else Side.THEY)
        return self.settle()

    # --- SAs ---------------------------------------------------------------------------------------------------

    def spis(self) -> frozenset[str]:
        """Of the pair of SAs that both kernels have; empty as long as they differ or there are others."""
        theirs = spis(self.case.name)
        return theirs if len(theirs) == 2 and theirs <= spis(self.case.own.name) else frozenset()

    def settle(self) -> frozenset[str]:
        """Wait for it; its SPIs."""
        await_that("one pair of SAs, the same at both ends", self.spis, _CALM)
        return self.spis()

    def await_end(self, before: frozenset[str]) -> None:
        def is_over() -> bool:
            return not spis(self.case.name) and not before & spis(self.case.own.name)

        await_that("no SA in either kernel", is_over, _CALM)

    def state(self) -> str:
        """For the reader of a failure."""
        return f"their SAs {sorted(spis(self.case.name))}, ours among all {sorted(spis(self.case.own.name))}"

    def expect(self, reason: str) -> None:
        """Our gateway says that of the pair, and who the peer is.

        Where first packets go in clear, the answer to one wakes the other end as well: then nonces decide whose tunnel
        is left.
        """
        reasons = _EITHER if self.case.group is Group.PRIVATE_OR_CLEAR else (reason,)
        rows = self.world.status(self.case.own).get("pairs", [])
        told = next(((row["reason"], row["authentication"]) for row in rows if row["destination"] == self.theirs), None)
        grade = "anonymous" if self.case.is_anonymous else "authenticated"
        if told not in [(reason, grade) for reason in reasons]:
            raise Failed(f"our gateway says {told}")


def initiate(stage: Stage) -> None:
    if stage.case.is_anonymous:
        stage.wake(Side.WE)
    stage.talk_all()
    stage.expect("protected-as-initiator")
    stage.settle()


def respond(stage: Stage) -> None:
    stage.wake(Side.THEY)
    stage.talk_all(Side.THEY)
    stage.expect("protected-as-responder")
    stage.settle()


def their_child_rekey(stage: Stage) -> None:
    before, seen = stage.stand(), len(stage.world.frames)
    stage.rival.rekey_child()
    _await_child_rekey(stage, before, _CALM)
    _await_their_question(stage, seen)


def our_child_rekey(stage: Stage) -> None:
    _await_child_rekey(stage, stage.stand(), CHILD_LIFETIME + _CALM)


def _await_child_rekey(stage: Stage, before: frozenset[str], patience: float) -> None:
    def is_done() -> bool:
        now = stage.spis()
        return bool(now) and not now & before

    _talk_until(stage, "a new Child SA", is_done, patience)


def their_ike_rekey(stage: Stage) -> None:
    stage.stand()
    before, seen = stage.rival.ike_sas(), len(stage.world.frames)
    stage.rival.rekey_ike()
    _await_ike_rekey(stage, before, _CALM)
    _await_their_question(stage, seen)


def _await_their_question(stage: Stage, seen: int) -> None:
    """In so long a time we rekey as well: they must have been the ones, or have crossed us."""
    await_that("a CREATE_CHILD_SA request of theirs in the capture", partial(stage.has_asked, seen), _CALM)


def our_ike_rekey(stage: Stage) -> None:
    stage.stand()
    _await_ike_rekey(stage, stage.rival.ike_sas(), IKE_LIFETIME + _CALM)


def _await_ike_rekey(stage: Stage, before: frozenset[str], patience: float) -> None:
    def is_done() -> bool:
        now = stage.rival.ike_sas()
        return len(now) == 1 and not now & before

    _talk_until(stage, "a new IKE SA", is_done, patience, packets=_RARELY)


def _talk_until(stage: Stage, what: str, is_done: Callable[[], bool], patience: float, packets: int = 1) -> None:
    """Packets pass all the time. One of them may be lost in each rekey: the end that answered may send in the new SA at
    once, before the other has read the answer (RFC 7296 2.8)."""
    deadline, lost = time.monotonic() + patience, 0
    before = ever = spis(stage.case.name)
    while True:
        asked = time.monotonic()
        if is_done():
            break
        if asked > deadline:
            raise Failed(f"{what}: not after {patience:.0f} s")
        for _ in range(packets):
            time.sleep(_PACE)
            lost += not stage.answers(patience=_AGAIN)
            ever |= spis(stage.case.name)
        if lost > max(1, len(ever - before) // 2):
            raise Failed(f"{what}: {lost} packets lost meanwhile")
    stage.talk_all()
    stage.talk_all(Side.THEY)
    stage.settle()


def their_delete(stage: Stage) -> None:
    before = stage.stand()
    stage.rival.delete()
    stage.await_end(before)


def our_delete(stage: Stage) -> None:
    before = stage.stand()
    stage.world.flush(stage.case)
    stage.await_end(before)


def restart_then_we(stage: Stage) -> None:
    _restart(stage, Side.WE)


def restart_then_they(stage: Stage) -> None:
    _restart(stage, Side.THEY)


def _restart(stage: Stage, calls: Side) -> None:
    """Ours has to find out by itself, if they do not begin."""
    stage.stand()
    stage.rival.crash()
    stage.rival.start()
    stage.wake(calls)
    stage.talk_all(calls)


STEPS: dict[Step, Callable[[Stage], None]] = {
    Step.INITIATE: initiate,
    Step.THEIR_CHILD_REKEY: their_child_rekey,
    Step.THEIR_IKE_REKEY: their_ike_rekey,
    Step.OUR_CHILD_REKEY: our_child_rekey,
    Step.OUR_IKE_REKEY: our_ike_rekey,
    Step.THEIR_DELETE: their_delete,
    Step.RESPOND: respond,
    Step.OUR_DELETE: our_delete,
    Step.RESTART_THEN_WE: restart_then_we,
    Step.RESTART_THEN_THEY: restart_then_they,
}


def play(case: Case, world: World, most: int, at_failure: Callable[[], None]) -> dict[Step, str]:
    """Take the steps; empty text: as it must be. A step after a failed one starts from wherever that left things."""
    stage = Stage(case, world)
    told: dict[Step, str] = {}
    for step, take in islice(STEPS.items(), most):
        if step in case.without:
            continue
        if all(list(told.values())[-2:]) and len(told) > 1:
            told[step] = "not tried after two failures in a row"
            continue
        started = time.monotonic()
        try:
            take(stage)
            told[step] = ""
        except (Failed, TimeoutError, RuntimeError, OSError) as error:
            told[step] = f"{str(error) or type(error).__name__}; {stage.state()}"
            at_failure()
        print(f"{time.monotonic() - started:5.1f} s  {case.name}: {step}: {told[step] or 'as it must'}", flush=True)
    return told
