"""Links, zones and daemons of all cases, in the test kernel, which forgets them."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from select import select
from socket import AF_INET, AF_INET6
from types import TracebackType
from typing import Any, Self

from dns.exception import Timeout
from dns.message import make_query
from dns.query import udp

from bench.soak.world import inside
from oe.control import ask
from oe.dnskeys.names import reverse_name
from oe.dnskeys.publish import zone_lines
from oe.errors import MachineLacks
from oe.keystore import generate, load
from oe.lab.agent import serve_datagrams, serve_streams
from oe.lab.capture import Capture, Frame
from oe.lab.zonefiles import sign
from oe.model import Address, PublicKey
from tests.interop.libreswan import Libreswan
from tests.interop.places import ROOT, directory, run, written
from tests.interop.plan import NAT, NAT_OUTSIDE, OWN, ROUTER, SMALL, ZONES, Case, Own, Product, link
from tests.interop.rival import PATIENCE, Rival, await_that
from tests.interop.strongswan import StrongSwan

RIVALS: dict[Product, type[Rival]] = {
    Product.LIBRESWAN: Libreswan,
    Product.STRONGSWAN: StrongSwan,
    Product.STRONGSWAN_NEXT: StrongSwan,
}
CHILD_LIFETIME, IKE_LIFETIME = 30, 50
"""Seconds, of ours; we rekey when some four fifths or more of them are over."""
_PATIENCE_DNS = 5.0
_DAEMON = (sys.executable, "-c", "from oe.cli.main import main; main()")
_ZONE_HEAD = ("$TTL 600", "@ SOA ns hostmaster 1 3600 600 86400 300", "@ NS ns", "ns A 192.0.2.3")
_MASQUERADE = """
table ip nat {
  chain post {
    type nat hook postrouting priority srcnat
    oifname "eth0" masquerade
  }
}
"""
_NO_FRAGMENTS = f"""
table inet narrow {{
  chain pre {{
    type filter hook prerouting priority -450
    iifname "to-*" meta l4proto udp ip frag-off & 0x3fff != 0 drop
  }}
  chain forward {{
    type filter hook forward priority 0
    oifname @narrow meta l4proto udp ip length > {SMALL} drop
  }}
  set narrow {{
    type ifname
    elements = {{ %s }}
  }}
}}
"""


class World:
    """A context: build all, wait until everybody is ready; stop what still runs."""

    def __init__(self, cases: Iterable[Case], bases: dict[Product, Path]) -> None:
        self.cases = tuple(cases)
        self.rivals = {case: RIVALS[case.product](case, bases[case.product]) for case in self.cases}
        self._capture = Capture()
        self._seen_all_until = 0.0
        self._owns = tuple(own for own in OWN.values() if any(case.own is own for case in self.cases))
        self._stack = ExitStack()
        self._pool = ThreadPoolExecutor(8)

    def __enter__(self) -> Self:
        with self._stack:
            self._link()
            self._watch()
            keys = self._make_keys()
            anchors = tuple(self._publish(version, zone, keys) for version, zone in ZONES.items())
            ours = [(own, self._start_own(own, anchors)) for own in self._owns]
            self._all(partial(self._start_rival, keys, anchors), self.cases)
            for own, process in ours:
                await_that(f"{own.name}: ready", partial(self._is_up, own, process))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _all(self, work: Any, items: Iterable[Any]) -> list[Any]:
        return list(self._pool.map(work, items))

    # --- asking ------------------------------------------------------------------------------------------------

    def status(self, own: Own) -> dict[str, Any]:
        """What `oe status --json` prints there; empty while nobody answers."""
        try:
            return ask(directory(own.name) / "run", {"ask": "status"}, PATIENCE)
        except MachineLacks:
            return {}

    def _is_up(self, own: Own, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{own.name}: {(directory(own.name) / 'oe.log').read_text()[-3000:]}")
        return bool(self.status(own))

    @property
    def frames(self) -> list[Frame]:
        """What was seen on the router's links; it grows while one looks. Raises RuntimeError when some were missed."""
        if self._capture.missed:
            raise RuntimeError(f"the capture missed {self._capture.missed} frames")
        return self._capture.frames

    def has_seen(self, moment: float) -> bool:
        """Whether all frames until a moment of the wall clock are there. All cases keep the reader busy."""
        return max(self._seen_all_until, self.frames[-1].time / 1e9 if self.frames else 0.0) > moment

    def flush(self, case: Case) -> None:
        """`oe flush` of the pair of a case."""
        pair = {"source": str(case.own_address), "destination": str(case.address)}
        ask(directory(case.own.name) / "run", {"ask": "flush", **pair}, PATIENCE)

    # --- building ----------------------------------------------------------------------------------------------

    def _link(self) -> None:
        run("ip", "address", "add", f"{ROUTER[4]}/32", "dev", "lo")
        for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            Path("/proc/sys/net", switch).write_text("1")
        for own in self._owns:
            _attach(own.name, own.addresses)
        for case in self.cases:
            if not case.is_behind_nat:
                _attach(case.name, [case.address], case.mtu)
        behind = [case for case in self.cases if case.is_behind_nat]
        if behind:
            _attach(NAT, [NAT_OUTSIDE])
            _put_behind_nat(behind)
        narrow = ", ".join(f'"{link(case.address)}"' for case in self.cases if case.mtu == SMALL)
        if narrow:
            run("nft", "-f", "-", text=_NO_FRAGMENTS % narrow)

    def _watch(self) -> None:
        ended = threading.Event()

        def drain() -> None:
            while not ended.is_set():
                select([self._capture], [], [], 0.1)
                until = time.time()
                self._capture.drain()
                self._seen_all_until = until

        thread = threading.Thread(target=drain)
        thread.start()
        self._stack.callback(self._capture.close)
        self._stack.callback(thread.join)
        self._stack.callback(ended.set)

    def _make_keys(self) -> dict[str, PublicKey]:
        """A key for each of ours and, if it has one, for each of the others, by host."""
        keys = {}
        for own in self._owns:
            generate(directory(own.name) / "keys", own.key)
            keys[own.name] = load(directory(own.name) / "keys").public_keys[0]

        def furnish(case: Case) -> PublicKey | None:
            self.rivals[case].furnish()
            return self.rivals[case].make_key()

        made = zip(self.cases, self._all(furnish, self.cases), strict=True)
        return keys | {case.name: key for case, key in made if key is not None}

    def _publish(self, version: int, zone: str, keys: dict[str, PublicKey]) -> str:
        """Write the signed zone of a family; its trust anchor."""
        hosts = [(own.name, address) for own in self._owns for address in own.addresses]
        hosts += [(case.name, case.address) for case in self.cases]
        lines = [*_ZONE_HEAD]
        for name, address in hosts:
            if name in keys and address.version == version:
                lines += zone_lines(address, [keys[name]])
        signed = sign(zone, "\n".join([*lines, ""]), datetime.now(UTC))
        written(ROOT / zone, signed.text)
        return signed.trust_anchor

    def _start_own(self, own: Own, anchors: tuple[str, ...]) -> subprocess.Popen[bytes]:
        self._start_resolver(own.name, anchors)
        home = directory(own.name)
        for case in self.cases:
            if case.own is own:
                with (_made(home / "policies") / case.group).open("a") as file:
                    file.write(f"{case.address}\n")
        configuration = written(home / "oe.toml", _configuration(home))
        self._serve_echo(own.name)
        return self._start(own.name, "oe", *_DAEMON, "run", "--config", str(configuration))

    def _start_rival(self, keys: dict[str, PublicKey], anchors: tuple[str, ...], case: Case) -> None:
        rival = self.rivals[case]
        if case.product is Product.LIBRESWAN:
            self._start_resolver(case.name, anchors)
            # The key of the other end should be there when it is wanted.
            await_that(f"{case.name}: resolver", partial(_is_resolved, case.name, case.own_address))
        self._serve_echo(case.name)
        rival.prepare(keys[case.own.name], anchors)
        rival.start()
        self._stack.callback(rival.crash)

    def _start_resolver(self, host: str, anchors: tuple[str, ...]) -> None:
        configuration = written(directory(host) / "unbound.conf", _unbound(anchors))
        self._start(host, "unbound", "unbound", "-d", "-c", str(configuration))

    def _serve_echo(self, host: str) -> None:
        with inside(host):  # sockets live where they were made
            for serve, family in product((serve_streams, serve_datagrams), (AF_INET, AF_INET6)):
                serve(family)

    def _start(self, host: str, name: str, *argv: str) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((_made(directory(host)) / f"{name}.log").open("wb"))
        with inside(host):
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._stack.callback(_ended, process)
        return process


