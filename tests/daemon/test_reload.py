"""What a reload reads, refuses and tells."""

from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import cast

import pytest

from oe.config import load_config
from oe.daemon.reload import Input, read_anew, read_input, report
from oe.errors import ConfigError
from oe.keystore import KeyType, generate
from oe.model import Group, HostPair, PairState, PairStatus
from oe.reasons import Reason

PATHS = '[paths]\npolicies = "policies"\nkeys = "keys"\nrun = "run"\nstate = "state"\n'


class Files:
    """The operator's files, and what a daemon read of them at its start."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "oe.toml"
        (directory / "policies").mkdir()
        self.write("private", "198.51.100.0/24\n")
        self.config.write_text(PATHS)
        self.before = self.start()

    def write(self, group: str, text: str) -> None:
        (self.directory / "policies" / group).write_text(text)

    def start(self) -> Input:
        return read_input(load_config(self.config))

    def reload(self) -> Input:
        return read_anew(self.config, self.before)

    def refused(self) -> str:
        with pytest.raises(ConfigError) as refusal:
            self.reload()
        return str(refusal.value)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_policies_settings_and_keys_are_read_anew(files: Files) -> None:
    files.write("clear", "203.0.113.0/24\n")
    files.config.write_text(f'{PATHS}[gateway]\nserve = ["10.0.0.0/8"]\n[group.private]\ndnssec = "require"\n')
    generate(files.directory / "keys", KeyType.ED25519)
    found = files.reload()
    assert [entry.group for entry in found.policies.policies.entries] == [Group.PRIVATE, Group.CLEAR]
    assert str(found.config.gateway.serve[0]) == "10.0.0.0/8"
    assert len(found.keys.public_keys) == 1


@pytest.mark.parametrize("group", list(Group))
def test_a_bad_line_is_named_with_file_line_found_and_allowed(files: Files, group: Group) -> None:
    files.write(group.value, "# net\n192.0.2.0/33\n")
    refusal = files.refused()
    assert f"policies/{group.value}:2: '192.0.2.0/33': " in refusal
    assert "allowed: an address or a net per line" in refusal


def test_a_daemon_starts_with_a_bad_line_all_the_same(files: Files) -> None:
    files.write("private", "nonsense\n")
    assert files.start().policies.policies.closed


def test_every_bad_line_is_told(files: Files) -> None:
    files.write("private", "nonsense\n")
    files.write("clear", "198.51.100.0/24\nmore\n")
    assert len(files.refused().splitlines()) == 2


def test_a_file_with_nearly_the_name_of_a_group_is_told_and_stops_nothing(files: Files) -> None:
    assert files.before.misnamed == ()
    for name in ("privat", "Clear", "private~", "README"):
        files.write(name, "203.0.113.0/24\n")
    for found in (files.start(), files.reload()):
        assert [told.partition(":")[0].rpartition("/")[2] for told in found.misnamed] == ["Clear", "privat"]
        assert found.misnamed[1].endswith('block (did you mean "private"?)')
        assert [entry.group for entry in found.policies.policies.entries] == [Group.PRIVATE]


def test_a_configuration_that_cannot_be_read(files: Files) -> None:
    files.config.write_text(f'{PATHS}[gateway]\nsetup-budget = "soon"\n')
    assert 'gateway.setup-budget: found "soon"; allowed: a duration' in files.refused()
    files.config.unlink()
    assert "no such file" in files.refused()


def test_a_key_that_others_may_read(files: Files) -> None:
    generate(files.directory / "keys", KeyType.ED25519).chmod(0o644)
    assert "0001-ed25519.pem: a private key with mode 0644" in files.refused()


@pytest.mark.parametrize(
    ("lines", "key", "found", "allowed"),
    [
        ('[gateway]\nbackend = "xfrm"', "gateway.backend", "xfrm", "auto"),
        ("[gateway]\nqueues = [60, 61]", "gateway.queues", "[60, 61]", "[50, 51]"),
        ('[gateway]\nsetup-budget = "5s"', "gateway.setup-budget", "5s", "3s"),
        ("[ike]\nport = 5500", "ike.port", "5500", "500"),
        ('[dns]\nresolvers = ["::1"]', "dns.resolvers", "[[::1]:53]", "[127.0.0.1:53]"),
    ],
)
def test_what_needs_a_restart_is_refused_by_name(files: Files, lines: str, key: str, found: str, allowed: str) -> None:
    files.config.write_text(f'{PATHS}{lines}\n[log]\nlevel = "debug"\n')
    assert files.refused() == (
        f"{files.config}: {key}: found {found}; allowed while oe runs: {allowed}, as at its start; "
        "restart oe to change it"
    )


def test_another_directory_needs_a_restart(files: Files) -> None:
    files.config.write_text(PATHS.replace('"policies"', '"elsewhere"'))
    assert f"paths.policies: found {files.directory}/elsewhere" in files.refused()


def test_the_report_counts_by_group_and_names_nets_and_pairs(files: Files) -> None:
    files.write("private", "198.51.100.0/25\n")
    files.write("private-or-clear", "198.51.100.0/24\n2001:db8::/32\n")
    files.config.write_text(f'{PATHS}[log]\nlevel = "debug"\njson = true\n')
    pair = HostPair(ip_address("192.0.2.1"), ip_address("198.51.100.200"))
    nothing = None, None, None, None, None, None, None, None
    status = PairStatus(pair, Group.PRIVATE, PairState.BLOCKED, Reason.NO_KEY, "", 0, *nothing, held=0, lost=0)
    told = report(files.before, files.reload(), (status,), 7)
    groups = {row.pop("group"): tuple(row.values()) for row in cast("list[dict[str, object]]", told["groups"])}
    assert list(groups) == list(Group)
    assert groups["private"] == (1, 1, 1, 1)
    assert groups["private-or-clear"] == (2, 2, 0, 0)
    assert groups["block"] == (0, 0, 0, 0)
    assert told["settings"] == ["log.level", "log.json"]
    assert (told["keys"], told["pairs_let_go"], told["pairs_kept"]) == ([], 1, 7)
    assert list(cast("Iterable[object]", told["nets"])) == [
        {"net": "198.51.100.0/24", "was": "private", "is": "private-or-clear"},
        {"net": "198.51.100.0/25", "was": None, "is": "private"},
        {"net": "2001:db8::/32", "was": None, "is": "private-or-clear"},
    ]
    assert list(cast("Iterable[object]", told["pairs"])) == [
        {
            "source": "192.0.2.1",
            "destination": "198.51.100.200",
            "group": "private",
            "group_now": "private-or-clear",
            "state": "blocked",
            "reason": "no-key",
        }
    ]
