"""The control socket: how `oe status` and its like ask a running daemon.

A unix stream socket in the run directory. A request is one line of JSON, `{"ask": VERB, …}`; so is its answer:
`{"ok": true, …}`, or `{"ok": false, "error": TEXT}`, with `"bad_input": true` when it is the operator's files that
cannot be used. A connection may carry several requests, one after the other.

Only root and the daemon's own user may ask: the socket's mode says so, and each peer's credentials are looked at, too.
Who holds a lock on the run directory is its daemon. The kernel drops the lock when the daemon dies, so that a socket
left behind is told from a live one without a doubt.
"""

import asyncio
import fcntl
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from inspect import isawaitable
from itertools import islice
from pathlib import Path

from oe.errors import ConfigError, MachineLacks, OeError
from oe.tasks import OnFailure, spawn

SOCKET_NAME = "control.sock"
LONGEST_REQUEST = 64 * 1024
"""Octets."""
LONGEST_ANSWER = 256 * 1024 * 1024
"""Octets; 100,000 pairs are some 60 MB."""
MOST_CLIENTS = 16
PATIENCE = 10.0
"""Seconds that a client may take to send its next line, or to read a piece of its answer."""
SLICE = 64
"""List items that are encoded in one go; packets wait meanwhile."""

Json = dict[str, object]
Verb = Callable[[Json], Json | Awaitable[Json]]
"""Answers one kind of request, at once or later. A value that is an iterator is sent as a list, a slice at a time,
between which the event loop does other work. An `OeError` becomes the error text of the answer."""

_CREDENTIALS = struct.Struct("=iII")
"""`struct ucred`: process, user and group id of the peer."""


class Refused(OeError):
    """The daemon answered, and its answer is no. The text says why."""


class ControlServer:
    """The daemon's end: listens in `run_dir` and answers with `verbs`.

    `on_failure` hears of a connection that an unexpected exception ended; the others go on.
    """

    def __init__(
        self, run_dir: Path, verbs: Mapping[str, Verb], on_failure: OnFailure, patience: float = PATIENCE
    ) -> None:
        self._run_dir = run_dir
        self._path = run_dir / SOCKET_NAME
        self._verbs = verbs
        self._on_failure = on_failure
        self._patience = patience
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._lock: int | None = None

    async def start(self) -> None:
        """Claim the run directory, which is made if it is not there, and listen.

        Raises `MachineLacks` when another daemon holds it or the socket cannot be made.
        """
        self._lock = _claim(self._run_dir)
        try:
            listener = _listener(self._path)
            self._server = await asyncio.start_unix_server(self._connected, sock=listener, limit=LONGEST_REQUEST)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Hang up on everybody and leave the run directory to the next daemon."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        clients = tuple(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        if self._lock is not None:
            os.close(self._lock)
        self._server = self._lock = None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = spawn(self._serve(reader, writer), "control client", self._on_failure)
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(TimeoutError, ConnectionError):  # a client that went away or sleeps needs no answer
                try:
                    self._admit(writer)
                    while line := await self._next_line(reader):
                        await self._send(writer, await self._answer(line))
                except Refused as refusal:
                    await self._send(writer, _no(str(refusal)))
        finally:
            writer.close()

    def _admit(self, writer: asyncio.StreamWriter) -> None:
        """Raises `Refused` for somebody whom we do not serve."""
        credentials = writer.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
        _, user, _ = _CREDENTIALS.unpack(credentials)
        if user not in (0, os.geteuid()):
            raise Refused(f"user {user} may not ask; allowed: root and user {os.geteuid()}")
        if len(self._clients) > MOST_CLIENTS:
            raise Refused(f"{MOST_CLIENTS} clients are connected already; try again later")

    async def _next_line(self, reader: asyncio.StreamReader) -> bytes:
        """Empty at the end of the conversation. Raises `Refused` for a line that is too long."""
        async with asyncio.timeout(self._patience):
            try:
                return await reader.readline()
            except ValueError:
                raise Refused(f"a request has at most {LONGEST_REQUEST} octets") from None

    async def _answer(self, line: bytes) -> Json:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return _no("a request is one line of JSON")
        if not isinstance(request, dict) or not isinstance(request.get("ask"), str):
            return _no('a request is an object with the text "ask"')
        verb = self._verbs.get(request["ask"])
        if verb is None:
            return _no(f"nothing is known of {request['ask'][:40]!a}; allowed: {', '.join(sorted(self._verbs))}")
        try:
            answer = verb(request)
            return {"ok": True, **(await answer if isawaitable(answer) else answer)}
        except ConfigError as error:
            return _no(str(error)) | {"bad_input": True}
        except OeError as error:
            return _no(str(error))

    async def _send(self, writer: asyncio.StreamWriter, answer: Json) -> None:
        for piece in _encoded(answer):
            writer.write(piece.encode())
            async with asyncio.timeout(self._patience):
                await writer.drain()
            await asyncio.sleep(0)  # drain() alone does not yield while the buffer has room


