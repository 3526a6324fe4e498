"""The keeper in a namespace: what it puts back, how often, and what it leaves."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address

import pytest

from oe.daemon.keeper import PACE, Keeper
from oe.model import Group, Interval
from oe.trap import guard
from oe.trap.nft import NftTable
from oe.trap.spec import TrapSpec
from tests.ipsec.netns import Namespace

pytestmark = pytest.mark.netns


def spec(group: Group) -> TrapSpec:
    return TrapSpec((Interval(ip_address("198.18.0.0"), ip_address("198.18.0.9"), group),), 50, 51)


@pytest.fixture
def host() -> Iterator[Namespace]:
    with closing(Namespace()) as namespace:
        yield namespace


class Stage:
    """A keeper on a loop of its own."""

    def __init__(self, host: Namespace, group: Group) -> None:
        self.host = host
        self.loop = asyncio.new_event_loop()
        self.restored: list[float] = []
        self.news = asyncio.Event()
        with host.entered():
            self.table = NftTable()
            self.keeper = Keeper(self.table, spec(group), self.loop, self._restored)

    def _restored(self) -> None:
        self.restored.append(self.loop.time())
        self.news.set()

    def meddle(self, command: str) -> None:
        """Do something to the ruleset, and wait until the keeper has done its part."""

        async def play() -> None:
            self.news.clear()
            self.host.sh(command)
            await asyncio.wait_for(self.news.wait(), 10)

        with self.host.entered():
            self.loop.run_until_complete(play())

    def close(self) -> None:
        self.keeper.close()
        self.table.close()
        self.loop.close()


def test_the_table_is_put_back_at_once_and_then_at_a_pace(host: Namespace) -> None:
    with closing(Stage(host, Group.PRIVATE)) as stage:
        for command in ("nft flush ruleset", "nft flush chain inet oe output", "nft delete table inet oe"):
            stage.meddle(command)
            assert "goto classify" in host.sh("nft list chain inet oe output")
        first, second, third = stage.restored
        assert second - first >= PACE
        assert third - second >= PACE
    assert host.sh("nft list tables").split() == ["table", "inet", "oe"]


def test_a_guard_stands_where_something_must_stay_shut(host: Namespace) -> None:
    with closing(Stage(host, Group.BLOCK)):
        assert "oe-guard" in host.sh("nft list tables")
    with closing(Stage(host, Group.PRIVATE_OR_CLEAR)):
        assert "oe-guard" not in host.sh("nft list tables")


def test_no_guard_is_a_warning(
    host: Namespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guard, "LIBRARY", "libnothing.so.1")
    with closing(Stage(host, Group.PRIVATE)) as stage:
        stage.meddle("nft flush ruleset")
        assert host.sh("nft list tables").split() == ["table", "inet", "oe"]
    assert "no-guard" in capsys.readouterr().out
