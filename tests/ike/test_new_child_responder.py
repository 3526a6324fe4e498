"""A further Child SA, and the successor of one, as responder to a peer that may ask for anything."""

import pytest

from oe.ike.kex import KeyExchange
from oe.ike.keymat import derive_child
from oe.ike.payloads import (
    DeletePayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    find,
    find_error,
)
from oe.ike.proposals import IKE_GROUPS, offer_esp, offer_esp_with_pfs
from oe.ike.registry import ExchangeType, KeyExchangeId, NotifyType, PayloadType, ProtocolId
from oe.ike.sa_payload import Proposal
from oe.ike.states import State
from oe.ike.ts_payload import TrafficSelector, TsPayload
from oe.messages import ChildInstalled, SendDatagram, SpiReserved
from oe.model import Directions, EspCipher, HostPair
from oe.negotiation import ChildReady, IkeOutput, JudgePeer, PeerJudged
from oe.reasons import Reason
from tests.ike.puppet import Puppet, played
from tests.ike.world import Host, World, private_key, public_key

CREATE, INFORMATIONAL = ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL
NONCE = NoncePayload(b"\x55" * 32)
GROUP = IKE_GROUPS[0]


def standing() -> tuple[World, Host, Puppet, int]:
    world, host, puppet = played()
    puppet.establish()
    (old,) = host.kernel
    return world, host, puppet, old


def ts(puppet: Puppet, number: int = 5) -> tuple[TsPayload, TsPayload]:
    """Selectors of a client behind the puppet."""
    theirs, ours = TrafficSelector.of(puppet.socket.address + number), TrafficSelector.of(puppet.host.address)
    return TsPayload(PayloadType.TS_I, (theirs,)), TsPayload(PayloadType.TS_R, (ours,))


def rekey(spi: int = 0x9999) -> NotifyPayload:
    return NotifyPayload(NotifyType.REKEY_SA, b"", ProtocolId.ESP, spi.to_bytes(4, "big"))


def error_in(payloads: tuple[Payload, ...] | None) -> NotifyType | None:
    assert payloads is not None
    error = find_error(payloads)
    return None if error is None else error.notify


def test_a_further_child_sa_is_judged_and_made() -> None:
    _, host, puppet, _ = standing()
    answer = puppet.request(CREATE, 2, offer_esp(0x7777), NONCE, *ts(puppet))
    assert answer is not None
    assert find(answer, KePayload) is None
    assert host.judged[-1].pair == HostPair(host.address, puppet.socket.address + 5)
    assert host.judged[-1].identity == puppet.identity
    assert [ready.directions for ready in host.ready[-2:]] == [Directions.INBOUND, Directions.OUTBOUND]
    child = host.ready[-1].child
    nonce, chosen = find(answer, NoncePayload), find(answer, SaPayload)
    assert nonce is not None
    assert chosen is not None
    assert puppet.keys is not None
    keys = derive_child(puppet.keys, child.inbound.cipher, (NONCE.data, nonce.data), None)
    assert (child.inbound.key.octets, child.outbound.key.octets) == (keys.initiator.octets, keys.responder.octets)
    assert chosen.proposals[0].spi == child.inbound.spi.to_bytes(4, "big")
    assert child.outbound.spi == 0x7777
    assert host.states == [State.ESTABLISHED]


def test_with_forward_secrecy_where_the_peer_wants_it() -> None:
    _, host, puppet, _ = standing()
    kex = KeyExchange.generate(GROUP, lambda size: b"\x07" * size)
    offer = offer_esp_with_pfs(0x7777, (GROUP,))
    answer = puppet.request(CREATE, 2, offer, NONCE, KePayload(GROUP, kex.public), *ts(puppet))
    assert answer is not None
    key, nonce = find(answer, KePayload), find(answer, NoncePayload)
    assert key is not None
    assert nonce is not None
    assert puppet.keys is not None
    keys = derive_child(puppet.keys, EspCipher.AES_GCM_16_256, (NONCE.data, nonce.data), kex.shared(key.data))
    assert host.ready[-1].child.inbound.key.octets == keys.initiator.octets


def test_inbound_is_in_place_before_the_answer_leaves() -> None:
    _, host, puppet, _ = standing()
    order: list[str] = []
    plain = host.execute

    def watched(output: IkeOutput) -> None:
        if isinstance(output, ChildReady):
            order.append(f"ask {output.directions}")
        elif isinstance(output, SendDatagram):
            order.append("answer")
        plain(output)

    host.execute = watched  # type: ignore[method-assign]  # a wire tap
    puppet.request(CREATE, 2, offer_esp(0x7777), NONCE, *ts(puppet))
    assert order == ["ask inbound", "ask outbound", "answer"]


