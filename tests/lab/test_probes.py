"""Probes against the agent's echo on this machine's loopback."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread

import pytest

from oe.lab import agent, probes
from oe.lab.probes import Probe


def _free_port() -> int:
    with socket.socket() as stream, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        stream.bind(("127.0.0.1", 0))
        port = int(stream.getsockname()[1])
        with suppress(OSError):
            datagrams.bind(("127.0.0.1", port))
        return port


@pytest.fixture(scope="module")
def echo() -> Iterator[None]:
    """The agent's echo servers, on a port that needs no privilege."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "PORT", _free_port())
        for serve in (agent.serve_streams, agent.serve_datagrams):
            serve(socket.AF_INET)
        yield


def _probe(protocol: str, count: int = 3, destination: str = "127.0.0.2") -> Probe:
    return Probe(protocol, "127.0.0.3", destination, "marker", count, patience=30.0, again=30.0)


@pytest.mark.usefixtures("echo")
@pytest.mark.parametrize("protocol", ["tcp", "bulk", "udp", "burst"])
def test_echoes_are_counted_and_timed(protocol: str) -> None:
    begun = time.monotonic()
    echoes = probes.run(_probe(protocol))
    assert (echoes.sent, echoes.answered, echoes.lost, echoes.error) == (3, 3, 0, "")
    assert echoes.first_delay is not None
    assert 0 < echoes.first_delay < time.monotonic() - begun
    assert echoes.started <= echoes.ended


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_refusal_is_told(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PORT", _free_port())
    echoes = probes.run(_probe(protocol))
    assert echoes.answered == 0
    assert echoes.first_delay is None
    assert echoes.error == os.strerror(errno.ECONNREFUSED)


@pytest.mark.parametrize(
    ("answers", "again", "answered"),
    [((2, 2, 0, 1), 30.0, 3), ((2, 2), 0.05, 1)],
    ids=["in any order", "but only once"],
)
def test_a_burst_is_answered(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[int, ...], again: float, answered: int
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.2", 0))
        monkeypatch.setattr(probes, "PORT", server.getsockname()[1])

        def answer() -> None:
            heard = [server.recvfrom(100) for _ in range(3)]
            for number in answers:
                server.sendto(*heard[number])

        thread = Thread(target=answer)
        thread.start()
        echoes = probes.run(Probe("burst", "127.0.0.3", "127.0.0.2", "marker", 3, patience=30.0, again=again))
        thread.join()
    assert (echoes.sent, echoes.answered, echoes.lost, echoes.error) == (3, answered, 3 - answered, "")


def test_silence_costs_one_more_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.2", 0))
        monkeypatch.setattr(probes, "PORT", silent.getsockname()[1])
        echoes = probes.run(Probe("udp", "127.0.0.3", "127.0.0.2", "marker", 5, patience=0.01, again=0.01))
    assert (echoes.sent, echoes.answered, echoes.lost, echoes.error) == (2, 0, 2, "")


def test_an_answer_that_has_come_counts_however_late_one_looks() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        for data in (b"another", b"answer"):
            other.send(data)
        over = time.monotonic() - 1
        assert probes._awaited(one, b"answer", bytes, over)
        assert not probes._awaited(one, b"answer", bytes, over)


@pytest.mark.parametrize("data", [b"", b"\x08", b"\x08\0\0\0\x12\x34\0\0abc"])
def test_the_checksum_makes_the_sum_zero(data: bytes) -> None:
    checksum = probes.checksum(data + bytes(len(data) % 2))
    words = data + bytes(len(data) % 2) + checksum.to_bytes(2, "big")
    assert int.from_bytes(words, "big") % 0xFFFF == 0
