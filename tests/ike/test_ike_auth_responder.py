"""IKE_AUTH as responder, against an initiator that may say anything."""

from collections.abc import Callable
from ipaddress import ip_address

import pytest

from oe.ike.payloads import (
    AuthPayload,
    IdPayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    UnknownPayload,
    find,
    find_error,
    find_notify,
)
from oe.ike.registry import ExchangeType, NotifyType, PayloadType, ProtocolId
from oe.ike.sa_payload import Proposal, SaPayload, Transform
from oe.ike.states import State
from oe.ike.ts_payload import TrafficSelector, TsPayload
from oe.messages import ChildInstalled, OctetsSigned, ReserveSpi, SendDatagram, SignOctets
from oe.model import Directions, HostPair, Identity
from oe.negotiation import ChildReady, JudgePeer
from oe.reasons import Reason
from tests.ike.puppet import AUTH, Puppet, played
from tests.ike.world import Host, is_message

INITIAL_CONTACT = NotifyPayload(NotifyType.INITIAL_CONTACT)


def error_in(payloads: tuple[Payload, ...] | None) -> NotifyType | None:
    assert payloads is not None
    error = find_error(payloads)
    return None if error is None else error.notify


def test_inbound_then_outbound_then_response() -> None:
    _, host, puppet = played()
    order: list[str] = []
    execute = host.execute

    def watch(output: object) -> None:
        if isinstance(output, ChildReady):
            order.append(output.directions.value)
        elif isinstance(output, SendDatagram) and is_message(output, AUTH, is_response=True):
            assert all(held.inbound for held in host.kernel.values())
            order.append("response")
        elif isinstance(output, JudgePeer | SignOctets | ReserveSpi):
            order.append(type(output).__name__)
        execute(output)  # type: ignore[arg-type]  # whatever came out of the engine goes on as it was

    host.execute = watch  # type: ignore[method-assign]  # a wire tap
    assert error_in(puppet.establish()) is None
    assert order == ["JudgePeer", "SignOctets", "ReserveSpi", "inbound", "outbound", "response"]
    (held,) = host.kernel.values()
    assert held.inbound
    assert held.outbound
    assert held.child.outbound.spi == 0x9999
    assert held.child.pair == HostPair(host.address, puppet.socket.address)


def test_the_coordinator_is_asked_about_who_claims_what() -> None:
    world, host, puppet = played()
    puppet.establish()
    (question,) = host.judged
    assert question.identity == puppet.identity
    assert question.pair == HostPair(host.address, puppet.socket.address)
    assert (question.local, question.remote) == (host.socket, puppet.socket)
    assert question.deadline == pytest.approx(world.now + host.settings.half_open_lifetime, abs=0.1)


@pytest.mark.parametrize("order", [(SignOctets, ReserveSpi), (ReserveSpi, SignOctets)])
def test_signature_and_spi_come_in_any_order(order: tuple[type, type]) -> None:
    world, host, puppet = played()
    host.answers = lambda output: 0.1 if isinstance(output, order[0]) else 0.2 if isinstance(output, order[1]) else 0.0
    puppet.begin()
    puppet.send(puppet.sealed(AUTH, 1, (*puppet.auth(), *puppet.child())))
    world.run(0.15)
    assert not host.ready
    world.run(0.2)
    assert host.states == [State.ESTABLISHED]


def ids(kind: int, data: bytes) -> Callable[[Puppet], tuple[Payload, ...]]:
    def make(puppet: Puppet) -> tuple[Payload, ...]:
        return (IdPayload(PayloadType.ID_I, bytes((kind, 0, 0, 0)) + data), puppet.auth()[1])

    return make


