"""What people and their tools see of a daemon: log lines, counters, and the status document.

Nothing secret leaves through here, and nothing that a peer or DNS wrote reaches a terminal unescaped.
"""

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO, cast

import structlog

from oe.ike.nat import Nat
from oe.ike.view import IkeSaRow
from oe.messages import Note
from oe.model import ID_NULL, PairStatus
from oe.reasons import Reason

Row = dict[str, str | int | float | None]

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# --- the log --------------------------------------------------------------------------------------------------------


def configure_log(level: str, *, json_lines: bool, stream: TextIO | None = None) -> None:
    """Log lines of `level` (a key of `LEVELS`) and above go to `stream`, standard error by default.

    One line each: for people, or a JSON object. Warnings of the libraries we use come along.
    """
    out = sys.stderr if stream is None else stream
    renderer: structlog.typing.Processor
    if json_lines:
        exceptions: list[structlog.typing.Processor] = [structlog.processors.format_exc_info]
        renderer = structlog.processors.JSONRenderer()
    else:
        # The default formatter for people shows local variables, and with them keys.
        exceptions = []
        renderer = structlog.dev.ConsoleRenderer(
            colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            harmless,
            *exceptions,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Enduring(out))),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(LEVELS[level], logging.WARNING), handlers=[_Libraries()], force=True)


def harmless(_logger: object, _method: str, fields: MutableMapping[str, object]) -> Mapping[str, object]:
    """A structlog processor: strings lose control characters, octets are counted rather than shown."""
    for name, value in fields.items():
        if isinstance(value, bytes | bytearray | memoryview):
            fields[name] = f"({len(value)} octets)"
        elif name != "exc_info" and not isinstance(value, int | float | None):
            fields[name] = printable(str(value))
    return fields


def printable(text: str) -> str:
    """`text` on one line that does nothing to a terminal: what is not printable stands as an escape."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


class _Enduring:
    """A stream that loses what it cannot write: a full disk must not end the protection of anybody."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


class _Libraries(logging.Handler):
    """Takes records of the standard library's logging into ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        log.log(record.levelno, record.getMessage(), library=record.name, exc_info=record.exc_info)


def write_note(note: Note) -> None:
    """Carry out a `Note` of an engine."""
    structlog.get_logger().log(LEVELS[note.level], note.event, **dict(note.fields))


# --- counters -------------------------------------------------------------------------------------------------------


class Counters:
    """How often each `Reason` was met outside the engines, which count for themselves."""

    def __init__(self) -> None:
        self._counts: Counter[Reason] = Counter()

    def count(self, reason: Reason, times: int = 1) -> None:
        self._counts[reason] += times

    def with_those_of(self, *others: Mapping[Reason, int]) -> dict[str, int]:
        """The sums over these counts and `others`, largest first; reasons never met are left out."""
        total = self._counts.copy()
        for other in others:
            total.update(other)
        return {reason.value: times for reason, times in total.most_common() if times}


# --- status ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """What `oe status` says of the daemon itself."""

    version: str
    backend: str
    """xfrm or userspace."""
    backend_why: str
    """One sentence: what the probe found, or that the configuration asks for it."""
    uptime: float
    """Seconds."""
    policy_problems: tuple[str, ...]
    reasons: Mapping[str, int]
    queues: tuple[Mapping[str, int], ...]
    """One row for each netfilter queue: its number and statistics."""


def status_document(
    daemon: DaemonStatus, pairs: Iterable[PairStatus], now: float, ike_sas: Iterable[IkeSaRow] | None = None
) -> dict[str, object]:
    """The document of `oe status --json`; `pairs` in it is an iterator of rows, made as they are read.

    So is `ike_sas`, which is there only when it was asked for.
    """
    document: dict[str, object] = {
        "version": daemon.version,
        "backend": daemon.backend,
        "backend_why": daemon.backend_why,
        "uptime": round(daemon.uptime, 3),
        "policy_problems": list(daemon.policy_problems),
        "reasons": dict(daemon.reasons),
        "queues": [dict(queue) for queue in daemon.queues],
        "pairs": (pair_row(pair, daemon.backend, now) for pair in pairs),
    }
    return document if ike_sas is None else document | {"ike_sas": (ike_row(sa, now) for sa in ike_sas)}


def pair_row(status: PairStatus, backend: str, now: float) -> Row:
    """One pair for `oe status`. What is not known, or not the case, is null; times are seconds.

    `since`: how long the state lasts; `expires`: how long it still will. `key` is the fingerprint of the peer's key,
    SPIs are hexadecimal, and the traffic counts belong to the Child SA in place.
    """
    key, child, counters = status.key, status.child, status.counters
    return {
        "source": str(status.pair.source),
        "destination": str(status.pair.destination),
        "group": status.group.value,
        "state": status.state.value,
        "reason": status.reason.value,
        "detail": status.detail,
        "grade": status.grade.value if status.grade else None,
        "authentication": status.authentication.name.lower() if status.authentication is not None else None,
        "backend": backend,
        "held": status.held,
        "lost": status.lost,
        "since": round(now - status.since, 3),
        "expires": round(max(status.expires - now, 0.0), 3) if status.expires is not None else None,
        "peer": str(status.peer) if status.peer else None,
        "key": key.fingerprint if key else None,
        "key_algorithm": key.algorithm.name if key else None,
        "key_source": status.key_source.value if status.key_source else None,
        "mode": child.mode.value if child else None,
        "spi_in": f"{child.inbound.spi:08x}" if child else None,
        "spi_out": f"{child.outbound.spi:08x}" if child else None,
        "packets_in": counters.inbound_packets if counters else None,
        "packets_out": counters.outbound_packets if counters else None,
        "octets_in": counters.inbound_octets if counters else None,
        "octets_out": counters.outbound_octets if counters else None,
    }


_TRANSLATED = {Nat.WE: "local", Nat.PEER: "remote", Nat.WE | Nat.PEER: "both"}


def ike_row(sa: IkeSaRow, now: float) -> Row:
    """One IKE SA for `oe status --ike`. What is not known, or not the case, is null; times are seconds.

    `nat`: at which end there is one. `since`: how long it lasts; `rekey`: in how long we ask for its successor. As long
    as `authentication` is null, `identity` is what we expect or the peer claims.
    """
    key, suite, identity = sa.peer_key, sa.suite, sa.peer_identity
    return {
        "local": str(sa.local.address),
        "local_port": sa.local.port,
        "remote": str(sa.remote.address),
        "remote_port": sa.remote.port,
        "nat": _TRANSLATED.get(sa.nat),
        "role": sa.role.value,
        "state": sa.state.value,
        "identity": printable(str(identity)) if identity not in (None, ID_NULL) else None,
        "authentication": sa.authentication.name.lower() if sa.authentication is not None else None,
        "key": key.fingerprint if key else None,
        "key_algorithm": key.algorithm.name if key else None,
        "encryption": suite.encryption if suite else None,
        "prf": suite.prf if suite else None,
        "key_exchange": suite.key_exchange if suite else None,
        "additional_key_exchange": suite.additional_key_exchange if suite else None,
        "spi_local": f"{sa.local_spi:016x}",
        "spi_remote": f"{sa.remote_spi:016x}" if sa.remote_spi else None,
        "since": round(now - sa.since, 3),
        "rekey": round(max(sa.rekey - now, 0.0), 3) if sa.rekey is not None else None,
        "children": len(sa.children),
    }
