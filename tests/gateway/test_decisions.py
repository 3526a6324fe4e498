"""The order of commands, for every way a pair can end."""

from hypothesis import given, settings
from hypothesis import strategies as st

from oe.messages import (
    ChildClosed,
    ChildInstalled,
    ChildReady,
    Decide,
    DecisionsLost,
    Drop,
    InstallChild,
    KeysLookedUp,
    LookUpKeys,
    NegotiationEnded,
    Release,
    RemoveChild,
    StopAsked,
    Undecide,
)
from oe.model import Address, Directions, Grade, HostPair, KeyAnswer, Reason, Verdict
from tests.gateway.script import OUR_KEY, OURS, PEER, PEER_KEY, PRIVATE_PEER, Script, child, delegation, found, missing


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
    assert script.gateway.snapshot() == ()


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
