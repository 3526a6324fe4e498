"""IKE_SA_INIT: cookies, other groups, repetitions, and refusals that nobody signed."""

from hashlib import sha1
from ipaddress import ip_address

import pytest

from oe.ike.exchanges.ike_sa_init import MAX_RETRIES
from oe.ike.message import decode_message
from oe.ike.nat import announce
from oe.ike.payloads import KePayload, NoncePayload, NotifyPayload, find, find_notify
from oe.ike.proposals import IKE_GROUPS, offer_ike
from oe.ike.registry import ExchangeType, KeyExchangeId, NotifyType, ProtocolId, TransformType
from oe.ike.sa_payload import Proposal, SaPayload, Transform
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.messages import DatagramReceived
from oe.model import HostPair, Identity, SocketAddress
from oe.negotiation import Negotiate, PeerJudged
from oe.reasons import Reason
from tests.ike.puppet import GROUP, Puppet, played
from tests.ike.world import Host, World, assert_matched

ALWAYS_COOKIES = IkeSettings(cookie_threshold=0)


def started() -> tuple[World, Host, Puppet]:
    """The host has sent an IKE_SA_INIT request with ticket 500 to the puppet."""
    world, host, puppet = played()
    pair = HostPair(host.address, puppet.socket.address)
    args = (pair, host.socket, puppet.socket, host.identity, puppet.identity, (puppet.key,), False, world.now + 3.0)
    host.feed(Negotiate(500, *args))
    puppet.host_spi = decode_message(host.sent[0].data).header.initiator_spi
    return world, host, puppet


# --- what is said ---


def test_the_request_has_what_rfc_7296_wants() -> None:
    _, host, puppet = started()
    message = decode_message(puppet.heard()[0])
    assert message.header.responder_spi == 0
    assert message.header.message_id == 0
    nonce = find(message.payloads, NoncePayload)
    assert nonce is not None
    assert len(nonce.data) >= 32
    source = find_notify(message.payloads, NotifyType.NAT_DETECTION_SOURCE_IP)
    octets = message.header.initiator_spi.to_bytes(8, "big") + bytes(8) + host.address.packed + b"\x01\xf4"
    assert source is not None
    assert source.data == sha1(octets).digest()
    assert find_notify(message.payloads, NotifyType.NAT_DETECTION_DESTINATION_IP) is not None
    assert find_notify(message.payloads, NotifyType.SIGNATURE_HASH_ALGORITHMS) is not None


def test_the_answer_too() -> None:
    _, host, puppet = played()
    answer = puppet.begin()
    spis = puppet.spi.to_bytes(8, "big") + puppet.host_spi.to_bytes(8, "big")
    destination = find_notify(answer.payloads, NotifyType.NAT_DETECTION_DESTINATION_IP)
    assert destination is not None
    assert destination.data == sha1(spis + puppet.socket.address.packed + b"\x01\xf4").digest()
    assert find_notify(answer.payloads, NotifyType.SIGNATURE_HASH_ALGORITHMS) is not None
    assert host.states == [State.HALF_OPEN]


# --- repetitions ---


def test_whoever_got_a_key_exchange_is_expected_to_say_who_it_is() -> None:
    _, host, puppet = played()
    puppet.begin()
    assert host.expected == [puppet.socket.address]
    puppet.send(puppet.own_init)
    assert host.expected == [puppet.socket.address]


def test_behind_a_nat_the_address_says_nothing_about_the_peer() -> None:
    _, host, puppet = played()
    spis, elsewhere = (puppet.spi, 0), SocketAddress(ip_address("10.0.0.9"), 500)
    puppet.begin(*announce(spis, elsewhere, host.socket))
    assert host.states == [State.HALF_OPEN]
    assert not host.expected


def test_a_silent_peer_is_asked_with_growing_pauses_until_the_deadline() -> None:
    world, host, _ = started()
    start, times = world.now, [world.now]
    while host.states:
        seen = len(host.sent)
        world.run(0.01)
        times += [world.now] * (len(host.sent) - seen)
    assert [round(at - start, 1) for at in times] == [0.0, 0.5, 1.5]
    assert len({datagram.data for datagram in host.sent}) == 1
    assert host.ended[500].reason is Reason.PEER_SILENT
    assert host.endpoint.deadline() is None


def test_a_repeated_request_gets_the_same_octets_and_makes_no_second_ike_sa() -> None:
    _, host, puppet = played()
    request = puppet.init_request()
    first = puppet.send(request)
    assert puppet.send(request) == first
    assert host.states == [State.HALF_OPEN]


