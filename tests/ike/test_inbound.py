"""The gates on a datagram's way in: what is let through, and under which name the rest is counted."""

from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from oe.ike.message import Header, decode_message, encode_message
from oe.ike.payloads import NoncePayload, NotifyPayload, UnknownPayload, find_notify
from oe.ike.proposals import offer_esp
from oe.ike.registry import ExchangeType, NotifyType, PayloadType
from oe.ike.states import State
from oe.messages import DatagramReceived
from oe.model import SocketAddress
from oe.negotiation import JudgePeer
from oe.reasons import Reason
from tests.ike.puppet import AUTH, played
from tests.ike.world import World

INFORMATIONAL = ExchangeType.INFORMATIONAL


def test_message_ids_out_of_sequence() -> None:
    _, host, puppet = played()
    puppet.establish()
    assert puppet.request(INFORMATIONAL, 3) is None
    assert puppet.request(INFORMATIONAL, 0) is None
    assert host.rejected == {Reason.INVALID_MESSAGE_ID: 2}
    assert puppet.request(INFORMATIONAL, 2) == ()


def test_a_changed_octet_anywhere_is_noticed() -> None:
    _, host, puppet = played()
    puppet.establish()
    good = puppet.sealed(INFORMATIONAL, 2, ())
    for at in range(len(good)):
        changed = bytearray(good)
        changed[at] ^= 1
        host.feed(DatagramReceived(host.socket, puppet.socket, bytes(changed)))
    assert not [octets for octets in puppet.heard() if decode_message(octets).sealed is not None]
    assert host.rejected[Reason.INTEGRITY_CHECK_FAILED] >= 8 + 16
    assert host.states == [State.ESTABLISHED]
    assert puppet.send(good)


def test_a_protected_exchange_in_clear_is_not_looked_into() -> None:
    _, host, puppet = played()
    puppet.establish()
    head = puppet.header(INFORMATIONAL, 2, is_response=False)
    assert not puppet.send(encode_message(head, (NotifyPayload(NotifyType.AUTHENTICATION_FAILED),)))
    assert host.rejected == {Reason.UNEXPECTED_MESSAGE: 1}
    assert host.states == [State.ESTABLISHED]


def test_garbage_that_the_peer_itself_sealed_is_answered_and_ends_the_ike_sa() -> None:
    _, host, puppet = played()
    puppet.establish()
    odd = UnknownPayload(PayloadType.DELETE, False, b"?")
    assert puppet.request(INFORMATIONAL, 2, odd) == (NotifyPayload(NotifyType.INVALID_SYNTAX),)
    assert host.rejected == {Reason.INVALID_SYNTAX: 1}
    assert host.states == [State.LINGERING]
    assert list(host.closed.values()) == [Reason.INVALID_SYNTAX]


def test_a_peer_that_understands_nothing_has_no_ike_sa_any_more() -> None:
    _, host, puppet = played()
    puppet.establish()
    host.check_all()
    assert not puppet.respond(INFORMATIONAL, 0, NotifyPayload(NotifyType.INVALID_SYNTAX))
    assert not host.states
    assert list(host.closed.values()) == [Reason.INVALID_SYNTAX]


def test_a_critical_payload_that_we_do_not_know_is_refused_and_no_more() -> None:
    _, host, puppet = played()
    puppet.establish()
    answer = puppet.request(INFORMATIONAL, 2, UnknownPayload(PayloadType(200), True, b"?"))
    assert answer == (NotifyPayload(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, bytes((200,))),)
    assert host.states == [State.ESTABLISHED]


def test_a_response_that_makes_no_sense_ends_its_exchange() -> None:
    _, host, puppet = played()
    puppet.establish()
    host.check_all()
    odd = UnknownPayload(PayloadType(200), True, b"?")
    puppet.respond(INFORMATIONAL, 0, odd)
    assert host.rejected == {Reason.UNSUPPORTED_CRITICAL_PAYLOAD: 1}
    assert host.states == [State.ESTABLISHED]
    host.check_all()
    assert len(puppet.heard()) == 1


def test_our_own_messages_sent_back_are_not_for_us() -> None:
    world = World()
    one, other = world.pair()
    one.negotiate(other)
    world.run(1.0)
    for datagram in tuple(one.sent):
        one.feed(DatagramReceived(one.socket, other.socket, datagram.data))
    assert one.rejected[Reason.UNKNOWN_IKE_SPI] == 1
    assert one.states[0] is State.ESTABLISHED


def test_a_message_with_only_one_spi_right_or_both_swapped_is_not_of_the_ike_sa() -> None:
    _, host, puppet = played()
    puppet.establish()
    true = (puppet.spi, puppet.host_spi)
    for spis, from_initiator in ((true[0] + 1, true[1]), True), ((true[0], true[1] + 1), True), (true[::-1], False):
        head = Header(*spis, INFORMATIONAL, False, from_initiator, 2)
        puppet.send(encode_message(head, ()))
    assert host.rejected == {Reason.UNKNOWN_IKE_SPI: 3}


