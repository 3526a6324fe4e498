"""`oe run` in a namespace of its own: what it refuses, what it leaves, what it never opens."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from time import monotonic, sleep
from types import SimpleNamespace

import pytest

from oe.config import load_config
from oe.control import Json, Refused, ask
from oe.daemon.reload import GIVE_WAY, Input, read_input
from oe.daemon.service import MOST_WAITING, Service, run
from oe.errors import ConfigError, KernelError
from oe.gateway import Rules
from oe.ipsec.model import BackendName
from oe.keystore import KeyType, generate, load
from oe.messages import (
    Command,
    CountersRead,
    DatagramReceived,
    Event,
    Finish,
    FlushAsked,
    ReadCounters,
    Undecide,
)
from oe.model import HostPair, Identity, PairState, SocketAddress
from oe.negotiation import Negotiate
from oe.observe import Counters
from oe.reasons import Reason
from tests.waiting import PATIENCE

pytestmark = pytest.mark.netns

OE = [sys.executable, "-c", "from oe.cli.main import main; main()"]
PRIVATE = "198.51.100.0/24"
PAIR = HostPair(ip_address("192.0.2.1"), ip_address("198.51.100.1"))
FREE = "203.0.113.1"
"""In no group."""
UNDECIDED = {PairState.HELD, PairState.NEGOTIATING}

SNIFFER = """
import select, socket, sys, time
link = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
link.bind(("wire1", 0x0800))
print(flush=True)
missing = set(sys.stdin.readline().split())
end = time.monotonic() + 30
while select.select([link], [], [], max(0, end - time.monotonic()) if missing else 0)[0]:
    destination = socket.inet_ntoa(link.recv(65535)[16:20])
    missing.discard(destination)
    print(destination)
"""
"""Prints the destination of every IPv4 packet that arrives at the far end of the link, until it reads a line, and from
then on until it has seen the destinations of that line: a packet may have to wait for the daemon's turn."""


