"""What forwarding a packet costs beside an armed trap: `python -m bench.forwarding`, as root. See docs/performance.md.

    client ══veth══ gateway, the network namespace of this process ══veth══ next hop

Small UDP packets come from the client's device by `bench.injector`, are routed, and end at the next hop, whose MAC
address is another one than they are sent to. Measured is the CPU time for each, all of the kernel's way from device to
device: a gateway's rate, where the CPU is what bounds it, is its inverse. The contenders take turns.
"""

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from time import thread_time
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench.command import begin_alone, tell
from bench.figures import Spread, console
from bench.injector import Injector, frame
from oe.config import Backend as BackendChoice
from oe.config import read_config
from oe.daemon.machine import choose_backend, trap_spec
from oe.errors import MachineLacks, OeError
from oe.ipsec.model import Backend
from oe.model import Group, HostPair, Verdict
from oe.policy.groups import Entry, PolicySet
from oe.trap.nft import NftTable
from oe.trap.spec import TrapSpec

BUDGET = 0.98
"""Of the rate without a table."""
_CLIENT, _STRANGER = IPv4Address("10.1.0.2"), IPv4Address("10.3.0.2")
_DESTINATION, _NEXT_HOP = IPv4Address("198.18.0.7"), "10.2.0.2"
_NEXT_HOP_MAC = "02:00:00:00:00:99"
_DECIDED = 1000
"""Pairs that are decided, ours among them."""
_GROUPS = Group.PRIVATE, Group.CLEAR, Group.BLOCK, Group.PRIVATE_OR_CLEAR
_CONFIGURATION = b'[gateway]\nserve = ["10.1.0.0/24"]\n'
_FIREWALL = """table inet firewall {
 chain forward {
  type filter hook forward priority filter; policy drop;
  ct state established,related accept
  ct state invalid drop
  ip saddr 10.0.0.0/8 accept
 }
}
"""

Arm = Callable[[], object]
Contenders = dict[str, tuple[IPv4Address, Arm]]
"""By name: whose packets, and how the tables come to be."""
BARE = "no table"


def contenders(table: NftTable, backend: Backend, few: int, many: int) -> Contenders:
    """`few` and `many`: policy nets."""
    found: Contenders = {BARE: (_CLIENT, lambda: None)}
    for nets in (few, many):
        found[f"oe, {nets} nets: decided"] = _CLIENT, partial(_arm, table, _spec(backend, nets))
    found[f"oe, {many} nets: nobody's business"] = _STRANGER, partial(_arm, table, _spec(backend, many))
    found["a stateful firewall"] = _CLIENT, partial(_run, "nft", "-f", "-", text=_FIREWALL)
    return found


def _spec(backend: Backend, nets: int) -> TrapSpec:
    """A gateway's trap, as the daemon would have it on this machine. No net covers the destination but the default."""
    config = read_config(_CONFIGURATION, Path("oe.toml"))
    entries = [Entry(ip_network("0.0.0.0/0"), Group.PRIVATE_OR_CLEAR, "bench", 1, "0.0.0.0/0")]
    for number in range(nets - 1):
        net = ip_network((int(ip_address("20.0.0.0")) + (number << 16), 24))
        entries.append(Entry(net, _GROUPS[number % len(_GROUPS)], "bench", number, str(net)))
    return trap_spec(config, PolicySet.of(entries)[0], backend)


def _arm(table: NftTable, spec: TrapSpec) -> None:
    table.install(spec)
    for number in range(_DECIDED):
        pair = HostPair(_CLIENT, IPv4Address(int(_DESTINATION) + number))
        table.decide(pair, Verdict.CLEAR, 3600.0, fail_closed=False)


def _run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineLacks(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}", "run as root")
    return done.stdout


@contextmanager
def _hosts() -> Iterator[None]:
    """The gateway's devices `client` and `uplink`, and another namespace at their other ends."""
    holder = subprocess.Popen(("unshare", "--net", "sh", "-c", "echo; read -r end"), stdin=-1, stdout=-1, text=True)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        _run("ip", "link", "set", "lo", "up")
        inside = "nsenter", "-t", str(holder.pid), "-n"
        for device, address in (("client", "10.1.0.1/24"), ("uplink", "10.2.0.1/24")):
            _run("ip", "link", "add", device, "type", "veth", "peer", "name", device, "netns", str(holder.pid))
            _run("ip", "address", "add", address, "dev", device)
            # Of two ends the one that comes up last can send at once, the other when the kernel finds the time.
            for prefix in (inside, ()):
                _run(*prefix, "ip", "link", "set", device, "up")
            Path(f"/proc/sys/net/ipv4/conf/{device}/rp_filter").write_text("0")
        for name, value in (("ip_forward", "1"), ("conf/all/rp_filter", "0")):
            Path(f"/proc/sys/net/ipv4/{name}").write_text(value)
        _run("ip", "neighbour", "add", _NEXT_HOP, "lladdr", _NEXT_HOP_MAC, "dev", "uplink", "nud", "permanent")
        _run("ip", "route", "add", "198.18.0.0/15", "via", _NEXT_HOP)
        yield
    finally:
        holder.communicate("")


