"""Raw ESP sockets on a real link."""

import select
from contextlib import closing

import pytest

from oe.ipsec.esp_socket import EspSocket
from tests.ipsec.children import OURS, THEIRS
from tests.ipsec.ends import ADDRESSES, Hosts
from tests.waiting import PATIENCE

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [1, 1400, 9000])
def test_octets_arrive_without_outer_header_whatever_their_size(hosts: Hosts, version: int, size: int) -> None:
    ours, theirs = hosts
    source, destination = ADDRESSES[version]
    octets = bytes(number % 256 for number in range(size))
    with (
        closing(ours.call(lambda: EspSocket(source, 0x10000))) as sender,
        closing(theirs.call(lambda: EspSocket(destination, 0x10000))) as receiver,
    ):
        assert receiver.receive() is None
        assert sender.send(octets, str(destination))
        assert select.select([receiver], [], [], PATIENCE)[0]
        assert receiver.receive() == octets
        assert receiver.receive() is None


def test_what_cannot_be_sent_is_told(hosts: Hosts) -> None:
    with closing(hosts[0].call(lambda: EspSocket(OURS, 0))) as sender:
        assert not sender.send(b"x", "203.0.113.1")
        assert not sender.send(bytes(70000), str(THEIRS))


def test_foreign_addresses_are_refused(hosts: Hosts) -> None:
    with pytest.raises(OSError, match="assign requested address"):
        hosts[0].call(lambda: EspSocket(THEIRS, 0))