def test_the_same_spi_with_another_request_is_not_answered() -> None:
    _, host, puppet = played()
    puppet.send(puppet.init_request())
    assert not puppet.send(puppet.init_request(NotifyPayload(NotifyType.REDIRECT_SUPPORTED)))
    assert host.rejected[Reason.UNEXPECTED_MESSAGE] == 1


def test_a_half_open_ike_sa_is_forgotten_in_time() -> None:
    world, host, puppet = played()
    puppet.begin()
    world.run(host.settings.half_open_lifetime + 0.1)
    assert not host.states
    assert host.rejected[Reason.NEGOTIATION_TIMEOUT] == 1
    assert host.endpoint._ctx.admission.half_open.total == 0


# --- cookies ---


def test_under_load_a_cookie_is_demanded_and_no_state_is_made() -> None:
    world = World()
    host = world.host("192.0.2.1", settings=ALWAYS_COOKIES)
    puppet = Puppet(host)
    (octets,) = puppet.send(puppet.init_request())
    answer = decode_message(octets)
    cookie = find_notify(answer.payloads, NotifyType.COOKIE)
    assert cookie is not None
    assert answer.header.responder_spi == 0
    assert not host.states
    puppet.begin(cookie)
    assert host.states == [State.HALF_OPEN]


def test_a_made_up_cookie_is_answered_with_a_true_one() -> None:
    world = World()
    host = world.host("192.0.2.1", settings=ALWAYS_COOKIES)
    puppet = Puppet(host)
    (octets,) = puppet.send(puppet.init_request(NotifyPayload(NotifyType.COOKIE, b"made up")))
    assert find_notify(decode_message(octets).payloads, NotifyType.COOKIE) is not None
    assert host.rejected == {Reason.INVALID_COOKIE: 1}
    assert not host.states


def test_both_ends_do_cookies() -> None:
    world = World()
    one, other = world.host("192.0.2.1"), world.host("192.0.2.2", settings=ALWAYS_COOKIES)
    one.negotiate(other)
    world.run(1.0)
    assert len(one.sent) == 3
    assert_matched(one, other)
    assert len(one.kernel) == 1


def test_cookies_without_end_do_not_make_us_busy() -> None:
    world, host, puppet = started()
    for number in range(20):
        puppet.send(puppet.notify_init(NotifyType.COOKIE, bytes([number + 1])))
    assert len(host.sent) == 1 + MAX_RETRIES
    world.run(3.0)
    assert host.ended[500].reason is Reason.PEER_REFUSED


def test_the_same_cookie_again_is_not_followed_again() -> None:
    _, _, puppet = started()
    assert len(puppet.send(puppet.notify_init(NotifyType.COOKIE, b"cookie"))) == 1
    assert not puppet.send(puppet.notify_init(NotifyType.COOKIE, b"cookie"))


@pytest.mark.parametrize("cookie", [b"", bytes(65)])
def test_a_cookie_of_illegal_length_is_not_followed(cookie: bytes) -> None:
    _, host, puppet = started()
    assert not puppet.send(puppet.notify_init(NotifyType.COOKIE, cookie))
    assert len(host.sent) == 1


# --- another group ---


def test_a_key_share_of_a_group_that_we_refuse_is_answered_with_one_that_we_take() -> None:
    _, host, puppet = played()
    (octets,) = puppet.send(puppet.init_request(ke=KePayload(KeyExchangeId.MODP_1024, bytes(128))))
    wanted = find_notify(decode_message(octets).payloads, NotifyType.INVALID_KE_PAYLOAD)
    assert wanted is not None
    assert int.from_bytes(wanted.data, "big") == GROUP
    assert not host.states
    puppet.begin()
    assert host.states == [State.HALF_OPEN]


@pytest.mark.parametrize("group", IKE_GROUPS[1:])
def test_we_send_the_group_that_the_responder_wants(group: KeyExchangeId) -> None:
    _, host, puppet = started()
    (octets,) = puppet.send(puppet.notify_init(NotifyType.INVALID_KE_PAYLOAD, group.to_bytes(2, "big")))
    key = find(decode_message(octets).payloads, KePayload)
    assert key is not None
    assert key.group == group
    assert puppet.send(puppet.answer_init(octets)) != []
    assert host.states == [State.AUTHENTICATING]


def test_a_forged_wish_for_a_group_does_not_spoil_the_answer_to_the_first_request() -> None:
    _, host, puppet = started()
    (first,) = puppet.heard()
    puppet.send(puppet.notify_init(NotifyType.INVALID_KE_PAYLOAD, IKE_GROUPS[1].to_bytes(2, "big")))
    (request,) = puppet.send(puppet.answer_init(first))
    assert puppet.open(request)
    assert host.states == [State.AUTHENTICATING]


