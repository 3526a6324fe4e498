"""The configuration: defaults, every key, and the texts of errors."""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from oe import config
from oe.config import Backend, Config, LogLevel, load_config, read_config
from oe.errors import ConfigError
from oe.model import Group, SocketAddress
from oe.policy.outcome import Anonymous, Dnssec, GroupSettings, Unreachable

FILE = Path("/etc/oe/oe.toml")

EVERYTHING = """
[paths]
policies = "/a/policies"
keys = "keys"
state = "../state"
run = "/a/run"
[gateway]
backend = "userspace"
serve = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]
addresses = ["192.0.2.1", "2001:db8::1"]
setup-budget = "500ms"
queues = [7, 8]
hold-per-pair = 2
hold-in-all = 20
max-pairs = 1000
liveness = "1.5m"
idle = "10m"
child-lifetime = "2h"
child-octets = "500MiB"
[ike]
port = 1500
nat-port = 14500
[dns]
resolvers = ["127.0.0.1", "127.0.0.1:5353", "::1", "[::1]:54"]
[group.private]
dnssec = "require"
published-but-unreachable = "hold"
[group.private-or-clear]
dnssec = "any"
published-but-unreachable = "clear"
anonymous = "ask"
[group.clear-or-private]
dnssec = "require"
anonymous = "accept"
[log]
level = "debug"
json = true
"""


def read(text: str) -> Config:
    return read_config(text.encode(), FILE)


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


def test_the_contract_s_defaults() -> None:
    found = read("")
    assert found == Config()
    assert found.paths.policies == Path("/etc/oe/policies")
    assert found.paths.keys == Path("/etc/oe/keys")
    assert found.paths.state == Path("/var/lib/oe")
    assert found.paths.run == Path("/run/oe")
    assert found.gateway.backend is Backend.AUTO
    assert (found.gateway.serve, found.gateway.addresses) == ((), ())
    assert found.gateway.setup_budget == 3.0
    assert found.gateway.queues == (50, 51)
    assert (found.gateway.hold_per_pair, found.gateway.hold_in_all) == (64, 16384)
    assert (found.gateway.max_pairs, found.gateway.liveness, found.gateway.child_lifetime) == (100_000, 3.0, 3600.0)
    assert found.gateway.idle == 1200.0
    assert found.gateway.child_octets == 64 << 30
    assert (found.ike.port, found.ike.nat_port) == (500, 4500)
    assert found.dns.resolvers == (SocketAddress(ip_address("127.0.0.1"), 53),)
    assert (found.log.level, found.log.json_lines) == (LogLevel.INFO, False)
    for group in Group:
        assert found.settings(group) == GroupSettings(Dnssec.PREFER, Unreachable.AUTO)


def test_every_key() -> None:
    found = read(EVERYTHING)
    assert found.paths.policies == Path("/a/policies")
    assert found.paths.keys == Path("/etc/oe/keys")
    assert found.paths.state == Path("/etc/oe/../state")
    assert found.paths.run == Path("/a/run")
    assert found.gateway.backend is Backend.USERSPACE
    assert found.gateway.serve == tuple(map(ip_network, ("10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32")))
    assert found.gateway.addresses == tuple(map(ip_address, ("192.0.2.1", "2001:db8::1")))
    assert (found.gateway.setup_budget, found.gateway.liveness, found.gateway.child_lifetime) == (0.5, 90.0, 7200.0)
    assert found.gateway.idle == 600.0
    assert found.gateway.child_octets == 500 << 20
    assert found.gateway.queues == (7, 8)
    assert (found.gateway.hold_per_pair, found.gateway.hold_in_all, found.gateway.max_pairs) == (2, 20, 1000)
    assert (found.ike.port, found.ike.nat_port) == (1500, 14500)
    assert [str(one) for one in found.dns.resolvers] == ["127.0.0.1:53", "127.0.0.1:5353", "[::1]:53", "[::1]:54"]
    assert found.settings(Group.PRIVATE) == GroupSettings(Dnssec.REQUIRE, Unreachable.HOLD)
    assert found.settings(Group.PRIVATE_OR_CLEAR) == GroupSettings(Dnssec.ANY, Unreachable.CLEAR, Anonymous.ASK)
    assert found.settings(Group.CLEAR_OR_PRIVATE) == GroupSettings(Dnssec.REQUIRE, anonymous=Anonymous.ACCEPT)
    assert found.settings(Group.CLEAR) == found.settings(Group.BLOCK) == GroupSettings()
    assert (found.log.level, found.log.json_lines) == (LogLevel.DEBUG, True)


def test_the_default_table_of_the_contract_reads_as_defaults() -> None:
    text = """
    [paths]
    policies = "/etc/oe/policies"
    keys     = "/etc/oe/keys"
    state    = "/var/lib/oe"
    run      = "/run/oe"
    [gateway]
    backend  = "auto"
    serve    = []
    addresses = []
    setup-budget = "3s"
    [dns]
    resolvers = ["127.0.0.1"]
    [group.private-or-clear]
    dnssec = "prefer"
    published-but-unreachable = "auto"
    """
    assert read(text) == Config()


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValidationError):
        Config().gateway.setup_budget = 1.0