def _attach(host: str, addresses: Sequence[Address], mtu: int = 1500) -> None:
    """A namespace on a link of the router's."""
    device = link(addresses[0])
    run("ip", "netns", "add", host)
    run("ip", "link", "add", device, "mtu", mtu, "type", "veth", "peer", "name", "eth0", "mtu", mtu, "netns", host)
    run("ip", "link", "set", device, "up")
    for address in addresses:
        if address.version == 6:
            run("ip", "address", "add", f"{ROUTER[6]}/64", "dev", device, "nodad")
        run("ip", "route", "add", address, "dev", device)
    _plug(host, {address: ROUTER[address.version] for address in addresses})


def _plug(host: str, ways_out: Mapping[Address, Address]) -> None:
    """The addresses of a host, all on `eth0`, each with its way out."""
    commands = ["link set lo up", "link set eth0 up"]
    for address, way_out in ways_out.items():
        commands.append(f"address add {address} dev eth0 {'nodad' if address.version == 6 else ''}")
        commands.append(f"route add default via {way_out} dev eth0 onlink src {address}")
    run("ip", "-n", host, "-batch", "-", text="".join(f"{command}\n" for command in commands))


def _put_behind_nat(cases: Iterable[Case]) -> None:
    with inside(NAT):
        Path("/proc/thread-self/net").exists()
        run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        run("nft", "-f", "-", text=_MASQUERADE)
    for number, case in enumerate(cases):
        run("ip", "netns", "add", case.name)
        device = f"inside{number}"
        run("ip", "-n", NAT, "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", case.name)
        run("ip", "-n", NAT, "link", "set", device, "up")
        run("ip", "-n", NAT, "route", "add", case.address, "dev", device)
        _plug(case.name, {case.address: NAT_OUTSIDE})


