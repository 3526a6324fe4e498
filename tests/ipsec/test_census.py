"""Counting the SAs of a real kernel."""

from contextlib import closing

import pytest

from oe.errors import KernelError
from oe.ipsec import xfrm_wire as wire
from oe.ipsec.census import Census, Traffic
from oe.ipsec.netlink import NETLINK_XFRM, Netlink
from oe.ipsec.operations import RESERVED_REQID, SaKey
from tests.ipsec.children import OURS, THEIRS
from tests.ipsec.netns import Namespace
from tests.ipsec.standing import StandingLoop

pytestmark = pytest.mark.netns

Seen = dict[SaKey, Traffic] | KernelError


def turns(loop: StandingLoop) -> int:
    """Let the loop turn while there is anything to read; how often it did."""
    count = 0
    while loop.readers:
        count += 1
        for reader in list(loop.readers.values()):
            reader()
    return count


def reserve(host: Namespace, count: int) -> set[SaKey]:
    """SAs that every kernel has: SPIs that are only reserved."""
    with host.entered(), closing(Netlink(NETLINK_XFRM)) as netlink:
        keys = set()
        for _ in range(count):
            body = wire.encode_spi_request(THEIRS, OURS, RESERVED_REQID)
            sa = wire.decode_sa(netlink.ask(wire.ALLOCSPI, body, "reserve", "SPI").body)
            assert sa is not None
            keys.add(sa.key)
        return keys


def test_everything_is_counted_once_in_several_turns(host: Namespace) -> None:
    loop = StandingLoop()
    with closing(host.call(Census)) as census:
        for count in (0, 300):
            keys = reserve(host, count)
            told: list[Seen] = []
            census.begin(loop, told.append)
            assert told == []
            assert turns(loop) > count / 100
            assert told == [dict.fromkeys(keys, (0, 0))]


def test_who_asks_in_between_is_told_in_the_place_of_who_asked_before(host: Namespace) -> None:
    loop = StandingLoop()
    first: list[Seen] = []
    second: list[Seen] = []
    keys = reserve(host, 300)
    with closing(host.call(Census)) as census:
        census.begin(loop, first.append)
        [reader] = loop.readers.values()
        reader()
        census.begin(loop, second.append)
        turns(loop)
    assert (first, second) == ([], [dict.fromkeys(keys, (0, 0))])


def test_a_failure_is_told_and_the_next_reading_is_like_any_other(
    host: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = StandingLoop()
    told: list[Seen] = []
    with closing(host.call(Census)) as census:
        with monkeypatch.context() as patch:
            patch.setattr(wire, "GETSA", 0x400)
            census.begin(loop, told.append)
            turns(loop)
        [failure] = told
        assert isinstance(failure, KernelError)
        census.begin(loop, told.append)
        turns(loop)
        assert told == [failure, {}]


def test_after_the_end_nobody_is_told(host: Namespace) -> None:
    loop = StandingLoop()
    told: list[Seen] = []
    census = host.call(Census)
    census.begin(loop, told.append)
    census.close()
    assert (loop.readers, told) == ({}, [])
