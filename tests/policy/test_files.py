"""Policy files: what is read, what is told, and when the policy closes."""

import os
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oe.errors import ConfigError
from oe.model import Group, Network
from oe.policy import files
from oe.policy.files import MOST_PROBLEMS, PolicyLoad, load_policies, parse_network
from oe.policy.select import select
from tests.policy.nets import networks, steady

ALLOWED = "an address or a net per line, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"


def load(directory: Path, **groups: str | bytes) -> PolicyLoad:
    """Write the groups (`private_or_clear` for the file `private-or-clear`) and load them."""
    for name, content in groups.items():
        octets = content.encode() if isinstance(content, str) else content
        (directory / Group(name.replace("_", "-"))).write_bytes(octets)
    return load_policies(directory)


def told(loaded: PolicyLoad, directory: Path) -> list[str]:
    return [str(problem).replace(f"{directory}/", "") for problem in loaded.problems]


def test_the_format(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        private="# secrets\n\n10.0.0.0/8\t# all of them\n  2001:db8::/32  \n",
        private_or_clear="0.0.0.0/0\r\n::/0",
        clear="192.0.2.7#printer\n2001:DB8:0::1\n",
    )
    assert loaded.problems == ()
    assert not loaded.policies.closed
    assert {(str(one.network), one.group, one.line, one.text) for one in loaded.policies.entries} == {
        ("10.0.0.0/8", Group.PRIVATE, 3, "10.0.0.0/8"),
        ("2001:db8::/32", Group.PRIVATE, 4, "2001:db8::/32"),
        ("0.0.0.0/0", Group.PRIVATE_OR_CLEAR, 1, "0.0.0.0/0"),
        ("::/0", Group.PRIVATE_OR_CLEAR, 2, "::/0"),
        ("192.0.2.7/32", Group.CLEAR, 1, "192.0.2.7"),
        ("2001:db8::1/128", Group.CLEAR, 2, "2001:DB8:0::1"),
    }
    assert {one.file for one in loaded.policies.entries} == {
        str(tmp_path / name) for name in ("private", "private-or-clear", "clear")
    }


def test_missing_files_are_empty_groups(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert (loaded.policies.entries, loaded.problems, loaded.policies.closed) == ((), (), False)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("10.1.2.3/8", "host bits are set; allowed: 10.0.0.0/8 for the net, 10.1.2.3 for the host"),
        ("2001:db8::1/32", "host bits are set; allowed: 2001:db8::/32 for the net, 2001:db8::1 for the host"),
        ("10.0.0.0/33", f"no address and no net (names are not looked up); allowed: {ALLOWED}"),
        ("10.0.0.0/-1", f"the prefix length is no decimal number; allowed: {ALLOWED}"),
        ("10.0.0.0/255.0.0.0", f"the prefix length is no decimal number; allowed: {ALLOWED}"),
        ("10.0.0.0/", f"the prefix length is no decimal number; allowed: {ALLOWED}"),
        ("10.0.0.0/8/8", f"the prefix length is no decimal number; allowed: {ALLOWED}"),
        ("/8", f"no address and no net (names are not looked up); allowed: {ALLOWED}"),
        ("10/8", f"no address and no net (names are not looked up); allowed: {ALLOWED}"),
        ("10.0.0.01", f"no address and no net (names are not looked up); allowed: {ALLOWED}"),
        ("www.example.net", f"no address and no net (names are not looked up); allowed: {ALLOWED}"),
        ("2130706433", f"no address and no net (names are not looked up); allowed: {ALLOWED}"),
        ("10.0.0.0/8 tcp 0 25", f"protocols and ports cannot be given in this version; allowed: {ALLOWED}"),
        ("fe80::1%eth0", f"an interface cannot be given; allowed: {ALLOWED}"),
        (
            "::ffff:10.0.0.1",
            "an IPv4 address in IPv6 clothes never occurs on the wire; allowed: plain IPv4",
        ),
    ],
)
def test_bad_lines(tmp_path: Path, line: str, why: str) -> None:
    loaded = load(tmp_path, clear=f"192.0.2.1\n{line}\n192.0.2.2\n")
    assert told(loaded, tmp_path) == [f"clear:2: '{line}': {why}"]
    assert [str(one.network) for one in loaded.policies.entries] == ["192.0.2.1/32", "192.0.2.2/32"]
    assert not loaded.policies.closed


def test_a_bad_line_in_private_closes_the_policy(tmp_path: Path) -> None:
    loaded = load(tmp_path, private="10.0.0.0/8\n10.1.0.0.0/16\n", clear="192.0.2.0/24", block="198.51.100.0/24")
    assert loaded.policies.closed
    for address, group in [
        ("10.0.0.1", Group.PRIVATE),
        ("192.0.2.1", Group.PRIVATE),
        ("203.0.113.1", Group.PRIVATE),
        ("2001:db8::1", Group.PRIVATE),
        ("198.51.100.1", Group.BLOCK),
    ]:
        assert select(loaded.policies, ip_address(address)).group is group
    (tmp_path / "private").write_text("10.0.0.0/8\n10.1.0.0/16\n")
    assert not load_policies(tmp_path).policies.closed


