"""Behind a real NAT: ESP in UDP through the sockets of IKE, by the userspace back end."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from oe.ipsec.userspace import UserspaceBackend
from tests.daemon.natted import Net, go_through_a_nat_that_moves

pytestmark = pytest.mark.netns


@pytest.fixture
def net() -> Iterator[Net]:
    with ExitStack() as stack:
        yield Net(stack)


@pytest.mark.parametrize("version", [4, 6])
def test_through_a_nat_that_moves(net: Net, version: int) -> None:
    go_through_a_nat_that_moves(net, version, UserspaceBackend)
