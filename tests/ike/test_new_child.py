"""A further Child SA, and the successor of one, as initiator."""

from itertools import pairwise

import pytest

from oe.ike.payloads import DeletePayload, KePayload, NoncePayload, NotifyPayload, Payload, SaPayload, find, find_notify
from oe.ike.proposals import IKE_GROUPS, choose_esp, invalid_ke
from oe.ike.registry import ExchangeType, KeyExchangeId, NotifyType, PayloadType, ProtocolId
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.ike.ts_payload import TrafficSelector, TsPayload
from oe.model import Directions, HostPair
from oe.negotiation import Negotiate
from oe.reasons import Reason
from tests.ike.puppet import Puppet, played
from tests.ike.world import Host, World, assert_matched, is_message

CREATE, INFORMATIONAL = ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL
EXACT = IkeSettings(lifetime_jitter=0.0)


def connected(settings: IkeSettings = EXACT) -> tuple[World, Host, Host]:
    world = World()
    one, other = world.pair(settings=settings)
    one.negotiate(other)
    world.run(2.5)
    return world, one, other


def further(one: Host, other: Host, number: int = 5) -> HostPair:
    return HostPair(one.address, other.address + number)


# --- a further one ---


@pytest.mark.parametrize("first", [0, 1])
def test_two_messages_make_a_further_child_sa(first: int) -> None:
    world, *hosts = connected()
    one, other = hosts[first], hosts[1 - first]
    before = [len(one.sent), len(other.sent)]
    ticket = one.negotiate(other, pair=further(one, other), fail_closed=True)
    world.run(1.0)
    assert [len(one.sent), len(other.sent)] == [before[0] + 1, before[1] + 1]
    ready = one.ready[-1]
    assert (ready.negotiation, ready.directions, ready.replaces) == (ticket, Directions.BOTH, None)
    assert ready.child.fail_closed
    assert [ready.directions for ready in other.ready[-2:]] == [Directions.INBOUND, Directions.OUTBOUND]
    assert other.judged[-1].pair == HostPair(other.address + 5, one.address) or first
    assert len(one.kernel) == 2
    assert_matched(one, other)


def test_its_keys_come_from_a_key_exchange_of_its_own() -> None:
    world, one, other = connected()
    one.negotiate(other, pair=further(one, other))
    world.run(1.0)
    keys = [held.child.inbound.key.octets for held in one.kernel.values()]
    assert len(set(keys)) == 2


def test_a_refused_pair_ends_the_negotiation_and_nothing_else() -> None:
    world, one, other = connected()
    pair = further(one, other)
    world.refused[HostPair(pair.destination, pair.source)] = Reason.POLICY_CLEAR
    ticket = one.negotiate(other, pair=pair)
    world.run(30.0)
    ended = one.ended[ticket]
    assert (ended.reason, ended.authenticated) == (Reason.TS_UNACCEPTABLE, True)
    assert one.states == other.states == [State.ESTABLISHED]
    assert len(one.kernel) == 1


def test_a_peer_that_has_forgotten_the_ike_sa_is_met_anew_in_time() -> None:
    world, one, other = connected()
    other.crash_secret = None
    other.restart()
    ticket = one.negotiate(other, pair=further(one, other))
    world.run(0.5)
    assert ticket not in one.ended
    assert [ready.negotiation for ready in one.ready].count(ticket) == 1
    world.run(10.0)
    assert one.states == other.states == [State.ESTABLISHED]
    assert_matched(one, other)


def test_silence_on_the_one_that_stands_leaves_time_for_another() -> None:
    world, one, other = connected()
    world.link.passes = lambda sent: not is_message(sent, CREATE, is_response=False)
    ticket = one.negotiate(other, pair=further(one, other), patience=3.0)
    world.run(2.0)
    assert one.ready[-1].negotiation == ticket
    assert ticket not in one.ended
    assert sorted(one.states) == [State.ESTABLISHED, State.ESTABLISHED]
    world.link.passes = lambda _: True
    world.run(60.0)
    # What the peer made of the first request, late, is deleted again, and both ends hold the same.
    assert_matched(one, other)
    assert len(one.kernel) == 2


def test_both_attempts_in_vain_end_in_time() -> None:
    world, one, other = connected()
    world.link.loss = 1.0
    ticket = one.negotiate(other, pair=further(one, other), patience=3.0)
    world.run(3.01)
    assert one.ended[ticket].reason is Reason.PEER_SILENT


def test_an_spi_that_comes_too_late_is_of_no_use() -> None:
    world, one, other = connected()
    one.answers = lambda _: 5.0
    ticket = one.negotiate(other, pair=further(one, other), patience=3.0)
    world.run(10.0)
    assert ticket in one.ended
    assert one.states == [State.ESTABLISHED]
    assert len(one.kernel) == 1


