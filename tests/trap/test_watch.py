"""Who changed our table? A real kernel tells."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest

from oe.model import Group, Interval, Verdict
from oe.trap.nft import NftTable
from oe.trap.watch import TableWatch
from tests.trap.netns import GATEWAY, Network, pair
from tests.trap.test_nft import OPEN, SPEC

pytestmark = pytest.mark.netns


@pytest.fixture
def watch(network: Network, table: NftTable) -> Iterator[TableWatch]:
    with network.inside(GATEWAY):
        table.install(SPEC)
        watching = TableWatch(table.port)
    with closing(watching):
        yield watching


def test_our_own_decisions_are_no_news(table: NftTable, watch: TableWatch) -> None:
    for lifetime in (1.0, 2.0):
        table.decide(pair("10.2.0.1", OPEN), Verdict.CLEAR, lifetime, fail_closed=False)
    table.undecide(pair("10.2.0.1", OPEN))
    assert not watch.changed()


@pytest.mark.parametrize(
    "change",
    [
        "flush ruleset",
        "delete table inet oe",
        "flush chain inet oe output",
        "add rule inet oe output accept",
        "add element inet oe passed4 { 10.2.0.1 . 198.18.0.5 }",
        "delete element inet oe private4 { 198.18.0.0/24 }",
        "add counter inet oe own",
    ],
)
def test_what_others_do_to_it_is_seen_once(network: Network, watch: TableWatch, change: str) -> None:
    network.nft(GATEWAY, change)
    assert watch.changed()
    assert not watch.changed()


HOLE = "flush chain inet oe output"


def restored(network: Network, table: NftTable) -> int:
    with network.inside(GATEWAY):
        table.restore()
    return table.author


def test_what_we_put_back_is_no_news_and_makes_good_what_was_before(
    network: Network, table: NftTable, watch: TableWatch
) -> None:
    network.nft(GATEWAY, HOLE)
    assert not watch.changed_since(restored(network, table))
    assert not watch.changed()


def test_what_others_do_after_it_is_news(network: Network, table: NftTable, watch: TableWatch) -> None:
    own = restored(network, table)
    network.nft(GATEWAY, HOLE)
    assert watch.changed_since(own)
    assert not watch.changed()


@pytest.mark.parametrize("is_before", [False, True])
def test_what_is_exchanged_leaves_the_rest_as_others_made_it(
    network: Network, table: NftTable, watch: TableWatch, *, is_before: bool
) -> None:
    if is_before:
        network.nft(GATEWAY, HOLE)
    with network.inside(GATEWAY):
        table.reload(SPEC)
    if not is_before:
        network.nft(GATEWAY, HOLE)
    assert watch.changed_beside(table.author)
    with network.inside(GATEWAY):
        table.reload(SPEC)
    assert not watch.changed_beside(table.author)


@pytest.mark.parametrize("intervals", [10, 20_000])
def test_a_change_of_ours_is_heard_whole_however_large(
    network: Network, table: NftTable, watch: TableWatch, intervals: int
) -> None:
    first = int(ip_address("198.18.0.0"))
    many = (Interval(IPv4Address(first + 2 * n), IPv4Address(first + 2 * n), Group.BLOCK) for n in range(intervals))
    with network.inside(GATEWAY):
        table.reload(replace(SPEC, intervals=tuple(many)))
    network.nft(GATEWAY, HOLE)
    assert watch.changed_since(table.author)


def test_other_tables_are_their_owners_business(network: Network, watch: TableWatch) -> None:
    network.nft(GATEWAY, "table ip oe { chain own { accept; }; }; table inet oe-else { }")
    network.nft(GATEWAY, "delete table ip oe; delete table inet oe-else")
    assert not watch.changed()


def test_the_table_is_put_back(network: Network, table: NftTable, watch: TableWatch) -> None:
    network.nft(GATEWAY, "delete table inet oe")
    assert not table.stands()
    with network.inside(GATEWAY):
        table.restore()
    assert table.stands()
    assert watch.changed()
