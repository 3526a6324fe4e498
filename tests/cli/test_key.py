"""`oe key`: keys are made once and published in lines that a zone file takes as they are."""

from ipaddress import ip_address
from pathlib import Path

import dns.zone
import pytest
from click.testing import CliRunner, Result
from dns.rdtypes.IN.IPSECKEY import IPSECKEY

from oe.cli.main import main
from oe.keystore import KeyType, load


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["key", *arguments])


@pytest.mark.parametrize("kind", [kind.value for kind in KeyType])
def test_a_new_key_is_where_the_output_says(tmp_path: Path, kind: str) -> None:
    result = invoke("new", "--dir", str(tmp_path / "keys"), "--type", kind)
    assert result.exit_code == 0
    path = Path(result.stdout.strip())
    assert path.parent == tmp_path / "keys"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(load(tmp_path / "keys").public_keys) == 1


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    arguments = ("new", "--dir", str(tmp_path), "--type", "ed25519")
    invoke(*arguments)
    before = load(tmp_path).public_keys
    assert invoke(*arguments).exit_code == 2
    assert load(tmp_path).public_keys == before


def test_a_rollover_puts_a_key_beside_the_first(tmp_path: Path) -> None:
    arguments = ("new", "--dir", str(tmp_path), "--type", "ed25519")
    invoke(*arguments)
    assert "--beside" in invoke(*arguments).stderr
    assert invoke(*arguments, "--beside").stdout == f"{tmp_path}/0002-ed25519.pem\n"
    assert len(invoke("show", "--dir", str(tmp_path), "--address", "192.0.2.1").stdout.splitlines()) == 2


def test_without_a_directory_it_is_that_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "oe.toml"
    file.write_text('[paths]\nkeys = "elsewhere"\n')
    monkeypatch.setattr("oe.config.DEFAULT_PATH", file)
    assert invoke("new", "--type", "ed25519").stdout == f"{tmp_path}/elsewhere/0001-ed25519.pem\n"
    file.write_text("[paths]\nkey = 1\n")
    assert invoke("show", "--address", "192.0.2.1").exit_code == 2


@pytest.mark.parametrize("gateway", [None, "192.0.2.1", "2001:db8::1"])
@pytest.mark.parametrize(
    ("address", "owner"),
    [
        ("198.51.100.7", "7.100.51.198.in-addr.arpa."),
        ("2001:db8::7", "7." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa."),
    ],
)
def test_show_prints_a_zone_and_nothing_else(tmp_path: Path, address: str, owner: str, gateway: str | None) -> None:
    invoke("new", "--dir", str(tmp_path), "--type", "ecdsa-p256")
    towards = ["--gateway", gateway] if gateway else []
    result = invoke("show", "--dir", str(tmp_path), "--address", address, *towards)
    assert result.exit_code == 0
    zone = dns.zone.from_text(result.stdout, origin="arpa.", check_origin=False, relativize=False)
    ((name, _, record),) = zone.iterate_rdatas("IPSECKEY")
    assert isinstance(record, IPSECKEY)
    assert str(name) == owner
    assert record.key == load(tmp_path).public_keys[0].data
    assert str(record.gateway) == (str(ip_address(gateway)) if gateway else "None")


def test_show_without_a_key_says_how_to_make_one(tmp_path: Path) -> None:
    result = invoke("show", "--dir", str(tmp_path), "--address", "192.0.2.1")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "oe key new" in result.stderr


def test_a_word_is_no_address(tmp_path: Path) -> None:
    result = invoke("show", "--dir", str(tmp_path), "--address", "home")
    assert result.exit_code == 2
    assert "no IPv4 or IPv6 address" in result.stderr
