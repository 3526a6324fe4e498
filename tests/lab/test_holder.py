"""The channel between `oe lab` and the lab's first process."""

import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from oe.lab.holder import Options, await_status, hand_over
from oe.lab.rows import ROWS
from oe.model import Group


def _other_end(inside: socket.socket, *lines: bytes) -> Thread:
    def talk() -> None:
        for line in lines:
            inside.sendall(line)
        inside.shutdown(socket.SHUT_WR)

    thread = Thread(target=talk)
    thread.start()
    return thread


@pytest.mark.parametrize(("stay", "answer"), [(True, b"stay\n"), (False, b"")])
def test_the_status_comes_back_and_the_holder_hears_whether_to_stay(stay: bool, answer: bytes) -> None:
    outside, inside = socket.socketpair()
    with outside, inside:
        thread = _other_end(inside, b"inside\n", b"done 1\n")
        assert await_status(outside, stay=stay) == 1
        thread.join()
        outside.shutdown(socket.SHUT_WR)
        assert inside.recv(100) == answer


def test_a_holder_that_never_lived_has_no_status() -> None:
    outside, inside = socket.socketpair()
    with outside, inside:
        _other_end(inside).join()
        assert await_status(outside, stay=False) is None


def test_a_holder_that_died_is_an_error() -> None:
    outside, inside = socket.socketpair()
    with outside, inside:
        _other_end(inside, b"inside\n").join()
        with pytest.raises(EOFError, match="before its work was done"):
            await_status(outside, stay=False)


def test_options_and_descriptors_are_handed_over() -> None:
    outside, inside = socket.socketpair()
    with outside, inside:
        hand_over(outside, Options(only="bob"), [outside.fileno()])
        message, descriptors, _, _ = socket.recv_fds(inside, 1000, 3)
        assert b'"only": "bob"' in message
        (duplicate,) = descriptors
        with socket.socket(fileno=duplicate) as copy:
            copy.sendall(b"hello")
        assert inside.recv(10) == b"hello"


def test_a_holder_ends_with_who_started_it_though_that_read_nothing() -> None:
    """What it left unread makes the end of the connection an error."""
    holder = "import sys; from oe.lab.holder import Channel; Channel(int(sys.argv[1])).released.wait()"
    outside, inside = socket.socketpair()
    with outside:
        with inside, Path("/dev/null").open("wb") as nowhere:
            argv = [sys.executable, "-c", holder, str(inside.fileno())]
            process = subprocess.Popen(argv, pass_fds=[inside.fileno()])
            hand_over(outside, Options(), [nowhere.fileno(), nowhere.fileno()])
        outside.recv(1, socket.MSG_PEEK)
    assert process.wait(60) == 1


def test_rows_are_chosen_by_a_part_of_flow_or_group() -> None:
    assert Options().rows == ROWS
    assert {row.group for row in Options(only="(block)").rows} == {Group.BLOCK}
    assert Options(only="nonsense").rows == ()


def test_a_second_connection_brings_its_first() -> None:
    first, second = Options(only="second connection").rows
    assert not first.repeats
    assert second.repeats
