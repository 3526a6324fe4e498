"""One end of bench.userspace_esp: the userspace back end in this process's network namespace, with one Child SA.

esp_end.py OWN PEER  →  "ready", and after SIGTERM one line of JSON: packets of the larger direction and of the
                        smaller, and the microseconds of CPU, user and system, that they took
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address

from oe.ipsec.model import Marks
from oe.ipsec.userspace import UserspaceBackend
from oe.model import ChildCounters, ChildSa, Directions, EspCipher, EspSa, HostPair, Mode, Secret

_MARKED = f"""
table inet bench {{
 chain out {{
  type route hook output priority mangle
  meta mark & {Marks().exempt:#x} == 0 meta mark set {Marks().shield_closed:#x}
 }}
}}
"""
"""In place of the trap: all that leaves goes into the tunnel."""


def _sa(number: int) -> EspSa:
    """AES-GCM-256; both ends make the same. It protects zeros."""
    return EspSa(0x1000 + number, EspCipher.AES_GCM_16_256, Secret(bytes([number]) * 36))


def _child(own: str, peer: str) -> ChildSa:
    here, there = ip_address(own), ip_address(peer)
    inbound, outbound = (_sa(int(one) & 0xFF) for one in (here, there))
    return ChildSa(
        1, HostPair(here, there), here, there, inbound, outbound, True, Mode.TUNNEL, None, 3600.0, fail_closed=True
    )


async def _serve(own: str, peer: str) -> dict[str, float]:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    backend = UserspaceBackend()
    backend.start(loop, print)
    backend.install(_child(own, peer), Directions.BOTH)
    subprocess.run(["nft", "-f", "-"], input=_MARKED, text=True, check=True)  # noqa: ASYNC221 - nothing else runs yet
    before = os.times()
    print("ready", flush=True)
    await stop.wait()
    after = os.times()
    rows: list[ChildCounters] = []
    backend.count(lambda counters: rows.extend(counters if isinstance(counters, Iterator) else ()))
    backend.close()
    (row,) = rows
    packets = sorted((row.inbound_packets, row.outbound_packets))
    return {
        "packets": packets[1],
        "other_way": packets[0],
        "user": (after.user - before.user) * 1e6,
        "system": (after.system - before.system) * 1e6,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_serve(*sys.argv[1:]))), flush=True)
