"""Child SAs: which traffic selectors make one, and what an IKE SA remembers of each of its own.

A Child SA of `oe` carries exactly one host pair, all protocols and ports. Nothing is narrowed: nobody can prove by
per-address records that he may speak for more than an address (RFC 4322), so an offer of more is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass

from oe.ike.payloads import TrafficSelector, TsPayload
from oe.ike.registry import PayloadType
from oe.model import Address, ChildSa, HostPair


@dataclass(slots=True, eq=False)
class Child:
    """A Child SA that was handed out with `ChildReady`; it ends with one `ChildClosed` or by the coordinator's word."""

    sa: ChildSa
    ends: float
    """When its lifetime ends, monotonic seconds."""
    is_closing: bool = False
    """Its Delete is under way; for the coordinator it is gone."""


def exact_host(payload: TsPayload) -> Address | None:
    """The one address whose traffic the selectors mean, all of it; None when they mean more, less or several.

    The first selector may be the narrower one of the packet that started it (RFC 7296 2.9), as long as all stay
    within the one address.
    """
    if not payload.selectors:
        return None
    host = payload.selectors[0].first
    if any(selector.first != host or selector.last != host for selector in payload.selectors):
        return None
    return host if any(selector.covers(host) for selector in payload.selectors) else None


def exact_pair(ours: TsPayload, theirs: TsPayload) -> HostPair | None:
    """The host pair of two TS payloads in our orientation; None when one is not exact or the families differ."""
    source, destination = exact_host(ours), exact_host(theirs)
    if source is None or destination is None or source.version != destination.version:
        return None
    return HostPair(source, destination)


def selectors(pair: HostPair, *, we_initiate: bool) -> tuple[TsPayload, TsPayload]:
    """TSi and TSr for exactly `pair`."""
    ours, theirs = TrafficSelector.of(pair.source), TrafficSelector.of(pair.destination)
    first, second = (ours, theirs) if we_initiate else (theirs, ours)
    return TsPayload(PayloadType.TS_I, (first,)), TsPayload(PayloadType.TS_R, (second,))


def shortened(lifetime: float, jitter: float, entropy: Callable[[int], bytes]) -> float:
    """`lifetime` less a random share of up to `jitter` of it."""
    return lifetime * (1 - jitter * int.from_bytes(entropy(2), "big") / 0xFFFF)
