"""`python -m bench.forwarding`: packets are forwarded beside every table; never what the figures are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.forwarding import BARE, BUDGET, plain, show, summarise

FOUND = {BARE: [500.0, 700.0], "oe": [1000.0, 1000.0]}


def test_a_rate_is_a_part_of_the_bare_one_of_its_round() -> None:
    document = plain(summarise(FOUND))
    assert document["contenders"][BARE]["rate"]["median"] == 1.0
    assert document["contenders"]["oe"]["rate"] == {"median": 0.6, "min": 0.5, "max": 0.7, "count": 2}
    assert document["contenders"]["oe"]["cost"]["median"] == 1000.0


def test_the_table_names_the_contenders_and_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    show(summarise(FOUND))
    shown = capsys.readouterr().out
    assert BARE in shown
    assert "0.60" in shown
    assert f"budget: {BUDGET}" in shown


@pytest.mark.netns
def test_packets_go_through_beside_every_table() -> None:
    options = "--rounds=1", "--packets=2000", "--nets", "4", "20", "--json", "--inside"
    command = "unshare", "--net", sys.executable, "-m", "bench.forwarding", *options
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    if "live frames" in done.stderr:
        pytest.skip(f"not every kernel has what the measurement needs: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    contenders = json.loads(done.stdout)["contenders"]
    assert len(contenders) == 5
    assert all(contender["cost"]["median"] > 0 for contender in contenders.values())