NET = "a net with the host bits zero, such as 192.0.2.0/24 or 2001:db8::/32"
OWN = "an address of this machine, such as 192.0.2.1 or 2001:db8::1"
RESOLVER = "address, address:port or [v6]:port, such as 127.0.0.1, 127.0.0.1:5353, [::1]:53"
UNITS = "as text with one of the units ms, s, m, h"
SIZE = 'a size from "1MiB" to "1TiB", as text with one of the units MiB, GiB, TiB'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("paths.run = 3", "paths.run: found 3; allowed: a path, as text"),
        ('paths.run = ""', 'paths.run: found ""; allowed: a path, as text'),
        (
            'gateway.backend = "xfmr"',
            'gateway.backend: found "xfmr"; allowed: auto, xfrm, userspace (did you mean "xfrm"?)',
        ),
        ("gateway.backend = true", "gateway.backend: found true; allowed: auto, xfrm, userspace"),
        ('gateway.serve = ["10.0.0.1/8"]', f'gateway.serve.0: found "10.0.0.1/8"; allowed: {NET}'),
        ('gateway.serve = ["10.0.0.0/8", 7]', f"gateway.serve.1: found 7; allowed: {NET}"),
        ('gateway.serve = "10.0.0.0/8"', 'gateway.serve: found "10.0.0.0/8"; allowed: a list'),
        ('gateway.addresses = ["0.0.0.0"]', f'gateway.addresses.0: found "0.0.0.0"; allowed: {OWN}'),
        ('gateway.addresses = ["ff02::1"]', f'gateway.addresses.0: found "ff02::1"; allowed: {OWN}'),
        ('gateway.addresses = ["fe80::1%eth0"]', f'gateway.addresses.0: found "fe80::1%eth0"; allowed: {OWN}'),
        ("gateway.addresses = [1]", f"gateway.addresses.0: found 1; allowed: {OWN}"),
        (
            "gateway.setup-budget = 3",
            f'gateway.setup-budget: found 3; allowed: a duration from "100ms" to "1m", {UNITS}',
        ),
        (
            'gateway.setup-budget = "99ms"',
            f'gateway.setup-budget: found "99ms"; allowed: a duration from "100ms" to "1m", {UNITS}',
        ),
        (
            'gateway.liveness = "1d"',
            f'gateway.liveness: found "1d"; allowed: a duration from "1s" to "1h", {UNITS}',
        ),
        ("gateway.child-octets = 1000000", f"gateway.child-octets: found 1000000; allowed: {SIZE}"),
        ('gateway.child-octets = "2TiB"', f'gateway.child-octets: found "2TiB"; allowed: {SIZE}'),
        (
            "gateway.queues = [5, 5]",
            "gateway.queues: found [5, 5]; allowed: a list of two different numbers from 0 to 65535",
        ),
        ("gateway.queues = [5]", "gateway.queues: found [5]; allowed: a list of two different numbers from 0 to 65535"),
        ("gateway.queues = [5, 65536]", "gateway.queues.1: found 65536; allowed: a whole number from 0 to 65535"),
        ("gateway.hold-per-pair = true", "gateway.hold-per-pair: found true; allowed: a whole number from 1 to 65536"),
        ("gateway.hold-per-pair = 1.0", "gateway.hold-per-pair: found 1.0; allowed: a whole number from 1 to 65536"),
        (
            "gateway = { hold-per-pair = 9, hold-in-all = 3 }",
            "gateway: found {hold-per-pair = 9, hold-in-all = 3}; allowed: hold-per-pair no larger than hold-in-all",
        ),
        ("ike.port = 0", "ike.port: found 0; allowed: a whole number from 1 to 65535"),
        ("ike.port = 4500", "ike: found {port = 4500}; allowed: two different numbers for port and nat-port"),
        ("dns.resolvers = []", "dns.resolvers: found []; allowed: at least one resolver"),
        ('dns.resolvers = ["localhost"]', f'dns.resolvers.0: found "localhost"; allowed: {RESOLVER}'),
        ('dns.resolvers = ["127.0.0.1:0"]', f'dns.resolvers.0: found "127.0.0.1:0"; allowed: {RESOLVER}'),
        ('dns.resolvers = ["127.0.0.1:65536"]', f'dns.resolvers.0: found "127.0.0.1:65536"; allowed: {RESOLVER}'),
        ('dns.resolvers = ["[::1]"]', f'dns.resolvers.0: found "[::1]"; allowed: {RESOLVER}'),
        ('dns.resolvers = ["[::1]:٥٣"]', f'dns.resolvers.0: found "[::1]:\\u0665\\u0663"; allowed: {RESOLVER}'),
        (
            'log.level = "warn"',
            'log.level: found "warn"; allowed: debug, info, warning, error (did you mean "warning"?)',
        ),
        ("log.json = 1", "log.json: found 1; allowed: true or false"),
        ("gateway = 3", "gateway: found 3; allowed: a table"),
        ("[[gateway]]", "gateway: found [{}]; allowed: a table"),
        (
            'group.private.published-but-unreachable = "clear"',
            'group.private.published-but-unreachable: found "clear"; allowed: hold, block, auto',
        ),
        (
            'group.clear-or-private.published-but-unreachable = "clear"',
            "group.clear-or-private.published-but-unreachable: unknown key; allowed: dnssec, anonymous",
        ),
        (
            'group.private.anonymous = "accept"',
            "group.private.anonymous: unknown key; allowed: dnssec, published-but-unreachable",
        ),
        (
            'group.clear-or-private.anonymous = "ask"',
            'group.clear-or-private.anonymous: found "ask"; allowed: no, accept',
        ),
        (
            'group.clear.dnssec = "any"',
            "group.clear: unknown key; allowed: private, private-or-clear, clear-or-private",
        ),
        (
            'group.privat-or-clear.dnssec = "any"',
            "group.privat-or-clear: unknown key; allowed: private, private-or-clear, clear-or-private "
            '(did you mean "private-or-clear"?)',
        ),
        (
            'group.private.dnsec = "any"',
            'group.private.dnsec: unknown key; allowed: dnssec, published-but-unreachable (did you mean "dnssec"?)',
        ),
        (
            "ike.nat_port = 4501",
            "ike.nat_port: unknown key; allowed: port, nat-port, additional-key-exchange, crash-tokens "
            '(did you mean "nat-port"?)',
        ),
        ("log.json_lines = true", "log.json_lines: unknown key; allowed: level, json"),
        (
            '"a\\nb".c = 1',
            '"a\\nb": unknown key; allowed: paths, gateway, ike, dns, group, log',
        ),
    ],
)
def test_one_problem_is_one_line(text: str, expected: str) -> None:
    assert complaint(text) == f"/etc/oe/oe.toml: {expected}"


