"""Behind a real NAT: the kernel takes ESP out of IKE's socket, follows nothing by itself, and is told where to send."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from oe.ipsec.xfrm import XfrmBackend
from tests.daemon.natted import Net, go_through_a_nat_that_moves

pytestmark = pytest.mark.kernel


@pytest.fixture
def net() -> Iterator[Net]:
    with ExitStack() as stack:
        yield Net(stack)


@pytest.mark.parametrize("version", [4, 6])
def test_through_a_nat_that_moves(net: Net, version: int) -> None:
    go_through_a_nat_that_moves(net, version, XfrmBackend)
