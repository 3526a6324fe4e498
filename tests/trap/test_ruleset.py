from dataclasses import replace
from ipaddress import ip_address, ip_network

from oe.model import MARK_JUDGED, Group, Interval, SocketAddress
from oe.trap.ruleset import FATE_VERDICTS, GROUP_VERDICTS, render, render_floor, render_guard, render_reload
from oe.trap.spec import Dropped, Fate, Kernel, TrapSpec, Tunnel

NATIVE = Kernel(native_queue=True, reject=True)
COMPAT = Kernel(native_queue=False, reject=False)


def interval(first: str, last: str, group: Group) -> Interval:
    return Interval(ip_address(first), ip_address(last), group)


SPEC = TrapSpec(
    intervals=(
        interval("10.0.0.0", "10.0.0.9", Group.PRIVATE),
        interval("10.0.0.10", "10.0.0.10", Group.BLOCK),
        interval("10.0.0.11", "255.255.255.255", Group.PRIVATE_OR_CLEAR),
        interval("2001:db8::", "2001:db8::ff", Group.CLEAR),
    ),
    queue_closed=3,
    queue_open=4,
)
OPEN_SPEC = replace(SPEC, intervals=SPEC.intervals[2:])
USERSPACE = replace(SPEC, tunnel=Tunnel("oe0", 1400))


def chain(text: str, name: str) -> list[str]:
    """The rules of a chain."""
    lines = text.splitlines()
    start = lines.index(f" chain {name} {{") + 1
    return [line.strip() for line in lines[start : lines.index(" }", start)]]


def test_every_group_and_every_fate_has_a_verdict() -> None:
    assert set(GROUP_VERDICTS) == set(Group)
    assert set(FATE_VERDICTS) == set(Fate)


def test_every_jump_has_its_chain_and_every_counter_its_definition() -> None:
    for spec in (SPEC, USERSPACE):
        for text in (render(spec, NATIVE), render(spec, COMPAT), render_floor(spec)):
            words = text.replace(",", " ").replace("}", " ").split()
            targets = {words[n + 1] for n, word in enumerate(words) if word in ("goto", "jump")}
            assert targets <= {words[n + 1] for n, word in enumerate(words) if word == "chain"}
            used = {words[n + 2] for n, word in enumerate(words) if word == "counter" and words[n + 1] == "name"}
            assert used <= set(Dropped)
            assert all(f" counter {name} {{ }}" in text for name in Dropped)


def test_the_closed_trap_ends_in_a_drop_and_only_the_open_queue_has_a_bypass() -> None:
    native = render(SPEC, NATIVE)
    assert chain(native, "queue-closed") == ["queue to 3"]
    assert chain(native, "queue-open") == ["queue flags bypass to 4"]
    assert chain(native, "trap-closed")[-1] == "goto drop-unqueued"
    assert chain(render(SPEC, COMPAT), "queue-closed") == []


def test_refusal_needs_a_kernel_that_can() -> None:
    assert chain(render(SPEC, NATIVE), "refuse")[-1] == "reject with icmpx admin-prohibited"
    assert chain(render(SPEC, COMPAT), "refuse")[-1] == "drop"


def test_shields_mark_for_the_userspace_tunnel_only() -> None:
    assert chain(render(USERSPACE, NATIVE), "shield-closed") == ["meta mark set meta mark | 0x20000", "accept"]
    assert chain(render(USERSPACE, NATIVE), "shield-open") == ["meta mark set meta mark | 0x40000", "accept"]


def test_groups_fill_the_maps_and_closed_groups_the_floor() -> None:
    lines = render(SPEC, NATIVE).splitlines()
    assert (
        "add element inet oe groups4 { 10.0.0.0-10.0.0.9 : goto trap-closed, 10.0.0.10 : goto refuse-unicast,"
        " 10.0.0.11-255.255.255.255 : goto trap-open }"
    ) in lines
    assert "add element inet oe groups6 { 2001:db8::-2001:db8::ff : accept }" in lines
    assert "add element inet oe private4 { 10.0.0.0-10.0.0.9 }" in lines
    assert "add element inet oe block4 { 10.0.0.10 }" in lines
    assert "add element inet oe closed4 { 10.0.0.0-10.0.0.9, 10.0.0.10 }" in lines


def test_served_nets_do_not_overlap_and_resolvers_are_listed_once() -> None:
    nets = [
        ip_network(net) for net in ("10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/16", "fd00::/8", "fd01::/16", "10.1.0.0/16")
    ]
    resolver = SocketAddress(ip_address("10.0.0.53"), 53)
    spec = replace(SPEC, served=tuple(nets), resolvers=(resolver, resolver), resolver_uids=(7, 3, 7))
    lines = render_reload(spec).splitlines()
    assert "add element inet oe served4 { 10.0.0.0/16, 10.1.0.0/16 }" in lines
    assert "add element inet oe served6 { fd00::/8 }" in lines
    assert "add element inet oe resolvers4 { 10.0.0.53 . 53 }" in lines
    assert "add element inet oe resolver-uids { 3, 7 }" in lines


