"""Real namespaces for the trap's tests, made once per test file and taken away whatever happens."""

import os
from collections.abc import Iterator

import pytest

from oe.trap.nft import NftTable
from tests.trap.netns import GATEWAY, Catcher, Network


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("namespaces, nft and queues need root")
    built = Network(f"{os.getpid()}-{request.module.__name__.rpartition('_')[2]}")
    try:
        built.build()
        yield built
    finally:
        built.remove()


@pytest.fixture
def table(network: Network) -> Iterator[NftTable]:
    """The gateway's table, gone after the test."""
    with network.inside(GATEWAY):
        ours = NftTable()
    try:
        yield ours
    finally:
        with network.inside(GATEWAY):
            ours.remove()
        ours.close()


@pytest.fixture
def catcher(network: Network) -> Iterator[Catcher]:
    """Both queues of the gateway."""
    queues = Catcher(network)
    try:
        yield queues
    finally:
        queues.close()
