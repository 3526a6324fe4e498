"""The picture: that it is drawn. Needs matplotlib, which only the extra `bench` brings."""

from pathlib import Path

import pytest

from bench.first_packet import summarise
from tests.bench.test_first_packet import SAMPLES


def test_a_run_becomes_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from bench.plot import draw

    draw(summarise(SAMPLES), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