@pytest.mark.parametrize(
    "proof",
    [
        lambda p: p.auth(Identity.of(p.host.address)),
        lambda p: (p.auth()[0], p.auth(Identity.of(ip_address("192.0.2.77")))[1]),
        lambda p: p.auth()[:1],
        ids(9, b"CN=somebody"),
        ids(1, b"\xc0\x00\x02"),
    ],
)
def test_whoever_is_not_believed_is_told_and_forgotten(proof: Callable[[Puppet], tuple[Payload, ...]]) -> None:
    world, host, puppet = played()
    puppet.begin()
    response = puppet.request(AUTH, 1, *proof(puppet), *puppet.child())
    assert error_in(response) == NotifyType.AUTHENTICATION_FAILED
    assert response is not None
    assert len(response) == 1
    assert host.rejected[Reason.PEER_AUTHENTICATION_FAILED] == 1
    assert host.states == [State.LINGERING]
    assert not host.ready
    world.run(60.0)
    assert not host.states
    assert host.endpoint.deadline() is None


def test_a_refusal_is_repeated_octet_by_octet() -> None:
    _, host, puppet = played()
    puppet.begin()
    request = puppet.sealed(AUTH, 1, (*puppet.auth(host.identity), *puppet.child()))
    first = puppet.send(request)
    assert len(first) == 1
    assert puppet.send(request) == first


def wider(puppet: Puppet) -> TrafficSelector:
    return TrafficSelector(0, 0, 65535, puppet.socket.address, ip_address("192.0.2.255"))


def one_port(puppet: Puppet) -> TrafficSelector:
    return TrafficSelector(17, 53, 53, puppet.socket.address, puppet.socket.address)


@pytest.mark.parametrize("selector", [wider, one_port])
def test_selectors_that_are_not_one_pair_are_refused(selector: Callable[[Puppet], TrafficSelector]) -> None:
    world, host, puppet = played()
    puppet.begin()
    offer, _, ours = puppet.child()
    theirs = TsPayload(PayloadType.TS_I, (selector(puppet),))
    response = puppet.request(AUTH, 1, *puppet.auth(), offer, theirs, ours)
    assert error_in(response) == NotifyType.TS_UNACCEPTABLE
    assert response is not None
    assert find(response, IdPayload) is not None
    assert host.rejected[Reason.TS_UNACCEPTABLE] == 1
    assert host.states == [State.ESTABLISHED]
    assert not host.ready
    world.run(host.settings.childless_lifetime + 0.1)
    assert host.states == [State.CLOSING]
    world.run(60.0)
    assert not host.states


def test_the_selector_of_the_first_packet_may_stand_in_front() -> None:
    _, host, puppet = played()
    puppet.begin()
    offer, whole, ours = puppet.child()
    assert isinstance(whole, TsPayload)
    theirs = TsPayload(PayloadType.TS_I, (one_port(puppet), *whole.selectors))
    response = puppet.request(AUTH, 1, *puppet.auth(), offer, theirs, ours)
    assert response is not None
    assert find(response, TsPayload, PayloadType.TS_I) == whole
    assert len(host.kernel) == 1


def test_a_pair_refused_by_policy() -> None:
    _, host, puppet = played()
    puppet.refusal = Reason.POLICY_BLOCK
    assert error_in(puppet.establish()) == NotifyType.TS_UNACCEPTABLE
    assert host.rejected[Reason.POLICY_BLOCK] == 1


def test_no_common_esp_algorithm() -> None:
    _, host, puppet = played()
    puppet.begin()
    offer, *ts = puppet.child()
    assert isinstance(offer, SaPayload)
    kept = offer.proposals[0].transforms[-1]
    odd = SaPayload((Proposal(1, ProtocolId.ESP, b"\0\0\1\1", (Transform(type(kept.kind)(1), 3), kept)),))
    assert error_in(puppet.request(AUTH, 1, *puppet.auth(), odd, *ts)) == NotifyType.NO_PROPOSAL_CHOSEN
    assert host.rejected[Reason.NO_PROPOSAL_CHOSEN] == 1
    assert host.states == [State.ESTABLISHED]


