"""Explanations as programs and as people read them."""

import json
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from oe.cli.forecast import Evidence, Forecast, by_dns
from oe.cli.lookups import Looked
from oe.cli.narrative import IF_THE_PEER_BEGINS, REMEDIES, Document, Explanation, document, story
from oe.gateway import OwnSide
from oe.model import Grade, Group, HostPair, KeyAnswer, PairState
from oe.policy.groups import Entry, PolicySet
from oe.policy.outcome import FAILURES, GroupSettings
from oe.policy.select import select
from oe.reasons import Reason
from tests.gateway.script import OTHER_KEY, OUR_KEY, OURS, PEER, PEER_KEY, delegation, found, missing

OWN = OwnSide((OURS,), (), (OUR_KEY,))
WIDE = Entry(ip_network("198.51.0.0/16"), Group.CLEAR, "/etc/oe/policies/clear", 3, "198.51.0.0/16")
NARROW = Entry(ip_network("198.51.100.0/24"), Group.PRIVATE_OR_CLEAR, "/etc/oe/policies/private-or-clear", 1, "…")
POLICIES, _ = PolicySet.of([WIDE, NARROW])
ROW = {
    "source": "192.0.2.1",
    "state": "blocked",
    "since": 61.0,
    "reason": "peer-silent",
    "peer": "198.51.100.9",
    "detail": "no answer to IKE_SA_INIT",
    "packets_out": None,
    "packets_in": None,
}
NO_KEY_ROW = ROW | {
    "source": "192.0.2.3",
    "state": "clear",
    "reason": "no-key",
    "detail": "someone else's words",
    "peer": None,
}


def explanation(theirs: KeyAnswer, ours: KeyAnswer | None = None, *, took: float = 0.004) -> Explanation:
    ours = ours or found(OURS, delegation(OUR_KEY))
    pair, evidence = HostPair(OURS, PEER), Evidence(theirs if took <= 3.0 else None, ours, 600.0)
    forecast = by_dns(pair, Group.PRIVATE_OR_CLEAR, GroupSettings(), OWN, evidence)
    looked = (Looked(theirs, took, 600.0), Looked(ours, 0.003, 600.0))
    return Explanation(pair, select(POLICIES, PEER), (), forecast, looked, 3.0, OWN.keys, ("127.0.0.1:53",))


def told(explanation: Explanation, now: list[Document] | None = None) -> str:
    """As text, through JSON and back: programs could tell the same story."""
    return "\n".join(
        story(json.loads(json.dumps(document(explanation) | {"now": now, "no_answer": "no oe answers at /run/oe"})))
    )


def test_a_pair_that_would_be_encrypted() -> None:
    assert told(explanation(found(PEER, delegation()))).splitlines() == [
        "192.0.2.1 → 198.51.100.9",
        "group     private-or-clear, by 198.51.100.0/24 (/etc/oe/policies/private-or-clear:1)",
        "          before clear, by 198.51.0.0/16 (/etc/oe/policies/clear:3)",
        "dns       9.100.51.198.in-addr.arpa. found, secure, after 4 ms, for 10m00s",
        f"          IPSECKEY 10, gateway ., key {PEER_KEY.fingerprint} (EDDSA)",
        "dns       1.2.0.192.in-addr.arpa. found, secure, after 3 ms, for 10m00s",
        f"          IPSECKEY 10, gateway ., key {OUR_KEY.fingerprint} (EDDSA), ours",
        "packets   the first is held up to 3 s; we negotiate with 198.51.100.9 as 192.0.2.1",
        "          if nobody answers: blocked for 30s; is it up, and do UDP 500 and ESP pass both firewalls?",
        "inbound   if the peer begins: accepted, if DNS vouches for it",
        "now       no oe answers at /run/oe",
    ]


def test_why_a_pair_would_not_be_encrypted_is_said_once_with_what_to_do() -> None:
    text = told(explanation(replace(missing(PEER), detail="9.100.51.198.in-addr.arpa: no such name")))
    assert text.count("no such name") == 1
    assert "packets   clear for 10m00s: no-key\n          nothing is wrong here; ask" in text


def test_a_stale_record_of_ours() -> None:
    text = told(explanation(found(PEER, delegation()), found(OURS, delegation(OTHER_KEY))))
    assert "packets   clear for 1m00s, a downgrade: own-key-unpublished\n" in text
    assert "publish what `oe key show --address 192.0.2.1` prints" in text
    assert ", ours" not in text


