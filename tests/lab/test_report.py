"""What the lab prints."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from oe.lab.flows import Result, Run
from oe.lab.outcome import Outcome
from oe.lab.plan import CLIENT, UNLISTED
from oe.lab.report import document, fitting, show
from oe.lab.rows import Row
from oe.lab.sightings import Wire
from oe.model import Group

ROW = Row("bob, tcp", "tcp", CLIENT, UNLISTED, Group.PRIVATE, Outcome.ENCRYPTED)
GOOD = Result(ROW, Outcome.ENCRYPTED, Wire(6, 0, 4, 0, False), 0.0123, 0, 1, "protected-as-initiator", "secure", ())
BAD = replace(
    GOOD,
    row=replace(ROW, name="bob, udp", far_group=Group.CLEAR),
    outcome=Outcome.IN_CLEAR,
    wire=Wire(0, 6, 0, 0, True),
    delay=None,
    queued=None,
    reason="",
    grade="",
    complaints=("encrypted was expected, clear is observed",),
)


@pytest.fixture(name="shown")
def _shown(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def shown(*results: Result) -> str:
        show(Run(results, "userspace", 0.002), 12.34)
        return capsys.readouterr().out

    return shown


def test_a_row_says_what_was_expected_seen_and_why(shown: Callable[..., str]) -> None:
    line = next(line for line in shown(GOOD).splitlines() if "bob, tcp" in line)
    cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
    assert cells == [
        *("✓", "bob, tcp", "private", "encrypted", "encrypted", "only ESP (4 IKE)", "12.3", "0", "1"),
        "protected-as-initiator, secure",
    ]


def test_what_is_wrong_is_told_once_more_below(shown: Callable[..., str]) -> None:
    text = shown(GOOD, BAD)
    assert "✗ bob, udp (private × clear): encrypted was expected, clear is observed" in text
    assert "1 of 2 flows as expected; back end userspace; DNS answers a new name in 2.0 ms; 12.3 s in all" in text


def test_rows_about_two_groups_stand_in_a_grid(shown: Callable[..., str]) -> None:
    refused = replace(BAD, row=replace(ROW, group=Group.BLOCK, far_group=Group.CLEAR), outcome=Outcome.REFUSED)
    lines = shown(GOOD, BAD, replace(refused, complaints=())).splitlines()
    header = next(line for line in lines if line.split() == list(Group))
    column = header.index(" clear ") + 1
    (private,) = (line for line in lines if line.startswith("private "))
    (block,) = (line for line in lines if line.startswith("block "))
    assert private[column:].strip() == "✗ clear"
    assert block[column:].strip() == "refused"
    assert not any("bob, udp" in line and "expected" not in line for line in lines)


def test_the_document_is_plain_json() -> None:
    told = json.loads(json.dumps(document(Run((GOOD, BAD), "xfrm", 0.002), 12.34)))
    assert (told["ok"], told["backend"], told["dns_ms"], told["seconds"]) == (False, "xfrm", 2.0, 12.3)
    good, bad = told["rows"]
    assert good["ok"]
    assert good["packets"] == {"esp": 6, "clear": 0, "ike": 4}
    assert (good["wire"], good["delay_ms"], good["queued"]) == ("only ESP", 12.3, 1)
    assert (bad["wire"], bad["delay_ms"], bad["queued"]) == ("clear", None, None)
    assert (bad["source"], bad["group"]) == (str(CLIENT), "private × clear")
    assert bad["complaints"] == list(BAD.complaints)


def test_an_unlisted_destination_has_no_group(shown: Callable[..., str]) -> None:
    assert "unlisted" in shown(replace(GOOD, row=replace(ROW, group=None)))


@pytest.mark.parametrize(("columns", "dropped"), [(200, []), (110, ["expected"]), (80, ["expected", "queued", "why"])])
def test_a_narrow_terminal_gets_fewer_columns(columns: int, dropped: list[str]) -> None:
    console = Console(width=columns)
    header = [str(column.header) for column in fitting([GOOD], console).columns]
    assert [name for name in ("expected", "queued", "why", "wire") if name not in header] == dropped
