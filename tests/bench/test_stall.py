"""`python -m bench.stall`: well-formed output, and every peer gets through; never what the figures are."""

import json

from click.testing import CliRunner

from bench.crowd import address
from bench.stall import main


def test_json_has_every_figure() -> None:
    done = CliRunner().invoke(main, ["--peers", "10", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["established"] == document["peers"] == 10
    assert document["budget"] == 20.0
    assert 0 < document["median"] <= document["p99"] <= document["longest"]
    assert document["longest_turn"] > 0


def test_the_text_names_the_budget() -> None:
    done = CliRunner().invoke(main, ["--peers", "2"])
    assert done.exit_code == 0, done.output
    assert "2 of 2 peers" in done.stdout
    assert "budget 20 ms" in done.stdout


def test_no_net_of_the_crowd_is_larger_than_a_prefix_may_be() -> None:
    addresses = [address(number) for number in range(1000)]
    assert len(set(addresses)) == 1000
    assert all(one.is_loopback and one.packed[3] not in (0, 255) for one in addresses)
