"""Who changed our table? A real kernel tells."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from oe.model import Verdict
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


def test_what_we_did_ourselves_can_be_forgotten_unread(network: Network, watch: TableWatch) -> None:
    network.nft(GATEWAY, "flush chain inet oe output")
    watch.forget()
    assert not watch.changed()
    network.nft(GATEWAY, "add counter inet oe own")
    assert watch.changed()


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
