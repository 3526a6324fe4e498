"""The table `inet oe`, and its guard, as text for `nft -f`. Pure.

It has two storeys. The upper one traps: decisions on pairs first, then the policy groups, compiled to one disjoint
interval map per family, so that the kernel chooses what `policy` chose. The lower one, the floor, is there for
`private` and `block` alone and knows neither queue nor decision: whatever went wrong above, by an expired decision, a
dead daemon, a tunnel that is gone, no clear packet to or from those nets passes it.

    output ─────► exempt? ─► classify ─► decided? ──► accept │ shield-… │ refuse
    prerouting ─► from a client? ─┘ └► groups4/6 ─► accept │ trap-closed │ trap-open │ refuse-unicast

    input ──────► from a closed net, outside a tunnel? ──────────────────────► count and drop
    forward ────► the same, to a client? ────────────────────────────────────► count and drop
    postrouting ► to a closed net, outside a tunnel, from us or a client? ───► count and drop
                  (whose it is, is remembered before its source address may be translated, and forgotten afterwards)

Sets and maps hold everything that a reload may change; the rules themselves depend on the machine only.

The guard is the floor once more, in a table `inet oe-guard` that belongs to a socket of the daemon. The table `oe`
outlives the daemon but not a foreign `nft flush ruleset`; the guard outlives the flush but not the daemon.
"""

from collections.abc import Iterable
from itertools import product

from oe.model import MARK_EXEMPT, MARK_JUDGED, MARK_SHIELD_CLOSED, MARK_SHIELD_OPEN, Address, Group, Network
from oe.trap.spec import Dropped, Fate, Kernel, TrapSpec, Tunnel, fates

GUARD = "oe-guard"

_ALL_MARKS = MARK_EXEMPT | MARK_SHIELD_CLOSED | MARK_SHIELD_OPEN
_FAMILIES = (("ip", 4), ("ip6", 6))
_NETS = ("private", "block", "closed", "served")
"""Sets of nets, one for each family. `closed` has those of `private` and `block`: most packets concern neither, and are
to be searched for once."""

GROUP_VERDICTS = {
    Group.PRIVATE: "goto trap-closed",
    Group.PRIVATE_OR_CLEAR: "goto trap-open",
    Group.CLEAR_OR_PRIVATE: "accept",
    Group.CLEAR: "accept",
    Group.BLOCK: "goto refuse-unicast",
}

FATE_VERDICTS = {
    Fate.PASSED: "accept",
    Fate.DENIED: "goto refuse",
    Fate.SHIELDED_CLOSED: "goto shield-closed",
    Fate.SHIELDED_OPEN: "goto shield-open",
}


def render(spec: TrapSpec, kernel: Kernel) -> str:
    """The whole table, in place of one that may exist, as one transaction."""
    body = [*_FLOOR_SETS, *_trap_maps(spec), *_floor_chains(spec), *_trap_chains(spec, kernel), *_hooks(spec)]
    return "\n".join([*_REPLACE, "table inet oe {", *body, "}", *_elements(spec), ""])


def render_floor(spec: TrapSpec) -> str:
    """The table reduced to what stays when nobody listens: closed nets stay shut, the rest is free.

    Without closed nets the table is removed.
    """
    if not spec.has_closed_nets:
        return "\n".join([*_REPLACE, ""])
    body = [*_FLOOR_SETS, *_floor_chains(spec, floor_only=True), *_hooks(spec, floor_only=True)]
    return "\n".join([*_REPLACE, "table inet oe {", *body, "}", *_elements(spec, floor_only=True), ""])


def render_guard(spec: TrapSpec) -> str:
    """The floor in the table `inet oe-guard`, in place of one that may exist, for the socket that sends this."""
    hooks = _hooks(spec, floor_only=True, after=1)
    body = [" flags owner", *_FLOOR_SETS, *_floor_chains(spec, floor_only=True), *hooks]
    replaced = (f"add table inet {GUARD} {{\n flags owner\n}}", f"delete table inet {GUARD}")
    elements = _elements(spec, floor_only=True, table=GUARD)
    return "\n".join([*replaced, f"table inet {GUARD} {{", *body, "}", *elements, ""])


def render_reload(spec: TrapSpec) -> str:
    """New policy for a table that stands, as one transaction; decisions and counters stay.

    Queues, tunnel and `max_decisions` are taken to be those that the table was rendered with.
    """
    flush = [f"flush {kind} inet oe {name}" for kind, name in _CONTENTS]
    return "\n".join([*flush, *_elements(spec), ""])


_REPLACE = ("add table inet oe", "delete table inet oe")

