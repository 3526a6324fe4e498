"""Numbers as people say them."""

import pytest

from oe.cli.words import counted, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (7500, "2h05m"), (86400, "1d00h"), (200000, "2d07h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 pairs"), (1, "1 pair"), (2, "2 pairs")])
def test_counts(number: int, text: str) -> None:
    assert counted(number, "pair") == text