def test_the_same_net_in_two_files(tmp_path: Path) -> None:
    loaded = load(tmp_path, clear="\n10.0.0.0/8", private="10.0.0.0/8")
    assert [one.group for one in loaded.policies.entries] == [Group.PRIVATE]
    assert not loaded.policies.closed
    assert told(loaded, tmp_path) == [
        "clear:2: '10.0.0.0/8': 10.0.0.0/8 stands in private (private:1) and in clear (clear:2); "
        "private holds, being the stricter"
    ]


def test_odd_octets(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        clear=b"\xef\xbb\xbf10.0.0.0/8  # caf\xe9\n192.0.2.\xff\n\x1b[31m\n# old mac\r192.0.2.9\r",
        block="192.0.2.٤\n",
    )
    assert [str(one.network) for one in loaded.policies.entries] == ["10.0.0.0/8", "192.0.2.9/32"]
    assert [line.split(": ")[1] for line in told(loaded, tmp_path)] == [
        "'192.0.2.\\u0664'",
        "'192.0.2.\\\\xff'",
        "'\\x1b[31m'",
    ]
    assert [problem.line for problem in loaded.problems] == [1, 2, 3]


def test_long_lines_are_told_in_short(tmp_path: Path) -> None:
    (problem,) = load(tmp_path, clear="x" * 100_000).problems
    assert len(str(problem).replace(str(tmp_path), "")) < 250
    assert "xxx...'" in str(problem)


def test_a_flood_of_bad_lines_is_counted(tmp_path: Path) -> None:
    loaded = load(tmp_path, block="bad\n" * (MOST_PROBLEMS + 7) + "192.0.2.1\n")
    assert len(loaded.problems) == MOST_PROBLEMS + 1
    assert told(loaded, tmp_path)[-1] == f"block: 7 more bad lines; allowed: {ALLOWED}"
    assert len(loaded.policies.entries) == 1


def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("10.0.0.0/8\n")
    (tmp_path / "private").symlink_to("shared")
    loaded = load_policies(tmp_path)
    assert [one.file for one in loaded.policies.entries] == [str(tmp_path / "private")]


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.mkdir()


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_fifo, "not a regular file"),
        (_directory, "Is a directory"),
        (_dangling, "No such file or directory"),
        (_loop, "Too many levels of symbolic links"),
    ],
)
@pytest.mark.parametrize("group", [Group.PRIVATE, Group.CLEAR])
def test_what_cannot_be_read_is_told_and_private_closes(
    tmp_path: Path, make: Callable[[Path], None], why: str, group: Group
) -> None:
    make(tmp_path / group)
    loaded = load_policies(tmp_path)
    assert told(loaded, tmp_path) == [f"{group}: cannot be read: {why}; allowed: a file this daemon may read"]
    assert loaded.policies.closed is (group is Group.PRIVATE)


def test_a_file_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST_FILE", 10)
    assert load(tmp_path, clear="10.0.0.0/8").problems == ()
    loaded = load(tmp_path, clear="10.0.0.0/8\n")
    assert told(loaded, tmp_path) == [
        "clear: cannot be read: larger than 10 octets; allowed: a file this daemon may read"
    ]


def test_without_a_directory_there_is_no_policy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    allowed = "allowed: a directory with the files private, private-or-clear, clear-or-private, clear, block"
    with pytest.raises(ConfigError, match=f"/none: No such file or directory; {allowed}"):
        load_policies(tmp_path / "none")
    with pytest.raises(ConfigError, match=f"/file: Not a directory; {allowed}"):
        load_policies(tmp_path / "file")


@steady
@given(network=networks(4) | networks(6))
def test_every_net_survives_writing_and_reading(network: Network) -> None:
    assert parse_network(str(network)) == network
    assert parse_network(str(network[0])) == ip_network(network[0])


@steady
@given(text=st.text(max_size=40) | st.text("0123456789abcdef:./%", max_size=40))
def test_any_text_is_a_net_or_a_config_error(text: str) -> None:
    try:
        network = parse_network(text)
    except ConfigError:
        return
    assert parse_network(str(network)) == network


@settings(steady, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(octets=st.binary(max_size=200))
def test_any_octets_make_a_policy(tmp_path: Path, octets: bytes) -> None:
    loaded = load(tmp_path, private=octets)
    assert loaded.policies.closed is bool(loaded.problems)
    for problem in loaded.problems:
        assert str(problem).isprintable()
