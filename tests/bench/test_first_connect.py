"""First connections: how samples are summed up, and one small lab; never what the figures are."""

from typing import Any

import pytest

from bench.first_connect import BARE, ROWS, sample, show, summarise
from bench.phases import NAMES, OUR_DNS, THEIR_DNS
from bench.samples import BARE as BARE_PAIR
from bench.samples import KEYED, KEYLESS

PHASES = dict.fromkeys((*NAMES, OUR_DNS, THEIR_DNS), 1.0)


def keyed(first: float) -> dict[str, Any]:
    return {"first": first, "second": 0.5, "bare": 0.1, "dns": 2.0, "lost": 0, "phases": PHASES}


def keyless(first: float, dns: float) -> dict[str, Any]:
    return {"first": first, "second": 0.1, "bare": 0.1, "dns": dns, "lost": 1}


LAB = {"backend": "userspace", "keyed": [keyed(40.0), keyed(10.0), keyed(12.0)], "keyless": [keyless(4.0, 3.0)]}


def test_the_first_work_of_new_daemons_stands_by_itself() -> None:
    rows = summarise([LAB, LAB])["rows"]
    assert tuple(rows) == ROWS
    assert rows["keyed: first of all, daemons just started"] == {"median": 40.0, "min": 40.0, "max": 40.0, "count": 2}
    assert rows["keyed: first connect"]["max"] == 12.0


def test_dns_time_is_taken_off_sample_by_sample() -> None:
    document = summarise([LAB])
    assert document["rows"]["keyless: first connect less DNS"]["median"] == 1.0
    assert document["lost"] == 1
    assert set(document["phases"]) == set(PHASES)


def test_the_table_shows_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    show(summarise([LAB]))
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*ROWS, *NAMES))


def test_no_keyed_pair_shares_an_address_and_no_destination_occurs_twice() -> None:
    ends = [address for pair in KEYED for address in pair]
    assert len(set(ends)) == len(ends)
    destinations = [destination for _, destination in (*KEYED, *KEYLESS, BARE_PAIR)]
    assert len(set(destinations)) == len(destinations)


@pytest.mark.netns
@pytest.mark.world
def test_a_small_lab_gives_samples() -> None:
    lab = sample(keyed=2, keyless=2)
    document = summarise([lab])
    assert set(document["rows"]) == set(ROWS)
    assert document["rows"][BARE]["count"] == 4
    # A machine that stands still for a second makes TCP repeat itself once; who loses first packets loses each one.
    for kind in ("keyed", "keyless"):
        assert min(one["lost"] for one in lab[kind]) == 0
    assert set(document["phases"]) == set(PHASES)
