"""A few hundred scenarios, and proof that a mistake would be seen. `make simulate` runs ten thousand."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import repeat
from random import Random

import pytest

from oe.gateway.context import Context, Rules
from oe.gateway.coordinator import Gateway
from oe.gateway.decisions import Decisions
from oe.gateway.liveness import Liveness
from oe.messages import KeysLookedUp, Release, Undecide
from tests.simulation.kernel import Kernel
from tests.simulation.scenario import Kind, Shape, Theme, draw
from tests.simulation.simulation import simulate
from tests.simulation.station import Station

SEEDS = 300
A_FEW = 12


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_the_ends_agree_and_nothing_is_left(seed: int) -> None:
    result = simulate(seed)
    assert not result.failure, f"{result.failure}\n{result.scenario}\n`python -m tests.simulation --seed {seed}`"
    assert bool(result.round_trips) is result.scenario.may_talk


def test_the_seeds_of_this_suite_reach_every_theme_and_shape() -> None:
    drawn = [draw(seed) for seed in range(SEEDS)]
    assert {one.theme for one in drawn} == set(Theme)
    assert {one.shape for one in drawn} == set(Shape)


STORY = """
import hashlib, sys
from tests.simulation.simulation import simulate
story = chr(10).join(line for seed in range(20) for line in simulate(seed, tell=True).story)
sys.stdout.write(hashlib.sha256(story.encode()).hexdigest())
"""


def test_a_seed_tells_the_same_story_in_every_process() -> None:
    here = "\n".join(line for seed in range(20) for line in simulate(seed, tell=True).story)
    elsewhere = subprocess.run(
        [sys.executable, "-c", STORY],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert elsewhere.stdout == hashlib.sha256(here.encode()).hexdigest()


# --- a mistake would be seen -----------------------------------------------------------------------------------


def failures() -> str:
    return "\n".join(simulate(seed).failure for seed in range(A_FEW))


def test_a_release_before_the_decision_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Station._carry_out

    def hasty(station: Station) -> None:
        gateway = station.gateway
        if gateway is not None:
            commands = sorted(gateway.take(), key=lambda command: not isinstance(command, Release))
            monkeypatch.setattr(gateway, "take", lambda: commands)
            plain(station)
            monkeypatch.delattr(gateway, "take")

    monkeypatch.setattr(Station, "_carry_out", hasty)
    assert "released before" in failures()


def test_an_sa_that_goes_before_its_decision_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Context.emit
    monkeypatch.setattr(
        Context, "emit", lambda self, *all: plain(self, *(one for one in all if not isinstance(one, Undecide)))
    )
    assert "goes before its decision" in failures()


def test_packets_that_are_held_for_ever_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731  # a name for the type checker
    monkeypatch.setattr(Decisions, "let_go", nothing)
    assert "still holds" in failures()


def test_keys_that_are_used_twice_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Random.randbytes
    monkeypatch.setattr(Random, "randbytes", lambda self, size: bytes(size) if size == 32 else plain(self, size))
    assert "twice" in failures()


def test_an_iv_that_is_used_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oe.ike.crypto.count", lambda: repeat(7))
    assert "an IV is used twice" in failures()


def test_sas_that_stay_in_the_kernel_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kernel, "remove", lambda *_: None)
    assert "still is trapped" in failures()


def test_a_peer_that_nobody_asks_whether_it_lives_is_a_black_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Liveness, "doubts", lambda *_: False)
    monkeypatch.setattr("oe.ike.recovery.hear_in_clear", lambda *_: None)
    seeds = (seed for seed in range(SEEDS) if draw(seed).theme in (Theme.RESTARTS, Theme.DARKNESS))
    assert any("vanish" in simulate(seed).failure for seed in seeds)


def test_a_reload_that_leaves_the_pairs_as_they_were_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def adopt(gateway: Gateway, rules: Rules, _now: float) -> None:
        gateway._context.adopt(rules)

    monkeypatch.setattr(Gateway, "adopt", adopt)
    reloads = (seed for seed in range(SEEDS) if any(one.kind is Kind.RELOAD for one in draw(seed).troubles))
    assert any("private does not fail closed" in simulate(seed).failure for seed in reloads)


def test_books_that_grow_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_up(context: Context, event: KeysLookedUp, now: float) -> None:
        context._lookups[event.ticket](event.answer, now)

    monkeypatch.setattr(Context, "looked_up", looked_up)
    assert "books leak" in failures()
