"""A gateway is killed in a lab that is up: what stays shut, what stays open, and what comes back by itself."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from oe.lab import plan
from oe.lab.plan import alice, remote
from oe.lab.world import directory
from oe.model import Address, Group
from tests.lab.test_world import PATIENCE, Started

pytestmark = [pytest.mark.world, pytest.mark.timeout(600)]

HERE = alice(Group.PRIVATE_OR_CLEAR)
SECRET = remote(Group.PRIVATE, plan.BOB_TCP)
OPEN = remote(Group.PRIVATE_OR_CLEAR, plan.BOB_TCP)
KEYLESS = remote(Group.PRIVATE_OR_CLEAR, plan.CAROL)
NEW_KEYLESS = remote(Group.PRIVATE_OR_CLEAR, plan.CAROL_CLIENTS)

CONFIG = directory(plan.HOST["alice"]) / "oe.toml"

WATCH = f"""
import select, socket, sys
link = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
link.bind(("to-alice", 0))
print("watching", flush=True)
while True:
    ready, _, _ = select.select([link, sys.stdin], [], [])
    if link not in ready:
        break
    packet = link.recv(65535)
    if socket.inet_aton("{SECRET}") in (packet[12:16], packet[16:20]):
        error = packet[9] == 1 and packet[20] == 3 and packet[37] in (17, 50)
        print("error" if error else {{50: "ESP", 17: "UDP"}}.get(packet[9], "clear"), flush=True)
"""
"""Names every IPv4 packet to or from bob's private address on alice's link, until it reads a line. An ICMP error is the
kernel's word that nobody listens for IKE meanwhile."""

DAEMON = f"""
import os, pathlib
config = b"{CONFIG}"
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        line = path.read_bytes()
    except OSError:
        continue  # gone meanwhile
    if config in line.split(b"\\0") and int(path.parent.name) != os.getpid():
        print(path.parent.name)
"""


class Lab:
    """A lab that is up, and the hands in it."""

    def __init__(self, started: Started) -> None:
        self.started = started

    def inside(self, host: str, *command: str) -> str:
        with self.started.run("enter", host, *command) as process:
            output, errors = process.communicate(timeout=2 * PATIENCE)
            return output + errors

    def answers(self, destination: Address, patience: float = PATIENCE) -> bool:
        """Alice pings once."""
        printed = self.inside("alice", "ping", "-c1", f"-W{patience:.0f}", "-I", str(HERE), str(destination))
        return "1 received" in printed

    def daemon(self) -> str:
        return self.inside("alice", "python3", "-c", DAEMON).strip()

    def start_again(self) -> None:
        """A second daemon, which stays when the command that started it ends."""
        config, log = CONFIG, CONFIG.with_name("second.log")
        daemon = [sys.executable, "-c", "from oe.cli.main import main; main()", "run", "--config", str(config)]
        code = (
            "import subprocess\n"
            f"log = open({str(log)!r}, 'w')\n"
            f"subprocess.Popen({daemon}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)\n"
        )
        self.inside("alice", "python3", "-c", code)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    started = Started(tmp_path, "--keep", "--only", "carol, unlisted")
    try:
        _, hints = started.process.communicate(timeout=PATIENCE)
        assert "The lab is up" in hints
        yield Lab(started)
    finally:
        started.run("down").communicate(timeout=PATIENCE)
    assert started.reaches(0, 0), started.alive()


def test_killed_gateway_leaves_private_shut_and_the_rest_open_and_its_successor_encrypts_again(lab: Lab) -> None:
    assert lab.answers(SECRET)
    assert lab.answers(OPEN)
    assert lab.answers(KEYLESS)
    with lab.started.run("enter", "router", "python3", "-c", WATCH, stdin=True) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline() == "watching\n"

        first = lab.daemon()
        lab.inside("alice", "kill", "-9", first)
        assert not lab.answers(SECRET, patience=1)
        assert not lab.answers(remote(Group.PRIVATE, plan.BOB_UDP), patience=1)
        assert lab.answers(KEYLESS)
        assert lab.answers(NEW_KEYLESS)

        lab.start_again()
        deadline = time.monotonic() + PATIENCE
        while not lab.answers(SECRET, patience=1) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert lab.daemon() not in ("", first)
        assert lab.answers(SECRET)
        assert lab.answers(OPEN)

        seen = watch.communicate("\n", timeout=PATIENCE)[0].split()
    assert "clear" not in seen
    assert "ESP" in seen
