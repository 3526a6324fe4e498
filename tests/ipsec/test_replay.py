"""The replay window against a naive model that remembers everything."""

from hypothesis import given
from hypothesis import strategies as st

from oe.ipsec.replay import ReplayWindow

WRAP = 1 << 32


class Naive:
    """Every number ever accepted, in a set."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.seen: set[int] = set()

    def may_accept(self, sequence: int) -> bool:
        highest = max(self.seen, default=0)
        return sequence > max(0, highest - self.size) and sequence not in self.seen


steps = st.lists(st.one_of(st.integers(-300, 300), st.integers(-(1 << 33), 1 << 33)), max_size=200)


@given(st.integers(1, 300), steps)
def test_accepts_exactly_what_the_naive_model_accepts(size: int, offsets: list[int]) -> None:
    window, naive = ReplayWindow(esn=True, size=size), Naive(size)
    for offset in offsets:
        sequence = window.highest + offset
        assert window.may_accept(sequence) == naive.may_accept(sequence)
        if window.may_accept(sequence):
            window.accept(sequence)
            naive.seen.add(sequence)


@given(st.integers(1, 1 << 63), st.integers(-255, 1 << 20))
def test_infers_the_upper_half_of_whatever_is_near(highest: int, offset: int) -> None:
    window = ReplayWindow(esn=True, size=256)
    window.accept(highest)
    sequence = highest + offset
    if sequence > 0:
        assert window.infer(sequence % WRAP) == sequence


def test_a_number_left_of_the_window_means_the_next_subspace() -> None:
    window = ReplayWindow(esn=True, size=64)
    window.accept(1000)
    assert window.infer(1000 - 63) == 937
    assert window.infer(1000 - 64) == 936 + WRAP


def test_numbers_before_the_first_are_never_acceptable() -> None:
    window = ReplayWindow(esn=True, size=64)
    assert window.infer(0xFFFF_FFFF) == -1
    assert not window.may_accept(-1)
    assert not window.may_accept(0)
    assert window.may_accept(1)


def test_without_esn_nothing_is_inferred() -> None:
    window = ReplayWindow(esn=False, size=64)
    window.accept(0xFFFF_FFF0)
    assert window.infer(1) == 1
    assert not window.may_accept(1)


def test_asking_changes_nothing() -> None:
    window = ReplayWindow(esn=False)
    assert window.may_accept(5)
    assert window.may_accept(5)
    window.accept(5)
    assert not window.may_accept(5)


def test_a_jump_of_billions_costs_nothing_and_forgets_the_past() -> None:
    window = ReplayWindow(esn=True, size=64)
    for sequence in (1, 2, 1 << 60):
        window.accept(sequence)
    assert window.may_accept((1 << 60) - 1)
    assert not window.may_accept((1 << 60) - 64)
    assert not window.may_accept(2)
