"""Log lines, counters and the status document: complete, and harmless to those who read them."""

import errno
import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from oe.ike.nat import Nat
from oe.ike.sa import Role
from oe.ike.states import State
from oe.ike.view import IkeSaRow, Suite
from oe.messages import Note
from oe.model import (
    ID_NULL,
    Anonymity,
    ChildCounters,
    ChildSa,
    EspCipher,
    EspSa,
    Grade,
    Group,
    HostPair,
    Identity,
    IdentityKind,
    KeyAlgorithm,
    Mode,
    PairState,
    PairStatus,
    PublicKey,
    RecordKind,
    Secret,
    SocketAddress,
)
from oe.observe import Counters, DaemonStatus, configure_log, ike_row, pair_row, printable, status_document, write_note
from oe.reasons import Reason

NOW = 1000.0
PAIR = HostPair(ip_address("192.0.2.1"), ip_address("198.51.100.7"))
KEY = PublicKey(KeyAlgorithm.RSA, b"\x03\x01\x00\x01" + b"\xc1" * 384)
CLEAR = PairStatus(
    pair=PAIR,
    group=Group.PRIVATE_OR_CLEAR,
    state=PairState.CLEAR,
    reason=Reason.NO_KEY,
    detail="",
    since=NOW - 2.5,
    expires=NOW + 60,
    peer=None,
    key=None,
    key_source=None,
    grade=Grade.INSECURE,
    authentication=None,
    child=None,
    counters=None,
    held=0,
    lost=1,
)
CHILD = ChildSa(
    id=3,
    pair=PAIR,
    local=ip_address("192.0.2.1"),
    remote=ip_address("198.51.100.7"),
    inbound=EspSa(0xC0FFEE, EspCipher.AES_GCM_16_256, Secret(b"in" * 18)),
    outbound=EspSa(0xBEEF0001, EspCipher.AES_GCM_16_256, Secret(b"ou" * 18)),
    esn=True,
    mode=Mode.TUNNEL,
    encapsulation=None,
    lifetime=3600,
    fail_closed=False,
)
PROTECTED = replace(
    CLEAR,
    state=PairState.PROTECTED,
    reason=Reason.PROTECTED_AS_INITIATOR,
    peer=CHILD.remote,
    key=KEY,
    key_source=RecordKind.IPSECKEY,
    grade=Grade.SECURE,
    expires=None,
    child=CHILD,
    counters=ChildCounters(3, 10, 1000, 20, 2000),
)
IKE_SA = IkeSaRow(
    local_spi=0xC0FFEE00,
    remote_spi=0xBEEF000000000001,
    role=Role.RESPONDER,
    state=State.ESTABLISHED,
    local=SocketAddress(ip_address("192.0.2.1"), 4500),
    remote=SocketAddress(ip_address("198.51.100.7"), 61000),
    nat=Nat.PEER,
    peer_identity=Identity.of(ip_address("10.0.0.7")),
    peer_key=KEY,
    authentication=Anonymity.AUTHENTICATED,
    suite=Suite("AES-GCM-256", "HMAC-SHA2-512", "X25519", "ML-KEM-768"),
    since=NOW - 250.0,
    rekey=NOW + 3600.0,
    children=(3, 4),
)

Log = Callable[..., io.StringIO]


@pytest.fixture
def log() -> Log:
    """Configures the log to write into the buffer that is returned."""

    def configure(level: str = "debug", *, json_lines: bool = False) -> io.StringIO:
        buffer = io.StringIO()
        configure_log(level, json_lines=json_lines, stream=buffer)
        return buffer

    return configure


@pytest.mark.parametrize("json_lines", [False, True])
def test_a_note_is_one_line(log: Log, json_lines: bool) -> None:
    lines = log(json_lines=json_lines)
    write_note(Note("info", "pair-protected", (("destination", "198.51.100.7"), ("held", 2))))
    (line,) = lines.getvalue().splitlines()
    for part in ("info", "pair-protected", "destination", "198.51.100.7", "held", "2"):
        assert part in line
    if json_lines:
        assert json.loads(line)["held"] == 2