@contextmanager
def no_daemon(run_dir: Path) -> Iterator[None]:
    """For the length of the block no daemon runs in `run_dir`, and none can start. `MachineLacks` if one does."""
    lock = _claim(run_dir)
    try:
        yield
    finally:
        os.close(lock)


def _claim(run_dir: Path) -> int:
    """The run directory, open and locked. The lock is on the directory itself: no file to be left behind."""
    try:
        run_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise MachineLacks(
            f"the run directory {run_dir} cannot be used: {error.strerror}", "run as root, or set [paths] run"
        ) from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(directory)
        raise MachineLacks(
            f"another oe runs here: it holds {run_dir}", "stop it, or give this one its own directory in [paths] run"
        ) from None
    return directory


def _listener(path: Path) -> socket.socket:
    """A socket bound to `path` with mode 0600; nobody can connect before it listens, so none slips in earlier."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()
        listener.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        listener.close()
        raise MachineLacks(
            f"the control socket {path} cannot be made: {error.strerror or error}",
            "remove what stands there, or set [paths] run to another, short path",
        ) from None
    return listener


def _no(error: str) -> Json:
    return {"ok": False, "error": error}


def _encoded(answer: Json) -> Iterator[str]:
    """One line of JSON, in pieces that each take little time to make."""
    opening = "{"
    for name, value in answer.items():
        yield f"{opening}{json.dumps(name)}: "
        opening = ", "
        if isinstance(value, Iterator):
            yield from _encoded_list(value)
        else:
            yield json.dumps(value)
    yield "}\n"


def _encoded_list(items: Iterator[object]) -> Iterator[str]:
    separator = "["
    while some := list(islice(items, SLICE)):
        yield separator + json.dumps(some)[1:-1]
        separator = ", "
    yield "]" if separator == ", " else "[]"


def ask(run_dir: Path, request: Mapping[str, object], timeout: float = PATIENCE) -> Json:
    """Ask the daemon of `run_dir` and return its answer, without `ok`. `timeout` in seconds is for each step.

    Raises `Refused` when the answer is no, `ConfigError` when that is because of the operator's files, and
    `MachineLacks` when there is nobody to ask.
    """
    path = run_dir / SOCKET_NAME
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout)
            client.connect(str(path))
            with suppress(BrokenPipeError):  # who is turned away is told why, and not listened to
                client.sendall(json.dumps(request).encode() + b"\n")
            with client.makefile("rb") as stream:
                answer = json.loads(stream.readline(LONGEST_ANSWER))
    except PermissionError:
        raise MachineLacks(f"the right to ask at {path}", "ask as root") from None
    except OSError as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise MachineLacks(
            f"no oe answers at {path}: {why}", "start it with `oe run`, or name its directory with --run-dir"
        ) from None
    except ValueError:
        raise MachineLacks(f"the answer at {path} broke off", "look into the daemon's log") from None
    if not answer.pop("ok"):
        raise (ConfigError if answer.get("bad_input") else Refused)(str(answer["error"]))
    return dict(answer)
