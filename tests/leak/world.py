"""A small world around the host under test.

    client ────── host ─────────── router ─────────── peer
    10.1.0.2      10.1.0.1                             198.18.0.0/16, 2001:db8::/32: the private net
    fd01::2       fd01::1
                  10.2.0.1         10.2.0.2
                  fd02::1          fd02::2
                                   10.3.0.2            10.3.0.1
                                   fd03::2             fd03::1

Host and peer run `oe`; the client is served by the host, the private net by the peer. The lower half of the private net
has keys, the upper one has none. The back end is the one that a probe finds.
"""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

from oe.control import ask
from oe.keystore import KeyType, generate, load
from oe.model import Address, PublicKey
from tests.ipsec.netns import Namespace
from tests.leak.names import Names
from tests.leak.traffic import Traffic
from tests.leak.wire import NETS, Wire
from tests.waiting import PATIENCE

ROLES = ("client", "host", "router", "peer")
LINKS = (("client", 2, "host", 1, 1), ("host", 1, "router", 2, 2), ("peer", 1, "router", 2, 3))
GATEWAYS = {"host": ("10.2.0.1", "fd02::1"), "peer": ("10.3.0.1", "fd03::1")}
BEHIND = {"host": ("10.1.0.0/24", "fd01::/64"), "peer": tuple(map(str, NETS))}
KEYLESS = tuple(map(ip_network, ("198.18.128.0/17", "2001:db8:8000::/33")))
FROM_HOST, FROM_CLIENT = ("198.18.0.5", "2001:db8::5"), ("198.18.0.6", "2001:db8::6")
OE = [sys.executable, "-c", "from oe.cli.main import main; main()"]


class Daemon:
    """One `oe run`, and what it logs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[str] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            with self._news:
                self.log.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def told(self, event: str) -> int:
        """How often an event is in the log."""
        return sum(f" {event} " in line for line in self.log)

    def says(self, event: str, times: int = 1) -> None:
        """Wait until an event is in the log so many times."""
        self.until(lambda: self.told(event) >= times)

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until the log is such."""
        with self._news:
            self._news.wait_for(lambda: true() or not self._thread.is_alive(), PATIENCE)
            assert true(), "".join(self.log)

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(PATIENCE)
        self._thread.join()
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code


