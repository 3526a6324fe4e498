"""One question and its servers, on virtual time."""

from collections.abc import Callable
from ipaddress import ip_address
from itertools import count

import dns.flags
import dns.message
import pytest

from oe.dnskeys.exchange import PATIENCE, CloseAttempt, Exchange, SendQuery
from oe.dnskeys.message import encode_query
from oe.model import Grade, SocketAddress
from oe.reasons import Reason
from tests.dnskeys.replies import ipseckey, question, reply

NEAR = SocketAddress(ip_address("127.0.0.1"), 53)
NEAR6 = SocketAddress(ip_address("::1"), 53)
FAR = SocketAddress(ip_address("192.0.2.53"), 53)
NAME = "1.2.0.192.in-addr.arpa."
ASKED = question(ip_address("192.0.2.1"))


def entropy() -> Callable[[int], bytes]:
    numbers = count(0x1000)
    return lambda size: next(numbers).to_bytes(size, "big")


class Script:
    """An exchange under way; `sent` are the queries not yet answered, `closed` the attempts given up."""

    def __init__(self, *servers: SocketAddress) -> None:
        self.exchange = Exchange(ASKED, servers, count(1), entropy())
        self.sent: list[SendQuery] = []
        self.closed: list[int] = []
        self.exchange.start(0.0)
        self.collect()

    def collect(self) -> None:
        for output in self.exchange.take():
            if isinstance(output, CloseAttempt):
                self.closed.append(output.attempt)
            else:
                self.sent.append(output)

    def feed(self, query: SendQuery, data: bytes | None) -> None:
        self.exchange.feed(query.attempt, data)
        self.collect()

    def answer(self, *lines: str, rcode: str = "NOERROR", ad: bool = False, tc: bool = False) -> None:
        """Answer the latest query."""
        self.feed(self.sent[-1], reply(self.sent[-1].data, lines, rcode=rcode, ad=ad, tc=tc))

    def silence(self) -> None:
        """Nobody answers until the patience is over."""
        self.exchange.expire(self.exchange.due)
        self.collect()

    def ended(self) -> tuple[Grade, Reason | None]:
        assert self.exchange.result is not None
        assert sorted(self.closed) == sorted(query.attempt for query in self.sent)
        return self.exchange.result.grade, self.exchange.result.reason

    def detail(self) -> str:
        return self.exchange.result.detail if self.exchange.result else ""

    def flags(self) -> list[tuple[SocketAddress, bool, bool]]:
        """Of each query: server, TCP, checking disabled."""
        return [
            (query.server, query.stream, bool(dns.message.from_wire(query.data).flags & dns.flags.CD))
            for query in self.sent
        ]


@pytest.mark.parametrize(
    ("server", "ad", "grade"),
    [
        (NEAR, True, Grade.SECURE),
        (NEAR6, True, Grade.SECURE),
        (NEAR, False, Grade.INSECURE),
        (FAR, True, Grade.INDETERMINATE),
    ],
)
@pytest.mark.parametrize("rcode", ["NOERROR", "NXDOMAIN"])
def test_the_first_answer_counts(server: SocketAddress, ad: bool, grade: Grade, rcode: str) -> None:
    script = Script(server, FAR)
    script.answer(ipseckey(NAME), rcode=rcode, ad=ad)
    assert script.ended() == (grade, None)
    assert len(script.sent) == 1


def test_servfail_that_vanishes_without_checking_is_bogus() -> None:
    script = Script(NEAR, FAR)
    script.answer(rcode="SERVFAIL")
    script.answer(ipseckey(NAME))
    assert script.ended() == (Grade.BOGUS, Reason.DNS_BOGUS)
    assert script.exchange.result is not None
    assert script.exchange.result.response is None
    assert script.flags() == [(NEAR, False, False), (NEAR, False, True)]


def test_servfail_that_stays_is_a_failure_of_that_server() -> None:
    script = Script(NEAR, FAR)
    script.answer(rcode="SERVFAIL")
    script.answer(rcode="SERVFAIL")
    assert script.flags()[-1] == (FAR, False, False)
    script.answer(rcode="REFUSED")
    assert script.ended() == (Grade.INDETERMINATE, Reason.DNS_FAILED)


def test_the_diagnosis_is_repeated_at_the_same_server() -> None:
    script = Script(NEAR, FAR)
    script.answer(rcode="SERVFAIL")
    script.silence()
    assert script.flags()[-1] == (NEAR, False, True)
    script.answer(ipseckey(NAME))
    assert script.ended() == (Grade.BOGUS, Reason.DNS_BOGUS)