def test_the_newest_published_key_signs() -> None:
    rolled = replace(explanation(found(PEER, delegation())), own_keys=(OTHER_KEY, OUR_KEY))
    assert document(rolled)["signs"] == OUR_KEY.fingerprint
    both = found(OURS, delegation(OUR_KEY), delegation(OTHER_KEY))
    rolled = replace(explanation(found(PEER, delegation()), both), own_keys=(OTHER_KEY, OUR_KEY))
    assert document(rolled)["signs"] == OTHER_KEY.fingerprint


def test_a_slow_resolver() -> None:
    late = told(explanation(missing(PEER), took=4.0))
    assert "too late for a first packet, which waits 3 s; a later one finds the answer" in late
    assert "packets   clear for 1m00s: dns-timeout" in late
    assert "too late" not in told(explanation(missing(PEER), took=2.0))
    silent = told(explanation(missing(PEER, Reason.DNS_TIMEOUT), took=6.0))
    assert "too late" not in silent
    assert "do the resolvers run, 127.0.0.1:53, and" in silent
    assert "packets   clear for 1m00s: dns-timeout" in silent


def test_gateways_in_turn_and_keys_elsewhere() -> None:
    other = ip_address("198.51.100.10")
    answer = found(PEER, delegation(gateway=other), delegation(precedence=20), delegation(None, other))
    text = told(explanation(answer))
    assert "negotiate with 198.51.100.10, then 198.51.100.9 as" in text
    assert "gateway 198.51.100.10, key at the gateway's own name" in text


def test_what_others_wrote_does_nothing_to_a_terminal() -> None:
    answer = replace(missing(PEER, Reason.MALFORMED_RECORD, Grade.INSECURE), detail="\x1b[2J")
    assert "\x1b" not in told(explanation(answer))


def test_without_dns() -> None:
    pair = HostPair(OURS, PEER)
    alone = Explanation(pair, select(POLICIES, PEER), (), Forecast(PairState.BLOCKED, Reason.POLICY_BLOCK))
    assert "packets   blocked: policy-block" in told(alone)
    unlisted = replace(alone, selection=select(PolicySet(), PEER), forecast=Forecast(None, detail="this host itself"))
    text = told(unlisted)
    assert "group     none: it is listed nowhere" in text
    assert "packets   left alone, in clear: this host itself" in text
    assert "if the peer begins" not in text


def test_a_closed_policy() -> None:
    pair, problem = HostPair(OURS, PEER), "/etc/oe/policies/private:1: 'x': no address"
    selection = select(PolicySet((), closed=True), PEER)
    text = told(Explanation(pair, selection, (problem,), Forecast(PairState.BLOCKED, Reason.NO_KEY)))
    assert f"policy    {problem}" in text
    assert "group     private, because a line of the file private cannot be read" in text


def test_what_a_daemon_has_decided() -> None:
    something = explanation(missing(PEER))
    assert told(something, []).endswith("now       oe runs, and has no pair with this destination")
    assert told(something, [ROW, NO_KEY_ROW]).splitlines()[-5:] == [
        "now       from 192.0.2.1: blocked for 1m01s, peer-silent, peer 198.51.100.9",
        "          no answer to IKE_SA_INIT",
        "          is it up, and do UDP 500 and ESP pass both firewalls?",
        "now       from 192.0.2.3: clear for 1m01s, no-key",
        "          someone else's words",
    ]


@pytest.mark.parametrize(("received", "told_so"), [(0, True), (3, False)])
def test_a_tunnel_through_which_nothing_comes_back(received: int, told_so: bool) -> None:
    tunnel = ROW | {"state": "protected", "reason": "protected-as-initiator", "detail": "", "packets_out": 5}
    text = told(explanation(found(PEER, delegation())), [tunnel | {"packets_in": received}])
    assert f"          5 packets out, {received} in" in text
    assert ("does ESP (behind a NAT, UDP 4500) pass" in text) is told_so


def test_every_group_says_what_happens_when_the_peer_begins() -> None:
    assert set(IF_THE_PEER_BEGINS) == set(Group)


@pytest.mark.parametrize(
    "reason", [reason for reason, failure in FAILURES.items() if failure in ("F1", "F2", "F3", "F4")]
)
def test_every_reason_that_dns_gives_has_a_remedy(reason: Reason) -> None:
    assert REMEDIES[reason].format(source=OURS, resolvers="127.0.0.1:53")