# --- a successor ---


@pytest.mark.parametrize("first", [0, 1])
def test_before_its_end_a_child_sa_gets_a_successor(first: int) -> None:
    world, *hosts = connected()
    one, other = hosts[first], hosts[1 - first]
    (old,) = one.kernel
    one.rekey()
    world.run(0.1)
    ready = one.ready[-1]
    assert (ready.replaces, ready.negotiation, ready.directions) == (old, None, Directions.BOTH)
    (mirror,) = (id for id in other.kernel if id != other.ready[-1].child.id)
    assert other.ready[-1].replaces == mirror
    # For a while both receive through both.
    assert len(one.kernel) == len(other.kernel) == 2
    assert_matched(one, other)
    world.run(1.8)
    assert len(one.kernel) == 2
    world.run(1.0)
    assert one.closed == {old: Reason.REKEYED}
    assert other.closed == {mirror: Reason.REKEYED}
    assert len(one.kernel) == 1
    assert_matched(one, other)


def test_the_old_one_receives_until_the_peer_sends_nothing_into_it_any_more() -> None:
    """The responder's inbound half comes before its answer; the initiator's old one goes with the Delete's answer."""
    world, one, other = connected()
    (old,) = one.kernel
    one.rekey()
    world.run(0.011)
    assert [sum(held.inbound for held in host.kernel.values()) for host in (one, other)] == [1, 2]
    while other.closed == {}:
        world.run(0.001)
    assert old in one.kernel
    world.run(0.02)
    assert old not in one.kernel


def test_by_time_alone_tunnels_stand_for_a_day() -> None:
    world, one, other = connected(IkeSettings())
    one.negotiate(other, pair=further(one, other))
    world.run(24 * 3600.0)
    assert_matched(one, other)
    assert len(one.kernel) == 2
    for host in (one, other):
        assert set(host.closed.values()) == {Reason.REKEYED}
        assert all(any(inbound for _, inbound, _ in held) for _, held in host.kernel_log)
    assert one.states == other.states == [State.ESTABLISHED]
    pairs = [(held.child.inbound.key.octets, held.child.outbound.key.octets) for held in one.kernel.values()]
    assert len({key for pair in pairs for key in pair}) == 4


def test_a_rekey_without_an_answer_means_a_dead_peer() -> None:
    world, one, _ = connected()
    (old,) = one.kernel
    one.rekey()
    one.rekey()
    world.link.loss = 1.0
    world.run(one.settings.request_patience + 0.1)
    assert one.closed == {old: Reason.LIVENESS_FAILED}
    assert not one.states


def test_a_successor_that_cannot_be_installed_leaves_the_old_one_and_is_tried_again() -> None:
    world, one, other = connected()
    (old,) = one.kernel
    failures = iter([Reason.INSTALL_FAILED])
    one.installs = lambda _: next(failures, None)
    one.rekey()
    world.run(3.0)
    assert list(one.closed.values()) == [Reason.INSTALL_FAILED]
    assert list(one.kernel) == [old]
    assert_matched(one, other)
    world.run(3 * one.settings.rekey_pause)
    assert one.closed[old] is Reason.REKEYED
    assert_matched(one, other)


def test_closed_while_its_successor_is_asked_for() -> None:
    world, one, other = connected()
    one.negotiate(other, pair=further(one, other))
    world.run(0.5)
    old, kept = one.kernel
    one.rekey(old)
    one.close(old)
    world.run(5.0)
    assert list(one.kernel) == [kept]
    assert_matched(one, other)
    assert not one.closed


# --- a peer that may answer anything ---


def standing() -> tuple[World, Host, Puppet]:
    world, host, puppet = played()
    puppet.establish()
    return world, host, puppet


def ask(host: Host, puppet: Puppet, *, patience: float = 3.0) -> tuple[int, tuple[Payload, ...]]:
    """The host asks the puppet for a further Child SA; ticket and request."""
    ticket = next(host.tickets)
    pair = HostPair(host.address, puppet.socket.address + 5)
    deadline = host.world.now + patience
    puppet.heard()
    host.feed(
        Negotiate(
            ticket, pair, host.socket, puppet.socket, host.identity, puppet.identity, (puppet.key,), False, deadline
        )
    )
    host.world.run(0.001)
    return ticket, puppet.open(puppet.heard()[-1])


