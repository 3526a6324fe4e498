"""One IKE SA takes over from another: what moves, what is begun again, what is left."""

from dataclasses import replace
from itertools import count

from oe.ike.child import ChildTimer
from oe.ike.context import Context
from oe.ike.keymat import derive_rekeyed_ike
from oe.ike.registry import PrfId
from oe.ike.sa import IkeSa, Role, Timer, Wanted
from oe.ike.settings import IkeSettings
from oe.ike.states import ChildState, ChildStep, State
from oe.ike.succession import make_heir, pause, succeed
from oe.model import Secret
from oe.negotiation import Negotiate
from oe.reasons import Reason
from tests.ike.children import child
from tests.ike.puppet import played
from tests.ike.test_channel import Asks, established


def heir_of(ctx: Context, sa: IkeSa, spi: int = 0xBBBB) -> IkeSa:
    assert sa.keys is not None
    spis = (ctx.new_spi(), spi)
    nonces = (bytes(16), bytes(16))
    keys = derive_rekeyed_ike(sa.keys, PrfId.HMAC_SHA2_256, 256, Secret(b"secret"), nonces, spis)
    return make_heir(ctx, sa, Role.INITIATOR, spis, keys, 100.0)


def test_an_heir_knows_the_peer_and_begins_with_message_0() -> None:
    ctx, sa, _ = established()
    heir = heir_of(ctx, sa)
    assert (heir.state, heir.established, heir.created) == (State.ESTABLISHED, 100.0, 100.0)
    assert (heir.peer_identity, heir.peer_key, heir.nat) == (sa.peer_identity, sa.peer_key, sa.nat)
    assert (heir.local, heir.remote, heir.own_anonymity) == (sa.local, sa.remote, sa.own_anonymity)
    assert heir.fragmentation is sa.fragmentation
    assert (heir.requests.next_id, heir.responses.expected) == (0, 0)
    assert not heir.is_only_begun
    assert ctx.sas[heir.local_spi] is heir
    # It was never half open, and nobody can begin it again.
    assert heir.counted_as is None
    assert heir.known_as is None
    assert {Timer.REKEY, Timer.LIFETIME, Timer.CHILDLESS} <= set(heir.timers)


def test_it_is_rekeyed_before_its_end() -> None:
    ctx, sa, _ = established()
    timers = heir_of(ctx, sa).timers
    assert 100.0 < timers[Timer.REKEY] < timers[Timer.LIFETIME] <= 100.0 + ctx.settings.ike_lifetime


def test_child_sas_and_awaited_answers_move_and_the_old_one_only_waits_for_its_delete() -> None:
    ctx, sa, _ = established()
    (id,) = sa.children
    asker = Installed()
    ticket = ctx.ticket(sa, asker)
    heir = heir_of(ctx, sa)
    succeed(ctx, sa, heir, 100.0)
    assert not sa.children
    assert ctx.children[id][0] is heir
    assert ctx.claim(ticket) == (heir, asker)
    assert sa.state is State.REPLACED
    assert set(sa.timers) == {Timer.CHILDLESS}
    assert Timer.CHILDLESS not in heir.timers


class Installed:
    def answer(self, answer: object, now: float) -> None: ...


def test_what_the_old_one_had_not_done_yet_is_begun_again() -> None:
    ctx, sa, _ = established()
    (first,) = sa.children.values()
    first.advance(ChildStep.REKEY_SENT)
    first.timers.pop(ChildTimer.REKEY)
    closing, redundant = child(801), child(802)
    closing.advance(ChildStep.DELETED)
    redundant.fate = Reason.REDUNDANT
    for one in (closing, redundant):
        one.timers.clear()
        ctx.enter_child(sa, one)
    sa.queue.append(Asks())
    heir = heir_of(ctx, sa)
    succeed(ctx, sa, heir, 100.0)
    assert first.state is ChildState.UP
    assert first.timers[ChildTimer.REKEY] == 100.0
    assert closing.timers == {ChildTimer.DELETE: 100.0}
    assert redundant.timers == {}
    assert not sa.queue


def test_negotiations_look_for_another_ike_sa() -> None:
    ctx, sa, puppet = established()
    host = puppet.host
    pair = next(iter(sa.children.values())).sa.pair
    negotiation = Negotiate(
        77, pair, host.socket, puppet.socket, host.identity, puppet.identity, (puppet.key,), False, 103.0
    )
    sa.wanted[77] = Wanted(negotiation, 101.5)
    succeed(ctx, sa, heir_of(ctx, sa), 100.0)
    (postponed,) = ctx.postponed
    assert (postponed.negotiation, postponed.at, postponed.end) == (negotiation, 100.0, None)
    assert not sa.wanted


def test_an_old_one_that_ended_meanwhile_leaves_nothing() -> None:
    ctx, sa, _ = established()
    heir = heir_of(ctx, sa)
    sa.rival, heir.inherits = heir, sa
    sa.state = State.CLOSING
    succeed(ctx, sa, heir, 100.0)
    assert [link for link in (sa.rival, heir.inherits, sa.heir) if link is not None] == []
    assert not heir.children


def test_pauses_grow_and_differ() -> None:
    _, host, _ = played()
    ctx = host.endpoint._ctx
    settings = ctx.settings
    for refusals, base in ((1, 0.25), (2, 0.5), (4, 2.0), (9, settings.rekey_pause), (10**6, settings.rekey_pause)):
        pauses = {pause(ctx, refusals, is_temporary=True) for _ in range(10)}
        assert len(pauses) > 1
        assert all(base <= seconds <= 2 * base for seconds in pauses)
    assert pause(ctx, 1, is_temporary=False) >= settings.rekey_pause


def test_settings_may_be_other_ones() -> None:
    _, host, _ = played()
    ctx = host.endpoint._ctx
    ctx.settings = replace(IkeSettings(), collision_pause=3.0, rekey_pause=3.0)
    numbers = count()
    ctx.entropy = lambda size: (next(numbers) % 2 * 0xFFFF).to_bytes(size, "big")
    assert [pause(ctx, 1, is_temporary=True) for _ in range(2)] == [6.0, 3.0]
