"""The control socket: both ends, strangers, hostile lines, and who owns the run directory."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from oe import control
from oe.control import LONGEST_REQUEST, SOCKET_NAME, ControlServer, Json, Refused, Verb, ask, no_daemon
from oe.errors import ConfigError, MachineLacks
from tests.waiting import PATIENCE

Raw = Callable[[bytes], Awaitable[bytes]]


def fail(_request: Json) -> Json:
    raise ConfigError("line 3 is odd")


def refuse(_request: Json) -> Json:
    raise Refused("not today")


def crash(_request: Json) -> Json:
    raise ZeroDivisionError


async def later(request: Json) -> Json:
    await asyncio.sleep(0)
    return fail(request) if "badly" in request else {"said": "later"}


VERBS: dict[str, Verb] = {
    "later": later,
    "echo": lambda request: {"said": request.get("say")},
    "many": lambda _: {"before": 1, "rows": iter(range(1000)), "after": 2},
    "none": lambda _: {"rows": iter(())},
    "fail": fail,
    "refuse": refuse,
    "crash": crash,
}


@pytest.fixture
def failures() -> list[tuple[str, BaseException]]:
    return []


@pytest.fixture
def server(tmp_path: Path, failures: list[tuple[str, BaseException]]) -> ControlServer:
    return ControlServer(tmp_path, VERBS, lambda name, error: failures.append((name, error)), PATIENCE)


async def talk(run_dir: Path, sent: bytes) -> bytes:
    """All that the server says to these octets until it hangs up."""
    reader, writer = await asyncio.open_unix_connection(run_dir / SOCKET_NAME)
    writer.write(sent)
    writer.write_eof()
    said = await reader.read()
    writer.close()
    await writer.wait_closed()
    return said


def conversation(server: ControlServer, run_dir: Path, sent: bytes) -> list[Json]:
    """The answers to what is sent on one connection."""

    async def scene() -> bytes:
        await server.start()
        try:
            return await talk(run_dir, sent)
        finally:
            await server.close()

    return [json.loads(line) for line in asyncio.run(scene()).splitlines()]


def asked(server: ControlServer, run_dir: Path, request: Json) -> Json:
    """The answer as the command line gets it, from a thread as blocking as the command line is."""

    async def scene() -> Json:
        await server.start()
        try:
            return await asyncio.to_thread(ask, run_dir, request, PATIENCE)
        finally:
            await server.close()

    return asyncio.run(scene())


def test_ask_gets_what_the_verb_answers(server: ControlServer, tmp_path: Path) -> None:
    assert asked(server, tmp_path, {"ask": "echo", "say": "höher"}) == {"said": "höher"}


@pytest.mark.parametrize(("verb", "rows"), [("many", list(range(1000))), ("none", [])])
def test_an_iterator_arrives_as_a_list(server: ControlServer, tmp_path: Path, verb: str, rows: list[int]) -> None:
    assert asked(server, tmp_path, {"ask": verb})["rows"] == rows


def test_the_loop_does_other_work_while_a_long_list_is_sent(server: ControlServer, tmp_path: Path) -> None:
    turns = []

    async def scene() -> None:
        await server.start()
        answer = asyncio.get_running_loop().create_task(talk(tmp_path, b'{"ask": "many"}\n'))  # the test owns it
        while not answer.done():
            turns.append(1)
            await asyncio.sleep(0)
        await server.close()

    asyncio.run(scene())
    assert len(turns) > 1000 // control.SLICE


def test_a_no_of_the_house_is_the_answer(server: ControlServer, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not today"):
        asked(server, tmp_path, {"ask": "refuse"})


def test_a_no_because_of_the_operators_files_is_told_as_such(server: ControlServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 3 is odd"):
        asked(server, tmp_path, {"ask": "fail"})


def test_a_verb_may_take_its_time(server: ControlServer, tmp_path: Path) -> None:
    assert asked(server, tmp_path, {"ask": "later"}) == {"said": "later"}
    with pytest.raises(ConfigError, match="line 3 is odd"):
        asked(server, tmp_path, {"ask": "later", "badly": True})


def test_several_requests_on_one_connection(server: ControlServer, tmp_path: Path) -> None:
    answers = conversation(server, tmp_path, b'{"ask": "echo", "say": 1}\n{"ask": "refuse"}\n{"ask": "echo", "say": 2}')
    assert answers == [{"ok": True, "said": 1}, {"ok": False, "error": "not today"}, {"ok": True, "said": 2}]


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"hello\n",
        b"\xff\xfe\n",
        b"[" * 5000 + b"\n",
        b"7\n",
        b"[]\n",
        b"{}\n",
        b'{"ask": 7}\n',
        b'{"ask": "x"}\n',
    ],
)
def test_odd_requests_are_refused_and_the_connection_lives(server: ControlServer, tmp_path: Path, line: bytes) -> None:
    first, second = conversation(server, tmp_path, line + b'{"ask": "echo"}\n')
    assert first["ok"] is False
    assert second == {"ok": True, "said": None}


def test_a_line_that_never_ends_is_refused(server: ControlServer, tmp_path: Path) -> None:
    async def scene() -> bytes:
        await server.start()
        reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
        writer.write(b"x" * (2 * LONGEST_REQUEST + 2))
        said = await reader.readline()
        writer.close()
        await server.close()
        return said

    assert json.loads(asyncio.run(scene())) == {"ok": False, "error": f"a request has at most {LONGEST_REQUEST} octets"}


def test_a_sleepy_client_is_hung_up_on(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, VERBS, lambda *_: None, patience=0.0)

    async def scene() -> bytes:
        await server.start()
        reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
        said = await reader.read()
        writer.close()
        await server.close()
        return said

    assert asyncio.run(scene()) == b""


def test_a_verb_that_crashes_is_reported_and_the_others_go_on(
    server: ControlServer, tmp_path: Path, failures: list[tuple[str, BaseException]]
) -> None:
    async def scene() -> tuple[bytes, bytes]:
        await server.start()
        said = await talk(tmp_path, b'{"ask": "crash"}\n'), await talk(tmp_path, b'{"ask": "echo"}\n')
        await server.close()
        return said

    crashed, fine = asyncio.run(scene())
    assert crashed == b""
    assert json.loads(fine)["ok"] is True
    ((name, error),) = failures
    assert name == "control client"
    assert isinstance(error, ZeroDivisionError)


def test_other_users_are_refused(server: ControlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stranger:
        """A peer's credentials: process 1, user 65534, group 65534."""

        size = control._CREDENTIALS.size

        def unpack(self, _octets: bytes) -> tuple[int, int, int]:
            return 1, 65534, 65534

    monkeypatch.setattr(control, "_CREDENTIALS", Stranger())
    (answer,) = conversation(server, tmp_path, b'{"ask": "echo"}\n')
    assert answer["ok"] is False
    assert "user 65534 may not ask" in str(answer["error"])


