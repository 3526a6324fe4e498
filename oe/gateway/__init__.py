"""The coordinator: events in, ordered commands out. It alone knows all wings and joins them.

timers.py      named deadlines
context.py     what every part shares: settings, own side, lookups under way, the output
preflight.py   is our own key published?
rollover.py    which of several signs
candidates.py  which gateways may serve a pair, from DNS answers; our own credentials
pairs.py       what is known of each host pair
outbound.py    from a trapped packet to a negotiation or a fallback
retries.py     when a failed attempt is made again
inbound.py     may this peer have this pair?
decisions.py   the table of pairs, and what the kernel is told about each
children.py    Child SAs between the IKE engine and the kernel
installs.py    what of them is on its way into the kernel
counting.py    their counters
liveness.py    which tunnels carry traffic one way only
idle.py        which carry none
evidence.py    what DNS says of them later
coordinator.py the joint: every event to its part
"""

from oe.gateway.context import GatewaySettings, OwnSide, Rules
from oe.gateway.coordinator import Gateway

__all__ = ["Gateway", "GatewaySettings", "OwnSide", "Rules"]
