"""`oe check`: the summary of a good configuration, the problems of a bad one."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oe.cli import check as room
from oe.cli.lookups import Looked
from oe.cli.main import main
from oe.keystore import KeyType, generate, load
from oe.model import Grade, KeyAnswer, PublicKey
from oe.reasons import Reason
from tests.gateway.script import OUR_KEY, OURS, delegation, found, missing


@pytest.fixture
def config(tmp_path: Path) -> Path:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "private").write_text("192.0.2.0/24\n2001:db8::/32  # the lab\n")
    (policies / "clear").write_text("203.0.113.9\n")
    file = tmp_path / "oe.toml"
    file.write_text('[paths]\npolicies = "policies"\nkeys = "keys"\n')
    return file


def check(config: Path) -> Result:
    return CliRunner().invoke(main, ["check", "--config", str(config)])


def test_a_good_configuration(config: Path) -> None:
    result = check(config)
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["private", "2", "nets"],
        ["private-or-clear", "0", "nets"],
        ["clear-or-private", "0", "nets"],
        ["clear", "1", "nets"],
        ["block", "0", "nets"],
    ]


def test_every_bad_line_of_a_policy_file_is_told(config: Path) -> None:
    (config.parent / "policies" / "block").write_text("10.0.0.1/8\nexample.org\n")
    result = check(config)
    assert result.exit_code == 2
    assert "block:1:" in result.stderr
    assert "block:2:" in result.stderr


def test_a_misspelt_key(config: Path) -> None:
    config.write_text("[dns]\nresolver = []\n")
    result = check(config)
    assert result.exit_code == 2
    assert "dns.resolver: unknown key" in result.stderr


@pytest.mark.parametrize("missing", ["oe.toml", "policies"])
def test_what_is_not_there(config: Path, missing: str) -> None:
    place = config.parent / missing
    place.rename(config.parent / "elsewhere")
    result = check(config)
    assert result.exit_code == 2
    assert str(place) in result.stderr


def with_key(config: Path) -> PublicKey:
    generate(config.parent / "keys", KeyType.ED25519)
    return load(config.parent / "keys").public_keys[0]


def test_keys_are_read_and_the_newest_is_told(config: Path) -> None:
    old = with_key(config)
    generate(config.parent / "keys", KeyType.ECDSA_P256, beside=True)
    new = load(config.parent / "keys").public_keys[0]
    result = check(config)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split(maxsplit=1)[1] for line in result.stdout.splitlines()[-2:]] == [
        f"{new.fingerprint} ECDSA, the newest",
        f"{old.fingerprint} EDDSA",
    ]


def test_a_key_that_others_may_read(config: Path) -> None:
    with_key(config)
    (config.parent / "keys" / "0001-ed25519.pem").chmod(0o644)
    result = check(config)
    assert result.exit_code == 2
    assert "chmod 0600" in result.stderr


def test_without_a_key_there_is_a_warning(config: Path) -> None:
    result = check(config)
    assert result.exit_code == 0
    assert result.stderr == (
        "warning: no key yet, so that no peer can verify us; "
        f"make one with `oe key new --dir {config.parent / 'keys'}`\n"
    )


def test_without_a_net_there_is_a_warning(config: Path) -> None:
    with_key(config)
    for group in ("private", "clear"):
        (config.parent / "policies" / group).unlink()
    result = check(config)
    assert result.exit_code == 0
    assert "no group lists a net" in result.stderr


@pytest.mark.parametrize("name", ["privat", "Private", "private.txt", "private-or-claer"])
def test_a_file_that_nothing_reads_is_a_problem(config: Path, name: str) -> None:
    (config.parent / "policies" / name).write_text("203.0.113.0/24\n")
    result = check(config)
    assert result.exit_code == 2
    assert f"policies/{name}: no group has this name" in result.stderr
    assert "did you mean" in result.stderr


@pytest.mark.parametrize("name", ["private~", ".private.swp", "private.dpkg-old", "README", "Makefile"])
def test_other_files_are_let_be(config: Path, name: str) -> None:
    (config.parent / "policies" / name).write_text("whatever\n")
    assert check(config).exit_code == 0


@pytest.mark.parametrize(
    ("dnssec", "warned"), [("", True), ('[group.private]\ndnssec = "any"\n', False), ("[group.private]\n", True)]
)
def test_a_resolver_elsewhere_proves_nothing(config: Path, dnssec: str, warned: bool) -> None:
    with_key(config)
    config.write_text(config.read_text() + '[dns]\nresolvers = ["127.0.0.1", "192.0.2.53"]\n' + dnssec)
    result = check(config)
    assert result.exit_code == 0
    assert ("answers of 192.0.2.53:53 count for nothing in private" in result.stderr) is warned


def dns(config: Path, monkeypatch: pytest.MonkeyPatch, answer: KeyAnswer) -> tuple[int, str]:
    """Exit code and last line when DNS says so of our only address."""
    monkeypatch.setattr(room, "global_addresses", lambda: (OURS,))
    monkeypatch.setattr(room, "look_up", lambda _servers, owners: {one: Looked(answer, 0.002, 60.0) for one in owners})
    result = CliRunner().invoke(main, ["check", "--config", str(config), "--dns"])
    return result.exit_code, result.stdout.splitlines()[-1]


def test_our_key_is_published(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = found(OURS, delegation(with_key(config)))
    assert dns(config, monkeypatch, answer) == (0, "192.0.2.1         secure        published, after 2 ms")


def test_another_key_is_published(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_key(config)
    code, line = dns(config, monkeypatch, found(OURS, delegation(OUR_KEY)))
    assert code == 1
    assert "own-key-unpublished: " in line
    assert "`oe key show --address 192.0.2.1`" in line


def test_a_newer_key_that_is_not_published(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = with_key(config)
    generate(config.parent / "keys", KeyType.ED25519, beside=True)
    new = load(config.parent / "keys").public_keys[0]
    code, line = dns(config, monkeypatch, found(OURS, delegation(old)))
    assert code == 0
    assert f"published is {old.fingerprint}, which signs until {new.fingerprint} is, after 2 ms" in line
    code, line = dns(config, monkeypatch, found(OURS, delegation(old), delegation(new)))
    assert (code, line.split()[2]) == (0, "published,")


def test_a_resolver_that_is_silent_is_told_as_such(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_key(config)
    code, line = dns(config, monkeypatch, missing(OURS, Reason.DNS_TIMEOUT, Grade.INDETERMINATE))
    assert code == 1
    assert line.startswith("192.0.2.1         indeterminate dns-timeout: ")
    assert line.endswith("look at the resolvers, 127.0.0.1:53")