_CONTENTS = (
    *(("map", f"groups{version}") for version in (4, 6)),
    *(("set", f"{name}{version}") for name, version in product((*_NETS, "resolvers"), (4, 6))),
    ("set", "resolver-uids"),
)

# `asked` remembers our DNS questions, so that an answer from a closed net is let in where its question came from,
# and nothing else is that merely comes from port 53.
_FLOOR_SETS = (
    *(f" counter {name} {{ }}" for name in Dropped),
    *(
        f" set {name}{version} {{ type ipv{version}_addr; flags interval; }}"
        for name, version in product(_NETS, (4, 6))
    ),
    *(f" set resolvers{version} {{ type ipv{version}_addr . inet_service; }}" for version in (4, 6)),
    " set resolver-uids { type uid; }",
    *(
        f" set asked{version} {{ type ipv{version}_addr . ipv{version}_addr . inet_proto . inet_service . inet_service;"
        " flags dynamic,timeout; timeout 30s; size 65536; }"
        for version in (4, 6)
    ),
)


def _trap_maps(spec: TrapSpec) -> Iterable[str]:
    for version in (4, 6):
        yield f" map groups{version} {{ type ipv{version}_addr : verdict; flags interval; }}"
        for fate in fates(spec):
            yield (
                f" set {fate}{version} {{ type ipv{version}_addr . ipv{version}_addr; flags timeout;"
                f" size {spec.max_decisions}; }}"
            )


def _chain(name: str, *rules: str | None) -> str:
    # The closing brace needs its own line: older `nft` refuses one after a rule.
    return "\n".join([f" chain {name} {{", *(f"  {rule}" for rule in rules if rule), " }"])


# What is trapped lacks this bit, so that a release that adds it always changes the mark.
_NEVER_TWICE = f"meta mark & {MARK_EXEMPT:#x} != 0 accept"
_NEIGHBOURS = "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }"

# They have no port to be judged by, and are nothing without the first fragment, which is judged.
_LATER_FRAGMENTS = ("ip frag-off & 0x1fff != 0 return", "frag frag-off != 0 return")


# Path MTU discovery of the tunnel itself. The offsets, in bits, lead over the ICMP header into the packet that the
# error is about: its protocol, and its source port when it is ESP in UDP.
def _errors_about_esp(nat_port: int) -> Iterable[str]:
    yield "icmp type destination-unreachable @th,136,8 50 return"
    yield f"icmp type destination-unreachable @th,136,8 17 @th,224,16 {nat_port} return"
    yield "icmpv6 type packet-too-big @th,112,8 50 return"
    yield f"icmpv6 type packet-too-big @th,112,8 17 @th,384,16 {nat_port} return"


# Path MTU discovery of our clients, about what is too large for a tunnel. The error quotes a packet that came in clear
# from where it goes now; were it held, or dropped at the floor, that packet would vanish silently.
_ERRORS_TO_CLIENTS = (
    "ip daddr @served4 icmp type destination-unreachable icmp code frag-needed fib saddr type local accept",
    "ip6 daddr @served6 icmpv6 type packet-too-big fib saddr type local accept",
)


_OURS = ("fib saddr type local", "ip saddr @served4", "ip6 saddr @served6")


def _floor_chains(spec: TrapSpec, *, floor_only: bool = False) -> Iterable[str]:
    yield from _exemptions(spec)
    for counter in Dropped:
        yield _chain(f"drop-{counter}", f"counter name {counter} drop")
    into_tunnel = f'oifname "{spec.tunnel.interface}" return' if spec.tunnel else "rt ipsec exists return"
    for chain, counter, unless in (
        ("to-private", Dropped.CLEAR_TO_PRIVATE, into_tunnel),
        ("to-block", Dropped.TO_BLOCK, None),
    ):
        yield _chain(
            chain,
            unless,
            "jump exempt",
            "jump not-unicast",
            f"meta mark & {MARK_JUDGED:#x} != 0 goto drop-{counter}",
            *(f"{whose} goto drop-{counter}" for whose in _OURS),
        )
    yield _chain("judge", "jump exempt", *(f"{whose} meta mark set meta mark | {MARK_JUDGED:#x}" for whose in _OURS))
    for chain, counter in (("from-private", Dropped.CLEAR_FROM_PRIVATE), ("from-block", Dropped.FROM_BLOCK)):
        yield _chain(
            chain,
            *_LATER_FRAGMENTS,
            "meta l4proto esp return",
            f"udp dport {{ {spec.ike_port}, {spec.nat_port} }} return",
            f"{_NEIGHBOURS} return",
            *_errors_about_esp(spec.nat_port),
            "fib daddr type { broadcast, multicast, anycast } return",
            "ip daddr 224.0.0.0/4 return",
            "ip6 daddr ff00::/8 return",
            "ip daddr . ip saddr . meta l4proto . th dport . th sport @asked4 return",
            "ip6 daddr . ip6 saddr . meta l4proto . th dport . th sport @asked6 return",
            # Its sender may only be waiting for us to begin; some of these are shown to the daemon, and go no further.
            "limit rate 10/second burst 20 packets goto call-back"
            if counter is Dropped.CLEAR_FROM_PRIVATE and not floor_only
            else None,
            f"goto drop-{counter}",
        )
    for direction, field in (("to", "daddr"), ("from", "saddr")):
        yield _chain(
            f"{direction}-closed",
            *(
                f"{protocol} {field} @{group}{version} jump {direction}-{group}"
                for group, (protocol, version) in product(("private", "block"), _FAMILIES)
            ),
        )
    yield _chain("to-client", *_closed_nets("saddr", "from-closed"))
    yield _chain("clamp", *_segments(spec.tunnel.mtu if spec.tunnel else _KERNEL_TUNNEL))