def test_all_problems_are_told_at_once() -> None:
    text = """
    lgo.level = "info"
    [gateway]
    backend = "kernel"
    setup-budgt = "3s"
    [ike]
    port = -1
    """
    assert complaint(text).splitlines() == [
        "/etc/oe/oe.toml: 4 problems",
        '  gateway.backend: found "kernel"; allowed: auto, xfrm, userspace',
        "  gateway.setup-budgt: unknown key; allowed: backend, serve, addresses, setup-budget, queues, hold-per-pair, "
        "hold-in-all, max-pairs, liveness, idle, child-lifetime, child-octets, ike-lifetime "
        '(did you mean "setup-budget"?)',
        "  ike.port: found -1; allowed: a whole number from 1 to 65535",
        '  lgo: unknown key; allowed: paths, gateway, ike, dns, group, log (did you mean "log"?)',
    ]


def test_what_was_found_is_shown_in_short() -> None:
    assert len(complaint(f'log.level = "{"x" * 1000}"')) < 200


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"[gateway\n", "line 1"),
        (b"a = 1\na = 2\n", "line 2"),
        (b"\xff", "utf-8"),
        (b"a = " + b"[" * 100_000, "recursion"),
    ],
)
def test_no_toml(text: bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=rf"^/etc/oe/oe.toml: no valid TOML: .*{why}.*; allowed: TOML 1.0 in UTF-8$"):
        read_config(text, FILE)


@settings(deadline=None, derandomize=True)
@given(octets=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_octets_are_a_configuration_or_a_config_error(octets: bytes) -> None:
    try:
        found = read_config(octets, FILE)
    except ConfigError:
        return
    assert found == Config()


# --- files ----------------------------------------------------------------------------------------------------------


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    file = tmp_path / "oe.toml"
    file.write_text('paths.run = "run"')
    assert load_config(file).paths.run == tmp_path / "run"


def test_without_a_file_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "DEFAULT_PATH", tmp_path / "oe.toml")
    assert load_config() == Config()
    (tmp_path / "oe.toml").write_text("ike.port = 501")
    assert load_config().ike.port == 501


def test_a_named_file_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = "allowed: a readable TOML file"
    with pytest.raises(ConfigError, match=f"/none.toml: no such file; {allowed}"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=f": Is a directory; {allowed}"):
        load_config(tmp_path)
    monkeypatch.setattr(config, "DEFAULT_PATH", tmp_path / "dangling")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=f"/dangling: no such file; {allowed}"):
        load_config()


def test_a_file_too_large(tmp_path: Path) -> None:
    file = tmp_path / "oe.toml"
    file.write_bytes(b"#" * (config.LARGEST_FILE + 1))
    with pytest.raises(ConfigError, match="found more than 1048576 octets"):
        load_config(file)