@pytest.mark.parametrize("rcode", ["REFUSED", "FORMERR", "NOTIMP"])
def test_refusals_pass_on_to_the_next_server(rcode: str) -> None:
    script = Script(FAR, NEAR)
    script.answer(rcode=rcode)
    script.answer(ipseckey(NAME), ad=True)
    assert script.ended() == (Grade.SECURE, None)


def test_truncated_is_asked_again_over_tcp() -> None:
    script = Script(NEAR)
    script.answer(tc=True)
    assert script.flags() == [(NEAR, False, False), (NEAR, True, False)]
    script.answer(ipseckey(NAME), ad=True)
    assert script.ended() == (Grade.SECURE, None)


def test_a_truncated_diagnosis_stays_one() -> None:
    script = Script(NEAR)
    script.answer(rcode="SERVFAIL")
    script.answer(tc=True)
    assert script.flags()[-1] == (NEAR, True, True)
    script.answer(ipseckey(NAME))
    assert script.ended() == (Grade.BOGUS, Reason.DNS_BOGUS)


@pytest.mark.parametrize("over_tcp", [None, b"junk", reply(encode_query(9, ASKED, checking_disabled=False))])
def test_tcp_that_comes_to_nothing(over_tcp: bytes | None) -> None:
    script = Script(NEAR, FAR)
    script.answer(tc=True)
    script.feed(script.sent[-1], over_tcp)
    assert script.flags()[-1] == (FAR, False, False)


def test_tcp_has_no_excuse_to_be_truncated() -> None:
    script = Script(NEAR, FAR)
    script.answer(tc=True)
    script.answer(tc=True)
    assert script.flags()[-1] == (FAR, False, False)


def test_silence_goes_round_the_servers() -> None:
    script = Script(NEAR, FAR)
    now = 0.0
    for patience in PATIENCE:
        now += patience
        assert script.exchange.due == pytest.approx(now)
        script.exchange.expire(now - 0.01)
        assert script.exchange.take() == []
        assert script.exchange.result is None
        script.silence()
    assert [query.server for query in script.sent] == [NEAR, FAR, NEAR, FAR]
    assert script.ended() == (Grade.INDETERMINATE, Reason.DNS_TIMEOUT)


def test_a_late_answer_to_an_early_attempt_counts() -> None:
    script = Script(NEAR, FAR)
    script.silence()
    first = script.sent[0]
    script.feed(first, reply(first.data, [ipseckey(NAME)], ad=True))
    assert script.ended() == (Grade.SECURE, None)


def test_forged_replies_are_ignored_and_told() -> None:
    script = Script(NEAR)
    query = script.sent[0]
    other = Exchange(question(ip_address("192.0.2.9")), (NEAR,), count(1), lambda size: query.data[:2])
    other.start(0.0)
    (foreign,) = other.take()
    assert isinstance(foreign, SendQuery)
    for forged in (b"", b"junk", query.data, b"\xff\xff" + reply(query.data)[2:], reply(foreign.data)):
        script.feed(query, forged)
    assert script.closed == []
    for _ in PATIENCE:
        script.silence()
    assert script.ended() == (Grade.INDETERMINATE, Reason.DNS_TIMEOUT)
    assert "5 foreign" in script.detail()


def test_a_dead_server_is_left_at_once_and_tried_again_in_its_turn() -> None:
    script = Script(NEAR, FAR)
    script.feed(script.sent[-1], None)
    assert script.sent[-1].server == FAR
    script.feed(script.sent[-1], None)
    assert len(script.sent) == 2
    script.silence()
    script.silence()
    assert {query.server for query in script.sent[2:]} == {NEAR, FAR}


def test_the_only_server_may_be_restarting() -> None:
    script = Script(NEAR)
    script.feed(script.sent[-1], None)
    assert len(script.sent) == 1
    script.silence()
    script.answer(ipseckey(NAME), ad=True)
    assert script.ended() == (Grade.SECURE, None)


def test_every_attempt_has_its_own_id() -> None:
    script = Script(NEAR)
    script.silence()
    script.silence()
    assert len({query.data[:2] for query in script.sent}) == 3


def test_after_the_end_nothing_counts() -> None:
    script = Script(NEAR)
    script.answer(ipseckey(NAME), ad=True)
    result = script.exchange.result
    script.feed(script.sent[0], reply(script.sent[0].data, rcode="SERVFAIL"))
    script.exchange.expire(100.0)
    assert script.exchange.take() == []
    assert script.exchange.result is result
    assert len(script.sent) == 1