class World:
    """Namespaces, names, the peer's daemon and the files of both."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.hosts = {role: Namespace() for role in ROLES}
        for namespace in self.hosts.values():
            stack.callback(namespace.close)
        self.directory = directory
        for role in ROLES:
            self.hosts[role].sh("sysctl -qw net.ipv6.conf.default.accept_dad=0")
        for link in LINKS:
            self._link(*link)
        self._route()
        self._keys = {role: self._files(role) for role in GATEWAYS}
        self.names = Names(self._record)
        self.names.start({role: self.hosts[role] for role in GATEWAYS})
        stack.callback(self.names.close)

    def _link(self, left: str, left_end: int, right: str, right_end: int, net: int) -> None:
        here, there = self.hosts[left], self.hosts[right]
        here.sh(f"ip link add to-{right} type veth peer name to-{left} netns {there.path}")
        for namespace, end, device in ((here, left_end, f"to-{right}"), (there, right_end, f"to-{left}")):
            namespace.sh(
                f"ip addr add 10.{net}.0.{end}/24 dev {device}",
                f"ip addr add fd0{net}::{end}/64 dev {device} nodad",
                f"ip link set {device} up",
            )

    def _route(self) -> None:
        for role in ("host", "router"):
            self.hosts[role].sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        self.hosts["client"].sh("ip route add default via 10.1.0.1", "ip -6 route add default via fd01::1")
        self.route_host()
        self.hosts["router"].sh(
            *("ip route add 10.1.0.0/24 via 10.2.0.1", "ip -6 route add fd01::/64 via fd02::1"),
            *("ip route add 198.18.0.0/16 via 10.3.0.1", "ip -6 route add 2001:db8::/32 via fd03::1"),
        )
        self.hosts["peer"].sh(
            *("ip route add default via 10.3.0.2", "ip -6 route add default via fd03::2"),
            *("ip route add local 198.18.0.0/16 dev lo", "ip -6 route add local 2001:db8::/32 dev lo"),
        )

    def route_host(self) -> None:
        self.hosts["host"].sh("ip route replace default via 10.2.0.2", "ip -6 route replace default via fd02::2")

    def _files(self, role: str) -> PublicKey:
        other = "peer" if role == "host" else "host"
        directory = self.directory / role
        (directory / "policies").mkdir(parents=True)
        closed = BEHIND[other] if role == "host" else (*BEHIND[other], "10.2.0.1", "fd02::1")
        (directory / "policies" / "private").write_text("\n".join([*closed, ""]))
        (directory / "keys").mkdir(mode=0o700)
        generate(directory / "keys", KeyType.ED25519)
        self.configure(role)
        return load(directory / "keys").public_keys[0]

    def configure(self, role: str = "host", gateway: str = "", group: str = "") -> Path:
        """Write the configuration; `gateway` and `group` are lines of their tables."""
        served = ", ".join(f'"{net}"' for net in BEHIND[role])
        path = self.directory / role / "oe.toml"
        path.write_text(
            '[paths]\npolicies = "policies"\nkeys = "keys"\nrun = "run"\nstate = "state"\n'
            f'[gateway]\nserve = [{served}]\nsetup-budget = "3s"\n{gateway}\n{group}\n'
        )
        return path

    def _record(self, owner: Address) -> tuple[Address | None, PublicKey] | None:
        if any(owner in net for net in KEYLESS):
            return None
        for role, gateways in GATEWAYS.items():
            if str(owner) in gateways:
                return None, self._keys[role]
            if any(owner in ip_network(net) for net in BEHIND[role]):
                return ip_address(gateways[owner.version == 6]), self._keys[role]
        return None

    # --- hands ---------------------------------------------------------------------------------------------------

    def oe(self, *words: str, role: str = "host") -> subprocess.CompletedProcess[str]:
        command = [*OE, *words, "--config", str(self.directory / role / "oe.toml")]
        with self.hosts[role].entered():
            return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)

    def reasons(self) -> dict[str, int]:
        """The daemon's counters."""
        reasons = ask(self.directory / "host" / "run", {"ask": "status"}, PATIENCE)["reasons"]
        assert isinstance(reasons, dict)
        return reasons

    def queue_overflows(self) -> int:
        """Packets that the kernel dropped or let pass, as the queue's group has it, for want of room."""
        queues = ask(self.directory / "host" / "run", {"ask": "status"}, PATIENCE)["queues"]
        assert isinstance(queues, list)
        return sum(int(row["dropped_queue_full"]) for row in queues)

    def start(self, role: str = "host", code: str = "") -> Daemon:
        """Begin a daemon, after Python code that runs in its process."""
        program = [sys.executable, "-c", f"{code}\nfrom oe.cli.main import main; main()"]
        with self.hosts[role].entered():
            command = [*program, "run", "--config", str(self.directory / role / "oe.toml")]
            return Daemon(subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True))

    @contextmanager
    def running(self, role: str = "host", code: str = "") -> Iterator[Daemon]:
        daemon = self.start(role, code)
        try:
            daemon.says("ready")
            yield daemon
        finally:
            if daemon.process.poll() is None:
                daemon.process.kill()
            daemon.end()

    def flows(self) -> tuple[Traffic, Traffic]:
        """From the host, and through it."""
        return Traffic(self.hosts["host"], FROM_HOST), Traffic(self.hosts["client"], FROM_CLIENT)

    def wire(self) -> Wire:
        return Wire(self.hosts["router"], self.hosts["host"], "to-host", "10.2.0.2")

    def forget(self) -> None:
        """As after a reboot: nothing of any daemon is left on the host."""
        host = self.hosts["host"]
        host.sh("nft flush ruleset", "ip xfrm policy flush", "ip xfrm state flush")
        for family in ("-4", "-6"):
            for table in ("28517", "28518"):
                if table in host.sh(f"ip {family} rule"):
                    host.sh(f"ip {family} rule del lookup {table}")
