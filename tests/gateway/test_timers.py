from hypothesis import given
from hypothesis import strategies as st

from oe.gateway.timers import Timers


def test_names_come_due_in_order_and_once() -> None:
    timers: Timers[str] = Timers()
    timers.set("later", 2.0)
    timers.set("sooner", 1.0)
    assert timers.deadline() == 1.0
    assert list(timers.due(1.5)) == ["sooner"]
    assert list(timers.due(5.0)) == ["later"]
    assert timers.deadline() is None


def test_setting_again_replaces_both_ways() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.set("a", 5.0)
    assert list(timers.due(4.0)) == []
    timers.set("a", 2.0)
    assert list(timers.due(4.0)) == ["a"]


def test_cancelled_names_never_come_due() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.cancel("a")
    timers.cancel("unknown")
    assert timers.deadline() is None


def test_one_name_set_for_ever_does_not_grow() -> None:
    timers: Timers[str] = Timers()
    for at in range(10_000):
        timers.set("liveness", float(at))
    assert len(timers._heap) < 200


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 20))), st.integers(0, 20))
def test_agrees_with_a_plain_dictionary(steps: list[tuple[str, int | None]], now: int) -> None:
    timers: Timers[str] = Timers()
    model: dict[str, int] = {}
    for name, at in steps:
        if at is None:
            timers.cancel(name)
            model.pop(name, None)
        else:
            timers.set(name, at)
            model[name] = at
    assert timers.deadline() == min(model.values(), default=None)
    assert sorted(timers.due(now)) == sorted(name for name, at in model.items() if at <= now)