def test_a_wish_is_followed_once_and_only_for_what_was_offered() -> None:
    _, host, puppet = started()
    wish = puppet.notify_init(NotifyType.INVALID_KE_PAYLOAD, IKE_GROUPS[1].to_bytes(2, "big"))
    assert len(puppet.send(wish)) == 1
    assert not puppet.send(wish)
    assert not puppet.send(puppet.notify_init(NotifyType.INVALID_KE_PAYLOAD, b"\x00\x02"))
    assert not puppet.send(puppet.notify_init(NotifyType.INVALID_KE_PAYLOAD, b"?"))
    assert host.rejected[Reason.UNAUTHENTICATED_NOTIFY] == 2


# --- refusals that nobody signed ---


@pytest.mark.parametrize(
    ("notify", "reason"),
    [
        (NotifyType.NO_PROPOSAL_CHOSEN, Reason.NO_PROPOSAL_CHOSEN),
        (NotifyType.INVALID_SYNTAX, Reason.PEER_REFUSED),
        (NotifyType.INVALID_MAJOR_VERSION, Reason.PEER_REFUSED),
        (NotifyType(4444), Reason.PEER_REFUSED),
    ],
)
def test_a_refusal_decides_nothing_before_the_deadline(notify: NotifyType, reason: Reason) -> None:
    world, host, puppet = started()
    puppet.send(puppet.notify_init(notify))
    assert host.rejected == {Reason.UNAUTHENTICATED_NOTIFY: 1}
    assert not host.ended
    world.run(3.0)
    assert (host.ended[500].reason, host.ended[500].authenticated) == (reason, False)


def test_a_better_answer_wins_over_a_refusal() -> None:
    _, host, puppet = started()
    (request,) = puppet.heard()
    puppet.send(puppet.notify_init(NotifyType.NO_PROPOSAL_CHOSEN))
    assert puppet.send(puppet.answer_init(request))
    assert host.states == [State.AUTHENTICATING]


def test_an_answer_with_a_bad_key_share_or_choice_changes_nothing() -> None:
    _, host, puppet = started()
    good = puppet.answer_init()
    message = decode_message(good)
    key = find(message.payloads, KePayload)
    assert key is not None
    assert not puppet.send(good.replace(key.data, bytes(32)))
    assert not puppet.send(good.replace(key.group.to_bytes(2, "big") + b"\0\0", b"\0\x13\0\0"))
    assert host.states == [State.STARTED]
    assert host.rejected == {Reason.INVALID_SYNTAX: 1, Reason.UNAUTHENTICATED_NOTIFY: 1}
    assert puppet.send(good)
    assert host.states == [State.AUTHENTICATING]
    assert not puppet.send(good)
    assert host.rejected[Reason.UNEXPECTED_MESSAGE] == 1


def test_an_answer_with_a_group_that_was_offered_but_not_sent_changes_nothing() -> None:
    _, host, puppet = started()
    (request,) = puppet.heard()
    _, other_host, other_puppet = started()
    second = IKE_GROUPS[1].to_bytes(2, "big")
    (asked,) = other_puppet.send(other_puppet.notify_init(NotifyType.INVALID_KE_PAYLOAD, second))
    answer = other_puppet.answer_init(asked)
    # Both worlds have the same seed and thus the same SPIs: only the requests differ in what they carried.
    assert other_host.sent[0].data == host.sent[0].data
    assert not puppet.send(answer)
    assert host.states == [State.STARTED]
    assert not host.notes
    assert puppet.send(puppet.answer_init(request))


# --- refusals of ours ---


def test_an_offer_of_nothing_that_we_take() -> None:
    _, host, puppet = played()
    kept = offer_ike().proposals[0].transforms
    weak = Transform(TransformType.ENCRYPTION, 3)
    offer = SaPayload((Proposal(1, ProtocolId.IKE, b"", (weak, *kept[2:])),))
    (octets,) = puppet.send(puppet.init_request(offer=offer))
    assert find_notify(decode_message(octets).payloads, NotifyType.NO_PROPOSAL_CHOSEN) is not None
    assert host.rejected == {Reason.NO_PROPOSAL_CHOSEN: 1}
    assert not host.states


def test_a_bad_key_share_is_not_answered() -> None:
    _, host, puppet = played()
    assert not puppet.send(puppet.init_request(ke=KePayload(GROUP, bytes(32))))
    assert host.rejected == {Reason.INVALID_SYNTAX: 1}
    assert not host.states


def is_let_in(puppet: Puppet) -> bool:
    """It begins, with a cookie if it is asked for one; whether the host has made state for it."""
    before = len(puppet.host.states)
    answers = puppet.send(puppet.init_request())
    if answers and (cookie := find_notify(decode_message(answers[0]).payloads, NotifyType.COOKIE)) is not None:
        puppet.send(puppet.init_request(cookie))
    return len(puppet.host.states) > before


