"""One IKE SA: its keys by role, and when something is to be done next."""

from ipaddress import ip_address

from oe.ike.child import ChildTimer
from oe.ike.keymat import derive_ike
from oe.ike.registry import PrfId
from oe.ike.sa import Agreement, IkeSa, Role, Timer
from oe.ike.states import ChildStep, State
from oe.model import Secret, SocketAddress
from tests.ike.children import child

HERE = SocketAddress(ip_address("192.0.2.1"), 500)
THERE = SocketAddress(ip_address("192.0.2.2"), 500)


def sa(role: Role = Role.INITIATOR) -> IkeSa:
    return IkeSa(role, State.STARTED, 1, HERE, THERE, 0.0, remote_spi=2)


def test_the_earliest_of_all_timers_is_the_deadline() -> None:
    one = sa()
    assert one.deadline() is None
    one.timers[Timer.LIFETIME] = 100.0
    one.children[1] = child(ends=50.0)
    assert one.deadline() == 50.0
    one.requests.start((b"",), 0.0, 0.5, 10.0)
    assert one.deadline() == 0.5
    one.requests.finish()
    one.children[1].timers[ChildTimer.REKEY] = 40.0
    assert one.deadline() == 40.0
    one.children[1].timers.clear()
    assert one.deadline() == 100.0


def test_it_is_needed_for_a_child_sa_that_lasts_or_is_about_to_be() -> None:
    one = sa()
    seen = [one.is_needed]
    one.responses.begin()
    seen.append(one.is_needed)
    one.responses.finish((b"answer",))
    one.children[1] = child()
    seen.append(one.is_needed)
    one.children[1].advance(ChildStep.DELETED)
    assert [*seen, one.is_needed] == [False, True, True, False]


def test_the_peers_word_ends_doubts() -> None:
    one = sa()
    one.is_doubted, one.timers[Timer.CONFIRM] = True, 5.0
    one.state = State.ESTABLISHED
    seen = [one.takes_children]
    one.hear()
    seen.append(one.takes_children)
    one.is_full = True
    assert [*seen, one.takes_children] == [False, True, False]
    assert Timer.CONFIRM not in one.timers


def test_a_timer_is_due_when_its_time_has_come() -> None:
    one = sa()
    assert not one.is_due(Timer.SETUP, 1e9)
    one.timers[Timer.SETUP] = 5.0
    assert not one.is_due(Timer.SETUP, 4.9)
    assert one.is_due(Timer.SETUP, 5.0)


def test_what_one_end_seals_the_other_opens() -> None:
    nonces = (bytes(32), bytes(range(32)))
    keys = derive_ike(PrfId.HMAC_SHA2_256, 256, Secret(b"shared"), nonces, (1, 2))
    ends = [sa(Role.INITIATOR), sa(Role.RESPONDER)]
    for end in ends:
        end.secure(keys, Agreement(nonces, (b"", b""), frozenset()))
    for one, other in (ends, reversed(ends)):
        sealed = one.sealing.seal(b"plain", b"head")
        assert other.opening.open(sealed, b"head") == b"plain"
        assert one.opening.open(sealed, b"head") is None


def test_only_begun_means_that_we_have_not_said_who_we_are() -> None:
    one = sa()
    seen = []
    for _ in range(3):
        seen.append(one.is_only_begun)
        one.requests.start((b"",), 0.0, 0.5, 10.0)
        one.requests.finish()
    assert seen == [True, True, False]
    assert not sa(Role.RESPONDER).is_only_begun