def test_an_initiator_that_wants_no_child_sa_gets_none_and_asks_for_one_later() -> None:
    world, host, puppet = played()
    assert find_notify(puppet.begin().payloads, NotifyType.CHILDLESS_IKEV2_SUPPORTED) is not None
    answer = puppet.request(AUTH, 1, *puppet.auth())
    assert answer is not None
    assert error_in(answer) is None
    assert [find(answer, cls) is not None for cls in (AuthPayload, SaPayload)] == [True, False]
    (question,) = host.judged
    assert question.pair == HostPair(host.address, puppet.socket.address)
    assert host.states == [State.ESTABLISHED]
    assert not host.rejected
    answer = puppet.request(ExchangeType.CREATE_CHILD_SA, 2, NoncePayload(bytes(32)), *puppet.child())
    assert error_in(answer) is None
    assert len(host.kernel) == 1
    world.run(host.settings.childless_lifetime + 1.0)
    assert host.states == [State.ESTABLISHED]


def test_one_that_never_asks_for_a_child_sa_is_let_go() -> None:
    world, host, puppet = played()
    puppet.begin()
    puppet.request(AUTH, 1, *puppet.auth())
    world.run(host.settings.childless_lifetime + 0.1)
    assert host.states == [State.CLOSING]


def test_a_protected_request_that_makes_no_sense_ends_the_beginning() -> None:
    _, host, puppet = played()
    puppet.begin()
    assert error_in(puppet.request(AUTH, 1, *puppet.child())) == NotifyType.INVALID_SYNTAX
    assert host.states == [State.LINGERING]


def test_a_critical_payload_that_we_do_not_know_is_named() -> None:
    _, host, puppet = played()
    puppet.begin()
    odd = UnknownPayload(PayloadType(200), True, b"?")
    response = puppet.request(AUTH, 1, *puppet.auth(), *puppet.child(), odd)
    assert response is not None
    (notify,) = response
    assert isinstance(notify, NotifyPayload)
    assert (notify.notify, notify.data) == (NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, b"\xc8")
    assert host.rejected[Reason.UNSUPPORTED_CRITICAL_PAYLOAD] == 1


def test_a_child_sa_that_cannot_be_installed_inbound_is_refused() -> None:
    _, host, puppet = played()
    host.installs = lambda _: Reason.INSTALL_FAILED
    assert error_in(puppet.establish()) == NotifyType.NO_ADDITIONAL_SAS
    assert host.states == [State.ESTABLISHED]
    assert list(host.closed.values()) == [Reason.INSTALL_FAILED]


def test_a_child_sa_that_cannot_be_installed_outbound_is_deleted() -> None:
    _, host, puppet = played()
    host.installs = lambda ready: Reason.INSTALL_FAILED if ready.directions is Directions.OUTBOUND else None
    puppet.establish()
    assert host.states == [State.CLOSING]
    assert list(host.closed.values()) == [Reason.INSTALL_FAILED]
    assert not host.kernel


def test_a_child_sa_closed_before_the_response_is_refused() -> None:
    world, host, puppet = played()
    host.answers = lambda output: None if isinstance(output, ChildReady) else 0.0
    puppet.begin()
    puppet.send(puppet.sealed(AUTH, 1, (*puppet.auth(), *puppet.child())))
    (ready,) = host.ready
    host.close(ready.child.id)
    host.feed(ChildInstalled(ready.ticket, ready.child.id, ready.directions))
    (response,) = puppet.heard()
    assert error_in(puppet.open(response)) == NotifyType.TS_UNACCEPTABLE
    world.run(60.0)
    assert not host.states
    assert not host.closed


def test_an_unanswered_question_ends_with_the_half_open_lifetime() -> None:
    world, host, puppet = played()
    host.answers = lambda output: None if isinstance(output, ChildReady) else 0.0
    puppet.begin()
    puppet.send(puppet.sealed(AUTH, 1, (*puppet.auth(), *puppet.child())))
    (ready,) = host.ready
    world.run(host.settings.half_open_lifetime)
    assert not host.states
    assert host.closed == {ready.child.id: Reason.NEGOTIATION_TIMEOUT}
    host.feed(ChildInstalled(ready.ticket, ready.child.id, ready.directions))
    assert host.rejected[Reason.LATE_ANSWER] == 1


