"""The lab itself: builds links, keys, zones and configuration, starts every server, and asks the hosts' agents.

Everything lives in the lab's own mount, network and process namespaces (`oe.lab.holder`); all files are on its tmpfs.
"""

import asyncio
import json
import os
import pwd
import shutil
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode

from oe.control import ask
from oe.errors import MachineLacks, OeError
from oe.keystore import KeyType, generate, load
from oe.lab import files, network
from oe.lab.plan import BOGUS_OWNERS, HOSTS, RESOLVED_BY, SIGNED_ZONES, UNSIGNED_ZONES, Host
from oe.lab.zonefiles import PublishedKey, fill, sign

ROOT = Path("/run/oe-lab")
OTHER_KEY = "mallory_published"
"""Name, in zone templates, of the key that mallory published and does not have."""
_START = 20.0
"""Seconds within which a server must answer."""
_POLL = 0.02
_LONGEST_LINE = 1 << 20
_TAIL = 30
"""Lines of a log that are shown when its server does not start."""
_COMMAND = (sys.executable, "-c", "from oe.cli.main import main; main()")

Step = Callable[[str], None]
"""Told what is being done now."""


class LabBroken(OeError):
    """A server of the lab did not start or stopped; the text has the tail of its log."""


def zone_templates() -> Path:
    """The directory with the zone templates: in the source tree, else where the package installed them."""
    for base in (Path(__file__).parents[2] / "zones", Path(sysconfig.get_path("data")) / "share/oe/zones"):
        if base.is_dir():
            return base
    raise MachineLacks("the lab's zone templates are not installed", "install the package with its data files")


class World:
    """A running lab. Use `World.running()`."""

    def __init__(self, backend: str, pace: float = 1.0) -> None:
        self._backend = backend
        self.pace = pace
        self._processes: dict[str, tuple[asyncio.subprocess.Process, Path]] = {}

    @classmethod
    @asynccontextmanager
    async def running(cls, backend: str, step: Step, *, pace: float = 1.0) -> AsyncIterator["World"]:
        """Build everything, wait until all of it answers, and end every process afterwards."""
        world = cls(backend, pace)
        try:
            await world._start(step)
            yield world
        finally:
            await world._stop()

    async def _start(self, step: Step) -> None:
        step("links")
        network.build()
        for host in HOSTS:
            directory(host).mkdir(parents=True, exist_ok=True)
            await self._run(host, "agent", sys.executable, "-m", "oe.lab.agent", str(_agent_socket(host)))
        step("keys and zones")
        anchors = _publish(_make_keys())
        step("name servers")
        await self._start_resolvers(anchors)
        step("gateways")
        await self._start_gateways()
        await self._until("links", network.is_up)

    async def _start_resolvers(self, anchors: list[str]) -> None:
        dns_host = next(host for host in HOSTS if RESOLVED_BY in host.addresses)
        configuration = _written(directory(dns_host) / "nsd.conf", files.nsd(directory(dns_host)))
        await self._run(dns_host, "nsd", _program("nsd"), "-d", "-c", str(configuration))
        resolving = [host for host in HOSTS if host.runs_oe]
        for host in resolving:
            text = files.unbound(host, anchors, _resolver_user())
            configuration = _written(directory(host) / "unbound.conf", text)
            await self._run(host, "unbound", _program("unbound"), "-d", "-c", str(configuration))
        await self._until("dns/nsd", partial(self._answers, dns_host, str(RESOLVED_BY), f"{UNSIGNED_ZONES[0]}."))
        for host in resolving:
            # A question that needs no zone: the first packet of a row shall find cold caches.
            await self._until(f"{host.name}/unbound", partial(self._answers, host, "127.0.0.1", "localhost."))

    async def _start_gateways(self) -> None:
        gateways = [host for host in HOSTS if host.runs_oe]
        for host in gateways:
            configuration = _written(
                directory(host) / "oe.toml",
                files.oe(host, directory(host), self._backend, files.SETUP_BUDGET * self.pace),
            )
            for group, text in files.policies(host).items():
                _written(directory(host) / "policies" / group, text)
            await self._run(host, "oe", *_COMMAND, "run", "--config", str(configuration))
        for host in gateways:
            await self._until(f"{host.name}/oe", partial(_is_ready, host))

    # --- asking ------------------------------------------------------------------------------------------------

    async def job(self, host: Host, **job: Any) -> dict[str, Any]:
        """Have the host's agent do a job of `oe.lab.agent.JOBS`."""
        reader, writer = await asyncio.open_unix_connection(str(_agent_socket(host)), limit=_LONGEST_LINE)
        try:
            writer.write(json.dumps(job).encode() + b"\n")
            answer = json.loads(await reader.readline() or b"{}")
        finally:
            writer.close()
        if not isinstance(answer, dict) or not answer:
            raise LabBroken(f"{host.name}: the agent failed at {job}\n{self._tail(f'{host.name}/agent')}")
        return answer

    async def resolve(self, host: Host, name: str, kind: str, server: str = "127.0.0.1") -> dns.message.Message | None:
        """Ask the host's resolver, as the gateway does; None when it does not answer within two seconds."""
        query = dns.message.make_query(name, kind, use_edns=True, want_dnssec=True)
        fields = {"address": server, "port": 53, "payload": query.to_wire().hex(), "patience": 2.0}
        answer = (await self.job(host, job="exchange", **fields))["answer"]
        return dns.message.from_wire(bytes.fromhex(answer)) if answer else None

    async def status(self, host: Host) -> dict[str, Any]:
        """The status document of the host's gateway, as `oe status --json` prints it."""
        patience = _START * self.pace
        return dict(await asyncio.to_thread(ask, directory(host) / "run", {"ask": "status"}, patience))

    async def _answers(self, host: Host, server: str, name: str) -> bool:
        if not _agent_socket(host).exists():
            return False
        answer = await self.resolve(host, name, "SOA", server)
        return answer is not None and answer.rcode() == dns.rcode.NOERROR

    # --- processes ---------------------------------------------------------------------------------------------

    async def _run(self, host: Host, name: str, *argv: str) -> None:
        log = directory(host) / f"{name}.log"
        with log.open("wb") as stream:
            process = await asyncio.create_subprocess_exec(
                "ip", "netns", "exec", host.name, *argv, stdin=asyncio.subprocess.DEVNULL, stdout=stream, stderr=stream
            )
        self._processes[f"{host.name}/{name}"] = process, log

    async def _until(self, name: str, ready: Callable[[], Any]) -> None:
        """Poll `ready` until it holds. Raises LabBroken when the server ends or takes too long."""
        deadline = time.monotonic() + _START * self.pace
        while not await _value(ready()):
            for other, (process, _) in self._processes.items():
                if process.returncode is not None:
                    raise LabBroken(f"{other} ended with status {process.returncode}\n{self._tail(other)}")
            if time.monotonic() > deadline:
                raise LabBroken(f"{name} does not answer after {_START * self.pace:.0f} s\n{self._tail(name)}")
            await asyncio.sleep(_POLL)

    def _tail(self, name: str) -> str:
        if name not in self._processes:
            return ""
        return "\n".join(self._processes[name][1].read_text(errors="replace").splitlines()[-_TAIL:])

    async def _stop(self) -> None:
        """The gateways first and orderly, so that they can say goodbye; then everybody else."""
        for ending in ("oe", ""):
            some = [process for name, (process, _) in self._processes.items() if name.endswith(ending)]
            for process in some:
                if process.returncode is None:
                    process.terminate()
            await asyncio.gather(*(_ended(process) for process in some))


