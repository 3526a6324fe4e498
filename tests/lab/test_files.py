"""Configuration files of the lab's servers."""

from pathlib import Path

from oe.config import Backend, read_config
from oe.lab import files
from oe.lab.plan import CLIENTS, HOST, HOSTS, SIGNED_ZONES, UNSIGNED_ZONES
from oe.model import Group
from oe.policy.files import load_policies


def test_oe_configuration_is_one_that_oe_reads() -> None:
    directory = Path("/run/lab/gate")
    config = read_config(files.oe(HOST["gate"], directory, "userspace").encode(), directory / "oe.toml")
    assert config.paths.policies == directory / "policies"
    assert config.paths.run == directory / "run"
    assert config.gateway.serve == (CLIENTS,)
    assert config.gateway.backend is Backend.USERSPACE
    assert config.gateway.setup_budget == files.SETUP_BUDGET


def test_policy_files_are_read_without_problems(tmp_path: Path) -> None:
    for host in HOSTS:
        if not host.runs_oe:
            continue
        directory = tmp_path / host.name
        directory.mkdir()
        for group, text in files.policies(host).items():
            (directory / group).write_text(text)
        loaded = load_policies(directory)
        assert loaded.problems == ()
        assert sorted(path.name for path in directory.iterdir()) == sorted(group.value for group in Group)


def test_name_servers_know_every_zone() -> None:
    nsd = files.nsd(Path("/run/lab/dns"))
    unbound = files.unbound(HOST["alice"], ["zone. IN DS 1 13 2 00"], "unbound")
    for zone in (*SIGNED_ZONES, *UNSIGNED_ZONES):
        assert f'zonefile: "{zone}.zone"' in nsd
        assert f'local-zone: "{zone}." nodefault' in unbound
        assert f'stub-zone:\n  name: "{zone}."' in unbound
    assert 'trust-anchor: "zone. IN DS 1 13 2 00"' in unbound
    assert 'username: "unbound"' in unbound
