"""The keeper in a namespace: what it puts back, how often, and what it leaves."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address
from threading import Event

import pytest

from oe.daemon.keeper import PACE, Keeper
from oe.errors import KernelError
from oe.model import Group, Interval
from oe.trap import guard
from oe.trap.nft import NftTable
from oe.trap.spec import TrapSpec
from tests.ipsec.netns import Namespace
from tests.waiting import PATIENCE

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
        self.restored = 0
        self.news = asyncio.Event()
        with host.entered():
            self.table = NftTable()
            self.keeper = Keeper(self.table, spec(group), self.loop, self._restored)

    def _restored(self) -> None:
        self.restored += 1
        self.news.set()

    def meddle(self, command: str) -> None:
        """Do something to the ruleset, and wait until the keeper has done its part."""

        self.host.sh(command)
        self.await_news()

    def await_news(self) -> None:
        """Until the table was put back."""

        async def play() -> None:
            await asyncio.wait_for(self.news.wait(), PATIENCE)
            self.news.clear()

        with self.host.entered():
            self.loop.run_until_complete(play())

    def close(self) -> None:
        self.keeper.close()
        self.table.close()
        self.loop.close()


def test_the_table_is_put_back_at_once_and_then_at_a_pace(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Stage(host, Group.PRIVATE)) as stage:
        restore, times = stage.table.restore, []

        def timed() -> None:
            times.append(stage.loop.time())
            restore()
            times.append(stage.loop.time())

        monkeypatch.setattr(stage.table, "restore", timed)
        for command in ("nft flush ruleset", "nft flush chain inet oe output", "nft delete table inet oe"):
            stage.meddle(command)
            assert "goto classify" in host.sh("nft list chain inet oe output")
        _, first, second, and_ended, third, _ = times
        assert second - first >= PACE
        assert third - and_ended >= PACE
    assert host.sh("nft list tables").split() == ["table", "inet", "oe"]


HOLE = "nft flush chain inet oe output"


def test_a_hole_that_is_made_while_the_table_is_put_back_is_mended(
    host: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Stage(host, Group.PRIVATE)) as stage:
        restore = stage.table.restore

        def and_a_hole() -> None:
            restore()
            host.sh(HOLE)
            monkeypatch.undo()

        monkeypatch.setattr(stage.table, "restore", and_a_hole)
        stage.meddle("nft delete table inet oe")
        stage.await_news()
        assert "goto classify" in host.sh("nft list chain inet oe output")


def test_a_guard_stands_where_something_must_stay_shut(host: Namespace) -> None:
    with closing(Stage(host, Group.BLOCK)):
        assert "oe-guard" in host.sh("nft list tables")
    with closing(Stage(host, Group.PRIVATE_OR_CLEAR)):
        assert "oe-guard" not in host.sh("nft list tables")


def shut(host: Namespace) -> tuple[bool, bool]:
    """Whether the floors of table and guard have the private net."""
    tables = host.sh("nft list tables").split()
    inside = (host.sh(f"nft list set inet {name} private4") if name in tables else "" for name in ("oe", "oe-guard"))
    table, guarded = ("198.18.0.0-198.18.0.9" in text for text in inside)
    return table, guarded


def reload(stage: Stage, group: Group) -> None:
    with stage.host.entered():
        stage.loop.run_until_complete(stage.keeper.reload(spec(group)))


def test_a_reload_exchanges_table_and_guard_and_is_no_meddling(host: Namespace) -> None:
    with closing(Stage(host, Group.CLEAR)) as stage:
        for _ in range(2):
            reload(stage, Group.PRIVATE)
            assert shut(host) == (True, True)
            reload(stage, Group.CLEAR)
            assert shut(host) == (False, False)
        reload(stage, Group.PRIVATE)
        stage.loop.run_until_complete(asyncio.sleep(0))
        assert stage.restored == 0
        # What is put back from now on is the new table.
        stage.meddle("nft flush ruleset")
        assert shut(host) == (True, True)


def test_the_loop_goes_on_while_the_kernel_takes_a_reload(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Stage(host, Group.CLEAR)) as stage:
        loop_ran, table_reload = Event(), stage.table.reload

        def when_the_loop_has_run(spec: TrapSpec) -> None:
            assert loop_ran.wait(PATIENCE)
            table_reload(spec)

        monkeypatch.setattr(stage.table, "reload", when_the_loop_has_run)
        stage.loop.call_soon(loop_ran.set)
        reload(stage, Group.PRIVATE)
        assert shut(host) == (True, True)


@pytest.mark.parametrize("command", ["nft flush ruleset", HOLE])
def test_meddling_during_a_reload_is_mended_after_it(
    host: Namespace, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with closing(Stage(host, Group.CLEAR)) as stage:
        table_reload = stage.table.reload

        def and_meddle(spec: TrapSpec) -> None:
            table_reload(spec)
            host.sh(command)

        monkeypatch.setattr(stage.table, "reload", and_meddle)
        reload(stage, Group.PRIVATE)
        stage.await_news()
        assert shut(host) == (True, True)
        assert "goto classify" in host.sh("nft list chain inet oe output")


def test_a_reload_of_a_table_that_was_taken_away_puts_it_back_first(host: Namespace) -> None:
    with closing(Stage(host, Group.CLEAR)) as stage:
        host.sh("nft flush ruleset")
        reload(stage, Group.PRIVATE)
        assert shut(host) == (True, True)
        assert stage.restored == 1


def test_a_reload_that_the_kernel_refuses_changes_nothing(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_spec: TrapSpec) -> None:
        raise KernelError("reload", "table inet oe", 12, "no memory")

    for before, after, stays in ((Group.PRIVATE, Group.CLEAR, True), (Group.CLEAR, Group.PRIVATE, False)):
        with closing(Stage(host, before)) as stage:
            monkeypatch.setattr(stage.table, "reload", refuse)
            with pytest.raises(KernelError):
                reload(stage, after)
            assert shut(host) == (stays, stays)
            stage.meddle("nft flush ruleset")
            assert shut(host) == (stays, stays)


def test_no_guard_is_a_warning(
    host: Namespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guard, "LIBRARY", "libnothing.so.1")
    with closing(Stage(host, Group.PRIVATE)) as stage:
        stage.meddle("nft flush ruleset")
        assert host.sh("nft list tables").split() == ["table", "inet", "oe"]
    assert "no-guard" in capsys.readouterr().out
