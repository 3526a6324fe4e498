"""Lifetimes of real SAs, decisions and DNS answers, with real daemons, in hours of virtual time: `lifetimes.py` is run
in the test kernel, and this is what must have been seen there."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench.soak.plan import ALICES, OPEN
from tests.kernel.lifetimes import (
    A_WHILE,
    AND_OPEN,
    CLOSED,
    DEATHS,
    HOURS,
    KEYLESS_ONE,
    LATE,
    MINUTES,
    ONCE,
    REFUSED,
    UNTRUSTED,
    Scenario,
)

pytestmark = [pytest.mark.guest, pytest.mark.timeout(930)]

CHECKOUT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
ESP_INNER = 1300 + 28
"""Octets of an inner packet of the flow that wears out its SAs: UDP and IPv4 headers, too."""


@dataclass(frozen=True)
class Seen:
    """What came out of the guest."""

    scenario: Scenario
    document: dict[str, Any]

    def answered(self, source: object, destination: object) -> Sequence[float]:
        """When the datagrams were sent that were echoed, by the pair of the flow; seconds since the beginning."""
        [times] = [one["answered"] for one in self.document["flows"] if one["pair"] == [str(source), str(destination)]]
        return list(times)

    def wire(self, what: str, one: object, other: object) -> Any:
        return self.document["wire"][what][" ".join(sorted(map(str, (one, other))))]

    def events(self, host: str, event: str, far: object, **fields: str) -> list[float]:
        """When the daemon of `host` wrote such a line about a pair with `far`."""
        wanted = {"event": event, **fields}.items()
        lines = [line for line in self.document["log"][host] if wanted <= line.items()]
        return [line["at"] for line in lines if str(far) in line["pair"].split(" → ")]

    def check(self) -> None:
        """What holds in every scenario: no errors, all is seen, nothing stays."""
        lines = [line for log in self.document["log"].values() for line in log]
        assert [line for line in lines if line["level"] == "error"] == []
        assert self.document["wire"]["missed"] == 0
        assert self.document["after"] == {"alice": [0, 0], "bob": [0, 0]}


def play(name: str, scenario: Scenario, directory: Path) -> Seen:
    runner = [f"{CHECKOUT}/packaging/kernel/run", "--time-travel", "--timeout", "900", "--results", str(directory)]
    command = [f"{CHECKOUT}/.venv/bin/python", "-m", "tests.kernel.lifetimes", name, "/run/job/results/seen.json"]
    done = subprocess.run([*runner, *command], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = Seen(scenario, json.loads((directory / "seen.json").read_text()))
    seen.check()
    return seen


def gaps(times: Sequence[float], begin: float, end: float) -> Iterator[float]:
    """Seconds between two answered datagrams one after the other, of which one was sent in that time."""
    return (later - sooner for sooner, later in pairwise(times) if later >= begin and sooner <= end)


def test_through_rekeys_of_child_and_ike_sas_no_datagram_is_lost_and_none_is_clear(tmp_path: Path) -> None:
    """Child SAs of a minute, IKE SAs of two, and of 1 MiB; dense traffic both ways for six minutes."""
    seen = play("minutes", MINUTES, tmp_path)
    traffic, wire = seen.document["traffic"], seen.document["wire"]
    assert (traffic["lost"], traffic["refused"], traffic["answered"]) == ({}, {}, traffic["sent"])
    assert traffic["sent"]["steady"] > 7000
    assert wire["clear"] == {}
    # Each datagram and each echo is one packet of ESP: nothing was sent twice or in vain.
    assert sum(map(sum, wire["esp"].values())) == 2 * traffic["sent"]["steady"]
    # A rekey every 48 to 54 seconds, and none at three quarters of the lifetime: only the engine watches the time.
    steady = ((ALICES[0], AND_OPEN[0]), (OPEN, CLOSED[2]))
    assert all(14 <= len(seen.wire("esp", *ends)) <= 20 for ends in steady)
    assert all(seen.wire("ike", *ends) >= 4 for ends in (*steady, (ALICES[0], CLOSED[0])))
    # Two SAs each way for each of five pairs at most, while one takes over from the other; mostly one.
    assert max(seen.document["sas"]) <= 20
    assert sorted(seen.document["sas"])[len(seen.document["sas"]) // 2] <= 10
    # Octets: the sender's limit is jittered, the rest is a request and a change on its way.
    worn_out = seen.wire("esp", OPEN, AND_OPEN[2])
    assert len(worn_out) >= 8
    assert max(worn_out) * ESP_INNER < 0.8 * MIB


def test_hours(tmp_path: Path) -> None:
    """Child SAs of an hour, IKE SAs of 80 minutes, an idle time of 20 minutes, keys in DNS with a TTL of an hour."""
    seen = play("hours", HOURS, tmp_path)
    traffic, wire = seen.document["traffic"], seen.document["wire"]
    assert traffic["losses"] == []
    # Rekeys: three generations of Child SAs in two hours and a quarter, and two of IKE SAs.
    for far in (CLOSED[0], AND_OPEN[0]):
        assert len(seen.wire("esp", ALICES[0], far)) >= 6
        assert seen.wire("ike", ALICES[0], far) >= 2
    # Idle: who talks once is looked at after a minute; who talks for five, twenty minutes after that, and again.
    for far, looks in ((ONCE, 160), (A_WHILE, 2560)):
        closed = seen.events("alice", "pair-closed", far, reason="idle")
        closed += seen.events("bob", "pair-closed", far, reason="idle")
        assert closed == [pytest.approx(looks, abs=1)] * len(closed)
        assert 1 <= len(closed) <= 2
    # Clear: renewed while it is used, but for an hour only. Then its packet is held, and DNS is asked anew.
    anew = seen.events("alice", "pair-clear", KEYLESS_ONE)
    assert anew[:2] == [pytest.approx(0, abs=1), pytest.approx(3600, abs=20)]
    # A denial ends too: a key published after 700 s is found when that of 600 s is over.
    assert seen.events("alice", "pair-blocked", LATE)[0] == pytest.approx(0, abs=1)
    assert 700 < seen.answered(OPEN, LATE)[0] < 930
    # Keys that DNS names no longer, from 1800 s on, are trusted until the TTL ends. Then one group falls back, with no
    # datagram lost, and the other does not.
    for far in (UNTRUSTED, REFUSED):
        withdrawn = seen.events("alice", "pair-closed", far, reason="delegation-withdrawn")
        assert withdrawn == [pytest.approx(3600, abs=1)]
    assert seen.answered(OPEN, REFUSED)[-1] < 3600
    assert seen.answered(OPEN, UNTRUSTED)[-1] > seen.scenario.ends - 20
    assert set(wire["clear"]) == {" ".join(sorted((str(OPEN), str(far)))) for far in (KEYLESS_ONE, UNTRUSTED)}


def test_a_dead_peer_is_noticed_in_seconds_and_so_is_one_that_has_come_back(tmp_path: Path) -> None:
    """Killed and restarted after 2 s; dead with all its state for 80 s; and then our own daemon is killed."""
    seen = play("deaths", DEATHS, tmp_path)
    closed, permissive = seen.answered(ALICES[0], CLOSED[0]), seen.answered(OPEN, AND_OPEN[2])
    for times in (closed, permissive):
        assert 2 < max(gaps(times, 20, 35)) < 10  # liveness, and the token that proves it has forgotten us
        assert max(gaps(times, 150, 180)) < 1.1  # the kernel goes on while there is no daemon, and nothing is lost
    # Without a peer: `private` goes on as soon as there is one again, the permissive group in clear meanwhile.
    assert max(gaps(permissive, 40, 160)) < 20
    silence = max(gaps(closed, 40, 160))
    assert 115 < next(at for at in closed if at > 41) < 155
    assert silence > 75
    [downgraded] = seen.events("alice", "pair-clear", AND_OPEN[2], reason="peer-silent")
    assert 45 < downgraded < 65
    assert any(120 < at < 130 for at in seen.events("alice", "pair-protected", AND_OPEN[2]))
    assert list(seen.document["wire"]["clear"]) == [f"{OPEN} {AND_OPEN[2]}"]
