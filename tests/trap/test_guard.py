"""The guard against a real kernel: nobody else can touch it, and it ends with its socket."""

import subprocess
from contextlib import closing
from dataclasses import replace

import pytest

from oe.errors import MachineLacks
from oe.model import Group
from oe.trap import guard
from oe.trap.guard import Guard
from tests.trap.netns import CLIENT, GATEWAY, PEER, Network, hear, hears_nothing
from tests.trap.test_nft import CLEAR, PRIVATE, PRIVATE6, SPEC

pytestmark = pytest.mark.netns

OTHERWISE = replace(SPEC, intervals=tuple(one for one in SPEC.intervals if one.group is Group.BLOCK))
"""Without private nets."""


def refused(network: Network, words: str) -> bool:
    with network.inside(GATEWAY):
        done = subprocess.run(["nft", *words.split()], capture_output=True, text=True, check=False)
    return "Operation not permitted" in done.stderr


def test_it_keeps_closed_nets_shut_through_a_flush_and_goes_when_closed(network: Network) -> None:
    with network.inside(GATEWAY):
        ours = Guard(SPEC)
    with network.listen(PEER) as listener:
        with closing(ours):
            network.nft(GATEWAY, "flush ruleset")
            for role in (GATEWAY, CLIENT):
                for destination in (PRIVATE, PRIVATE6):
                    network.send(destination, role=role)
            assert hears_nothing(listener)
            network.send(CLEAR, b"clear")
            assert hear(listener) == b"clear"
        network.send(PRIVATE, b"open again")
        assert hear(listener) == b"open again"


def test_a_reload_exchanges_what_is_shut(network: Network) -> None:
    with network.inside(GATEWAY):
        ours = Guard(OTHERWISE)
    with closing(ours), network.listen(PEER) as listener:
        network.nft(GATEWAY, "flush ruleset")
        network.send(PRIVATE, b"open")
        assert hear(listener) == b"open"
        for _ in range(2):
            with network.inside(GATEWAY):
                ours.reload(SPEC)
            network.send(PRIVATE)
            assert hears_nothing(listener)
            with network.inside(GATEWAY):
                ours.reload(OTHERWISE)
            network.send(PRIVATE, b"open again")
            assert hear(listener) == b"open again"


def test_nobody_else_may_change_it(network: Network) -> None:
    with network.inside(GATEWAY):
        ours = Guard(SPEC)
    with closing(ours):
        for words in ("delete table inet oe-guard", "flush table inet oe-guard", "add chain inet oe-guard hole"):
            assert refused(network, words)


def test_there_is_one_guard(network: Network) -> None:
    with network.inside(GATEWAY):
        with closing(Guard(SPEC)), pytest.raises(MachineLacks, match="another may be in our place"):
            Guard(SPEC)
        Guard(SPEC).close()


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LIBRARY", "libnothing.so.1")
    with pytest.raises(MachineLacks, match="libnothing"):
        Guard(SPEC)