def _made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _configuration(home: Path) -> str:
    paths = [f'{name} = "{home / name}"' for name in ("policies", "keys", "state", "run")]
    lifetimes = [f'child-lifetime = "{CHILD_LIFETIME}s"', f'ike-lifetime = "{IKE_LIFETIME}s"']
    gateway = ['backend = "xfrm"', 'setup-budget = "20s"', *lifetimes]
    groups = ["[group.private-or-clear]", 'anonymous = "ask"', "[group.clear-or-private]", 'anonymous = "accept"']
    return "\n".join(["[paths]", *paths, "[gateway]", *gateway, *groups, "[log]", 'level = "debug"', ""])


def _unbound(anchors: tuple[str, ...]) -> str:
    """A validating resolver that has the zones itself."""
    return "\n".join(
        [
            "server:",
            "  interface: 127.0.0.1",
            '  username: "unbound"',
            '  directory: ""',
            '  chroot: ""',
            '  pidfile: ""',
            "  use-syslog: no",
            '  module-config: "validator iterator"',
            *(f'  trust-anchor: "{anchor}"' for anchor in anchors),
            "remote-control:",
            "  control-enable: no",
            *(
                f'auth-zone:\n  name: "{zone}."\n  zonefile: "{ROOT / zone}"\n  for-downstream: no'
                for zone in ZONES.values()
            ),
            "",
        ]
    )


def _is_resolved(host: str, address: Address) -> bool:
    """Its resolver knows the key of that address, and will know it for a while."""
    question = make_query(reverse_name(address), "IPSECKEY")
    with inside(host):
        try:
            return bool(udp(question, "127.0.0.1", timeout=_PATIENCE_DNS).answer)
        except (OSError, Timeout):
            return False


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