def agreed(request: tuple[Payload, ...], *, with_pfs: bool, spi: int = 0x7777) -> list[Payload]:
    """A good answer of the puppet's."""
    offered, ours = find(request, SaPayload), find(request, KePayload)
    assert offered is not None
    assert ours is not None
    if not with_pfs:
        offered = SaPayload(offered.proposals[1:])
    chosen = choose_esp(offered, ours.group if with_pfs else None)
    assert chosen is not None
    both = [payload for payload in request if isinstance(payload, TsPayload)]
    return [chosen.answer(spi), NoncePayload(b"\x99" * 32), *both]


def test_the_request_offers_forward_secrecy_first_and_then_none() -> None:
    _, host, puppet = standing()
    _, request = ask(host, puppet)
    offered, key = find(request, SaPayload), find(request, KePayload)
    assert offered is not None
    assert key is not None
    assert key.group == IKE_GROUPS[0]
    assert [choose_esp(SaPayload((one,)), key.group) is not None for one in offered.proposals] == [True, True]
    assert [choose_esp(SaPayload((one,)), None) is not None for one in offered.proposals] == [False, True]


def test_a_peer_may_want_no_forward_secrecy() -> None:
    _, host, puppet = standing()
    ticket, request = ask(host, puppet)
    puppet.respond(CREATE, 0, *agreed(request, with_pfs=False))
    assert host.ready[-1].negotiation == ticket
    assert host.ready[-1].child.outbound.spi == 0x7777


def test_a_peer_may_want_another_group() -> None:
    _, host, puppet = standing()
    ticket, request = ask(host, puppet)
    for message_id, group in enumerate((KeyExchangeId.ECP_384, KeyExchangeId.MODP_2048)):
        (again,) = puppet.respond(CREATE, message_id, invalid_ke(group))
        request = puppet.open(again)
        key = find(request, KePayload)
        assert key is not None
        assert key.group == group
    assert not puppet.respond(CREATE, 2, invalid_ke(KeyExchangeId.ECP_256))
    assert host.ended[ticket].reason is Reason.PEER_REFUSED


@pytest.mark.parametrize("group", [KeyExchangeId.MODP_1024, IKE_GROUPS[0]])
def test_but_none_that_we_did_not_offer_nor_the_one_we_sent(group: KeyExchangeId) -> None:
    _, host, puppet = standing()
    ticket, _ = ask(host, puppet)
    assert not puppet.respond(CREATE, 0, invalid_ke(group))
    assert host.ended[ticket].reason is Reason.PEER_REFUSED


def test_a_peer_that_wants_no_more_in_one_ike_sa_gets_another_one() -> None:
    _, host, puppet = standing()
    ticket, _ = ask(host, puppet)
    (init,) = puppet.respond(CREATE, 0, NotifyPayload(NotifyType.NO_ADDITIONAL_SAS))
    assert init[18] == ExchangeType.IKE_SA_INIT
    assert ticket not in host.ended
    before = len(host.states)
    host.negotiate(next(iter(host.world.hosts.values())), keys=(puppet.key,), identity=puppet.identity)
    assert len(host.states) == before + 1


def test_a_peer_that_cannot_just_now_is_asked_again() -> None:
    world, host, puppet = standing()
    ticket, _ = ask(host, puppet)
    assert not puppet.respond(CREATE, 0, NotifyPayload(NotifyType.TEMPORARY_FAILURE))
    assert ticket not in host.ended
    world.run(0.51)
    (again,) = puppet.heard()
    puppet.respond(CREATE, 1, *agreed(puppet.open(again), with_pfs=False))
    assert host.ready[-1].negotiation == ticket


def test_one_that_never_can_is_given_up_in_time() -> None:
    world, host, puppet = standing()
    ticket, _ = ask(host, puppet, patience=1.0)
    for message_id in range(20):
        puppet.respond(CREATE, message_id, NotifyPayload(NotifyType.TEMPORARY_FAILURE))
        world.run(0.2)
    # At last another IKE SA is tried, to which the puppet says nothing.
    assert host.ended[ticket].reason in (Reason.NEGOTIATION_TIMEOUT, Reason.PEER_SILENT)


def narrowed(request: tuple[Payload, ...]) -> list[Payload]:
    answer = agreed(request, with_pfs=False)
    theirs = find(answer, TsPayload, PayloadType.TS_R)
    assert theirs is not None
    address = theirs.selectors[0].first
    return [*answer[:3], TsPayload(PayloadType.TS_R, (TrafficSelector(6, 0, 65535, address, address),))]


