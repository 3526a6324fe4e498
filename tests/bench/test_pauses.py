"""The collector's pauses are seen, each once; never how long they are."""

import gc

from bench.pauses import Pauses, Work, until_done


def test_a_pause_is_told_once() -> None:
    with Pauses() as pauses:
        gc.collect()
        assert pauses.take() > 0
        gc.disable()
        try:
            assert pauses.take() == 0
        finally:
            gc.enable()


def test_nothing_is_left_behind() -> None:
    before = list(gc.callbacks)
    with Pauses():
        assert len(gc.callbacks) == len(before) + 1
    assert gc.callbacks == before


def test_turns_go_on_for_as_long_as_there_is_more() -> None:
    left = [True, True, False]
    with Pauses() as pauses:
        work = until_done(lambda: left.pop(0), pauses)
    assert left == []
    assert 0 < work.longest <= work.cpu * 1000


def test_work_is_told_with_all_its_figures() -> None:
    assert Work(1.5, 0.5, 20.0, 12.0).told() == "1.50 s, 0.50 s of CPU, longest turn 20 ms (collector 12)"
