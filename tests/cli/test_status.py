"""`oe status`: against a real control socket, as table and as JSON."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from oe.cli.main import main
from oe.cli.status import COLUMNS, IKE_COLUMNS, IKE_STYLES, WATCH_INTERVAL, picture
from oe.control import Json
from oe.ike.states import State
from tests.cli.answering import answering

PAIR: dict[str, object] = {
    "source": "2001:db8::1:2:3:4",
    "destination": "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "group": "private-or-clear",
    "state": "protected",
    "reason": "protected-as-initiator",
    "grade": "secure",
    "peer": "2001:db8::9",
    "authentication": "authenticated",
    "held": 0,
    "lost": 3,
    "expires": None,
}
DOCUMENT: Json = {
    "version": "0.1.0",
    "backend": "xfrm",
    "backend_why": "the kernel has ESP",
    "uptime": 3700.5,
    "policy_problems": ["private:3: odd"],
    "pairs": [PAIR, PAIR | {"state": "clear", "reason": "no-key", "grade": None, "peer": None, "expires": 59.9}],
}
IKE_SA: dict[str, object] = {
    "local": "2001:db8::1:2:3:4",
    "local_port": 500,
    "remote": "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "remote_port": 500,
    "nat": None,
    "role": "initiator",
    "state": "established",
    "identity": "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "authentication": "authenticated",
    "key": "3fda174a2ad5678b",
    "key_algorithm": "ECDSA",
    "encryption": "AES-GCM-256",
    "prf": "HMAC-SHA2-512",
    "key_exchange": "X25519",
    "additional_key_exchange": "ML-KEM-768",
    "spi_local": "00000000c0ffee00",
    "spi_remote": "beef000000000001",
    "since": 3700.5,
    "rekey": 59.9,
    "children": 2,
}
NATTED = IKE_SA | {"remote": "2001:db8::99", "remote_port": 61000, "nat": "remote", "additional_key_exchange": None}
NOBODY = IKE_SA | {"identity": None, "key": None, "key_algorithm": None, "authentication": "anonymous"}
BEGUN = IKE_SA | dict.fromkeys(
    ("authentication", "key", "key_algorithm", "encryption", "prf", "key_exchange", "additional_key_exchange", "rekey")
)
BEGUN |= {"state": "started", "remote": "192.0.2.9", "identity": None, "remote_port": 4500, "spi_remote": None}


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """A run directory whose daemon answers with DOCUMENT, and two IKE SAs where it is asked for them."""
    asked = {"ike_sas": [IKE_SA, BEGUN]}
    with answering(tmp_path, {"status": lambda request: dict(DOCUMENT) | (asked if request.get("ike") else {})}):
        yield tmp_path


def invoke(run_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--run-dir", str(run_dir), "status", *arguments])


def test_json_is_the_document_on_one_line(run_dir: Path) -> None:
    result = invoke(run_dir, "--json")
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    assert json.loads(line) == DOCUMENT


def test_the_table_has_a_line_for_each_pair_and_folds_nothing(run_dir: Path) -> None:
    result = invoke(run_dir)
    assert result.exit_code == 0
    headline, problem, heads, protected, clear = result.stdout.splitlines()
    assert headline == "oe 0.1.0, back end xfrm (the kernel has ESP), up 1h01m, 2 pairs: 1 protected, 1 clear"
    assert problem == "policy: private:3: odd"
    assert heads.split() == list(COLUMNS)
    assert protected.split() == [str(PAIR[name]) if PAIR[name] is not None else "-" for name in COLUMNS]
    assert clear.split()[-1] == "59s"


@pytest.mark.parametrize(
    ("net", "found"),
    [("2001:db8::1:2:3:4", 2), ("2001:db8:ffff::/48", 2), ("2001:db8:0:1::/64", 0), ("192.0.2.0/24", 0)],
)
def test_pairs_with_an_end_in_a_net(run_dir: Path, net: str, found: int) -> None:
    assert len(json.loads(invoke(run_dir, "--json", net).stdout)["pairs"]) == found
    assert invoke(run_dir, net).stdout.splitlines()[0].partition("1h01m, ")[2].startswith(f"{found} pairs")


def test_what_is_no_net_is_wrong_use(run_dir: Path) -> None:
    result = invoke(run_dir, "192.0.2.1/24")
    assert result.exit_code == 2
    assert "host bits are set" in result.stderr


def test_how_peers_are_authenticated_is_shown_where_one_is_not() -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(picture(DOCUMENT | {"pairs": [PAIR, PAIR | {"authentication": "anonymous"}]}))
    heads, known, nobody = console.export_text().splitlines()[2:]
    place = heads.index("authentication")
    assert known[place:].split()[0] == "authenticated"
    assert nobody[place:].split()[0] == "anonymous"


def shown(*sas: dict[str, object]) -> list[str]:
    """The lines below the headline."""
    console = Console(width=400, file=io.StringIO(), record=True)
    console.print(picture(DOCUMENT | {"policy_problems": [], "ike_sas": list(sas)}))
    return console.export_text().splitlines()[1:]


def test_ike_sas_stand_in_place_of_the_pairs(run_dir: Path) -> None:
    result = invoke(run_dir, "--ike")
    assert result.exit_code == 0
    headline, problem, heads, established, begun = result.stdout.splitlines()
    assert headline.endswith("up 1h01m, 2 IKE SAs: 1 established, 1 started")
    assert problem == "policy: private:3: odd"
    assert heads.split() == list(IKE_COLUMNS)
    ends = f"{IKE_SA['local']} {IKE_SA['remote']}"
    suite, spis = "AES-GCM-256 HMAC-SHA2-512 X25519+ML-KEM-768", "00000000c0ffee00 beef000000000001"
    who = "initiator established ECDSA 3fda174a2ad5678b"
    assert " ".join(established.split()) == f"{ends} {who} {suite} {spis} 1h01m 59s 2"
    ends = f"{IKE_SA['local']} 192.0.2.9:4500"
    assert " ".join(begun.split()) == f"{ends} initiator started - - 00000000c0ffee00 - 1h01m - 2"


def test_ike_sas_stand_beside_the_pairs_in_json(run_dir: Path) -> None:
    told = json.loads(invoke(run_dir, "--json", "--ike").stdout)
    assert told == DOCUMENT | {"ike_sas": [IKE_SA, BEGUN]}


@pytest.mark.parametrize(("net", "found"), [("192.0.2.0/24", 1), ("2001:db8::/64", 2), ("192.0.3.0/24", 0)])
def test_ike_sas_with_an_end_in_a_net(run_dir: Path, net: str, found: int) -> None:
    assert len(json.loads(invoke(run_dir, "--json", "--ike", net).stdout)["ike_sas"]) == found
    assert f", {found} IKE SA" in invoke(run_dir, "--ike", net).stdout.splitlines()[0]


def test_a_nat_and_the_identity_of_who_is_behind_it_are_shown_where_there_is_one() -> None:
    heads, plain, natted = shown(IKE_SA, NATTED)
    assert heads.split()[:5] == ["local", "remote", "nat", "identity", "role"]
    assert plain.split()[1:4] == [IKE_SA["remote"], "-", IKE_SA["identity"]]
    assert natted.split()[1:4] == ["[2001:db8::99]:61000", "remote", IKE_SA["identity"]]
    assert " HMAC-SHA2-512 X25519 " in natted


def test_a_peer_of_an_ike_sa_that_is_nobody_in_particular() -> None:
    _, nobody = shown(NOBODY)
    assert nobody.split()[4] == "anonymous"


def test_every_state_of_an_ike_sa_is_counted() -> None:
    assert set(IKE_STYLES) == set(State) - {State.GONE}


@pytest.mark.parametrize("arguments", [["--watch"], ["--watch", "--json"]])
def test_watching_asks_again_until_interrupted(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", wait)
    result = invoke(run_dir, *arguments)
    assert result.exit_code == 0
    assert waits == [WATCH_INTERVAL] * 3
    assert result.stdout.count("0.1.0") == (3 if "--json" in arguments else 1)


def test_without_a_daemon_the_exit_code_is_3(tmp_path: Path) -> None:
    result = invoke(tmp_path)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"oe: no oe answers at {tmp_path}/control.sock")
    assert len(result.stderr.splitlines()) == 1


def test_nothing_to_show_yet() -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(picture(DOCUMENT | {"pairs": [], "policy_problems": []}))
    assert "up 1h01m, 0 pairs" in console.export_text()
