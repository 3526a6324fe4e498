"""Two hosts with a link, each with a validating resolver and a daemon, in namespaces that the caller's kernel forgets.

The resolvers hold the signed zones themselves and validate what they read there, so no name server is needed. What DNS
says may change while all runs, and daemons may die and come again.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.soak import plan
from oe.control import ask
from oe.errors import MachineLacks, OeError
from oe.keystore import KeyType, generate, load
from oe.lab.zonefiles import sign
from oe.model import PublicKey

ROOT = Path("/run/oe-soak")
_KEYS = dict.fromkeys((plan.ALICE, plan.BOB, plan.NOBODY), KeyType.ECDSA_P256)
_PATIENCE = 60.0
_CLONE_NEWNET = 0x40000000
_DAEMON = (sys.executable, "-c", "from oe.cli.main import main; main()")


class World:
    """A context: build all and wait until the daemons answer; stop what still runs.

    `settings` is TOML that goes on in the table `gateway` of both daemons, `loss` the percentage of packets that get
    lost each way, `unpublished` whose keys are not in DNS at first.
    """

    def __init__(self, pairs: int, settings: str, loss: float = 0.0, unpublished: Collection[IPv4Address] = ()) -> None:
        self._pairs = pairs
        self._settings = settings
        self._loss = loss
        self._unpublished = unpublished
        self._stack = ExitStack()
        self._keys: dict[str, PublicKey] = {}
        self._resolvers: dict[str, subprocess.Popen[bytes]] = {}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        with self._stack:
            self._link()
            self._keys = {name: _new_key(name, kind) for name, kind in _KEYS.items()}
            self.publish(self._unpublished)
            for host in plan.HOSTS:
                for group, nets in plan.POLICIES[host].items():
                    _written(host, f"policies/{group}", "".join(f"{net}\n" for net in nets))
                _written(host, "oe.toml", self._oe(host))
                self.start_daemon(host)
            for host in plan.HOSTS:
                self._await(host, partial(self.status, host))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # --- asking ------------------------------------------------------------------------------------------------

    def status(self, host: str) -> dict[str, object]:
        """What `oe status --json` prints there; empty while nobody answers."""
        try:
            return ask(directory(host) / "run", {"ask": "status"})
        except MachineLacks:
            return {}

    def told(self, host: str) -> list[dict[str, str]]:
        """What the daemon logged. A line that is not its own counts as an error."""
        lines = (directory(host) / "oe.log").read_text().splitlines()
        return [json.loads(line) if line.startswith("{") else {"level": "error", "event": line} for line in lines]

    # --- doing -------------------------------------------------------------------------------------------------

    def publish(self, unpublished: Collection[IPv4Address] = ()) -> None:
        """From now on DNS tells the keys of all addresses but these; the resolvers begin anew with empty caches."""
        anchors = []
        for name, text in plan.zones(self._pairs, self._keys, unpublished).items():
            signed = sign(name, text, datetime.now(UTC))
            (ROOT / f"{name}.zone").write_text(signed.text)
            anchors.append(signed.trust_anchor)
        for host in plan.HOSTS:
            if host in self._resolvers:
                _ended(self._resolvers[host])
            configuration = _written(host, "unbound.conf", _unbound(anchors))
            self._resolvers[host] = self._start(host, "unbound", "unbound", "-d", "-c", str(configuration))

    def start_daemon(self, host: str) -> None:
        """Who wants to know when it is ready asks for its status."""
        configuration = directory(host) / "oe.toml"
        self.daemons[host] = self._start(host, "oe", *_DAEMON, "run", "--config", str(configuration))

    def kill_daemon(self, host: str) -> None:
        """It has no time to say goodbye, and what it had in the kernel stays there."""
        self.daemons[host].kill()
        self.daemons[host].wait(_PATIENCE)

    def stop_daemons(self) -> None:
        """Orderly, and wait for it."""
        for daemon in self.daemons.values():
            daemon.terminate()
        for daemon in self.daemons.values():
            daemon.wait(_PATIENCE)

    # --- building ----------------------------------------------------------------------------------------------

    def _link(self) -> None:
        for host in plan.HOSTS:
            directory(host).mkdir(parents=True)
            run("ip", "netns", "add", host)
        run(*("ip", "link", "add", "eth0", "netns", plan.ALICE, "type", "veth", "peer", "eth0", "netns", plan.BOB))
        bobs = (*plan.published(self._pairs), *plan.KEYLESS)
        for host, addresses in ((plan.ALICE, plan.ALICES), (plan.BOB, bobs)):
            commands = ["link set lo up", "link set eth0 up"]
            commands += [f"address add {address}/32 dev eth0" for address in addresses]
            commands.append(f"route add default dev eth0 src {addresses[0]}")
            run("ip", "-n", host, "-batch", "-", text="".join(f"{command}\n" for command in commands))
            link = ("netem", "delay", f"{1000 * plan.DELAY:g}ms", "loss", f"{self._loss}%")
            run("ip", "netns", "exec", host, "tc", "qdisc", "add", "dev", "eth0", "root", *link)

    def _oe(self, host: str) -> str:
        paths = [f'{name} = "{directory(host) / name}"' for name in ("policies", "keys", "state", "run")]
        gateway = ['backend = "xfrm"', self._settings]
        return "\n".join(["[log]", "json = true", "[paths]", *paths, "[gateway]", *gateway, ""])

    def _start(self, host: str, name: str, *argv: str) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((directory(host) / f"{name}.log").open("ab"))
        with inside(host):
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._stack.callback(_ended, process)
        return process

    def _await(self, host: str, ready: Callable[[], object]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not ready():
            if time.monotonic() > deadline or self.daemons[host].poll() is not None:
                raise OeError(f"{host}: the daemon does not answer\n{(directory(host) / 'oe.log').read_text()}")
            time.sleep(0.1)


def directory(host: str) -> Path:
    """Where the files of a host are."""
    return ROOT / host


@contextmanager
def inside(host: str) -> Iterator[None]:
    """Move the calling thread into the network namespace of a host. What it opens or starts there stays there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{host}", os.O_RDONLY)
    try:
        _enter(there)
        yield
    finally:
        _enter(home)
        os.close(there)
        os.close(home)


def _enter(namespace: int) -> None:
    # `os.setns` came with Python 3.12.
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def run(*argv: str, text: str = "") -> str:
    """The output of a command that must succeed."""
    return subprocess.run(argv, input=text, text=True, check=True, stdout=subprocess.PIPE).stdout


def _new_key(name: str, kind: KeyType) -> PublicKey:
    generate(directory(name) / "keys", kind)
    return load(directory(name) / "keys").public_keys[0]


def _unbound(anchors: list[str]) -> str:
    zones = (plan.ALICE_ZONE, plan.BOB_ZONE)
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
            *(f'  local-zone: "{zone}." nodefault' for zone in zones),
            *(f'  trust-anchor: "{anchor}"' for anchor in anchors),
            "remote-control:",
            "  control-enable: no",
            *(
                f'auth-zone:\n  name: "{zone}."\n  zonefile: "{ROOT / zone}.zone"\n  for-downstream: no'
                for zone in zones
            ),
            "",
        ]
    )


def _written(host: str, name: str, text: str) -> Path:
    path = directory(host) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _ended(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait(_PATIENCE)
