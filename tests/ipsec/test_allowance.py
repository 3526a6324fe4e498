"""When an SA has carried enough."""

import pytest

from oe.ipsec.allowance import Allowance


@pytest.mark.parametrize("by_octets", [True, False])
def test_first_soft_then_hard(by_octets: bool) -> None:
    allowance = Allowance(1000, None) if by_octets else Allowance(None, 1000)

    def is_reached(count: int) -> bool:
        return count >= (allowance.octets if by_octets else allowance.packets)

    def is_spent(count: int) -> bool:
        return allowance.is_spent(count, 1) if by_octets else allowance.is_spent(1, count)

    assert not is_reached(749)
    assert is_reached(750)
    assert not is_spent(750)
    assert not is_reached(999)
    assert is_reached(1000)
    assert is_spent(1000)


def test_one_step_over_both_limits_is_hard() -> None:
    assert Allowance(1000, None).is_spent(5000, 1)


def test_no_limit_is_never_reached() -> None:
    allowance = Allowance(None, None)
    assert allowance.octets > 1 << 70
    assert allowance.packets > 1 << 70
