"""Who holds a place, after every order of coming and going."""

from hypothesis import given
from hypothesis import strategies as st

from oe.ipsec.succession import Succession


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5))))
def test_the_youngest_claim_holds(steps: list[tuple[bool, int]]) -> None:
    succession: Succession[str, int] = Succession()
    order: list[int] = []
    for claims, child in steps:
        order = [other for other in order if other != child]
        if claims:
            order.append(child)
            succession.claim("place", child, child * 10)
        else:
            succession.resign("place", child)
        assert succession.holder("place") == (order[-1] * 10 if order else None)
        assert ("place" in succession) == bool(order)


def test_the_holder_without_one_is_the_next_in_line() -> None:
    succession: Succession[str, str] = Succession()
    for child in (1, 2, 3):
        succession.claim("place", child, f"of {child}")
    assert succession.holder("place", without=3) == "of 2"
    assert succession.holder("place", without=1) == "of 3"
    assert succession.holder("elsewhere", without=1) is None


def test_a_claim_that_changes_keeps_its_rank() -> None:
    succession: Succession[str, str] = Succession()
    succession.claim("place", 1, "one")
    succession.claim("place", 2, "two")
    succession.alter("place", 1, "another one")
    assert succession.holder("place") == "two"
    assert succession.holder("place", without=2) == "another one"


def test_the_places_that_anybody_wants() -> None:
    succession: Succession[str, str] = Succession()
    succession.claim("here", 1, "one")
    succession.claim("here", 2, "two")
    succession.claim("there", 2, "two")
    assert (set(succession), len(succession)) == ({"here", "there"}, 2)
    succession.resign("there", 2)
    assert set(succession) == {"here"}
