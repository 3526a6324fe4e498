"""More than the life of a Child SA, with the lab's world and little traffic: a program for the test kernel, where time
can be skipped. `python -m tests.kernel.hours` prints one JSON object.

    {"sent": 70, "lost": 0, "seen": {"ESP": 140, "IKE": 10}, "protected": 2, "minutes": 70}

`seen` are packets between alice and bob on alice's link, `protected` the tunnels that alice negotiated.
"""

import asyncio
import json
import time
from collections import Counter

from oe.lab.capture import Capture
from oe.lab.plan import BOB_UDP, HOST, alice, remote
from oe.lab.probes import Echoes
from oe.lab.sightings import Kind, sight
from oe.lab.world import World
from oe.model import Group, Reason

MINUTES = 70
SOURCE, DESTINATION = alice(Group.PRIVATE_OR_CLEAR), remote(Group.PRIVATE, BOB_UDP)


async def one_datagram(world: World, number: int) -> bool:
    """Whether it was answered."""
    ends = {"source": str(SOURCE), "destination": str(DESTINATION)}
    flow = {"protocol": "udp", "marker": f"minute {number}", "count": 1, "patience": 5.0, "again": 5.0}
    return Echoes(**await world.job(HOST["alice"], job="probe", **ends, **flow)).answered == 1


def seen(capture: Capture) -> Counter[Kind]:
    capture.drain()
    packets = [packet for frame in capture.frames if (packet := sight(frame)) is not None]
    ours = frozenset((SOURCE, DESTINATION))
    return Counter(packet.kind for packet in packets if packet.link == HOST["alice"].link and packet.ends == ours)


async def main() -> None:
    async with World.running("auto", lambda _step: None) as world:
        capture = Capture()
        started = time.monotonic()
        answered = 0
        for number in range(MINUTES):
            answered += await one_datagram(world, number)
            await asyncio.sleep(60)
        reasons = (await world.status(HOST["alice"]))["reasons"]
        told = {
            "sent": MINUTES,
            "lost": MINUTES - answered,
            "seen": seen(capture),
            "protected": reasons[Reason.PROTECTED_AS_INITIATOR],
            "minutes": int((time.monotonic() - started) / 60),
        }
        capture.close()
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