def test_the_floor_has_neither_queue_nor_decision() -> None:
    for spec in (SPEC, USERSPACE):
        floor = render_floor(spec)
        assert " queue" not in floor
        assert not any(f" {fate}4" in floor for fate in Fate)
        assert "hook output" not in floor
        assert chain(floor, "postrouting") == chain(render(spec, NATIVE), "postrouting")


def test_without_closed_nets_the_floor_is_no_table() -> None:
    assert not OPEN_SPEC.has_closed_nets
    assert render_floor(OPEN_SPEC) == "add table inet oe\ndelete table inet oe\n"


def test_a_reload_touches_neither_rules_nor_decisions_nor_counters() -> None:
    verbs = {tuple(line.split()[:2]) for line in render_reload(SPEC).splitlines()}
    assert verbs == {("flush", "map"), ("flush", "set"), ("add", "element")}
    assert not any(f" {fate}" in render_reload(SPEC) for fate in Fate)


def test_segments_are_clamped_in_both_directions() -> None:
    for text in (render(USERSPACE, NATIVE), render_floor(USERSPACE)):
        assert 'oifname "oe0" jump clamp' in chain(text, "postrouting")
        assert 'iifname "oe0" jump clamp' in chain(text, "forward")
        assert [rule.split()[-1] for rule in chain(text, "clamp")] == ["1360", "1340"]


def test_segments_through_tunnels_of_the_kernel_are_clamped_too() -> None:
    """Outwards by the route's MTU; what comes out of a tunnel does not show that of the way back."""
    for text in (render(SPEC, NATIVE), render_floor(SPEC)):
        [outwards] = [rule for rule in chain(text, "postrouting") if "maxseg" in rule]
        assert outwards.startswith("rt ipsec exists ")
        assert outwards.endswith(" rt mtu")
        assert "meta ipsec exists jump clamp" in chain(text, "forward")
        assert [rule.split()[-1] for rule in chain(text, "clamp")] == [str(1423 - 40), str(1423 - 60)]


def test_errors_about_large_packets_of_clients_reach_them_past_trap_and_floor() -> None:
    for spec in (SPEC, USERSPACE):
        for text in (render(spec, NATIVE), render_floor(spec), render_guard(spec)):
            errors = [rule for rule in chain(text, "exempt") if "frag-needed" in rule or "packet-too-big" in rule]
            assert [rule.split()[2] for rule in errors] == ["@served4", "@served6"]
            assert all(rule.endswith("fib saddr type local accept") for rule in errors)


def test_whose_packet_it_is_is_remembered_before_translation_and_forgotten_after_both_floors_looked() -> None:
    for text in (render(SPEC, NATIVE), render_floor(SPEC), render_guard(SPEC)):
        remember, forget = chain(text, "remember"), chain(text, "forget")
        assert remember[2:] == ["ip daddr @closed4 jump judge", "ip6 daddr @closed6 jump judge"]
        assert chain(text, "judge")[0] == "jump exempt"
        assert all(rule.endswith(f"meta mark set meta mark | {MARK_JUDGED:#x}") for rule in chain(text, "judge")[1:])
        assert forget == [
            "type filter hook postrouting priority srcnat + 3; policy accept;",
            "meta mark & 0x80000 != 0 meta mark set meta mark & 0xfff7ffff",
        ]
        for name in ("to-private", "to-block"):
            [judged] = [rule for rule in chain(text, name) if "0x80000" in rule]
            assert judged.startswith("meta mark & 0x80000 != 0 goto drop-")


def test_the_guard_is_the_floor_in_a_table_of_our_own_behind_it() -> None:
    floor, guard = render_floor(SPEC), render_guard(SPEC)
    assert " flags owner" in guard.splitlines()
    assert "inet oe " not in guard
    assert guard.count("priority mangle + 1;") == floor.count("priority mangle;") == 3
    assert guard.count("priority srcnat + 2;") == floor.count("priority srcnat + 1;") == 1
    for name in ("private", "block", "closed"):
        assert chain(guard, f"to-{name}") == chain(floor, f"to-{name}")
        assert chain(guard, f"from-{name}") == chain(floor, f"from-{name}")
    for name in ("judge", "exempt", "not-unicast", "to-client", "clamp"):
        assert chain(guard, name) == chain(floor, name)
    elements = [line for line in floor.splitlines() if line.startswith("add element")]
    assert [line.replace("inet oe", "inet oe-guard") for line in elements] == guard.splitlines()[-len(elements) :]
