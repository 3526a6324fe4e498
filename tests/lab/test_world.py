"""The lab itself, once: every row, what it leaves behind (nothing), and a lab that is kept."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from scapy.layers.dns import DNS
from scapy.utils import rdpcap

from oe.lab.files import SETUP_BUDGET
from oe.lab.plan import HOSTS
from oe.lab.rows import ROWS
from oe.lab.world import ROOT

pytestmark = [pytest.mark.world, pytest.mark.timeout(600)]

OE = "from oe.cli.main import main; main()"
MARK = "OE_LAB_TEST"
"""An environment variable that every process of a lab inherits from the test that started it."""
PACE = 10
"""Other things may run on the same cores: gateways, name servers and flows are given time accordingly."""
PATIENCE = 120.0
"""Seconds for what must happen."""


class Started:
    """`oe lab` with some arguments, and all processes that came of it."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.mark = f"{MARK}={uuid4()}"
        self._environment = {**os.environ, **dict([self.mark.split("=")]), "XDG_RUNTIME_DIR": str(directory)}
        self.process = self.run("--pace", str(PACE), *arguments)

    def run(self, *arguments: str, stdin: bool = False) -> subprocess.Popen[str]:
        """Another `oe lab`, of the same user session; `stdin` for one that listens."""
        argv = [sys.executable, "-c", OE, "lab", *arguments]
        pipe = subprocess.PIPE
        given = pipe if stdin else None
        return subprocess.Popen(argv, env=self._environment, stdin=given, stdout=pipe, stderr=pipe, text=True, cwd="/")

    def alive(self) -> list[str]:
        """Command lines of all processes that carry the mark, children of children in any namespace included."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (path / "environ").read_bytes().split(b"\0"):
                    found.append((path / "cmdline").read_bytes().decode().replace("\0", " "))
            except OSError:
                continue  # gone meanwhile, or a stranger's
        return found

    def reaches(self, least: int, most: int = 1000) -> bool:
        """Wait until there are so many processes."""
        deadline = time.monotonic() + PATIENCE
        while not least <= len(self.alive()) <= most:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


@dataclass(frozen=True)
class Finished:
    status: int
    told: dict[str, Any]
    errors: str
    captures: Path
    left: list[str]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    directory = tmp_path_factory.mktemp("lab")
    started = Started(directory, "--json", "--pcap", str(directory / "pcap"))
    output, errors = started.process.communicate(timeout=500)
    started.reaches(0, 0)
    told = json.loads(output) if output else {"rows": []}
    return Finished(started.process.returncode, told, errors, directory / "pcap", started.alive())


@pytest.fixture
def started(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Started]:
    started = Started(tmp_path, *getattr(request, "param", ()))
    yield started
    with started.run("down") as down:
        down.communicate()
    started.process.kill()
    started.process.communicate()


@pytest.mark.parametrize("number", range(len(ROWS)), ids=[f"{row.name}-{row.group}-{row.far_group}" for row in ROWS])
def test_row(lab: Finished, number: int) -> None:
    assert len(lab.told["rows"]) == len(ROWS), lab.errors
    row = lab.told["rows"][number]
    assert row["ok"], row


def test_it_says_so_and_leaves_nothing(lab: Finished) -> None:
    assert (lab.status, lab.errors, lab.told["ok"]) == (0, "", True)
    assert lab.left == []


def test_a_peer_without_a_key_waits_for_dns_only(lab: Finished) -> None:
    """And not for the setup budget. How little more than DNS it takes is measured in `bench/`, on idle cores."""
    rows = [row for row in lab.told["rows"] if row["flow"].startswith("carol, ") and row["reason"] == "no-key"]
    delays = sorted(row["delay_ms"] for row in rows if row["delay_ms"] is not None)
    assert delays[0] < 1000 * SETUP_BUDGET * PACE


def test_captures_are_there_for_every_link_and_readable(lab: Finished) -> None:
    linked = {host.link for host in HOSTS if host.behind is None}
    assert {path.stem for path in lab.captures.iterdir()} >= linked
    assert any(packet.haslayer(DNS) for packet in rdpcap(str(lab.captures / "to-dns.pcap")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("processes", [4, 15], ids=["links", "servers"])
def test_nothing_is_left_when_it_is_ended_early(started: Started, number: signal.Signals, processes: int) -> None:
    assert started.reaches(processes)
    started.process.send_signal(number)
    started.process.wait(PATIENCE)
    assert started.process.returncode in (128 + number, -number)
    assert started.reaches(0, 0), started.alive()


@pytest.mark.parametrize("started", [("--keep", "--only", "second connection")], indirect=True)
def test_a_kept_lab_can_be_entered_and_ended(started: Started) -> None:
    output, hints = started.process.communicate(timeout=PATIENCE)
    assert started.process.returncode == 0
    assert "2 of 2 flows as expected" in output
    assert "oe lab down" in hints
    with started.run("enter", "alice", "ping", "-c1", f"-W{PATIENCE:.0f}", "-I", "192.0.2.65", "198.51.100.1") as ping:
        assert "1 received" in ping.communicate()[0]
    status = (sys.executable, "-c", OE, "--run-dir", f"{ROOT}/alice/run", "status", "--ike", "--json")
    with started.run("enter", "alice", *status) as asking:
        (ike_sa,) = json.loads(asking.communicate()[0])["ike_sas"]
    ends = ("192.0.2.65", "198.51.100.1", "initiator", "established", "authenticated")
    assert tuple(ike_sa[name] for name in ("local", "remote", "role", "state", "authentication")) == ends
    with started.run("--keep") as second:
        assert "up already" in second.communicate()[1]
    with started.run("down") as down:
        assert down.communicate() == ("", "")
    assert started.reaches(0, 0), started.alive()