def test_too_many_clients_are_told_so(server: ControlServer, tmp_path: Path) -> None:
    async def scene() -> bytes:
        await server.start()
        writers = []
        for _ in range(control.MOST_CLIENTS):
            _, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
            writers.append(writer)
        said = await talk(tmp_path, b'{"ask": "echo"}\n')
        for writer in writers:
            writer.close()
        await server.close()
        return said

    assert b"clients are connected already" in asyncio.run(scene())


def test_socket_and_directory_are_not_for_everybody(tmp_path: Path) -> None:
    run_dir = tmp_path / "deep" / "run"
    server = ControlServer(run_dir, VERBS, lambda *_: None)

    async def scene() -> tuple[int, int]:
        await server.start()
        modes = run_dir.stat().st_mode, (run_dir / SOCKET_NAME).stat().st_mode
        await server.close()
        return modes

    directory, sock = asyncio.run(scene())
    assert stat.S_IMODE(directory) & 0o027 == 0
    assert stat.S_IMODE(sock) == 0o600
    assert list(run_dir.iterdir()) == []


def test_a_socket_left_behind_is_replaced(server: ControlServer, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET_NAME))
    assert asked(server, tmp_path, {"ask": "echo"}) == {"said": None}


def test_a_second_daemon_is_told_of_the_first(server: ControlServer, tmp_path: Path) -> None:
    async def scene() -> bytes:
        await server.start()
        with pytest.raises(MachineLacks, match="another oe runs here"):
            await ControlServer(tmp_path, VERBS, lambda *_: None).start()
        said = await talk(tmp_path, b'{"ask": "echo"}\n')  # the first one is unharmed
        await server.close()
        await server.start()  # and leaves nothing that stops a successor
        await server.close()
        return said

    assert b"true" in asyncio.run(scene())


@pytest.mark.parametrize("obstacle", ["file in place of the socket", "file in place of the directory", "long path"])
def test_a_run_directory_that_cannot_be_used(tmp_path: Path, obstacle: str) -> None:
    run_dir = tmp_path / "run"
    if obstacle == "file in place of the directory":
        run_dir.touch()
    elif obstacle == "file in place of the socket":
        run_dir.mkdir()
        (run_dir / SOCKET_NAME).touch()
    else:
        run_dir = tmp_path / ("x" * 200)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MachineLacks):
        asyncio.run(ControlServer(run_dir, VERBS, lambda *_: None).start())
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("said", [b"", b'{"ok": true, "rows": [1, 2'])
def test_an_answer_that_breaks_off(tmp_path: Path, said: bytes) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        writer.close()

    async def scene() -> None:
        async with await asyncio.start_unix_server(hang_up, tmp_path / SOCKET_NAME):
            await asyncio.to_thread(ask, tmp_path, {"ask": "echo"}, PATIENCE)

    with pytest.raises(MachineLacks, match="broke off"):
        asyncio.run(scene())


def test_who_is_turned_away_without_being_listened_to_hears_why(tmp_path: Path) -> None:
    async def turn_away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"ok": false, "error": "there are too many"}\n')
        writer.close()

    async def scene() -> None:
        async with await asyncio.start_unix_server(turn_away, tmp_path / SOCKET_NAME):
            question = "more than the sockets have room for" * 100_000
            await asyncio.to_thread(ask, tmp_path, {"ask": question}, PATIENCE)

    with pytest.raises(Refused, match="too many"):
        asyncio.run(scene())


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(MachineLacks, match="no oe answers") as told:
        ask(tmp_path, {"ask": "status"})
    assert "oe run" in told.value.remedy


def test_no_answer_in_time(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / SOCKET_NAME))
        mute.listen()
        with pytest.raises(MachineLacks, match="no answer in time"):
            ask(tmp_path, {"ask": "status"}, timeout=0.01)


def test_no_daemon_can_start_while_somebody_counts_on_it(tmp_path: Path) -> None:
    with no_daemon(tmp_path), pytest.raises(MachineLacks, match="another oe runs here"), no_daemon(tmp_path):
        pass
    with no_daemon(tmp_path):
        pass
