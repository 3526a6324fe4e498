"""Other rules in the middle of stories: what stays, what is let go, and in which order."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from oe.gateway import Rules
from oe.gateway.decisions import SA_MARGIN
from oe.messages import (
    ChildInstalled,
    Command,
    Decide,
    Drop,
    InstallChild,
    KeysLookedUp,
    LookUpKeys,
    RemoveChild,
    Undecide,
)
from oe.model import Address, Anonymity, Directions, Grade, Group, HostPair, PairState, PairStatus, Verdict
from oe.negotiation import ChildReady, CloseChild, OwnKeysChanged, PeerJudged
from oe.policy.groups import Entry, PolicySet
from oe.policy.outcome import Anonymous, Dnssec, GroupSettings
from oe.reasons import Reason
from tests.gateway.script import (
    CLIENT,
    NETS,
    OTHER_KEY,
    OUR_KEY,
    OURS,
    PEER,
    PEER_KEY,
    PRIVATE_PEER,
    Script,
    actions,
    child,
    delegation,
    found,
    group_settings,
    missing,
)

PAIR = HostPair(OURS, PEER)
BOTH = (found(OURS, delegation(OUR_KEY)), found(PEER, delegation()), found(PRIVATE_PEER, delegation()))


def rules(nets: dict[str, Group] | None = None) -> Rules:
    """Those of the script, with `nets` beside them."""
    entries = [Entry(ip_network(net), group, str(group), 1, net) for net, group in (NETS | (nets or {})).items()]
    return Rules(PolicySet.of(entries)[0], group_settings(), (), (OUR_KEY,))


def now_in(group: Group, destination: Address = PEER) -> Rules:
    return rules({f"{destination}/32": group})


def adopt(script: Script, new: Rules) -> tuple[list[Command], tuple[PairStatus, ...]]:
    """The commands that followed, and the pairs that were let go."""
    let_go = script.gateway.adopt(new, script.now)
    commands = script.gateway.take()
    script.commands += commands
    return commands, let_go


def protected(destination: Address = PEER, grade: Grade = Grade.SECURE) -> Script:
    script = Script(
        answers=(found(OURS, delegation(OUR_KEY)), found(destination, delegation(), grade=grade)), served=()
    )
    script.trap(destination)
    script.protect(destination)
    return script


def in_clear() -> Script:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), missing(PEER)))
    script.trap()
    return script


def test_the_same_rules_change_nothing() -> None:
    for script in (protected(), protected(PRIVATE_PEER), in_clear()):
        before = list(script.gateway.snapshot())
        assert adopt(script, rules()) == ([], ())
        assert list(script.gateway.snapshot()) == before


def test_a_pair_in_clear_whose_net_becomes_private_is_decided_anew() -> None:
    script = in_clear()
    commands, let_go = adopt(script, now_in(Group.PRIVATE))
    assert commands == [Undecide(PAIR)]
    assert [(pair.pair, pair.group, pair.state) for pair in let_go] == [(PAIR, Group.PRIVATE_OR_CLEAR, PairState.CLEAR)]
    assert script.gateway.reasons[Reason.POLICY_CHANGED] == 1
    script.trap()
    assert script.all(Decide)[-1].verdict is Verdict.BLOCKED


def test_packets_that_wait_are_not_let_go_by_rules_of_before() -> None:
    script = Script(answers=())
    packet = script.trap()
    commands, _ = adopt(script, now_in(Group.PRIVATE))
    assert commands == [Drop((packet,), Reason.POLICY_CHANGED)]
    for look_up in script.all(LookUpKeys):
        script.feed(KeysLookedUp(look_up.ticket, missing(look_up.owner)))
    assert script.all(Decide) == []


@pytest.mark.parametrize("group", [Group.CLEAR, Group.BLOCK])
def test_a_tunnel_is_closed_where_there_are_none_any_more(group: Group) -> None:
    script = protected()
    commands, let_go = adopt(script, now_in(group))
    assert actions(commands) == [Undecide(PAIR), RemoveChild(1)]
    assert CloseChild(1, Reason.POLICY_CHANGED) in script.ike.heard
    assert len(let_go) == 1
    assert script.status() is None


def test_a_tunnel_goes_with_its_pair_into_another_group_and_fails_as_that_does() -> None:
    script = protected()
    script.now = 100.0
    commands, let_go = adopt(script, now_in(Group.PRIVATE))
    assert commands == [Decide(PAIR, Verdict.PROTECTED, 3500.0 + SA_MARGIN, fail_closed=True)]
    assert let_go == ()
    status = script.status()
    assert status is not None
    assert (status.group, status.state) == (Group.PRIVATE, PairState.PROTECTED)
    commands, _ = adopt(script, now_in(Group.CLEAR_OR_PRIVATE))
    assert commands == [Decide(PAIR, Verdict.PROTECTED, 3500.0 + SA_MARGIN, fail_closed=False)]


@pytest.mark.parametrize(("grade", "stays"), [(Grade.SECURE, True), (Grade.INSECURE, False)])
def test_a_tunnel_stays_if_its_group_may_still_act_on_the_answer(grade: Grade, stays: bool) -> None:
    script = protected(grade=grade)
    strict = {**group_settings(), Group.PRIVATE_OR_CLEAR: GroupSettings(Dnssec.REQUIRE)}
    _, let_go = adopt(script, replace(rules(), groups=strict))
    assert (let_go == ()) is stays


@pytest.mark.parametrize(
    ("group", "anonymous", "stays"),
    [
        (Group.PRIVATE, Anonymous.ASK, False),
        (Group.PRIVATE_OR_CLEAR, Anonymous.NO, False),
        (Group.PRIVATE_OR_CLEAR, Anonymous.ACCEPT, True),
    ],
)
def test_an_anonymous_tunnel_stays_where_there_may_be_one(group: Group, anonymous: Anonymous, stays: bool) -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), missing(PEER)), anonymous=Anonymous.ASK)
    script.trap()
    script.protect(key=None)
    _, let_go = adopt(script, replace(now_in(group), groups=group_settings(anonymous)))
    assert (let_go == ()) is stays
    assert (script.status() is not None) is stays


def test_an_anonymous_peer_that_was_judged_by_the_rules_of_before_brings_no_tunnel() -> None:
    script = Script(anonymous=Anonymous.ACCEPT)
    adopt(script, replace(now_in(Group.PRIVATE), groups=group_settings(Anonymous.ACCEPT)))
    ready = ChildReady(1, child(1, PAIR), Directions.BOTH, None, None, Anonymity.ANONYMOUS)
    script.engine_says(ready)
    assert script.all(InstallChild) == []
    assert script.ike.heard[-1] == ChildInstalled(1, 1, Directions.BOTH, Reason.POLICY_CHANGED)


def test_other_settings_decide_anew_what_was_not_encrypted() -> None:
    script = in_clear()
    strict = {**group_settings(), Group.PRIVATE_OR_CLEAR: GroupSettings(Dnssec.REQUIRE)}
    assert adopt(script, replace(rules(), groups=strict))[0] == [Undecide(PAIR)]


def test_a_client_that_we_serve_no_more_is_let_go() -> None:
    script = Script(
        served=("203.0.113.0/24",), answers=(found(CLIENT, delegation(OUR_KEY, gateway=OURS)), missing(PEER))
    )
    served = replace(rules(), served=(ip_network("203.0.113.0/24"),))
    script.trap(source=CLIENT)
    assert adopt(script, served) == ([], ())
    assert adopt(script, rules())[0] == [Undecide(HostPair(CLIENT, PEER))]


def test_a_negotiation_of_before_brings_no_tunnel() -> None:
    """Neither where there are none now, nor where what it was built on may not do any more."""
    for group in (Group.CLEAR, Group.PRIVATE):
        script = Script()
        script.trap()
        (negotiate,) = script.negotiations()
        adopt(script, now_in(group))
        ready = ChildReady(1, child(1, PAIR), Directions.BOTH, negotiate.ticket, PEER_KEY)
        script.engine_says(ready)
        assert script.all(InstallChild) == []
        assert script.ike.heard[-1] == ChildInstalled(1, 1, Directions.BOTH, Reason.POLICY_CHANGED)


def test_a_negotiation_that_began_under_the_new_rules_does() -> None:
    script = Script(answers=BOTH)
    script.trap()
    adopt(script, now_in(Group.PRIVATE))
    script.trap()
    script.protect()
    assert script.all(Decide) == [Decide(PAIR, Verdict.PROTECTED, 3600.0 + SA_MARGIN, fail_closed=True)]


def test_a_peer_under_judgement_is_judged_by_the_new_rules() -> None:
    script = Script(answers=())
    assert script.claim(PAIR, PEER) is None
    adopt(script, now_in(Group.CLEAR))
    for look_up in script.all(LookUpKeys):
        script.feed(KeysLookedUp(look_up.ticket, found(look_up.owner, delegation())))
    assert script.ike.heard == [PeerJudged(77, (PEER_KEY,), Reason.NOT_ADMITTED, fail_closed=False)]


def test_strangers_are_admitted_by_the_new_rules() -> None:
    script = Script()
    stranger = ip_address("192.0.2.200")
    assert script.ike.admits(stranger)
    only_clear = PolicySet.of([Entry(ip_network("198.51.100.0/24"), Group.CLEAR, "clear", 1, "")])[0]
    adopt(script, replace(rules(), policies=only_clear))
    assert not script.ike.admits(stranger)
    assert not script.ike.admits(PEER)
    adopt(script, rules())
    assert script.ike.admits(stranger)


def test_other_keys_are_told_to_the_engine_and_looked_for_in_dns() -> None:
    script = Script(answers=())
    commands, _ = adopt(script, replace(rules(), keys=(OTHER_KEY, OUR_KEY)))
    assert script.ike.heard == [OwnKeysChanged((OUR_KEY, OTHER_KEY))]
    assert OURS in [command.owner for command in commands if isinstance(command, LookUpKeys)]