@pytest.mark.parametrize("what", ["nothing", "narrower", "no KE", "bad KE", "other group", "not offered"])
def test_an_answer_that_is_not_of_our_offer_is_deleted_again(what: str) -> None:
    _, host, puppet = standing()
    ticket, request = ask(host, puppet)
    offered = find(request, SaPayload)
    assert offered is not None
    good = agreed(request, with_pfs=True)
    answers: dict[str, list[Payload]] = {
        "nothing": [],
        "narrower": narrowed(request),
        "no KE": good,
        "bad KE": [*good, KePayload(IKE_GROUPS[0], bytes(32))],
        "other group": [*good, KePayload(KeyExchangeId.ECP_256, bytes(64))],
        "not offered": [offered, *good[1:]],
    }
    (delete,) = puppet.respond(CREATE, 0, *answers[what])
    assert puppet.open(delete) == (DeletePayload(ProtocolId.ESP, (int.from_bytes(offered.proposals[0].spi, "big"),)),)
    assert (host.ended[ticket].reason, host.ended[ticket].authenticated) == (Reason.PEER_REFUSED, True)
    assert host.states == [State.ESTABLISHED]
    assert len(host.kernel) == 1


def test_one_that_the_peer_deleted_before_its_answer_arrived_is_none() -> None:
    """The answer was lost; the repetition of our request brings it, after the Delete."""
    _, host, puppet = standing()
    ticket, request = ask(host, puppet)
    assert puppet.request(INFORMATIONAL, 2, DeletePayload(ProtocolId.ESP, (0x7777,))) == ()
    puppet.respond(CREATE, 0, *agreed(request, with_pfs=False, spi=0x7777))
    assert host.ended[ticket].reason is Reason.PEER_REFUSED
    assert len(host.kernel) == 1
    puppet.respond(INFORMATIONAL, 1)
    # What it deleted before we asked is not meant.
    ticket, request = ask(host, puppet)
    puppet.respond(CREATE, 2, *agreed(request, with_pfs=False, spi=0x7777))
    assert host.ready[-1].negotiation == ticket


def rekeying() -> tuple[World, Host, Puppet, int]:
    """The host asks the puppet for a successor of its only Child SA."""
    world, host, puppet = standing()
    (old,) = host.kernel
    puppet.heard()
    host.rekey()
    world.run(0.001)
    request = puppet.open(puppet.heard()[-1])
    rekey = find_notify(request, NotifyType.REKEY_SA)
    assert rekey is not None
    assert (rekey.protocol, rekey.spi) == (ProtocolId.ESP, host.kernel[old].child.inbound.spi.to_bytes(4, "big"))
    return world, host, puppet, old


def test_a_refused_rekey_is_tried_again_while_the_lifetime_lasts() -> None:
    world, host, puppet, old = rekeying()
    puppet.respond(CREATE, 0, NotifyPayload(NotifyType.NO_ADDITIONAL_SAS))
    world.run(host.settings.rekey_pause - 0.1)
    assert not puppet.heard()
    assert not host.closed
    world.run(host.settings.rekey_pause)
    (again,) = {octets[20:24] for octets in puppet.heard()}
    assert again == (1).to_bytes(4, "big")
    assert list(host.kernel) == [old]


def test_after_a_temporary_failure_sooner_with_growing_pauses() -> None:
    world, _, puppet, _ = rekeying()
    at = []
    for message_id in range(6):
        puppet.respond(CREATE, message_id, NotifyPayload(NotifyType.TEMPORARY_FAILURE))
        while not puppet.heard():
            world.run(0.05)
        at.append(world.now)
    pauses = [later - earlier for earlier, later in pairwise(at)]
    assert all(base <= pause <= 2 * base + 0.1 for base, pause in zip((0.5, 1, 2, 4, 8), pauses, strict=True))


def test_a_child_sa_that_the_peer_does_not_know_is_gone() -> None:
    world, host, puppet, old = rekeying()
    puppet.respond(CREATE, 0, NotifyPayload(NotifyType.CHILD_SA_NOT_FOUND))
    assert host.closed == {old: Reason.DELETED_BY_PEER}
    world.run(host.settings.childless_lifetime + 0.1)
    assert host.states == [State.CLOSING]


def test_one_that_is_under_way_is_enough() -> None:
    world, host, puppet, _ = rekeying()
    host.rekey()
    world.run(0.1)
    assert not [octets for octets in puppet.heard() if octets[20:24] != bytes(4)]


def test_several_wait_for_their_turn() -> None:
    _, host, puppet = standing()
    first, request = ask(host, puppet)
    second = next(host.tickets)
    pair = HostPair(host.address, puppet.socket.address + 6)
    deadline = host.world.now + 3.0
    args = (pair, host.socket, puppet.socket, host.identity, puppet.identity, (puppet.key,), False, deadline)
    host.feed(Negotiate(second, *args))
    (next_one,) = puppet.respond(CREATE, 0, *agreed(request, with_pfs=False))
    puppet.respond(CREATE, 1, *agreed(puppet.open(next_one), with_pfs=False, spi=0x7778))
    assert [ready.negotiation for ready in host.ready[-2:]] == [first, second]
