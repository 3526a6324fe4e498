"""Which of its three uses a CREATE_CHILD_SA request is, and what it is told when its time is bad."""

from collections.abc import Callable

import pytest

from oe.ike.kex import KeyExchange
from oe.ike.payloads import KePayload, NoncePayload, NotifyPayload, Payload
from oe.ike.proposals import IKE_GROUPS, offer_esp, offer_ike
from oe.ike.registry import ExchangeType, NotifyType, ProtocolId
from oe.ike.states import State
from oe.model import HostPair
from oe.negotiation import Negotiate
from oe.reasons import Reason
from tests.ike.puppet import Puppet, played
from tests.ike.world import Host, World

CREATE = ExchangeType.CREATE_CHILD_SA
NONCE = NoncePayload(bytes(32))
LATER = (NotifyPayload(NotifyType.TEMPORARY_FAILURE),)
REKEY = NotifyPayload(NotifyType.REKEY_SA, b"", ProtocolId.ESP, b"\0\0\x99\x99")


def standing() -> tuple[World, Host, Puppet]:
    world, host, puppet = played()
    puppet.establish()
    return world, host, puppet


def new_child(puppet: Puppet) -> tuple[Payload, ...]:
    return (offer_esp(0x7777), NONCE, *puppet.child()[1:])


def rekey_child(puppet: Puppet) -> tuple[Payload, ...]:
    return (REKEY, *new_child(puppet))


def rekey_ike(_: Puppet) -> tuple[Payload, ...]:
    key = KeyExchange.generate(IKE_GROUPS[0], lambda size: b"\x0b" * size)
    return offer_ike(IKE_GROUPS, b"\xbb" * 8), NONCE, KePayload(key.group, key.public)


Ask = Callable[[Puppet], tuple[Payload, ...]]
ASKS = pytest.mark.parametrize("ask", [new_child, rekey_child, rekey_ike])


@ASKS
def test_each_use_is_answered(ask: Ask) -> None:
    _, host, puppet = standing()
    answer = puppet.request(CREATE, 2, *ask(puppet))
    assert answer is not None
    assert not [payload for payload in answer if isinstance(payload, NotifyPayload) and payload.notify.is_error]
    assert len(host.kernel) == (1 if ask is rekey_ike else 2)
    assert len(host.states) == (2 if ask is rekey_ike else 1)


@ASKS
def test_none_is_granted_while_we_delete_the_ike_sa(ask: Ask) -> None:
    _, host, puppet = standing()
    host.close(next(iter(host.kernel)))
    assert host.states == [State.CLOSING]
    assert puppet.request(CREATE, 2, *ask(puppet)) == LATER
    assert not host.kernel
    assert host.rejected[Reason.UNEXPECTED_MESSAGE] == 1


@ASKS
def test_none_is_granted_in_an_ike_sa_that_has_a_successor(ask: Ask) -> None:
    _, host, puppet = standing()
    puppet.request(CREATE, 2, *rekey_ike(puppet))
    assert State.REPLACED in host.states
    assert puppet.request(CREATE, 3, *ask(puppet)) == LATER


@pytest.mark.parametrize(("ask", "granted"), [(new_child, False), (rekey_child, False), (rekey_ike, True)])
def test_while_we_rekey_the_ike_sa(ask: Ask, granted: bool) -> None:
    _, host, puppet = standing()
    host.rekey_ike()
    assert (puppet.request(CREATE, 2, *ask(puppet)) != LATER) is granted


def ask_for_child(host: Host, puppet: Puppet) -> None:
    pair = HostPair(host.address, puppet.socket.address + 5)
    args = (pair, host.socket, puppet.socket, host.identity, puppet.identity, (puppet.key,), False)
    host.feed(Negotiate(next(host.tickets), *args, host.world.now + 3.0))
    host.world.run(0.001)


@pytest.mark.parametrize(("ask", "granted"), [(new_child, True), (rekey_child, True), (rekey_ike, False)])
@pytest.mark.parametrize("ours", ["new", "rekey"])
def test_while_we_make_or_rekey_a_child_sa(ours: str, ask: Ask, granted: bool) -> None:
    _, host, puppet = standing()
    if ours == "new":
        ask_for_child(host, puppet)
    else:
        host.rekey()
        host.world.run(0.001)
    assert (puppet.request(CREATE, 2, *ask(puppet)) != LATER) is granted


@pytest.mark.parametrize(("ask", "granted"), [(new_child, True), (rekey_child, False), (rekey_ike, False)])
def test_while_we_delete_a_child_sa(ask: Ask, granted: bool) -> None:
    _, host, puppet = standing()
    (first,) = host.kernel
    puppet.request(CREATE, 2, *rekey_child(puppet))
    host.close(first)
    assert (puppet.request(CREATE, 3, *ask(puppet)) != LATER) is granted


def test_one_that_makes_no_sense_is_answered_and_ends_the_ike_sa() -> None:
    _, host, puppet = standing()
    answer = puppet.request(CREATE, 2)
    assert answer == (NotifyPayload(NotifyType.INVALID_SYNTAX),)
    assert host.rejected == {Reason.INVALID_SYNTAX: 1}
    assert host.states == [State.LINGERING]
