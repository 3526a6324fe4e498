"""The first packet beside a rival's: how samples are summed up and shown; never what the figures are."""

from typing import Any

import pytest

from bench.first_packet import BARE, BEYOND_DNS, KEYED, KEYED_6, KEYLESS, SECOND, STARTED, TITLES, show, summarise
from bench.libreswan import FLAVOURS


def one(first: float, lost: int, **more: float) -> dict[str, Any]:
    return {"first": first, "second": 1.0, "bare": 0.5, "lost": lost, **more}


KEYED_SAMPLES = one(60.0, 0, dns=4.0), one(20.0, 0, version=4, dns=4.0), one(40.0, 0, version=6, dns=4.0)
OURS = {"keyed": list(KEYED_SAMPLES), "keyless": [one(6.0, 0, dns=4.0)]}
THEIRS = {"keyed": [one(1100.0, 1), one(1000.0, 1), one(3000.0, 2)], "keyless": [one(3000.0, 2)]}
SAMPLES: dict[str, Any] = {
    "kernel": "6.1",
    "rival": "Libreswan 5.2",
    "rounds": 2,
    "labs": {"oe": [OURS, OURS], **{flavour: [THEIRS, THEIRS] for flavour in FLAVOURS}},
}


def row(what: str, contender: str) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = (row for row in summarise(SAMPLES)["rows"] if (row["what"], row["contender"]) == (what, contender))
    return found


def test_the_first_work_of_new_daemons_stands_by_itself() -> None:
    assert row(STARTED, "oe")["samples"] == [60.0, 60.0]
    assert row(KEYED, "oe")["samples"] == [20.0, 20.0]


def test_versions_of_ip_are_not_mixed() -> None:
    assert row(KEYED_6, "oe")["samples"] == [40.0, 40.0]
    assert {row["contender"] for row in summarise(SAMPLES)["rows"] if row["what"] == KEYED_6} == {"oe"}


def test_lost_packets_are_counted_by_row() -> None:
    assert [row(what, "hold")["lost"] for what in (KEYED, STARTED, KEYLESS)] == [6, 2, 4]
    assert row(KEYED, "oe")["lost"] == 0


def test_ratios_are_of_medians_and_ours_is_one() -> None:
    ratios = summarise(SAMPLES)["ratios"]
    assert ratios[KEYED] == dict.fromkeys(FLAVOURS, 100.0)
    assert ratios[KEYLESS] == dict.fromkeys(FLAVOURS, 500.0)


def test_only_ours_has_dns_to_take_off() -> None:
    assert row(BEYOND_DNS, "oe")["median"] == 2.0
    assert {row["contender"] for row in summarise(SAMPLES)["rows"] if row["what"] == BEYOND_DNS} == {"oe"}


def test_the_table_shows_every_row_of_every_contender(capsys: pytest.CaptureFixture[str]) -> None:
    show(summarise(SAMPLES))
    shown = capsys.readouterr().out
    assert all(what in shown for what in (KEYED, STARTED, SECOND, KEYLESS, BEYOND_DNS, BARE))
    assert all(shown.count(title) >= 5 for title in TITLES.values())
