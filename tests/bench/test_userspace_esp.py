"""Well-formed output, and two back ends that a stream goes through; never what the figures are."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.userspace_esp import BUDGET, UNITS, Round, plain, show, summarise

FOUND = summarise({"oe": [Round(0.5, 10.0, 12.0), Round(0.7, 8.0, 9.0)]})

OPTIONS = "--rounds=1", "--seconds=1", "--json", "--inside"


def test_json_and_table_have_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    document = plain(FOUND, 9.5)
    assert document["streams"]["oe"]["throughput"]["median"] == 0.6
    assert document["streams"]["oe"]["receiver"]["max"] == 12.0
    show(FOUND, 9.5)
    shown = capsys.readouterr().out
    assert all(f"oe: {figure}, {unit}" in shown for figure, unit in UNITS.items())
    assert f"budget {BUDGET} Gbit/s" in shown


@pytest.mark.netns
@pytest.mark.skipif(shutil.which("iperf3") is None, reason="only the measurement itself needs iperf3")
def test_a_stream_goes_through_both_ends() -> None:
    command = "unshare", "--net", sys.executable, "-m", "bench.userspace_esp", *OPTIONS
    checkout = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=checkout, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["streams"]["oe"]["throughput"]["median"] > 0
