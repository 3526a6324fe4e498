"""Where the time of a first connection goes, read off the wire. Pure.

All times are the kernel's, of frames on the links of the two gateways:

    connect ──▶ IKE_SA_INIT request ──▶ response ──▶ IKE_AUTH request ──▶ response ──▶ first ESP ──▶ connected
       trap, DNS              far side       our signature      far side's DNS    install,      TCP handshake
                                                                 and signature    release       in the tunnel
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from oe.ike.message import decode_header
from oe.ike.registry import ExchangeType
from oe.lab.sightings import Kind, Sighting

_UDP_HEADER = 8
_MILESTONES = (
    (ExchangeType.IKE_SA_INIT, False),
    (ExchangeType.IKE_SA_INIT, True),
    (ExchangeType.IKE_AUTH, False),
    (ExchangeType.IKE_AUTH, True),
)
NAMES = (
    "trap, DNS, first request",
    "IKE_SA_INIT, there and back",
    "keys and our signature",
    "IKE_AUTH, there and back",
    "verification, installation, release",
    "TCP handshake in the tunnel",
)
OUR_DNS, THEIR_DNS = "of the first: resolver asking", "of IKE_AUTH: far resolver asking"


@dataclass(frozen=True, slots=True)
class Connection:
    """When a connection was asked for and when it stood, seconds of the wall clock."""

    started: float
    connected: float


def phases(connection: Connection, sightings: Sequence[Sighting], near: str, far: str) -> dict[str, float]:
    """Milliseconds by phase; `near` and `far` are the links of both gateways. Empty when a milestone is missing."""
    ours = [seen for seen in sightings if seen.link == near and seen.time / 1e9 >= connection.started]
    times = [_first_message(ours, exchange, is_response) for exchange, is_response in _MILESTONES]
    times.append(next((seen.time for seen in ours if seen.kind is Kind.ESP), None))
    known = [time / 1e9 for time in times if time is not None]
    if len(known) < len(times):
        return {}
    marks = (connection.started, *known, connection.connected)
    found = {name: 1000 * (to - since) for name, (since, to) in zip(NAMES, pairwise(marks), strict=True)}
    found[OUR_DNS] = _dns(sightings, near, marks[0], marks[1])
    found[THEIR_DNS] = _dns(sightings, far, marks[3], marks[4])
    return found


def _first_message(sightings: Sequence[Sighting], exchange: ExchangeType, is_response: bool) -> int | None:
    for seen in sightings:
        if seen.kind is Kind.IKE:
            header = decode_header(seen.payload[_UDP_HEADER:])
            if (header.exchange, header.is_response) == (exchange, is_response):
                return seen.time
    return None


def _dns(sightings: Sequence[Sighting], link: str, since: float, until: float) -> float:
    """From the resolver's first question to the last answer that it got, within a time."""
    times = [
        seen.time / 1e9
        for seen in sightings
        if seen.link == link and seen.kind is Kind.DNS and since <= seen.time / 1e9 <= until
    ]
    return 1000 * (max(times) - min(times)) if times else 0.0