def test_without_the_inbound_half_in_place_there_is_no_answer() -> None:
    _, host, puppet, _ = standing()
    host.answers = lambda output: None if isinstance(output, ChildReady) else 0.0
    assert puppet.request(CREATE, 2, offer_esp(0x7777), NONCE, *ts(puppet)) is None
    (ready,) = host.ready[-1:]
    host.feed(ChildInstalled(ready.ticket, ready.child.id, Directions.INBOUND))
    assert len(puppet.heard()) == 1


# --- refusals ---


def wide(puppet: Puppet) -> tuple[TsPayload, TsPayload]:
    first, second = ts(puppet)
    net = TrafficSelector(0, 0, 65535, puppet.socket.address, puppet.socket.address + 9)
    return TsPayload(first.type, (net,)), second


def test_selectors_that_are_not_one_pair_are_refused_and_the_ike_sa_stands() -> None:
    _, host, puppet, _ = standing()
    answer = puppet.request(CREATE, 2, offer_esp(0x7777), NONCE, *wide(puppet))
    assert error_in(answer) == NotifyType.TS_UNACCEPTABLE
    assert host.states == [State.ESTABLISHED]
    assert len(host.judged) == 1


@pytest.mark.parametrize("refused", [Reason.POLICY_CLEAR, None])
def test_a_pair_that_is_not_granted_is_refused(refused: Reason | None) -> None:
    """By policy; or because the key that proved who the peer is has no say for the pair."""
    _, host, puppet, _ = standing()
    stranger = public_key(private_key("ed25519", 78))
    keys = (puppet.key,) if refused is not None else (stranger,)
    host.judge = lambda question: PeerJudged(question.ticket, keys, refused)
    answer = puppet.request(CREATE, 2, offer_esp(0x7777), NONCE, *ts(puppet))
    assert error_in(answer) == NotifyType.TS_UNACCEPTABLE
    assert host.rejected[refused or Reason.NOT_DELEGATED] == 1
    assert len(host.kernel) == 1
    assert host.states == [State.ESTABLISHED]


def test_algorithms_that_we_do_not_do_are_refused() -> None:
    _, host, puppet, _ = standing()
    (good,) = offer_esp(0x7777).proposals
    bad = SaPayload((Proposal(1, ProtocolId.AH, good.spi, good.transforms),))
    assert error_in(puppet.request(CREATE, 2, bad, NONCE, *ts(puppet))) == NotifyType.NO_PROPOSAL_CHOSEN
    assert host.rejected[Reason.NO_PROPOSAL_CHOSEN] == 1


@pytest.mark.parametrize("sent", [None, KeyExchangeId.ECP_384, KeyExchangeId.MODP_1024])
def test_another_group_than_the_one_sent_is_asked_for(sent: KeyExchangeId | None) -> None:
    _, _, puppet, _ = standing()
    with_pfs = SaPayload(offer_esp_with_pfs(0x7777, (GROUP,)).proposals[:1])
    key = () if sent is None else (KePayload(sent, bytes(96)),)
    answer = puppet.request(CREATE, 2, with_pfs, NONCE, *key, *ts(puppet))
    assert answer == (NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, GROUP.to_bytes(2, "big")),)


def test_a_peer_that_makes_one_after_the_other_is_stopped() -> None:
    _, host, puppet, _ = standing()
    answers = [
        error_in(puppet.request(CREATE, number, offer_esp(0x7000 + number), NONCE, *ts(puppet)))
        for number in range(2, 20)
    ]
    allowed = host.settings.children_per_pair
    assert answers == [None] * allowed + [NotifyType.NO_ADDITIONAL_SAS] * (18 - allowed)
    assert host.states == [State.ESTABLISHED]


def test_a_public_value_that_is_none_ends_the_ike_sa() -> None:
    _, host, puppet, _ = standing()
    offer = offer_esp_with_pfs(0x7777, (GROUP,))
    answer = puppet.request(CREATE, 2, offer, NONCE, KePayload(GROUP, bytes(32)), *ts(puppet))
    assert error_in(answer) == NotifyType.INVALID_SYNTAX
    assert puppet.request(INFORMATIONAL, 3) is None
    assert host.states == [State.LINGERING]


def test_what_cannot_be_installed_is_not_answered_with_success() -> None:
    _, host, puppet, _ = standing()
    host.installs = lambda _: Reason.INSTALL_FAILED
    answer = puppet.request(CREATE, 2, offer_esp(0x7777), NONCE, *ts(puppet))
    assert error_in(answer) == NotifyType.TEMPORARY_FAILURE
    assert list(host.closed.values()) == [Reason.INSTALL_FAILED]


