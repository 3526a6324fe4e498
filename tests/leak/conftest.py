"""One world for all tests of this directory; each finds the host as after a reboot."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.leak.wire import Wire
from tests.leak.world import Daemon, World


@pytest.fixture(scope="package")
def peopled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The peer's daemon runs."""
    with ExitStack() as stack:
        world = World(tmp_path_factory.mktemp("leak"), stack)
        stack.enter_context(world.running("peer"))
        yield world


@pytest.fixture
def world(peopled: World) -> Iterator[World]:
    peopled.forget()
    peopled.configure()
    peopled.names.silent_to.clear()
    yield peopled
    peopled.names.on_question = lambda asker, owner: None


@pytest.fixture(scope="module")
def live(peopled: World) -> Iterator[Daemon]:
    """A daemon for all tests of a module that leave it alive."""
    peopled.forget()
    peopled.configure()
    with peopled.running() as daemon:
        yield daemon


@pytest.fixture
def wire(peopled: World) -> Iterator[Wire]:
    with closing(peopled.wire()) as listening:
        yield listening