def test_lower_levels_are_left_out(log: Log) -> None:
    lines = log("warning")
    write_note(Note("info", "unimportant"))
    write_note(Note("error", "important"))
    assert "unimportant" not in lines.getvalue()
    assert "important" in lines.getvalue()


@pytest.mark.parametrize("json_lines", [False, True])
def test_secrets_and_octets_are_not_shown(log: Log, json_lines: bool) -> None:
    lines = log(json_lines=json_lines)
    structlog.get_logger().info("installed", child=CHILD, key=Secret(b"top secret"), raw=b"top secret")
    assert "secret" not in lines.getvalue()
    assert "(10 octets)" in lines.getvalue()


@pytest.mark.parametrize("json_lines", [False, True])
def test_a_traceback_shows_no_variables(log: Log, json_lines: bool) -> None:
    lines = log(json_lines=json_lines)

    def sign(key: str) -> None:
        raise ValueError(f"no such curve ({len(key)} digits)")

    try:
        sign("5ec4e7")
    except ValueError:
        structlog.get_logger().exception("task-failed")
    assert "no such curve" in lines.getvalue()
    assert "5ec4e7" not in lines.getvalue().replace('sign("5ec4e7")', "").replace('sign(\\"5ec4e7\\")', "")


def test_a_peer_cannot_write_to_the_terminal(log: Log) -> None:
    lines = log()
    write_note(Note("warning", "refused", (("detail", "\x1b[2J\nroot logged in\r"),)))
    (line,) = lines.getvalue().splitlines()
    assert line.isprintable()
    assert "root logged in" in line


def test_libraries_warn_through_the_same_log(log: Log) -> None:
    lines = log(json_lines=True)
    logging.getLogger("asyncio").warning("slow %s", "callback")
    logging.getLogger("asyncio").info("of no interest")
    (line,) = lines.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["level"], entry["library"]) == ("slow callback", "warning", "asyncio")


@given(st.text())
def test_printable_text_is_printable_and_plain_text_stays(text: str) -> None:
    assert printable(text).isprintable()
    if text.isprintable():
        assert printable(text) == text


def test_counters_add_up_and_the_largest_comes_first() -> None:
    counters = Counters()
    counters.count(Reason.HOLD_FULL)
    counters.count(Reason.ESP_REPLAYED, 5)
    together = counters.with_those_of({Reason.HOLD_FULL: 6, Reason.NO_KEY: 0}, {Reason.ESP_REPLAYED: 1})
    assert list(together.items()) == [("hold-full", 7), ("esp-replayed", 6)]


def test_counters_are_not_changed_by_reading_them() -> None:
    counters = Counters()
    counters.with_those_of({Reason.NO_KEY: 1})
    assert counters.with_those_of() == {}


def test_a_clear_pair() -> None:
    row = pair_row(CLEAR, "xfrm", NOW)
    expected = {
        "source": "192.0.2.1",
        "destination": "198.51.100.7",
        "group": "private-or-clear",
        "state": "clear",
        "reason": "no-key",
        "grade": "insecure",
        "backend": "xfrm",
        "held": 0,
        "lost": 1,
        "since": 2.5,
        "expires": 60.0,
    }
    assert expected.items() <= row.items()
    assert {row[name] for name in ("peer", "key", "key_source", "mode", "spi_in", "packets_in")} == {None}


def test_a_protected_pair() -> None:
    row = pair_row(PROTECTED, "userspace", NOW)
    expected = {
        "state": "protected",
        "backend": "userspace",
        "expires": None,
        "peer": "198.51.100.7",
        "key": KEY.fingerprint,
        "key_algorithm": "RSA",
        "key_source": "IPSECKEY",
        "mode": "tunnel",
        "spi_in": "00c0ffee",
        "spi_out": "beef0001",
        "packets_in": 10,
        "octets_in": 1000,
        "packets_out": 20,
        "octets_out": 2000,
    }
    assert expected.items() <= row.items()