def test_an_initiator_that_floats_to_port_4500_is_answered_there() -> None:
    _, host, puppet = played()
    puppet.begin()
    request = puppet.sealed(AUTH, 1, (*puppet.auth(), *puppet.child()))
    ours, theirs = SocketAddress(host.address, 4500), SocketAddress(puppet.socket.address, 40000)
    host.feed(DatagramReceived(ours, theirs, request))
    puppet.world.run(0.001)
    assert (host.sent[-1].local, host.sent[-1].remote) == (ours, theirs)
    (row,) = host.endpoint.snapshot()
    assert (row.local, row.remote, row.state) == (ours, theirs, State.ESTABLISHED)


def test_nobody_moves_an_ike_sa_to_another_address() -> None:
    _, host, puppet = played()
    puppet.begin()
    request = puppet.sealed(AUTH, 1, (*puppet.auth(), *puppet.child()))
    elsewhere = SocketAddress(ip_address("203.0.113.5"), 500)
    host.feed(DatagramReceived(host.socket, elsewhere, request))
    puppet.world.run(0.001)
    assert host.sent[-1].remote == elsewhere  # An answer goes where the question came from (RFC 7296 2.11).
    assert [row.remote for row in host.endpoint.snapshot()] == [puppet.socket]


def test_an_unknown_critical_payload_in_ike_sa_init_is_named() -> None:
    _, host, puppet = played()
    (octets,) = puppet.send(puppet.init_request(UnknownPayload(PayloadType(200), True, b"")))
    notify = find_notify(decode_message(octets).payloads, NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD)
    assert notify is not None
    assert notify.data == b"\xc8"
    assert host.rejected == {Reason.UNSUPPORTED_CRITICAL_PAYLOAD: 1}
    assert not host.states


# --- anything at all ---

octets = st.binary(max_size=120)
headers = st.builds(
    Header,
    st.sampled_from([0, 0x1111, 0xAAAA00000000000A]),
    st.sampled_from([0, 0x2222]),
    st.integers(30, 50).map(ExchangeType),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
    st.sampled_from([0x10, 0x20, 0x21, 0x30]),
)


@given(st.lists(octets | st.builds(lambda head, kind, rest: head.encode(kind, 28 + len(rest)) + rest,
                                   headers, st.integers(0, 60), octets), max_size=5))  # fmt: skip
def test_garbage_is_counted_and_raises_nothing(datagrams: list[bytes]) -> None:
    _, host, puppet = played()
    for data in datagrams:
        host.feed(DatagramReceived(host.socket, puppet.socket, data))
    assert sum(host.rejected.values()) == len(datagrams)
    assert not host.states
    assert not host.notes


@settings(max_examples=60)
@given(st.data())
def test_damaged_handshakes_raise_nothing(data: st.DataObject) -> None:
    """Each message of a handshake arrives damaged before it arrives whole: the handshake goes on all the same."""
    world = World()
    one, other = world.pair()
    one.negotiate(other)
    for _ in range(4):
        sender = one if len(one.sent) > len(other.sent) else other
        receiver = other if sender is one else one
        sound = sender.sent[-1].data
        damaged = bytearray(sound)
        for at in data.draw(st.lists(st.integers(0, len(sound) - 1), max_size=3)):
            damaged[at] = data.draw(st.integers(0, 255))
        size = data.draw(st.integers(0, len(sound)))
        # SPIs stay: what begins another IKE SA is another test's.
        head = sound[:16]
        for octets in (head + bytes(damaged)[16:], sound[:size]):
            if octets != sound and (decode_message(sound).header.exchange is AUTH or receiver is one):
                receiver.feed(DatagramReceived(receiver.socket, sender.socket, octets))
        world.run(0.0105)
    world.run(3.0)
    assert not one.notes + other.notes


def test_requests_in_every_state_of_the_other_end() -> None:
    """A protected request of whatever exchange, at any time, is heard or counted and never raises."""
    for exchange in (AUTH, INFORMATIONAL, ExchangeType.CREATE_CHILD_SA, ExchangeType.IKE_INTERMEDIATE):
        _, host, puppet = played()
        puppet.begin()
        puppet.request(exchange, 1)
        puppet.request(exchange, 2)
        assert not host.notes
        assert sum(host.rejected.values()) >= 1


def test_a_recorded_request_from_elsewhere_takes_away_no_answer_that_is_still_to_come() -> None:
    world, host, puppet = played()
    puppet.establish()
    before = puppet.sealed(INFORMATIONAL, 2, ())
    puppet.send(before)
    host.answers = lambda question: 1.0 if isinstance(question, JudgePeer) else 0.0
    further = (offer_esp(0x8888), NoncePayload(b"n" * 32), *puppet.child()[1:])
    assert puppet.request(ExchangeType.CREATE_CHILD_SA, 3, *further) is None
    elsewhere = SocketAddress(ip_address("198.51.100.66"), 500)
    host.feed(DatagramReceived(host.socket, elsewhere, before))
    assert host.sent[-1].remote == elsewhere  # RFC 7296 2.11
    world.run(2.0)
    assert len(puppet.heard()) == 1
