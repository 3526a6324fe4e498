"""A short soak: hours of two gateways on virtual time. `make soak` is the long one."""

import json
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.guest, pytest.mark.timeout(930)]

CHECKOUT = Path(__file__).resolve().parents[2]


def test_after_hours_of_pairs_that_come_and_go_nothing_is_left_and_nothing_was_lost(tmp_path: Path) -> None:
    runner = [f"{CHECKOUT}/packaging/kernel/run", "--time-travel", "--timeout", "900", "--results", str(tmp_path)]
    soak = [f"{CHECKOUT}/.venv/bin/python", "-m", "bench.soak", "--hours", "2", "--pairs", "50"]
    command = [*runner, *soak, "--json", "/run/job/results/soak.json"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "soak.json").read_text())
    assert document["faults"] == []
    assert document["traffic"]["sent"]["steady"] == 4 * 2 * 180
    assert all(moment["hosts"]["alice"]["sas"] >= 8 for moment in document["moments"][1:-1])
