"""What comes through a valid tunnel is of the tunnel's own pair, or refused. The back end is what the probe finds."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, UDP

from oe.ipsec.esp import OutboundEsp
from oe.ipsec.esp_socket import EspSocket
from oe.ipsec.probe import create, probe
from oe.model import Address, Directions
from oe.reasons import Reason
from tests.ipsec.children import OURS, THEIRS, child
from tests.ipsec.ends import Hosts
from tests.ipsec.netns import Namespace
from tests.ipsec.standing import ignore
from tests.waiting import PATIENCE

pytestmark = pytest.mark.netns

SINK = 7001
SOMEBODY = ip_address("10.77.0.3")


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Ours, which is under test, and the peer, whose tunnel is valid and whose packets are not."""
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(closing(Namespace())) for _ in range(2))
        ours.sh(f"ip link add name cable type veth peer name cable netns {theirs.path}")
        for host, address in ((ours, OURS), (theirs, THEIRS)):
            host.sh(f"ip addr add {address}/24 dev cable", "ip link set cable up")
        yield ours, theirs


def through_the_tunnel(hosts: Hosts, tunnel_of: Address, *sources: Address) -> set[str]:
    """Of the `sources` that the peer puts on inner packets, those that reach a socket of ours; the last one must."""
    ours, theirs = hosts
    sa = child(pair=(OURS, tunnel_of))
    forger = OutboundEsp(sa.inbound, sa.esn)

    async def play() -> set[str]:
        with ours.entered():
            backend = create(probe().backend)
            backend.start(asyncio.get_running_loop(), ignore)
            backend.install(sa, Directions.BOTH)
            sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sink.bind((str(OURS), SINK))
            sink.settimeout(PATIENCE)
        arrived: set[str] = set()
        with closing(sink), closing(theirs.call(lambda: EspSocket(THEIRS, 0))) as wire:
            for source in sources:
                inner = bytes(IP(src=str(source), dst=str(OURS)) / UDP(dport=SINK) / b"?")
                sealed = forger.seal(inner)
                assert isinstance(sealed, bytes)
                assert wire.send(sealed, str(OURS))
            while str(sources[-1]) not in arrived:
                _, (source, _port) = await asyncio.to_thread(sink.recvfrom, 100)
                arrived.add(source)

        def refused() -> int:
            return backend.statistics().get(Reason.ESP_SELECTOR_MISMATCH, 0)

        with ours.entered():
            # What was sent first may be decrypted last, in a thread of the kernel.
            async with asyncio.timeout(PATIENCE):
                while refused() < len(sources) - 1:  # noqa: ASYNC110 - the kernel does not tell
                    await asyncio.sleep(0.01)
            assert refused() == len(sources) - 1
            backend.close()
        return arrived

    return asyncio.run(play())


def test_a_forged_inner_source_is_refused(hosts: Hosts) -> None:
    assert through_the_tunnel(hosts, THEIRS, SOMEBODY, THEIRS) == {str(THEIRS)}


def test_control_the_same_packet_is_let_in_by_its_own_tunnel(hosts: Hosts) -> None:
    assert through_the_tunnel(hosts, SOMEBODY, SOMEBODY) == {str(SOMEBODY)}
