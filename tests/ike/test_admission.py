"""Who may cost us a key exchange."""

from dataclasses import replace
from ipaddress import ip_address
from random import Random

from oe.ike.admission import STRAY_ANSWERS_AT_ONCE, Admission
from oe.ike.settings import IkeSettings
from oe.model import SocketAddress
from oe.reasons import Reason

NONCE = bytes(range(32))
CALM = IkeSettings(
    half_open_limit_per_source=8, half_open_limit_per_prefix=40, handshakes_at_once=40, failures_at_once=4
)


def peer(number: int = 1, net: int = 2) -> SocketAddress:
    return SocketAddress(ip_address(f"192.0.{net}.{number}"), 500)


def admission(settings: IkeSettings = CALM) -> Admission:
    return Admission(settings, Random(1).randbytes)


class Stranger:
    """Begins, and comes back with a cookie when it can receive."""

    def __init__(self, at: Admission, remote: SocketAddress, *, receives: bool = True) -> None:
        self.at, self.remote, self.receives = at, remote, receives

    def begin(self, now: float) -> Reason | None:
        reason = self.at.judge(self.remote, 7, NONCE, None, now)
        if reason is Reason.COOKIE_DEMANDED and self.receives:
            cookie = self.at.cookies.make(self.remote, 7, NONCE, now)
            reason = self.at.judge(self.remote, 7, NONCE, cookie, now)
        if reason is None:
            self.at.enter(self.remote.address, now)
        return reason


def test_whoever_comes_first_is_let_in_without_a_cookie() -> None:
    assert admission().judge(peer(), 7, NONCE, None, 0.0) is None
    assert admission().judge(peer(), 7, NONCE, b"of another time", 0.0) is None


def test_made_up_addresses_fill_a_quarter_and_leave_the_rest_to_who_is_there() -> None:
    at = admission()
    forger, owner = Stranger(at, peer(), receives=False), Stranger(at, peer())
    assert [forger.begin(0.0) for _ in range(3)] == [None, None, Reason.COOKIE_DEMANDED]
    assert [owner.begin(0.0) for _ in range(7)] == [None] * 6 + [Reason.TOO_MANY_HALF_OPEN]


def test_a_cookie_must_be_ours() -> None:
    at = admission(replace(CALM, cookie_threshold=0))
    assert at.judge(peer(), 7, NONCE, None, 0.0) is Reason.COOKIE_DEMANDED
    assert at.judge(peer(), 7, NONCE, bytes(33), 0.0) is Reason.INVALID_COOKIE
    assert at.judge(peer(), 7, NONCE, at.cookies.make(peer(), 7, NONCE, 0.0), 0.0) is None
    assert at.judge(peer(2), 7, NONCE, at.cookies.make(peer(), 7, NONCE, 0.0), 0.0) is Reason.INVALID_COOKIE


def test_one_site_does_not_take_the_place_of_the_others() -> None:
    at = admission()
    crowd = [Stranger(at, peer(number)) for number in range(1, 61)]
    assert [one.begin(0.0) for one in crowd].count(None) == 40
    assert Stranger(at, peer(net=9)).begin(0.0) is None


def test_in_all_there_is_an_end_and_then_silence() -> None:
    at = admission(replace(CALM, half_open_limit=10, cookie_threshold=5))
    crowd = [Stranger(at, peer(net=number)) for number in range(12)]
    assert [one.begin(0.0) for one in crowd] == [None] * 10 + [Reason.TOO_MANY_HALF_OPEN] * 2


def test_under_attack_there_is_less_patience() -> None:
    at = admission(replace(CALM, cookie_threshold=2))
    assert at.patience == CALM.half_open_lifetime
    for number in (1, 2):
        Stranger(at, peer(number)).begin(0.0)
    assert at.patience == CALM.half_open_lifetime_under_attack
    at.leave(peer().address)
    assert at.patience == CALM.half_open_lifetime


def test_handshakes_of_one_source_have_a_rate() -> None:
    at = admission()
    busy = Stranger(at, peer())
    came = []
    for _ in range(60):
        came.append(busy.begin(0.0))
        if came[-1] is None:
            at.leave(busy.remote.address)
    assert came.count(None) == 40
    assert came[-1] is Reason.TOO_MANY_HANDSHAKES
    assert Stranger(at, peer(2)).begin(0.0) is None
    assert busy.begin(1.0) is None


def test_failed_authentications_bring_silence_for_a_while_but_not_for_ever() -> None:
    """Behind one address there may be others: as soon as the trouble is over, they are heard."""
    at = admission()
    source = Stranger(at, peer())
    for _ in range(4):
        at.failed(source.remote.address, 0.0)
    assert source.begin(0.0) is Reason.TOO_MANY_FAILURES
    assert Stranger(at, peer(2)).begin(0.0) is None
    assert source.begin(4.0) is Reason.TOO_MANY_FAILURES
    assert source.begin(6.0) is None


def test_a_troublemaker_that_goes_on_leaves_others_behind_its_address_a_chance() -> None:
    """It fails whenever it can, another tries once a second: that one gets through again and again."""
    at = admission()
    source = Stranger(at, peer())
    through = 0
    random = Random(2)
    for second in range(600):
        turns = [False, True]
        random.shuffle(turns)
        for is_honest in turns:
            if source.begin(float(second)) is None:
                at.leave(source.remote.address)
                if is_honest:
                    through += 1
                else:
                    at.failed(source.remote.address, float(second))
    assert through >= 20


def test_unprotected_answers_are_few_for_each_source_and_in_all() -> None:
    at = admission(replace(CALM, stray_answers_per_second=8.0))
    one = peer().address
    assert [at.may_answer_stray(one, 0.0) for _ in range(6)] == [True] * STRAY_ANSWERS_AT_ONCE + [False] * 2
    others = [at.may_answer_stray(peer(number).address, 0.0) for number in range(2, 8)]
    assert others == [True] * 4 + [False] * 2
    assert at.may_answer_stray(one, 0.6)
    assert not at.may_answer_stray(one, 0.6)