def _exemptions(spec: TrapSpec) -> Iterable[str]:
    # The kernel's ESP-in-UDP comes by here too; our own sockets carry the mark. At the floor clients' packets come by.
    encapsulated = None if spec.tunnel else f"udp sport {spec.nat_port} fib saddr type local accept"
    yield _chain(
        "exempt",
        f"meta mark & {_ALL_MARKS:#x} == {MARK_EXEMPT:#x} accept",
        "meta l4proto esp accept",
        encapsulated,
        f"{_NEIGHBOURS} accept",
        *_ERRORS_TO_CLIENTS,
        "meta l4proto { tcp, udp } ip daddr . th dport @resolvers4 fib saddr type local goto ask",
        "meta l4proto { tcp, udp } ip6 daddr . th dport @resolvers6 fib saddr type local goto ask",
        "meta l4proto { tcp, udp } th dport { 53, 853 } meta skuid @resolver-uids goto ask",
    )
    yield _chain(
        "ask",
        "update @asked4 { ip saddr . ip daddr . meta l4proto . th sport . th dport }",
        "update @asked6 { ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport }",
        "accept",
    )
    yield _chain(
        "not-unicast",
        "fib daddr type { local, broadcast, multicast, anycast } accept",
        "ip daddr 224.0.0.0/4 accept",
        "ip6 daddr ff00::/8 accept",
    )


def _trap_chains(spec: TrapSpec, kernel: Kernel) -> Iterable[str]:
    for name, flags, queue in (
        ("queue-closed", "", spec.queue_closed),
        ("queue-open", " flags bypass", spec.queue_open),
    ):
        yield _chain(name, f"queue{flags} to {queue}" if kernel.native_queue else None)
    counted = f"counter name {Dropped.CLEAR_FROM_PRIVATE}"
    yield _chain("call-back", counted, "jump queue-closed", "drop")
    yield _chain("trap-closed", "jump not-unicast", "jump queue-closed", f"goto drop-{Dropped.UNQUEUED}")
    yield _chain("trap-open", "jump not-unicast", "jump queue-open")
    yield _chain(
        "refuse",
        f"counter name {Dropped.REFUSED}",
        "reject with icmpx admin-prohibited" if kernel.reject else "drop",
    )
    yield _chain("refuse-unicast", "jump not-unicast", "goto refuse")
    for name, bit in (("shield-closed", MARK_SHIELD_CLOSED), ("shield-open", MARK_SHIELD_OPEN)):
        yield _chain(name, f"meta mark set meta mark | {bit:#x}" if spec.tunnel else None, "accept")
    yield _chain(
        "classify",
        *(
            f"{protocol} saddr . {protocol} daddr @{fate}{version} {FATE_VERDICTS[fate]}"
            for (protocol, version), fate in product(_FAMILIES, fates(spec))
        ),
        "ip daddr vmap @groups4",
        "ip6 daddr vmap @groups6",
    )
    yield _chain(
        "from-served",
        _NEVER_TWICE,
        "meta l4proto esp accept",
        "fib daddr type local accept",
        "goto classify",
    )