def test_what_should_be_over_expires_now() -> None:
    assert pair_row(replace(CLEAR, expires=NOW - 1), "xfrm", NOW)["expires"] == 0.0


def test_the_document_is_json_but_for_its_lazy_pairs() -> None:
    daemon = DaemonStatus("0.1.0", "xfrm", "the kernel has ESP", 12.34567, ("a: b",), {"no-key": 2}, ({"number": 50},))
    document = status_document(daemon, [CLEAR, PROTECTED], NOW)
    pairs = document.pop("pairs")
    assert isinstance(pairs, Iterator)
    assert [row["state"] for row in pairs] == ["clear", "protected"]
    assert json.loads(json.dumps(document)) == {
        "version": "0.1.0",
        "backend": "xfrm",
        "backend_why": "the kernel has ESP",
        "uptime": 12.346,
        "policy_problems": ["a: b"],
        "reasons": {"no-key": 2},
        "queues": [{"number": 50}],
    }


def test_ike_sas_are_in_the_document_only_when_asked_for() -> None:
    daemon = DaemonStatus("0.1.0", "xfrm", "the kernel has ESP", 1.0, (), {}, ())
    assert "ike_sas" not in status_document(daemon, [], NOW)
    for asked in ((), (IKE_SA,)):
        rows = status_document(daemon, [], NOW, asked)["ike_sas"]
        assert isinstance(rows, Iterator)
        assert list(rows) == [ike_row(sa, NOW) for sa in asked]


def test_an_established_ike_sa() -> None:
    assert ike_row(IKE_SA, NOW) == {
        "local": "192.0.2.1",
        "local_port": 4500,
        "remote": "198.51.100.7",
        "remote_port": 61000,
        "nat": "remote",
        "role": "responder",
        "state": "established",
        "identity": "10.0.0.7",
        "authentication": "authenticated",
        "key": KEY.fingerprint,
        "key_algorithm": "RSA",
        "encryption": "AES-GCM-256",
        "prf": "HMAC-SHA2-512",
        "key_exchange": "X25519",
        "additional_key_exchange": "ML-KEM-768",
        "spi_local": "00000000c0ffee00",
        "spi_remote": "beef000000000001",
        "since": 250.0,
        "rekey": 3600.0,
        "children": 2,
    }


def test_an_ike_sa_of_which_little_is_known_yet() -> None:
    begun = replace(IKE_SA, remote_spi=0, state=State.STARTED, nat=Nat.NOBODY, suite=None, rekey=None, children=())
    row = ike_row(replace(begun, peer_identity=None, peer_key=None, authentication=None), NOW)
    ends, whose = {"local", "local_port", "remote", "remote_port"}, {"role", "state", "spi_local", "since", "children"}
    assert {name for name, value in row.items() if value is not None} == ends | whose


def test_an_ike_sa_with_nobody_in_particular() -> None:
    row = ike_row(replace(IKE_SA, peer_identity=ID_NULL, peer_key=None, authentication=Anonymity.ANONYMOUS), NOW)
    assert (row["identity"], row["key"], row["authentication"]) == (None, None, "anonymous")


def test_an_identity_does_nothing_to_a_terminal() -> None:
    row = ike_row(replace(IKE_SA, peer_identity=Identity(IdentityKind.FQDN, b"a\x1b[2J")), NOW)
    assert row["identity"] == "@a\\x1b[2J"


def test_a_rekey_that_is_late_is_due_now() -> None:
    assert ike_row(replace(IKE_SA, rekey=NOW - 1), NOW)["rekey"] == 0.0


class Full(io.StringIO):
    """A disk that takes `room` more writes."""

    room = 0

    def write(self, text: str) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= 1
        return super().write(text)


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    stream = Full()
    configure_log("info", json_lines=False, stream=stream)
    structlog.get_logger().info("lost")
    stream.room = 1
    structlog.get_logger().info("kept")
    assert "kept" in stream.getvalue()
    assert "lost" not in stream.getvalue()