def test_half_open_budgets() -> None:
    world = World()
    host = world.host("192.0.2.1", settings=IkeSettings(half_open_limit=3, half_open_limit_per_source=2))
    let_in = []
    for number in range(1, 9):
        puppet = Puppet(host, f"198.51.100.{number // 2}", number)
        # The second of an address has its own port: behind one NAT there may be many.
        puppet.socket = SocketAddress(puppet.socket.address, 500 + puppet.spi % 7)
        let_in.append(is_let_in(puppet))
    assert let_in == [True, True, True, False, False, False, False, False]
    assert not is_let_in(Puppet(host, "198.51.100.0", 20))
    assert host.rejected == {Reason.TOO_MANY_HALF_OPEN: 6, Reason.COOKIE_DEMANDED: 1}
    world.run(11.0)
    assert is_let_in(Puppet(host, "198.51.100.0", 20))


def test_per_source_budget_and_the_quarter_of_it_that_anybody_can_take() -> None:
    world = World()
    host = world.host("192.0.2.1", settings=IkeSettings(half_open_limit_per_source=4))
    for number in range(1, 5):
        forger = Puppet(host, "198.51.100.1", number)
        forger.send(forger.init_request())
    assert len(host.states) == 1
    assert [is_let_in(Puppet(host, "198.51.100.1", number)) for number in range(5, 9)] == [True, True, True, False]
    assert host.rejected == {Reason.COOKIE_DEMANDED: 6, Reason.TOO_MANY_HALF_OPEN: 1}


def test_no_look_into_dns_before_the_cookie_has_come_back() -> None:
    world = World()
    host = world.host("192.0.2.1", settings=ALWAYS_COOKIES)
    for number in range(1, 40):
        puppet = Puppet(host, f"198.51.100.{number}", number)
        puppet.send(puppet.init_request())
    assert not host.states
    assert not host.judged
    assert not host.expected
    assert host.rejected == {Reason.COOKIE_DEMANDED: 39}


def test_whoever_fails_again_and_again_meets_silence_for_a_while() -> None:
    world = World()
    host = world.host("192.0.2.1", settings=IkeSettings(failures_at_once=3, failures_per_second=0.1))
    for number in range(3):
        liar = Puppet(host, "192.0.2.9", 9)
        liar.spi += number
        liar.identity = Identity.of(ip_address("203.0.113.1"))
        host.judge = lambda question: PeerJudged(question.ticket, (), None)
        liar.begin(*cookie_for(liar))
        liar.request(ExchangeType.IKE_AUTH, 1, *liar.auth(), *liar.child())
    assert host.rejected[Reason.PEER_AUTHENTICATION_FAILED] == 3
    honest = Puppet(host, "192.0.2.9", 9)
    honest.spi += 50
    assert not is_let_in(honest)
    assert host.rejected[Reason.TOO_MANY_FAILURES] == 1
    world.run(10.5)
    assert is_let_in(honest)


def cookie_for(puppet: Puppet) -> tuple[NotifyPayload, ...]:
    """What the host will want in this puppet's request, if it wants anything."""
    jar = puppet.host.endpoint._ctx.admission.cookies
    return (NotifyPayload(NotifyType.COOKIE, jar.make(puppet.socket, puppet.spi, puppet.nonce, puppet.world.now)),)


def test_an_established_peer_leaves_the_budget() -> None:
    world = World()
    host = world.host("192.0.2.1", settings=IkeSettings(half_open_limit_per_source=1))
    for number in range(1, 4):
        puppet = Puppet(host, "192.0.2.9", 9)
        puppet.spi += number
        puppet.establish()
    assert host.states == [State.ESTABLISHED] * 3


def test_a_peer_that_is_not_admitted_meets_silence() -> None:
    world, host, puppet = played()
    world.not_admitted.add(puppet.socket.address)
    assert not puppet.send(puppet.init_request())
    assert host.rejected == {Reason.NOT_ADMITTED: 1}
    assert not host.states


@pytest.mark.parametrize("change", [(8, b"\1"), (0, bytes(8)), (20, b"\0\0\0\1"), (19, b"\0")])
def test_a_first_message_that_is_none(change: tuple[int, bytes]) -> None:
    _, host, puppet = played()
    request = bytearray(puppet.init_request())
    at, octets = change
    request[at : at + len(octets)] = octets
    host.feed(DatagramReceived(host.socket, puppet.socket, bytes(request)))
    assert not puppet.heard()
    assert not host.states
    assert sum(host.rejected.values()) == 1
