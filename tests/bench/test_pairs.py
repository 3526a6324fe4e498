"""`python -m bench.pairs`: every pair is decided, in the kernel, told and forgotten; never what the figures are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.figures import Spread
from bench.pairs import BUDGET, Result, Step, show
from bench.pauses import Work

WORK = Work(1.0, 0.5, 20.0, 10.0)
RESULT = Result(
    pairs=1000,
    before=50.0,
    steps=(Step(500, 51.0, 100.0, 1.0, 0.5), Step(1000, 52.0, 101.0, 2.0, 1.5)),
    first=Spread.of([100.0]),
    last=Spread.of([150.0]),
    elements=1000,
    status=WORK,
    document=500_000,
    status_memory=60.0,
    ends={"lapsed": WORK, "forgotten": WORK},
    after=53.0,
)


def test_the_text_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    show(RESULT)
    shown = capsys.readouterr().out
    assert f"52 MB, budget {BUDGET:.0f} MB; 2.00 kB a pair; 53 MB with all forgotten" in shown
    assert "150 / 100 µs (medians) = 1.50; 1000 decisions in the kernel" in shown
    assert "oe status, 0.5 MB: 1.00 s" in shown
    assert "all lapsed at once" in shown
    assert "all forgotten at once" in shown


@pytest.mark.netns
def test_pairs_are_decided_told_and_forgotten() -> None:
    command = "unshare", "--net", sys.executable, "-m", "bench.pairs", "--pairs=200", "--json", "--inside"
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["pairs"] == document["elements"] == 200
    assert [step["pairs"] for step in document["steps"]] == list(range(20, 201, 20))
    assert document["document"] > 200 * 100
    assert set(document["ends"]) == {"lapsed", "forgotten"}
    assert document["budget"] == BUDGET
