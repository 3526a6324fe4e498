"""Requests, answers, dumps and multicast with a real kernel."""

from contextlib import closing

import pytest

from oe.errors import KernelError
from oe.ipsec import xfrm_wire as wire
from oe.ipsec.netlink import NETLINK_XFRM, Multicast, Netlink, Walk
from oe.ipsec.netlink_wire import EXCLUSIVE
from oe.ipsec.operations import Policy, Selector, Way
from oe.model import Address
from tests.ipsec.children import OURS, THEIRS
from tests.ipsec.netns import Namespace

pytestmark = pytest.mark.netns


def policy(source: Address = OURS, destination: Address = THEIRS) -> bytes:
    return wire.encode_policy(Policy(Selector.hosts(source, destination), Way.OUT, None, 5))


def test_a_refusal_names_operation_subject_and_cause(host: Namespace) -> None:
    with closing(host.call(lambda: Netlink(NETLINK_XFRM))) as netlink:
        netlink.request(wire.NEWPOLICY, policy(), "add policy", "A → B", EXCLUSIVE)
        with pytest.raises(KernelError, match=r"add policy A → B: File exists \(errno 17\)"):
            netlink.request(wire.NEWPOLICY, policy(), "add policy", "A → B", EXCLUSIVE)
        with pytest.raises(KernelError, match="ask it"):
            netlink.ask(wire.GETSA, wire.encode_sa_id((OURS, 0x1234)), "ask", "it")


def test_dumps_are_whole_though_they_take_many_datagrams(host: Namespace) -> None:
    count = 700
    with closing(host.call(lambda: Netlink(NETLINK_XFRM))) as netlink:
        assert netlink.dump(wire.GETPOLICY, b"", "policies") == []
        for number in range(count):
            netlink.request(wire.NEWPOLICY, policy(OURS, OURS + number), "add", "policy")
        seen = [wire.decode_policy(message.body) for message in netlink.dump(wire.GETPOLICY, b"", "policies")]
        assert {each.policy.selector.destination for each in seen if each} == {OURS + n for n in range(count)}


def test_a_walk_sees_the_same_in_pieces_as_often_as_it_is_begun(host: Namespace) -> None:
    count = 700
    with (
        closing(host.call(lambda: Netlink(NETLINK_XFRM))) as netlink,
        closing(host.call(lambda: Walk(NETLINK_XFRM))) as walk,
    ):
        walk.begin(wire.GETPOLICY, b"", "policies")
        assert walk.receive() == ([], False)
        assert walk.receive() == ([], True)  # nothing is there, nothing was asked for
        for number in range(count):
            netlink.request(wire.NEWPOLICY, policy(OURS, OURS + number), "add", "policy")
        for _ in range(2):
            walk.begin(wire.GETPOLICY, b"", "policies")
            pieces = [walk.receive()]
            while pieces[-1][1]:
                pieces.append(walk.receive())
            seen = [wire.decode_policy(message.body) for messages, _ in pieces for message in messages]
            assert sorted(each.policy.selector.destination for each in seen if each) == [OURS + n for n in range(count)]
            assert max(len(messages) for messages, _ in pieces) < count / 2


def test_nothing_of_a_walk_that_was_given_up_is_in_the_next_one(host: Namespace) -> None:
    with (
        closing(host.call(lambda: Netlink(NETLINK_XFRM))) as netlink,
        closing(host.call(lambda: Walk(NETLINK_XFRM))) as walk,
    ):
        for number in range(700):
            netlink.request(wire.NEWPOLICY, policy(OURS, OURS + number), "add", "policy")
        walk.begin(wire.GETPOLICY, b"", "policies")
        assert walk.receive()[0] != []
        walk.begin(wire.GETPOLICY, b"", "policies")
        with pytest.raises(KernelError, match="busy"):
            assert not any(iter(lambda: walk.receive()[0], None))


def test_a_refused_walk_is_over(host: Namespace) -> None:
    with closing(host.call(lambda: Walk(NETLINK_XFRM))) as walk:
        walk.begin(wire.GETPOLICY - 16 + 0x400, b"", "nonsense")
        with pytest.raises(KernelError, match="list nonsense: "):
            walk.receive()
        walk.begin(wire.GETPOLICY, b"", "policies")
        assert walk.receive() == ([], False)


def test_groups_are_heard_without_waiting(host: Namespace) -> None:
    policies = 4
    with (
        closing(host.call(lambda: Multicast(NETLINK_XFRM, policies))) as heard,
        closing(host.call(lambda: Netlink(NETLINK_XFRM))) as netlink,
    ):
        assert heard.receive() == []
        netlink.request(wire.NEWPOLICY, policy(), "add", "policy")
        assert [message.kind for message in heard.receive()] == [wire.NEWPOLICY]
        assert heard.receive() == []


def test_a_group_may_be_heard_for_a_while_and_news_name_their_cause(host: Namespace) -> None:
    with (
        closing(host.call(lambda: Multicast(NETLINK_XFRM))) as heard,
        closing(host.call(lambda: Netlink(NETLINK_XFRM))) as netlink,
    ):
        with heard.hearing(wire.GROUP_POLICY):
            netlink.request(wire.NEWPOLICY, policy(), "add", "policy")
            assert [message.port for message in heard.receive()] == [netlink.port]
            netlink.request(wire.NEWPOLICY, policy(THEIRS, OURS), "add", "policy")
        netlink.request(wire.NEWPOLICY, policy(OURS, OURS), "add", "policy")
        assert heard.receive() == []


def test_silence_of_the_kernel_is_an_error_of_the_operation(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oe.ipsec.netlink._PATIENCE", 0.01)
    with closing(host.call(lambda: Netlink(NETLINK_XFRM))) as netlink:
        monkeypatch.setattr(netlink, "_send", lambda *_request: None)  # it is lost
        with pytest.raises(KernelError, match=r"add A → B: no answer: Connection timed out \(errno 110\)"):
            netlink.request(wire.NEWPOLICY, policy(), "add", "A → B")
