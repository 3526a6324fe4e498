"""The order in which contenders take their turns."""

from typing import Any

import pytest

from bench.contest import CONTENDERS, play, version


def test_every_round_has_every_contender_ours_first(capsys: pytest.CaptureFixture[str]) -> None:
    turns: list[str] = []

    def lab(contender: str) -> dict[str, Any]:
        turns.append(contender)
        return {"number": len(turns)}

    labs = play(2, lab)
    assert turns == [*CONTENDERS, *CONTENDERS]
    assert turns[0] == "oe"
    assert labs["oe"] == [{"number": 1}, {"number": 1 + len(CONTENDERS)}]
    assert "round 2 of 2: oe" in capsys.readouterr().err


def test_a_version_is_name_and_number() -> None:
    assert version("Libreswan 5.2 IKEv2 XFRM\nNSS\n") == "Libreswan 5.2"
