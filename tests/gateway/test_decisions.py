"""The order of commands, for every way a pair can end."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oe.messages import (
    ChildInstalled,
    Decide,
    DecisionsLost,
    Drop,
    FlushAsked,
    InstallChild,
    KeysLookedUp,
    LookUpKeys,
    Note,
    Release,
    RemoveChild,
    StopAsked,
    Undecide,
)
from oe.model import Address, Directions, Grade, HostPair, KeyAnswer, PairState, Verdict
from oe.negotiation import ChildClosed, ChildReady, NegotiationEnded
from oe.policy.outcome import AGE_LIMIT, Unreachable
from oe.reasons import Reason
from tests.gateway.script import (
    OUR_KEY,
    OURS,
    PEER,
    PEER_KEY,
    PRIVATE_PEER,
    Script,
    actions,
    child,
    delegation,
    found,
    missing,
    v4,
)

PAIR = HostPair(OURS, PEER)


def answer(owner: Address, kind: int) -> KeyAnswer:
    if kind == 0:
        return missing(owner)
    key = OUR_KEY if owner == OURS else PEER_KEY
    return found(owner, delegation(key), grade=Grade.SECURE if kind == 1 else Grade.INSECURE)


class Watch:
    """Follows the commands as the kernel would and knows what may never happen."""

    def __init__(self) -> None:
        self.decided: dict[HostPair, Verdict] = {}
        self.outbound: set[int] = set()
        self.children: dict[HostPair, set[int]] = {}
        self.packets: dict[int, HostPair] = {}

    def see(self, command: object) -> None:
        match command:
            case Decide(pair, verdict):
                assert pair.destination != PRIVATE_PEER or verdict is not Verdict.CLEAR
                if verdict is Verdict.PROTECTED:
                    assert self.children.get(pair, set()) & self.outbound, "decided before its SA is in place"
                self.decided[pair] = verdict
            case Undecide(pair):
                self.decided.pop(pair)
            case Release(ids, verdict):
                for id in ids:
                    pair = self.packets.pop(id)
                    assert pair.destination != PRIVATE_PEER or verdict is Verdict.PROTECTED
            case Drop(ids):
                for id in ids:
                    self.packets.pop(id)
            case RemoveChild(id):
                for pair, siblings in self.children.items():
                    siblings.discard(id)
                    alone = not siblings & self.outbound
                    assert not (alone and self.decided.get(pair) is Verdict.PROTECTED), "an SA went before its decision"
                self.outbound.discard(id)


STEP = st.tuples(st.integers(0, 6), st.integers(0, 7), st.booleans())


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_no_sequence_of_events_opens_a_private_pair_or_loses_track_of_a_packet(
    steps: list[tuple[int, int, bool]],
) -> None:
    script = Script(answers=())
    watch = Watch()
    ids = iter(range(1, 1000))

    def see(commands: list[object]) -> None:
        for command in commands:
            if isinstance(command, InstallChild):
                watch.children.setdefault(command.child.pair, set())
            watch.see(command)

    for kind, number, private in steps:
        destination = PRIVATE_PEER if private else PEER
        pair = HostPair(OURS, destination)
        before = len(script.commands)
        if kind == 0:
            known = set(watch.packets)
            id = script.trap(destination)
            assert id not in known
            watch.packets[id] = pair
        elif kind == 1:
            asked = script.all(LookUpKeys)
            if asked:
                chosen = asked[number % len(asked)]
                script.feed(KeysLookedUp(chosen.ticket, answer(chosen.owner, number % 3)))
        elif kind == 2:
            if script.negotiations():
                ticket = script.negotiations()[number % len(script.negotiations())].ticket
                script.engine_says(NegotiationEnded(ticket, Reason.PEER_SILENT, "", authenticated=False))
        elif kind == 3:
            id = next(ids)
            ready = ChildReady(id, child(id, pair), Directions.BOTH, None, PEER_KEY)
            script.engine_says(ready)
            failed = Reason.INSTALL_FAILED if number == 0 else None
            if failed is None:
                watch.children.setdefault(pair, set()).add(id)
                watch.outbound.add(id)
            script.feed(ChildInstalled(id, id, Directions.BOTH, failed))
        elif kind == 4:
            script.engine_says(ChildClosed(number, Reason.DELETED_BY_PEER))
        elif kind == 5:
            script.run_until(script.now + number)
        else:
            for install in script.all(InstallChild):
                script.feed(ChildInstalled(install.ticket, install.child.id, install.directions))
        see(list(script.commands[before:]))
    before = len(script.commands)
    script.feed(StopAsked())
    see(list(script.commands[before:]))
    assert watch.packets == {}, "a packet was never given a verdict"
    assert watch.decided == {}, "a decision outlived the gateway"
    assert not script.gateway.pairs


def test_lost_decisions_are_repeated_for_what_is_left_of_their_time() -> None:
    script = Script()
    script.trap()
    script.protect()
    (first,) = script.all(Decide)
    script.run_until(100.0)
    (again,) = [command for command in script.feed(DecisionsLost()) if isinstance(command, Decide)]
    assert (again.pair, again.verdict, again.fail_closed) == (first.pair, first.verdict, first.fail_closed)
    assert again.lifetime == first.lifetime - 100.0
    assert script.gateway.reasons[Reason.TABLE_RESTORED] == 1


def test_what_is_not_decided_is_not_repeated() -> None:
    script = Script(answers=())
    script.trap()
    assert script.feed(DecisionsLost()) == []


# --- a clear decision ages --------------------------------------------------------------------------------------


def lapsed() -> Script:
    """A pair that was clear for 120 s, because its peer was silent."""
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), found(PEER, delegation(), grade=Grade.INSECURE)))
    script.trap()
    script.run_until(3.0)
    (decide,) = script.all(Decide)
    assert (decide.verdict, decide.lifetime) == (Verdict.CLEAR, 120.0)
    script.run_until(123.0)
    assert script.all(Undecide) == [Undecide(PAIR)]
    return script


def test_traffic_renews_a_clear_decision_and_is_not_held_while_it_is_looked_at_again() -> None:
    script = lapsed()
    script.run_until(130.0)
    tried = len(script.negotiations())
    packet = script.trap()
    renewal, release = actions(script.commands)[-2:]
    assert renewal == Decide(PAIR, Verdict.CLEAR, 6.0, fail_closed=False)
    assert release == Release((packet,), Verdict.CLEAR, fail_closed=False)
    assert len(script.negotiations()) == tried + 1
    script.run_until(133.0)
    assert script.all(Decide)[-1] == Decide(PAIR, Verdict.CLEAR, 120.0, fail_closed=False)


def test_what_the_second_look_finds_replaces_the_decision() -> None:
    script = lapsed()
    script.answers[PEER] = missing(PEER, Reason.DNS_BOGUS, Grade.BOGUS)
    script.trap()
    assert [decide.verdict for decide in script.all(Decide)[-2:]] == [Verdict.CLEAR, Verdict.BLOCKED]


def test_what_the_second_look_has_wait_passes_no_longer() -> None:
    script = Script(
        answers=(found(OURS, delegation(OUR_KEY)), missing(PEER, expires=60.0)), unreachable=Unreachable.HOLD
    )
    script.trap()
    script.run_until(60.0)
    script.answers[PEER] = found(PEER, delegation())
    script.trap()
    script.run_until(63.0)
    status = script.status()
    assert status is not None
    assert status.state is PairState.HELD
    assert actions(script.commands)[-1] == Undecide(PAIR)


def test_encryption_that_the_second_look_brings_replaces_the_decision_too() -> None:
    script = lapsed()
    script.trap()
    script.protect()
    assert script.all(Decide)[-1].verdict is Verdict.PROTECTED
    script.run_until(script.now + 200.0)
    assert script.all(Decide)[-1].verdict is Verdict.PROTECTED


def test_without_traffic_a_lapsed_decision_is_forgotten() -> None:
    script = lapsed()
    script.run_until(244.0)
    assert not script.gateway.pairs
    packet = script.trap()
    assert script.all(Release)[-1].packets != (packet,)
    status = script.status()
    assert status is not None
    assert (status.state, status.held) == (PairState.NEGOTIATING, 1)
    assert script.all(Undecide) == [Undecide(PAIR)]


def test_a_busy_pair_is_decided_anew_when_its_age_limit_is_reached() -> None:
    script = lapsed()
    held_at: list[float] = []
    while script.now < 2.1 * AGE_LIMIT:
        script.trap()
        status = script.status()
        if status is not None and status.held:
            held_at.append(script.now)
        script.run_until(script.now + 10.0)
    gaps = [later - earlier for earlier, later in pairwise(held_at)]
    assert held_at[0] == pytest.approx(AGE_LIMIT, abs=130.0)
    assert all(gap >= AGE_LIMIT - 130.0 for gap in gaps)
    assert len(held_at) == 2


# --- our own faults are told once -------------------------------------------------------------------------------


def warnings(script: Script) -> list[Note]:
    return [note for note in script.all(Note) if note.event == "pair-downgraded" and note.level == "warning"]


def test_that_our_own_key_is_unpublished_is_told_once_for_all_pairs() -> None:
    other = v4("198.51.100.11")
    script = Script(answers=(missing(OURS), found(PEER, delegation()), found(other, delegation())))
    script.trap()
    script.trap(other)
    script.run_until(200.0)
    script.trap()
    assert len(warnings(script)) == 1
    script.answers[OURS] = found(OURS, delegation(OUR_KEY))
    script.run_until(600.0)
    script.trap()
    script.protect()
    script.feed(FlushAsked(None))
    script.answers[OURS] = missing(OURS)
    script.trap()
    assert len(warnings(script)) == 2


def test_each_silent_peer_is_told() -> None:
    other = v4("198.51.100.11")
    keys = (found(one, delegation(), grade=Grade.INSECURE) for one in (PEER, other))
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), *keys))
    script.trap()
    script.trap(other)
    script.run_until(3.0)
    assert len(warnings(script)) == 2
