"""The lab on a kernel with ESP and native queues: every row, as on any machine, by XFRM."""

import json
import subprocess
import sys

import pytest

from oe.lab.rows import ROWS

pytestmark = pytest.mark.kernel


@pytest.mark.timeout(900)
def test_all_flows_are_as_expected_with_the_kernels_esp() -> None:
    """Nobody tells the gateways which back end to use: they find out. They share one slow processor."""
    command = [sys.executable, "-c", "from oe.cli.main import main; main()", "lab", "--json", "--pace", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert [row for row in document["rows"] if not row["ok"]] == []
    assert (done.returncode, document["ok"], len(document["rows"])) == (0, True, len(ROWS))
    assert document["backend"] == "xfrm"