def directory(host: Host) -> Path:
    """Where the files of a host are."""
    return ROOT / host.name


async def _ended(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(3):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):  # it may have ended just now
            process.kill()
        await process.wait()


async def _value(found: Any) -> Any:
    return await found if asyncio.iscoroutine(found) else found


def _agent_socket(host: Host) -> Path:
    return directory(host) / "agent.sock"


def _is_ready(host: Host) -> bool:
    try:
        return bool(ask(directory(host) / "run", {"ask": "status"}))
    except MachineLacks:
        return False


def _make_keys() -> dict[str, PublishedKey]:
    """A key for every host that publishes one, in its key directory, and one that mallory publishes but lacks."""
    wanted = [(host.name, directory(host) / "keys", host.key) for host in HOSTS if host.key is not None]
    keys = {}
    for name, where, kind in (*wanted, (OTHER_KEY, ROOT / "nobody", "ecdsa-p256")):
        generate(where, KeyType(kind))
        keys[name] = PublishedKey.of(load(where).public_keys[0])
    return keys


def _publish(keys: dict[str, PublishedKey]) -> list[str]:
    """Write the zones that nsd serves; the trust anchors of the signed ones."""
    target = directory(next(host for host in HOSTS if RESOLVED_BY in host.addresses))
    anchors = []
    for zone in (*SIGNED_ZONES, *UNSIGNED_ZONES):
        text = fill((zone_templates() / f"{zone}.zone").read_text(), keys)
        if zone in SIGNED_ZONES:
            signed = sign(zone, text, datetime.now(UTC), BOGUS_OWNERS)
            anchors.append(signed.trust_anchor)
            text = signed.text
        _written(target / f"{zone}.zone", text)
    return anchors


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise MachineLacks(f"the lab needs {name}", f"install it, for instance with `apt install {name}`")
    return found


def _resolver_user() -> str:
    """The user unbound changes to; empty (none) where it does not exist or the user namespace does not map it."""
    try:
        user = pwd.getpwnam("unbound")
    except KeyError:
        return ""
    inside, _, count = Path("/proc/self/uid_map").read_text().split()[:3]
    return user.pw_name if int(inside) <= user.pw_uid < int(inside) + int(count) else ""
