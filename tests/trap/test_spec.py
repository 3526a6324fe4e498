from dataclasses import replace
from ipaddress import ip_address

import pytest

from oe.model import Group, Interval, Verdict
from oe.trap.spec import Fate, TrapSpec, Tunnel, fate, fates

ANY = (ip_address("0.0.0.0"), ip_address("255.255.255.255"))
SPEC = TrapSpec(intervals=(), queue_closed=3, queue_open=4)
USERSPACE = replace(SPEC, tunnel=Tunnel("oe0", 1400))


def test_shields_exist_for_the_userspace_tunnel_only() -> None:
    assert fates(SPEC) == (Fate.PASSED, Fate.DENIED)
    assert fates(USERSPACE) == tuple(Fate)


@pytest.mark.parametrize("group", Group)
def test_private_and_block_are_closed(group: Group) -> None:
    spec = replace(SPEC, intervals=(Interval(*ANY, group),))
    assert spec.has_closed_nets == (group in (Group.PRIVATE, Group.BLOCK))


@pytest.mark.parametrize("spec", [SPEC, USERSPACE])
@pytest.mark.parametrize("fail_closed", [True, False])
@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_a_set_that_exists(spec: TrapSpec, verdict: Verdict, fail_closed: bool) -> None:
    chosen = fate(spec, verdict, fail_closed=fail_closed)
    assert chosen in fates(spec)
    assert (chosen is Fate.DENIED) == (verdict is Verdict.BLOCKED)
    if verdict is Verdict.PROTECTED and spec.tunnel:
        assert (chosen is Fate.SHIELDED_CLOSED) == fail_closed


@pytest.mark.parametrize("name", ["", 'oe0" accept', "sixteen-letters-x", "a b"])
def test_an_interface_name_cannot_carry_rules(name: str) -> None:
    with pytest.raises(ValueError, match="interface"):
        Tunnel(name, 1400)