class Host:
    """A namespace with one address, and the files of one daemon."""

    def __init__(self, name: str, directory: Path) -> None:
        self._inside = ["ip", "netns", "exec", name]
        self.directory = directory
        self.run_dir = directory / "run"
        self.policies = directory / "policies"
        self.policies.mkdir()
        self.config = directory / "oe.toml"
        self.configure()
        for words in (
            ["link", "set", "lo", "up"],
            ["link", "add", "name", "wire0", "type", "veth", "peer", "name", "wire1"],
            # Of two ends the one that comes up last can send at once, the other when the kernel finds the time.
            ["link", "set", "wire1", "up"],
            ["link", "set", "wire0", "up"],
            ["address", "add", "192.0.2.1/24", "dev", "wire0"],
            ["route", "add", "default", "dev", "wire0"],
        ):
            subprocess.run(["ip", "-netns", name, *words], check=True)

    def configure(self, setup_budget: str = "200ms") -> None:
        paths = '[paths]\npolicies = "policies"\nkeys = "keys"\nrun = "run"\nstate = "state"\n'
        self.config.write_text(f'{paths}[gateway]\nsetup-budget = "{setup_budget}"\n')

    def inside(self, *command: str) -> str:
        done = subprocess.run([*self._inside, *command], capture_output=True, text=True, timeout=PATIENCE, check=False)
        return done.stdout + done.stderr

    def start(self, *wrapper: str) -> subprocess.Popen[str]:
        command = [*self._inside, *wrapper, *OE, "run", "--config", str(self.config)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def refused(self, *wrapper: str) -> tuple[int, str]:
        """Exit code and the last line of a daemon that cannot start."""
        process = self.start(*wrapper)
        _, errors = process.communicate(timeout=PATIENCE)
        return process.returncode, errors.strip().splitlines()[-1]

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        process = self.start()
        try:
            self.wait_until_ready(process)
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE)

    def wait_until_ready(self, process: subprocess.Popen[str]) -> None:
        """The daemon itself says when: its log has the line `ready`."""
        assert process.stderr is not None
        for line in process.stderr:
            if " ready " in line:
                return
        raise AssertionError(f"the daemon ended with {process.wait()}")

    def traces(self) -> dict[str, str]:
        """All that a daemon may leave in its namespace."""
        return {
            "tables": self.inside("nft", "list", "tables"),
            # Names alone: whether a link has a carrier the kernel finds out in its own time.
            "links": " ".join(line.split()[0] for line in self.inside("ip", "-brief", "link").splitlines()),
            "rules": self.inside("ip", "rule"),
            "policies": self.inside("ip", "xfrm", "policy"),
        }

    def ping(self, destination: str) -> None:
        """One echo request; nobody answers. The next hop is known, so that nothing but us can stop it."""
        self.inside("ip", "neighbour", "replace", destination, "lladdr", "02:00:00:00:00:01", "dev", "wire0")
        self.inside("ping", "-c1", "-W1", destination)

    def assert_out(self, out: set[str], *sent: str) -> None:
        """When each of `sent` gets an echo request, those of `out` come out at the other end of the link, no others."""
        with self.squatting(SNIFFER) as sniffer:
            for destination in sent:
                self.ping(destination)
            output, _ = sniffer.communicate(f"{' '.join(out)}\n", timeout=PATIENCE)
        assert set(output.split()) == out

    def ask(self, request: Json) -> Json:
        return ask(self.run_dir, request, PATIENCE)

    def decisions(self) -> list[tuple[str, str]]:
        """Destination and state of every pair, as soon as there are some and all of them are decided."""
        end = monotonic() + PATIENCE
        while True:
            pairs = self.ask({"ask": "status"})["pairs"]
            assert isinstance(pairs, list)
            found = [(pair["destination"], pair["state"]) for pair in pairs]
            if (found and not UNDECIDED.intersection(state for _, state in found)) or monotonic() > end:
                return found
            sleep(0.02)

    @contextmanager
    def squatting(self, code: str) -> Iterator[subprocess.Popen[str]]:
        """Python code that runs in the namespace; it has begun when it has printed an empty line.

        For as long as it wants to be there it may read its standard input.
        """
        command = [*self._inside, sys.executable, "-c", code]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "\n"
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    name = f"oe-service-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield Host(name, tmp_path)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def test_orderly_stop_leaves_nothing_where_nothing_must_stay_shut(host: Host) -> None:
    (host.policies / "private-or-clear").write_text("0.0.0.0/0\n")
    before = host.traces()
    with host.running() as process:
        assert host.traces() != before
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert host.traces() == before
    assert not (host.run_dir / "control.sock").exists()


def test_private_nets_stay_shut_after_an_orderly_stop(host: Host) -> None:
    (host.policies / "private").write_text(f"{PRIVATE}\n")
    with host.running():
        pass
    assert "inet oe" in host.traces()["tables"]
    host.assert_out({FREE}, "198.51.100.1", FREE)


def test_private_nets_stay_shut_when_the_daemon_is_killed(host: Host) -> None:
    (host.policies / "private").write_text(f"{PRIVATE}\n")
    with host.running() as process:
        process.kill()
        process.wait(PATIENCE)
        host.assert_out({FREE}, "198.51.100.1", FREE)


def test_permissive_nets_are_free_when_the_daemon_is_killed(host: Host) -> None:
    (host.policies / "private-or-clear").write_text(f"{PRIVATE}\n")
    with host.running() as process:
        process.kill()
        process.wait(PATIENCE)
        host.assert_out({"198.51.100.1"}, "198.51.100.1")


def test_a_daemon_that_was_killed_is_followed_by_another(host: Host) -> None:
    (host.policies / "private-or-clear").write_text("0.0.0.0/0\n")
    before = host.traces()
    with host.running() as first:
        first.kill()
        first.wait(PATIENCE)
    with host.running():
        assert host.ask({"ask": "status"})["pairs"] == []
    assert host.traces() == before