def _left() -> int:
    """Packets that the gateway has sent to its next hop."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()
    return next(int(line.split()[10]) for line in lines if line.split()[0] == "uplink:")


def _cost(injector: Injector, packets: int) -> float:
    """Nanoseconds of CPU for a packet. Raises MachineLacks when some do not arrive."""
    injector.send(packets // 8)
    before, began = _left(), thread_time()
    injector.send(packets)
    took, arrived = thread_time() - began, _left() - before
    if arrived < packets:
        raise MachineLacks(f"only {arrived} of {packets} packets were forwarded", "look at `nstat` in this namespace")
    return took / packets * 1e9


def measure(rounds: int, packets: int, nets: tuple[int, int], progress: Console) -> dict[str, list[float]]:
    """Nanoseconds by contender, in this process's network namespace, which must be its own. Raises OeError."""
    found: dict[str, list[float]] = {}
    with _hosts(), closing(NftTable()) as table, ExitStack() as stack:
        backend, _ = choose_backend(BackendChoice.AUTO)
        stack.callback(backend.close)
        shown = json.loads(_run("ip", "--json", "link", "show", "dev", "client"))
        mac, number = bytes.fromhex(shown[0]["address"].replace(":", "")), socket.if_nametoindex("client")
        injectors = {
            source: stack.enter_context(closing(Injector(frame(mac, source, _DESTINATION), number)))
            for source in (_CLIENT, _STRANGER)
        }
        everybody = contenders(table, backend, *nets)
        for turn in range(rounds):
            progress.print(f"round {turn + 1} of {rounds}")
            for name, (source, arm) in everybody.items():
                _run("nft", "flush", "ruleset")
                arm()
                found.setdefault(name, []).append(_cost(injectors[source], packets))
    return found


def summarise(found: dict[str, list[float]]) -> dict[str, tuple[Spread, Spread]]:
    """Nanoseconds a packet, and the rate as a part of what it is without a table in the same round."""
    bare = found[BARE]
    return {
        name: (Spread.of(costs), Spread.of([least / cost for least, cost in zip(bare, costs, strict=True)]))
        for name, costs in found.items()
    }


def show(summary: dict[str, tuple[Spread, Spread]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", title="Forwarding a packet", title_justify="left")
    for name in ("", "ns, min", "median", "max", "Mpps of a CPU", "rate / bare, min", "median", "max"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, (cost, rate) in summary.items():
        table.add_row(name, *cost.cells(0), f"{1000 / cost.median:.2f}", *rate.cells(2))
    console().print(table)
    console().print(f"budget: {BUDGET} of the rate without a table, for decided traffic")


def plain(summary: dict[str, tuple[Spread, Spread]]) -> dict[str, Any]:
    """As JSON values."""
    rows = {name: {"cost": cost.plain(), "rate": rate.plain()} for name, (cost, rate) in summary.items()}
    return {"contenders": rows, "unit": "ns", "budget": BUDGET}


@click.command()
@click.option("--rounds", default=15, show_default=True)
@click.option("--packets", default=500_000, show_default=True, help="Of each contender in a round.")
@click.option("--nets", default=(4, 1000), show_default=True, type=(int, int), help="A small policy, and a large one.")
@click.option("--json", "as_json", is_flag=True)
@click.option("--inside", is_flag=True, hidden=True)
def main(rounds: int, packets: int, nets: tuple[int, int], as_json: bool, inside: bool) -> None:
    """CPU time for a forwarded packet, without a table, with ours and with a firewall's, as root."""
    if not inside:
        begin_alone("bench.forwarding")
    try:
        summary = summarise(measure(rounds, packets, nets, Console(stderr=True)))
    except OeError as error:
        raise click.ClickException(str(error)) from None
    tell(as_json, lambda: plain(summary), lambda: show(summary))


if __name__ == "__main__":
    main()