def test_a_key_hand_that_fails_is_no_refusal() -> None:
    _, host, puppet = played()
    host.answers = lambda output: None if isinstance(output, SignOctets) else 0.0
    puppet.begin()
    request = puppet.sealed(AUTH, 1, (*puppet.auth(), *puppet.child()))
    assert not puppet.send(request)
    (ticket,) = host.endpoint._ctx._askers
    host.feed(OctetsSigned(ticket, None))
    assert not puppet.heard()
    assert not host.states
    assert host.rejected[Reason.SIGNING_FAILED] == 1


def test_a_request_repeated_while_we_work_on_it_is_answered_once() -> None:
    world, host, puppet = played()
    host.answers = lambda output: 1.0 if isinstance(output, JudgePeer) else 0.0
    puppet.begin()
    request = puppet.sealed(AUTH, 1, (*puppet.auth(), *puppet.child()))
    assert not puppet.send(request)
    assert not puppet.send(request)
    world.run(1.1)
    (response,) = puppet.heard()
    assert len(host.judged) == 1
    assert puppet.send(request) == [response]
    assert len(host.kernel) == 1


def test_a_second_request_under_an_established_ike_sa_is_not_heard() -> None:
    _, host, puppet = played()
    puppet.establish()
    assert puppet.request(AUTH, 2, *puppet.auth(), *puppet.child()) is None
    assert host.rejected[Reason.UNEXPECTED_MESSAGE] == 1


# --- INITIAL_CONTACT ---


def second(host: Host, first: Puppet) -> Puppet:
    """The same peer again, with a new SPI."""
    again = Puppet(host)
    again.spi = first.spi + 100
    return again


def test_initial_contact_closes_what_stood_before() -> None:
    world, host, puppet = played()
    puppet.establish()
    (old,) = host.kernel
    world.run(10.0)
    second(host, puppet).establish(INITIAL_CONTACT)
    assert host.closed == {old: Reason.REPLACED_BY_PEER}
    assert len(host.kernel) == 1
    assert host.states == [State.ESTABLISHED]


def test_without_initial_contact_both_stand() -> None:
    _, host, puppet = played()
    puppet.establish()
    second(host, puppet).establish()
    assert len(host.kernel) == 2


def test_initial_contact_spares_what_was_established_after_its_ike_sa_init() -> None:
    world, host, puppet = played()
    late = second(host, puppet)
    late.begin()
    world.run(1.0)
    puppet.establish()
    world.run(1.0)
    late.request(AUTH, 1, INITIAL_CONTACT, *late.auth(), *late.child())
    assert not host.closed
    assert len(host.kernel) == 2


def test_initial_contact_of_somebody_who_is_not_believed_closes_nothing() -> None:
    world, host, puppet = played()
    puppet.establish()
    world.run(1.0)
    liar = Puppet(host, "192.0.2.66", 66)
    liar.begin()
    liar.request(AUTH, 1, INITIAL_CONTACT, *liar.auth(puppet.identity), *liar.child())
    assert not host.closed
    assert len(host.kernel) == 1


def test_initial_contact_does_not_touch_other_peers() -> None:
    world, host, puppet = played()
    puppet.establish()
    world.run(1.0)
    Puppet(host, "192.0.2.66", 66).establish(INITIAL_CONTACT)
    assert not host.closed
    assert len(host.kernel) == 2


def test_ike_sa_init_again_after_it_stands_makes_nothing_new() -> None:
    _, host, puppet = played()
    puppet.establish()
    assert not puppet.send(puppet.own_init)
    assert host.rejected[Reason.UNEXPECTED_MESSAGE] == 1
    assert len(host.states) == 1


def test_one_ike_sa_after_another_brings_no_more_child_sas_than_one() -> None:
    _, host, _ = played()
    answers = []
    for number in range(12):
        puppet = Puppet(host)
        puppet.spi += number << 16
        answers.append(error_in(puppet.establish()))
    allowed = host.settings.children_per_pair
    assert answers == [None] * allowed + [NotifyType.NO_ADDITIONAL_SAS] * (12 - allowed)
    assert host.rejected == {Reason.TOO_MANY_CHILDREN: 12 - allowed}
    assert len(host.kernel) == allowed
