"""`python -m bench.responder`: well-formed output; never what the figures are."""

import json

from click.testing import CliRunner

from bench.responder import main


def test_json_has_every_figure() -> None:
    done = CliRunner().invoke(main, ["--rounds", "1", "--handshakes", "2", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["handshakes"] == 2
    assert set(document["phases"]) == {"IKE_SA_INIT", "IKE_AUTH", "delete", "clean-up"}
    assert {"responder", "initiator", "floor", "operations", "ratio", "handshakes_per_second"} <= set(document)


def test_the_table_names_the_ratio_and_the_budget() -> None:
    done = CliRunner().invoke(main, ["--rounds", "1", "--handshakes", "2"])
    assert done.exit_code == 0, done.output
    assert "responder / floor" in done.stdout
    assert "budget 860" in done.stdout


def test_the_profile_lists_functions() -> None:
    done = CliRunner().invoke(main, ["--rounds", "1", "--handshakes", "2", "--profile"])
    assert done.exit_code == 0, done.output
    assert "RSAPrivateKey" in done.stdout