def test_the_crash_secret_outlives_the_daemon_and_a_daemon_lives_without_it(host: Host) -> None:
    secret = host.directory / "state" / "crash-secret"
    with host.running():
        octets = secret.read_bytes()
        assert secret.stat().st_mode & 0o777 == 0o600
    with host.running() as process:
        assert secret.read_bytes() == octets
        process.kill()
    secret.chmod(0o644)
    process = host.start()
    assert process.stderr is not None
    assert any("no-crash-secret" in line and "may be known to others" in line for line in process.stderr)
    host.wait_until_ready(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_status_and_flush_over_the_control_socket(host: Host) -> None:
    (host.policies / "private-or-clear").write_text(f"{PRIVATE}\n")
    with host.running():
        host.ping("198.51.100.1")
        decisions, status = host.decisions(), host.ask({"ask": "status"})
        assert host.ask({"ask": "status", "ike": True}).keys() - status.keys() == {"ike_sas"}
        assert decisions == [("198.51.100.1", "clear")]
        with pytest.raises(Refused, match="two addresses"):
            host.ask({"ask": "flush", "source": "here"})
        one: Json = {"ask": "flush", "source": "192.0.2.1", "destination": "198.51.100.1"}
        assert [host.ask(one)["pairs"] for _ in range(2)] == [1, 0]
        assert host.ask({"ask": "status"})["pairs"] == []
        host.ping("198.51.100.1")
        assert host.ask({"ask": "flush"})["pairs"] == 1
        assert host.ask({"ask": "status"})["pairs"] == []


def test_bad_private_line_shuts_everything_and_is_told(host: Host) -> None:
    (host.policies / "private").write_text("198.51.100.0/33\n")
    with host.running():
        host.assert_out(set(), FREE)
        problems = host.ask({"ask": "status"})["policy_problems"]
        assert "private:1:" in str(problems)
        assert "198.51.100.0/33" in str(problems)


# --- the loop ---------------------------------------------------------------------------------------------------------


class Told:
    """A gateway and hands in one: its timers and its events bring commands, and to carry one out brings an event."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waiting: list[Command] = []
        self.counters = Counters()
        self.carried_out: list[Command] = []

    def expire(self, now: float) -> None:
        self._waiting = [ReadCounters(), Undecide(PAIR)]

    def handle(self, event: Event, now: float) -> None:
        self._waiting = [Finish()]

    def deadline(self) -> None:
        """Nothing is left to wait for."""

    def take(self) -> list[Command]:
        waiting, self._waiting = self._waiting, []
        return waiting

    def carry_out(self, command: Command) -> None:
        self.carried_out.append(command)
        if command == ReadCounters():
            self._service._feed(CountersRead(()))


def unstarted(directory: Path) -> Service:
    """A service with nothing but its engines; a loop must run."""
    for name in ("policies", "keys"):
        (directory / name).mkdir(mode=0o700)
    path = directory / "oe.toml"
    path.write_text('[paths]\npolicies = "policies"\nkeys = "keys"\nstate = "state"\n')
    return Service(read_input(load_config(path)), path, (PAIR.source,))


def test_what_a_timer_brought_is_carried_out_before_the_events_that_it_leads_to(tmp_path: Path) -> None:
    async def ring() -> list[Command]:
        service = unstarted(tmp_path)
        told = Told(service)
        service.__dict__ |= {"_gateway": told, "_hands": told}
        service._ring()
        return told.carried_out

    assert asyncio.run(ring()) == [ReadCounters(), Undecide(PAIR), Finish()]


def test_status_has_the_ike_sas_of_the_coordinators_engine_when_asked(tmp_path: Path) -> None:
    ends = SocketAddress(PAIR.source, 500), SocketAddress(PAIR.destination, 500)
    identities = Identity.of(PAIR.source), Identity.of(PAIR.destination)

    async def play() -> None:
        service = unstarted(tmp_path)
        service.__dict__ |= {
            "_backend": SimpleNamespace(name=BackendName.XFRM, statistics=dict),
            "_backend_found": SimpleNamespace(why="a test"),
            "_hands": SimpleNamespace(counters=Counters(), queue_rows=tuple),
        }
        now = service._loop.time()
        service._gateway._feed_ike(Negotiate(1, PAIR, *ends, *identities, (), False, now + 3), now)
        assert "ike_sas" not in service._status({"ask": "status"})
        rows = service._status({"ask": "status", "ike": True})["ike_sas"]
        assert isinstance(rows, Iterator)
        (row,) = rows
        assert (row["remote"], row["state"]) == ("198.51.100.1", "started")

    asyncio.run(play())


class Exchange:
    """A keeper whose kernel takes a reload when it is told to."""

    def __init__(self) -> None:
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.refuses = False

    async def reload(self, _spec: object) -> None:
        self.begun.set()
        await self.may_end.wait()
        if self.refuses:
            raise KernelError("reload", "table inet oe", 12, "no memory")


class Resting(Told):
    """A gateway that notes what it is given, in order."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.heard: list[object] = []

    def handle(self, event: Event, now: float) -> None:
        self.heard.append(event)

    def expire(self, now: float) -> None:
        self.heard.append("timer")

    def adopt(self, rules: Rules, now: float) -> tuple[()]:
        self.heard.append("adopted")
        return ()

    pairs = ()

    def sign_with(self, keys: object) -> None:
        """The hands'."""


class Scene:
    """A service between a gateway and a keeper that do as they are told."""

    def __init__(self, directory: Path) -> None:
        self.service = unstarted(directory)
        self.exchange, self.told = Exchange(), Resting(self.service)
        self.service.__dict__ |= {
            "_gateway": self.told,
            "_hands": self.told,
            "_keeper": self.exchange,
            "_backend": SimpleNamespace(tunnel_interface=None),
            "_resolver": SimpleNamespace(forget=lambda _name: None),
        }

    async def reload(self, *meanwhile: Event) -> None:
        """Begin one; these events and a timer come while the trap is exchanged. Then let it end."""
        asked = asyncio.create_task(self.service._reload({}))  # noqa: TID251 - awaited below
        await self.exchange.begun.wait()
        for event in meanwhile:
            self.service._feed(event)
        self.service._ring()
        assert "adopted" not in self.told.heard
        self.exchange.may_end.set()
        await asked


DATAGRAM = DatagramReceived(SocketAddress(PAIR.source, 500), SocketAddress(PAIR.destination, 500), b"")


def test_nothing_is_decided_while_the_trap_is_exchanged_and_what_came_is_judged_by_the_new_policy(
    tmp_path: Path,
) -> None:
    async def play() -> list[object]:
        scene = Scene(tmp_path)
        await scene.reload(DATAGRAM, FlushAsked(None))
        return scene.told.heard

    assert asyncio.run(play()) == ["adopted", DATAGRAM, FlushAsked(None)]


def test_what_came_is_judged_by_the_old_policy_when_the_kernel_refuses(tmp_path: Path) -> None:
    async def play() -> tuple[Input, Input, list[object]]:
        scene = Scene(tmp_path)
        before, scene.exchange.refuses = scene.service._input, True
        with pytest.raises(KernelError):
            await scene.reload(DATAGRAM)
        return before, scene.service._input, scene.told.heard

    before, after, heard = asyncio.run(play())
    assert before is after
    assert heard == [DATAGRAM]


def test_a_flood_of_ike_during_an_exchange_is_not_kept_whole(tmp_path: Path) -> None:
    async def play() -> tuple[int, dict[str, int]]:
        scene = Scene(tmp_path)
        await scene.reload(*[DATAGRAM] * (MOST_WAITING + 5), FlushAsked(None))
        return scene.told.heard.count(DATAGRAM), scene.told.counters.with_those_of({}, {})

    heard, counted = asyncio.run(play())
    assert heard == MOST_WAITING
    assert counted[Reason.RELOAD_UNDER_WAY] == 5


def test_the_loop_gets_the_interpreter_back_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A thread that reads ten thousand nets must not keep every packet waiting for 5 ms."""
    given: list[float] = []
    monkeypatch.setattr("sys.setswitchinterval", given.append)
    (tmp_path / "oe.toml").write_text('[paths]\npolicies = "nowhere"\n')
    with pytest.raises(ConfigError, match="nowhere"):
        run(load_config(tmp_path / "oe.toml"), None)
    assert given == [GIVE_WAY]
    assert given[0] <= 0.001


def test_one_reload_after_the_other_hangups_are_one_and_a_stop_refuses_those_that_wait(tmp_path: Path) -> None:
    async def play() -> tuple[int, list[object]]:
        scene = Scene(tmp_path)
        first = asyncio.create_task(scene.service._reload({}))  # noqa: TID251 - awaited below
        await scene.exchange.begun.wait()
        scene.service._hung_up()
        scene.service._hung_up()
        scene.exchange.may_end.set()
        await first
        flushed = await scene.service._flush({"source": "192.0.2.1", "destination": "198.51.100.1"})
        adopted = scene.told.heard.count("adopted")
        scene.service._finished.set()
        with pytest.raises(Refused, match="stopping"):
            await scene.service._reload({})
        return adopted, [flushed, scene.told.heard[-1]]

    assert asyncio.run(play()) == (2, [{"pairs": 0}, FlushAsked(PAIR)])


def test_who_asked_for_a_reload_may_go(tmp_path: Path) -> None:
    async def play() -> list[object]:
        scene = Scene(tmp_path)
        asked = asyncio.create_task(scene.service._reload({}))  # noqa: TID251 - awaited below
        await scene.exchange.begun.wait()
        asked.cancel()
        scene.exchange.may_end.set()
        async with scene.service._reloads:
            return scene.told.heard

    assert asyncio.run(play()) == ["adopted"]


# --- reload -------------------------------------------------------------------------------------------------------


def test_a_reload_over_the_control_socket(host: Host) -> None:
    (host.policies / "private-or-clear").write_text(f"{PRIVATE}\n")
    with host.running():
        host.assert_out({"198.51.100.1", FREE}, "198.51.100.1", FREE)
        (host.policies / "private-or-clear").rename(host.policies / "private")
        told = host.ask({"ask": "reload"})
        assert (told["pairs_let_go"], told["pairs_kept"]) == (1, 0)
        assert told["nets"] == [{"net": PRIVATE, "was": "private-or-clear", "is": "private"}]
        host.assert_out({FREE}, "198.51.100.1", FREE)
        (host.policies / "private").unlink()
        host.ask({"ask": "reload"})
        host.assert_out({"198.51.100.1", FREE}, "198.51.100.1", FREE)


def test_a_refused_reload_is_told_and_changes_nothing(host: Host) -> None:
    (host.policies / "private").write_text(f"{PRIVATE}\n")
    with host.running():
        before = host.inside("nft", "list", "ruleset")
        (host.policies / "private").write_text("198.51.100.0/33\n")
        with pytest.raises(ConfigError, match="private:1:"):
            host.ask({"ask": "reload"})
        (host.policies / "private").unlink()
        host.configure(setup_budget="1s")
        with pytest.raises(ConfigError, match=r"setup-budget: found 1s; allowed while oe runs: 0\.2s"):
            host.ask({"ask": "reload"})
        assert host.ask({"ask": "status"})["policy_problems"] == []
        assert host.inside("nft", "list", "ruleset") == before


def test_a_mended_line_opens_what_it_had_closed(host: Host) -> None:
    (host.policies / "private").write_text("198.51.100.0/33\n")
    with host.running():
        host.assert_out(set(), FREE)
        (host.policies / "private").write_text(f"{PRIVATE}\n")
        host.ask({"ask": "reload"})
        host.assert_out({FREE}, FREE)
        assert host.ask({"ask": "status"})["policy_problems"] == []


def test_a_misnamed_group_file_is_told_once_at_the_start_and_once_at_each_reload(host: Host) -> None:
    (host.policies / "privat").write_text(f"{PRIVATE}\n")
    process = host.start()
    assert process.stderr is not None
    for event in ("ready", "reloaded", "reloaded"):
        told = []
        for line in process.stderr:
            told += [line] if " policy-file-misnamed " in line else []
            if f" {event} " in line:
                break
        assert len(told) == 1
        assert "[warning" in told[0]
        assert f"{host.policies}/privat: no group has this name" in told[0]
        process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)


def test_a_hangup_signal_is_a_reload_and_the_log_says_what_came_of_it(host: Host) -> None:
    with host.running() as process:
        assert process.stderr is not None
        for text, event in (("nonsense\n", "not-reloaded"), (f"{PRIVATE}\n", "reloaded")):
            (host.policies / "private").write_text(text)
            process.send_signal(signal.SIGHUP)
            assert any(f" {event} " in line for line in process.stderr)
        host.assert_out({FREE}, "198.51.100.1", FREE)


def test_a_hangup_signal_before_the_daemon_is_ready_is_a_reload_when_it_is(host: Host) -> None:
    """The configuration comes through a pipe, so that the daemon is where we want it when the signal comes."""
    text = host.config.read_text()
    host.config.unlink()
    os.mkfifo(host.config)
    process = host.start()
    try:
        with host.config.open("w") as pipe:
            process.send_signal(signal.SIGHUP)
            (host.policies / "private").write_text(f"{PRIVATE}\n")
            host.config.unlink()
            host.config.write_text(text)
            pipe.write(text)
        host.wait_until_ready(process)
        assert process.stderr is not None
        assert any(" reloaded " in line for line in process.stderr)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_new_keys_and_another_log_level_are_taken_over(host: Host) -> None:
    with host.running():
        assert host.ask({"ask": "reload"})["keys"] == []
        key = generate(host.directory / "keys", KeyType.ED25519)
        host.config.write_text(host.config.read_text() + '[log]\nlevel = "error"\n')
        told = host.ask({"ask": "reload"})
        assert told["keys"] == [load(key.parent).public_keys[0].fingerprint]
        assert told["settings"] == ["log.level"]


# --- what cannot start says so, and changes nothing -------------------------------------------------------------------


def test_bad_configuration(host: Host) -> None:
    host.configure(setup_budget="soon")
    before = host.traces()
    code, line = host.refused()
    assert code == 2
    assert "gateway.setup-budget" in line
    assert '"soon"' in line
    assert host.traces() == before


def test_no_policies(host: Host) -> None:
    host.policies.rmdir()
    code, line = host.refused()
    assert code == 2
    assert "policies" in line


def test_busy_ike_port(host: Host) -> None:
    before = host.traces()
    code = "import socket, sys; s = socket.socket(2, 2); s.bind(('', 500)); print(flush=True); sys.stdin.read()"
    with host.squatting(code):
        assert host.refused()[0] == 3
        assert "UDP port 500 is in use" in host.refused()[1]
    assert host.traces() == before


def test_busy_queue_number(host: Host) -> None:
    before = host.traces()
    code = (
        "import sys; from netfilterqueue import NetfilterQueue\n"
        "q = NetfilterQueue(); q.bind(50, print); print(flush=True); sys.stdin.read()"
    )
    with host.squatting(code):
        code_, line = host.refused()
    assert code_ == 3
    assert "50" in line
    assert host.traces() == before


def test_second_daemon_in_one_run_directory(host: Host) -> None:
    with host.running():
        before = host.traces()
        code, line = host.refused()
        assert code == 3
        assert "another oe runs here" in line
        assert host.traces() == before


def test_missing_capability(host: Host) -> None:
    before = host.traces()
    code, line = host.refused("capsh", "--drop=cap_net_admin", "--", "-c", 'exec "$0" "$@"')
    assert code == 3
    assert host.traces() == before
    assert line.startswith("oe: ")
