"""What takes an hour: the kernel ends SAs, new ones are negotiated, and nobody who sends notices."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.guest
@pytest.mark.timeout(600)
def test_traffic_outlives_its_sas_without_loss_and_without_a_clear_packet() -> None:
    inside = [sys.executable, "-m", "tests.kernel.hours"]
    command = [f"{CHECKOUT}/packaging/kernel/run", "--time-travel", *inside]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["minutes"] >= 70
    assert (told["sent"], told["lost"]) == (70, 0)
    assert set(told["seen"]) == {"ESP", "IKE"}
    assert told["seen"]["ESP"] == 140
    assert told["protected"] == 2
