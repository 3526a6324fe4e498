"""`oe explain`: from files, addresses and DNS to text, JSON and an exit code."""

import json
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oe.cli import explain as room
from oe.cli.lookups import Looked
from oe.cli.main import main
from oe.keystore import KeyType, generate, load
from oe.model import Address, KeyAnswer, SocketAddress
from tests.cli.answering import answering
from tests.gateway.script import PEER, delegation, found, missing

HERE = ip_address("127.0.0.2")
"""An address that every machine has a route from; no packet is sent."""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "private-or-clear").write_text(f"{PEER}\n")
    generate(tmp_path / "keys", KeyType.ED25519)
    file = tmp_path / "oe.toml"
    file.write_text('[paths]\npolicies = "policies"\nkeys = "keys"\nrun = "run"\n')
    monkeypatch.setattr(room, "global_addresses", lambda: (HERE,))
    return file


def dns(monkeypatch: pytest.MonkeyPatch, *answers: KeyAnswer) -> None:
    known = {answer.owner: Looked(answer, 0.001, 600.0) for answer in answers}

    def look_up(_servers: Iterable[SocketAddress], owners: Iterable[Address]) -> dict[Address, Looked]:
        return {owner: known[owner] for owner in owners}

    monkeypatch.setattr(room, "look_up", look_up)


def explain(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", "--config", str(config), *arguments])


def test_a_pair_that_would_be_encrypted_is_0(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = load(config.parent / "keys").public_keys[0]
    dns(monkeypatch, found(PEER, delegation()), found(HERE, delegation(key)))
    result = explain(config, str(PEER), "--from", str(HERE))
    assert result.exit_code == 0, result.output
    assert f"we negotiate with {PEER} as {HERE}" in result.stdout
    assert f"now       no oe answers at {config.parent}/run/control.sock: No such file" in result.stdout


def test_a_refusal_is_1_and_the_same_in_json(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dns(monkeypatch, missing(PEER), missing(HERE))
    row = {"destination": str(PEER), "source": str(HERE)}
    with answering(config.parent / "run", {"status": lambda _: {"pairs": [row, row | {"destination": "::1"}]}}):
        result = explain(config, str(PEER), "--from", str(HERE), "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["state"], told["reason"], told["now"]) == ("clear", "no-key", [row])


def test_another_run_directory(config: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    row = {"destination": "127.0.0.9", "source": "127.0.0.1", "state": "clear", "since": 5.0, "reason": "no-key"}
    rest = {"peer": None, "detail": "", "packets_out": None, "packets_in": None}
    with answering(elsewhere, {"status": lambda _: {"pairs": [row | rest]}}):
        command = ["--run-dir", str(elsewhere), "explain", "--config", str(config), "127.0.0.9"]
        result = CliRunner().invoke(main, command)
    assert "now       from 127.0.0.1: clear for 5s, no-key\n" in result.stdout


def test_the_policy_alone_is_0_and_the_source_is_the_routes(config: Path) -> None:
    (config.parent / "policies" / "block").write_text("127.0.0.9\n")
    result = explain(config, "127.0.0.9")
    assert result.exit_code == 0
    assert result.stdout.startswith("127.0.0.1 → 127.0.0.9\n")
    assert "left alone, in clear: the destination is this host itself" in result.stdout


def test_without_a_route(config: Path) -> None:
    result = explain(config, "255.255.255.255")
    assert result.exit_code == 3
    assert result.stderr.startswith("oe: no route to 255.255.255.255: ")
    assert "--from" in result.stderr


@pytest.mark.parametrize("arguments", [["nonsense"], [str(PEER), "--from", "::1"], []])
def test_wrong_use_is_2(config: Path, arguments: list[str]) -> None:
    assert explain(config, *arguments).exit_code == 2


def test_files_that_cannot_be_used_are_2(config: Path) -> None:
    config.write_text("[dns]\nresolver = []\n")
    assert explain(config, str(PEER)).exit_code == 2
