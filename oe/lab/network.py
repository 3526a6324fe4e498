"""The lab's links: namespaces, veth pairs, addresses and routes, as batches for `ip`.

The holder's own network namespace is the router. Hosts take the router's one address as their way out, on their only
link; the router has one route per address. Addresses skip duplicate address detection, so that IPv6 works at once.
"""

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from oe.errors import MachineLacks
from oe.lab.plan import HOSTS, ROUTER, Host

ROUTER_NAME = "router"
_ROUTER6 = "fe80::1"
_GATEWAY_LINK = "clients"
"""The gate's interface towards the hosts behind it."""


def router_batch(hosts: Iterable[Host] = HOSTS) -> list[str]:
    """Commands for the router: veth pairs into the hosts' namespaces, and a route for every address."""
    commands = ["link set lo up", f"address add {ROUTER}/32 dev lo"]
    for host in hosts:
        if host.behind is not None:
            continue
        commands.append(f"link add {host.link} type veth peer name eth0 netns {host.name}")
        commands += _up(host.link, _ROUTER6)
        for served in host.serves:
            commands.append(f"route add {served} via {_first_v4(host.name)} dev {host.link} onlink")
        for address in host.addresses:
            commands.append(f"route add {address} dev {host.link}")
    return commands


def host_batch(host: Host) -> list[str]:
    """Commands for a host: its addresses and the way out. Every address is a host route, none is on-link."""
    commands = ["link set lo up", *_up("eth0", "fe80::2")]
    for address in host.addresses:
        prefix, options = ("32", "") if address.version == 4 else ("128", " nodad")
        commands.append(f"address add {address}/{prefix} dev eth0{options}")
    way_out = ROUTER if host.behind is None else _first_v4(host.behind)
    commands.append(f"route add default via {way_out} dev eth0 onlink src {host.addresses[0]}")
    first_v6 = next((address for address in host.addresses if address.version == 6), None)
    if first_v6 is not None:
        commands.append(f"route add ::/0 via {_ROUTER6} dev eth0 src {first_v6}")
    return commands


def gateway_batch(gateway: Host, hosts: Iterable[Host] = HOSTS) -> list[str]:
    """Commands for a forwarding host: a link to each host behind it."""
    commands = []
    for host in hosts:
        if host.behind == gateway.name:
            commands.append(f"link add {_GATEWAY_LINK} type veth peer name eth0 netns {host.name}")
            commands += _up(_GATEWAY_LINK, _ROUTER6)
            commands += [f"route add {address} dev {_GATEWAY_LINK}" for address in host.addresses]
    return commands


def build() -> None:
    """Make all of it, inside the lab's own mount and network namespaces. Raises MachineLacks when `ip` cannot."""
    _ip(["-batch", "-"], [f"netns add {host.name}" for host in HOSTS])
    _ip(["netns", "attach", ROUTER_NAME, str(os.getpid())], [])
    _ip(["-batch", "-"], router_batch())
    for host in HOSTS:
        if any(other.behind == host.name for other in HOSTS):
            _ip(["-n", host.name, "-batch", "-"], gateway_batch(host))
            _forward(host.name)
    for host in HOSTS:
        _ip(["-n", host.name, "-batch", "-"], host_batch(host))
    _forward(ROUTER_NAME)


def is_up() -> bool:
    """Whether every link of the router carries packets; the kernel needs a moment after the far end came up."""
    links = [host.link for host in HOSTS if host.behind is None]
    states = {entry["ifname"]: entry["operstate"] for entry in json.loads(_ip(["-json", "link"], []))}
    return all(states[link] == "UP" for link in links)


def _up(link: str, link_local: str) -> list[str]:
    return [f"link set {link} addrgenmode none", f"link set {link} up", f"address add {link_local}/64 dev {link} nodad"]


def _first_v4(name: str) -> str:
    host = next(host for host in HOSTS if host.name == name)
    return str(next(address for address in host.addresses if address.version == 4))


def _forward(name: str) -> None:
    switches = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")
    if name == ROUTER_NAME:
        for switch in switches:
            Path(switch).write_text("1")
    else:
        for switch in switches:
            _ip(["netns", "exec", name, "tee", switch], ["1"])


def _ip(arguments: list[str], lines: list[str]) -> str:
    text = "".join(line + "\n" for line in lines)
    done = subprocess.run(["ip", *arguments], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MachineLacks(
            f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}",
            "the lab needs namespaces, veth links and IPv6 in the kernel",
        )
    return done.stdout