def test_closed_by_policy_before_the_answer() -> None:
    _, host, puppet, _ = standing()
    host.answers = lambda output: None if isinstance(output, ChildReady) else 0.0
    puppet.request(CREATE, 2, offer_esp(0x7777), NONCE, *ts(puppet))
    (ready,) = host.ready[-1:]
    host.close(ready.child.id)
    puppet.heard()
    host.feed(ChildInstalled(ready.ticket, ready.child.id, Directions.INBOUND))
    answers = [puppet.open(octets) for octets in puppet.heard()]
    assert (NotifyPayload(NotifyType.TS_UNACCEPTABLE),) in answers


def test_a_refused_one_alone_keeps_no_ike_sa() -> None:
    world, host, puppet, old = standing()
    puppet.request(INFORMATIONAL, 2, DeletePayload(ProtocolId.ESP, (0x9999,)))
    assert host.closed == {old: Reason.DELETED_BY_PEER}
    puppet.request(CREATE, 3, offer_esp(0x7777), NONCE, *wide(puppet))
    world.run(host.settings.childless_lifetime + 0.1)
    assert host.states == [State.CLOSING]


# --- a successor ---


def test_a_rekey_of_what_was_granted_needs_no_new_judgement() -> None:
    _, host, puppet, old = standing()
    answer = puppet.request(CREATE, 2, rekey(), offer_esp(0x7777), NONCE, *puppet.child()[1:])
    assert error_in(answer) is None
    assert len(host.judged) == 1
    assert host.ready[-1].replaces == old
    assert len(host.kernel) == 2
    # The peer began, the peer deletes.
    answer = puppet.request(INFORMATIONAL, 3, DeletePayload(ProtocolId.ESP, (0x9999,)))
    assert answer is not None
    assert isinstance(answer[0], DeletePayload)
    assert host.closed == {old: Reason.REKEYED}
    assert len(host.kernel) == 1


def test_a_peer_that_does_not_delete_the_old_one_is_helped_after_a_while() -> None:
    world, host, puppet, old = standing()
    puppet.request(CREATE, 2, rekey(), offer_esp(0x7777), NONCE, *puppet.child()[1:])
    spi = host.kernel[old].child.inbound.spi
    puppet.heard()
    start = world.now
    while not (heard := puppet.heard()):
        world.run(0.1)
    (delete,) = heard
    assert 1.5 * host.settings.request_patience <= world.now - start <= 3 * host.settings.request_patience + 0.1
    assert puppet.open(delete) == (DeletePayload(ProtocolId.ESP, (spi,)),)
    puppet.respond(INFORMATIONAL, 0)
    assert host.closed == {old: Reason.REKEYED}


@pytest.mark.parametrize(
    "notify", [rekey(0x1234), NotifyPayload(NotifyType.REKEY_SA, b"", ProtocolId.AH, b"\0\0\x99\x99")]
)
def test_what_is_not_there_cannot_be_rekeyed(notify: NotifyPayload) -> None:
    _, _, puppet, _ = standing()
    answer = puppet.request(CREATE, 2, notify, offer_esp(0x7777), NONCE, *puppet.child()[1:])
    assert answer == (NotifyPayload(NotifyType.CHILD_SA_NOT_FOUND, b"", notify.protocol, notify.spi),)


def test_a_rekey_is_of_the_same_pair() -> None:
    _, host, puppet, _ = standing()
    answer = puppet.request(CREATE, 2, rekey(), offer_esp(0x7777), NONCE, *ts(puppet))
    assert error_in(answer) == NotifyType.TS_UNACCEPTABLE
    assert len(host.kernel) == 1


def test_a_rekey_of_what_is_being_deleted_has_to_wait() -> None:
    _, host, puppet, old = standing()
    puppet.request(CREATE, 2, offer_esp(0x7777), NONCE, *ts(puppet))
    host.close(old)
    answer = puppet.request(CREATE, 3, rekey(), offer_esp(0x7778), NONCE, *puppet.child()[1:])
    assert answer == (NotifyPayload(NotifyType.TEMPORARY_FAILURE),)


def test_closed_while_its_successor_is_made() -> None:
    _, host, puppet, old = standing()
    puppet.request(CREATE, 2, offer_esp(0x7777), NONCE, *ts(puppet))
    host.answers = lambda output: 0.0 if isinstance(output, JudgePeer) else None
    assert puppet.request(CREATE, 3, rekey(), offer_esp(0x7778), NONCE, *puppet.child()[1:]) is None
    waiting = next(reversed(host.endpoint._ctx._askers))
    host.close(old)
    puppet.heard()
    host.feed(SpiReserved(waiting, 0x5555))
    answers = [puppet.open(octets) for octets in puppet.heard()]
    assert (NotifyPayload(NotifyType.CHILD_SA_NOT_FOUND),) in answers
    assert len(host.kernel) == 1