def _hooks(spec: TrapSpec, *, floor_only: bool = False, after: int = 0) -> Iterable[str]:
    """`after`: how much later than those of the table proper, which drops and counts first.

    What leaves is looked at when source addresses have been translated: the kernel chooses a tunnel anew then, and a
    packet with another address has none. Whether it is our business is seen before that as well: who translates to an
    address out of a pool leaves nothing to tell by.
    """
    early, late = "mangle" + (f" + {after}" if after else ""), f"srcnat + {1 + after}"
    out_of_tunnel = f'iifname "{spec.tunnel.interface}" accept' if spec.tunnel else "meta ipsec exists accept"
    if not floor_only:
        yield _chain(
            "output",
            "type route hook output priority mangle; policy accept;",
            "oif lo accept",
            _NEVER_TWICE,
            "jump exempt",
            "goto classify",
        )
        yield _chain(
            "prerouting",
            "type filter hook prerouting priority mangle; policy accept;",
            "iif lo accept",
            out_of_tunnel,
            "ip saddr @served4 goto from-served",
            "ip6 saddr @served6 goto from-served",
        )
    # What a client of ours sends is the unprotected side of the gateway: it is trapped, not suspected.
    guards = (out_of_tunnel, "ip saddr @served4 accept", "ip6 saddr @served6 accept")
    yield _chain(
        "input",
        f"type filter hook input priority {early}; policy accept;",
        "iif lo accept",
        *guards,
        *_closed_nets("saddr", "from-closed"),
    )
    yield _chain(
        "forward",
        f"type filter hook forward priority {early}; policy accept;",
        *_clamps(spec.tunnel, "iifname"),
        *guards,
        "ip daddr @served4 goto to-client",
        "ip6 daddr @served6 goto to-client",
    )
    yield _chain(
        "remember",
        f"type filter hook postrouting priority {early}; policy accept;",
        "oif lo accept",
        *_closed_nets("daddr", "judge"),
    )
    yield _chain(
        "forget",
        "type filter hook postrouting priority srcnat + 3; policy accept;",
        f"meta mark & {MARK_JUDGED:#x} != 0 meta mark set meta mark & {~MARK_JUDGED & 0xFFFFFFFF:#x}",
    )
    yield _chain(
        "postrouting",
        f"type filter hook postrouting priority {late}; policy accept;",
        "oif lo accept",
        *_clamps(spec.tunnel, "oifname"),
        *_closed_nets("daddr", "to-closed"),
    )


_KERNEL_TUNNEL = 1500 - 77
"""Octets that fit a tunnel over ordinary links, whatever its outer addresses."""


def _closed_nets(field: str, chain: str) -> Iterable[str]:
    for protocol, version in _FAMILIES:
        yield f"{protocol} {field} @closed{version} jump {chain}"


def _clamps(tunnel: Tunnel | None, direction: str) -> Iterable[str]:
    """Keep TCP segments small enough for the tunnel, both ways: who answers on the far side knows nothing of it.

    The kernel only ever lowers an MSS. What comes out of a tunnel of the kernel's does not show how large a packet fits
    the way back.
    """
    if tunnel is not None:
        yield f'{direction} "{tunnel.interface}" jump clamp'
    elif direction == "iifname":
        yield "meta ipsec exists jump clamp"
    else:
        yield f"rt ipsec exists {_SYN} rt mtu"


_SYN = "tcp flags & (syn | rst) == syn tcp option maxseg size set"


def _segments(mtu: int) -> Iterable[str]:
    """40 and 60 octets are the IP and TCP headers without options."""
    for protocol, headers in (("ipv4", 40), ("ipv6", 60)):
        yield f"meta nfproto {protocol} {_SYN} {mtu - headers}"


# --- what is in the sets ---------------------------------------------------------------------------------------


def _elements(spec: TrapSpec, *, floor_only: bool = False, table: str = "oe") -> Iterable[str]:
    contents: dict[str, list[str]] = {}
    for interval in spec.intervals:
        version = interval.first.version
        between = _range(interval.first, interval.last)
        if not floor_only:
            contents.setdefault(f"groups{version}", []).append(f"{between} : {GROUP_VERDICTS[interval.group]}")
        if interval.group in (Group.PRIVATE, Group.BLOCK):
            for name in (interval.group, "closed"):
                contents.setdefault(f"{name}{version}", []).append(between)
    for net in _without_overlaps(spec.served):
        contents.setdefault(f"served{net.version}", []).append(str(net))
    for resolver in dict.fromkeys(spec.resolvers):
        name = f"resolvers{resolver.address.version}"
        contents.setdefault(name, []).append(f"{resolver.address} . {resolver.port}")
    if spec.resolver_uids:
        contents["resolver-uids"] = [str(uid) for uid in sorted(set(spec.resolver_uids))]
    for name, elements in contents.items():
        yield f"add element inet {table} {name} {{ {', '.join(elements)} }}"


def _range(first: Address, last: Address) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _without_overlaps(nets: Iterable[Network]) -> Iterable[Network]:
    """The nets that lie in no other one; an interval set refuses overlaps."""
    last: Network | None = None
    for net in sorted(nets, key=lambda net: (net.version, int(net.network_address), net.prefixlen)):
        if last is None or last.version != net.version or int(net.network_address) > int(last.broadcast_address):
            last = net
            yield net
