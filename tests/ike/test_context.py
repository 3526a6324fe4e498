"""The books: every SA that is entered can be found, and leaves nothing behind when it is forgotten."""

from ipaddress import ip_address
from itertools import chain, count

from oe.ike.context import Context
from oe.ike.sa import Answer, IkeSa, Role
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.messages import SpiReserved
from oe.model import Identity, SocketAddress
from oe.reasons import Reason
from tests.ike.children import PAIR, child

HERE = SocketAddress(ip_address("192.0.2.1"), 500)
THERE = SocketAddress(ip_address("192.0.2.2"), 500)
PEER = Identity.of(THERE.address)


class Silent:
    """Asks and does not care."""

    def answer(self, answer: Answer, now: float) -> None:
        pass


def context() -> Context:
    numbers = chain((0, 0, 0), count(0))  # the gauges' keys, then ours
    return Context(IkeSettings(), (), lambda size: next(numbers).to_bytes(size, "big"), count(1), count(1), bool)


def sa(role: Role, spi: int) -> IkeSa:
    state = State.STARTED if role is Role.INITIATOR else State.HALF_OPEN
    return IkeSa(role, state, spi, HERE, THERE, 0.0, remote_spi=spi + 100)


def test_spis_are_unused_and_not_zero() -> None:
    ctx = context()
    ctx.enter(sa(Role.INITIATOR, 1))
    assert ctx.new_spi() == 2


def test_a_responder_is_known_by_where_it_came_from_and_counted_until_authenticated() -> None:
    ctx = context()
    one = sa(Role.RESPONDER, 1)
    ctx.enter(one)
    one.remote = SocketAddress(THERE.address, 4500)
    assert ctx.begun[THERE, 101] is one
    assert ctx.admission.half_open.total == 1
    ctx.no_longer_half_open(one)
    ctx.no_longer_half_open(one)
    assert ctx.admission.half_open.total == 0
    ctx.forget(one)
    assert not ctx.begun
    assert not ctx.sas
    assert ctx.admission.half_open.total == 0


def test_identities_are_per_own_address_and_oldest_first() -> None:
    ctx = context()
    sas = [sa(Role.INITIATOR, spi) for spi in (3, 1, 2)]
    elsewhere = sa(Role.INITIATOR, 4)
    elsewhere.local = SocketAddress(ip_address("192.0.2.99"), 500)
    for one in (*sas, elsewhere):
        one.peer_identity = PEER
        ctx.enter(one)
    assert ctx.with_identities(HERE.address, PEER) == sas
    assert ctx.with_identities(elsewhere.local.address, PEER) == [elsewhere]
    assert not ctx.with_identities(HERE.address, Identity.of(HERE.address))
    for one in (*sas, elsewhere):
        ctx.forget(one)
    assert not ctx.with_identities(HERE.address, PEER)
    assert not ctx._by_identity


def test_a_ticket_is_claimed_once_and_not_after_its_sa_is_gone() -> None:
    ctx = context()
    one, asker = sa(Role.INITIATOR, 1), Silent()
    ctx.enter(one)
    first, second = ctx.ticket(one, asker), ctx.ticket(one, asker)
    assert first != second
    assert ctx.claim(first) == (one, asker)
    assert ctx.claim(first) is None
    ctx.forget(one)
    assert ctx.claim(second) is None
    assert not one.tickets
    asker.answer(SpiReserved(second, 1), 0.0)


def test_child_sas_are_found_by_pair_and_peer_and_move_with_their_ike_sa() -> None:
    ctx = context()
    one, other, elsewhere = (sa(Role.INITIATOR, spi) for spi in (1, 2, 3))
    elsewhere.remote = SocketAddress(ip_address("192.0.2.77"), 500)
    for owner in (one, other, elsewhere):
        ctx.enter(owner)
    first, second, third = (child(id) for id in (11, 12, 13))
    for owner, entered in ((one, first), (other, second), (elsewhere, third)):
        ctx.enter_child(owner, entered)
    assert ctx.same_pair(one, first) == [second]
    assert ctx.same_pair(elsewhere, third) == []
    ticket = ctx.ticket(one, Silent())
    ctx.bequeath(one, other)
    assert not one.children
    assert sorted(other.children) == [11, 12]
    assert ctx.children[11] == (other, first)
    claimed = ctx.claim(ticket)
    assert claimed is not None
    assert claimed[0] is other
    for owner, entered in ((other, first), (other, second), (elsewhere, third)):
        ctx.forget_child(owner, entered)
    assert not ctx.children
    assert not ctx._by_pair


def test_the_peers_own_attempt_for_the_pair_is_known_before_it_is_through() -> None:
    ctx = context()
    ours, theirs = sa(Role.INITIATOR, 1), sa(Role.RESPONDER, 2)
    ctx.enter(ours)
    assert not ctx.is_crossed(ours, PAIR)
    theirs.state = State.HALF_OPEN
    ctx.enter(theirs)
    assert not ctx.is_crossed(ours, PAIR)
    theirs.state = State.AUTHENTICATING
    assert ctx.is_crossed(ours, PAIR)
    theirs.state = State.ESTABLISHED
    assert not ctx.is_crossed(ours, PAIR)
    ctx.enter_child(theirs, child())
    assert ctx.is_crossed(ours, PAIR)
    assert not ctx.is_crossed(ours, PAIR.reversed)


def test_output_keeps_its_order() -> None:
    ctx = context()
    ctx.reject(Reason.NOT_ADMITTED, THERE.address)
    ctx.note("info", "first", ("n", 1))
    assert [type(output).__name__ for output in ctx.output] == ["Rejected", "Note"]
