"""The files of the lab's servers: configuration of nsd, unbound and oe, policy files. Pure text."""

import json
from collections.abc import Iterable
from pathlib import Path

from oe.lab.plan import RESOLVED_BY, SIGNED_ZONES, UNSIGNED_ZONES, Host
from oe.model import Group

SETUP_BUDGET = 1.5
"""Seconds that the lab's gateways take at most until the first decision; short, so that blocked rows end soon."""


def nsd(directory: Path) -> str:
    """The authoritative server: every zone from `directory`."""
    zones = [f'zone:\n  name: "{zone}."\n  zonefile: "{zone}.zone"' for zone in (*SIGNED_ZONES, *UNSIGNED_ZONES)]
    return "\n".join(
        [
            "server:",
            f"  ip-address: {RESOLVED_BY}",
            f'  zonesdir: "{directory}"',
            '  username: ""',
            '  database: ""',
            '  pidfile: ""',
            f'  xfrdfile: "{directory}/xfrd.state"',
            f'  zonelistfile: "{directory}/zone.list"',
            f'  xfrdir: "{directory}"',
            "  server-count: 1",
            "remote-control:",
            "  control-enable: no",
            *zones,
            "",
        ]
    )


def unbound(host: Host, trust_anchors: Iterable[str], user: str) -> str:
    """A validating resolver on the host's loopback that asks nsd for the lab's zones and nobody for anything else."""
    zones = (*SIGNED_ZONES, *UNSIGNED_ZONES)
    return "\n".join(
        [
            "server:",
            "  interface: 127.0.0.1",
            "  access-control: 127.0.0.0/8 allow",
            f"  outgoing-interface: {host.addresses[0]}",
            f'  username: "{user}"',
            '  directory: ""',
            '  chroot: ""',
            '  pidfile: ""',
            "  use-syslog: no",
            '  module-config: "validator iterator"',
            "  num-threads: 1",
            "  val-log-level: 2",
            # These reverse zones are documentation nets, which the resolver answers by itself unless told otherwise.
            *(f'  local-zone: "{zone}." nodefault' for zone in zones),
            *(f'  trust-anchor: "{anchor}"' for anchor in trust_anchors),
            "remote-control:",
            "  control-enable: no",
            *(f'stub-zone:\n  name: "{zone}."\n  stub-addr: {RESOLVED_BY}' for zone in zones),
            "",
        ]
    )


def oe(host: Host, directory: Path, backend: str, setup_budget: float = SETUP_BUDGET) -> str:
    """`oe.toml` of a host, with every path below `directory`."""
    paths = [f"{name} = {json.dumps(str(directory / name))}" for name in ("policies", "keys", "state", "run")]
    return "\n".join(
        [
            "[paths]",
            *paths,
            "[gateway]",
            f'backend = "{backend}"',
            f"serve = {json.dumps([str(net) for net in host.serves])}",
            f'setup-budget = "{setup_budget:g}s"',
            "[log]",
            'level = "debug"',
            "",
        ]
    )


def policies(host: Host) -> dict[Group, str]:
    """The group files of a host, by group."""
    return {group: "".join(f"{net}\n" for net in nets) for group, nets in host.policies.items()}
