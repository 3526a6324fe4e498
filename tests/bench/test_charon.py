"""Both responders are measured alike; charon itself takes root and a Debian of its own, and is not started here."""

import pytest

from bench.charon import BUDGET, CHARON, ENGINE, OURS, Result, show, summarise
from bench.responders import AT_ONCE, Link, connections, sides

FOUND = {CHARON: [1000.0, 2000.0], OURS: [1100.0, 1800.0], ENGINE: [500.0, 1500.0]}


def test_ratios_are_taken_round_by_round() -> None:
    spreads, ratios = summarise(FOUND)
    assert spreads[CHARON].median == 1500.0
    assert set(ratios) == {OURS, ENGINE}
    assert (ratios[OURS].min, ratios[OURS].max) == (0.9, 1.1)


def test_json_and_table_have_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    result = Result(16, *summarise(FOUND))
    document = result.plain()
    assert document["handshakes"] == 16
    assert document["budget"] == BUDGET
    assert document["responders"][OURS]["count"] == 2
    assert document["ratios"][ENGINE]["max"] == 0.75
    show(result)
    shown = capsys.readouterr().out
    assert f"{OURS} / {CHARON}" in shown
    assert f"{ENGINE} / {CHARON}" in shown


def test_links_share_no_address() -> None:
    ends = [end for link in (Link(1), Link(2)) for end in (link.responder, *link.initiators)]
    assert len(set(ends)) == len(ends) == 2 * (1 + AT_ONCE)


def test_charon_knows_every_initiator_by_address_and_key() -> None:
    own, initiators = sides(Link(1))
    assert len({side.keys.public_keys for side in initiators}) == 1
    text = connections(own, initiators)
    assert text.count("version = 2") == AT_ONCE
    assert all(f"remote_addrs = {side.address.address}\n" in text for side in initiators)
    assert text.count("{") == text.count("}")
