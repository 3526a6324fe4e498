"""What must hold after every command and every frame. The first thing that does not ends the run."""

from collections.abc import Callable

from oe.errors import ParseError
from oe.ike.message import decode_header, decode_message
from oe.ike.payloads import NoncePayload, find
from oe.ike.registry import ExchangeType, PayloadType
from oe.messages import (
    Command,
    Decide,
    Drop,
    InstallChild,
    Note,
    Release,
    RemoveChild,
    SendDatagram,
)
from oe.model import Directions, EspSa, Group, HostPair, Verdict
from oe.policy.select import select
from tests.simulation.clock import Clock
from tests.simulation.frames import Packet
from tests.simulation.kernel import Fell
from tests.simulation.station import Station

SETTLED_BY_POLICY = frozenset({Group.CLEAR, Group.CLEAR_OR_PRIVATE})
READY = 0.1
"""Seconds from an outbound SA to the decision that leads packets there."""
SAME_HOLE = 4.0
"""Seconds between two swallowed packets of one direction that count as one black hole."""
IV = {PayloadType.SK: slice(32, 40), PayloadType.SKF: slice(36, 44)}
"""Where the IV of a message stands whose first payload is encrypted."""
FRAGMENT = slice(32, 36)
SPOKEN_OF = frozenset({"child-not-installed"})
"""Errors in the log that a run provokes."""


class Violation(AssertionError):
    """An invariant does not hold."""


class Monitor:
    """A witness of everything. `black_holes`: drops that the sender could have avoided if it knew what its peer knows;
    they must end within `black_hole_limit` seconds."""

    def __init__(self, clock: Clock, black_holes: frozenset[Fell], black_hole_limit: float) -> None:
        self._black_holes = black_holes
        self._black_hole_limit = black_hole_limit
        self.longest_hole = 0.0
        self.story: Callable[[str, str], None] | None = None
        """Takes a line of the transcript: whose, and what."""
        self._clock = clock
        self._owners: dict[bytes, int] = {}
        self._senders: dict[bytes, tuple[str, int, int]] = {}
        self._inbound_ever: set[tuple[int, bytes]] = set()
        self._vectors: dict[tuple[bytes, bool, bytes], bytes] = {}
        self._requests: dict[tuple[object, ...], bytes] = {}
        self._nonces: dict[bytes, tuple[int, bool]] = {}
        self._holes: dict[HostPair, tuple[float, float]] = {}

    # --- as witness --------------------------------------------------------------------------------------------

    def commanded(self, station: Station, command: Command) -> None:
        match command:
            case SendDatagram():
                self._sent(station, command)
            case InstallChild():
                self._installed(station, command)
            case RemoveChild():
                self._removed(station, command)
            case Decide():
                self._decided(station, command)
            case Release():
                self._released(station, command)
            case Drop(packets=ids):
                self._must(all(id in station.held for id in ids), "a packet is dropped that is not held", command)
            case Note(level="error", event=event) if event not in SPOKEN_OF:
                self._must(False, "an error is told", command)
        if self.story is not None and not isinstance(command, SendDatagram | Note):
            self.story(station.name, _told(command))

    def trapped(self, station: Station, packet: Packet) -> None:
        """Each held packet is let go, or dropped for a reason, in time."""
        self._holes.pop(packet.pair, None)
        outlet = station.kernel.outlet(packet.pair)
        if outlet is not None and outlet.sends_since is not None and not outlet.is_dead:
            waited = self._clock.now - outlet.sends_since
            self._must(waited <= READY, f"{packet.pair} has an SA since {waited:.1f} s, and still is trapped")
        incarnation = station.incarnation

        def look_again() -> None:
            if station.incarnation == incarnation and station.gateway is not None:
                self._must(packet not in station.held.values(), f"{station.name} still holds {packet.pair} {packet}")

        self._clock.after(station.settings.setup_budget + 1.0, look_again)

    def fell(self, station: Station, packet: Packet, why: Fell) -> None:
        if self.story is not None:
            self.story(station.name, f"dropped {packet.pair} {packet}: {why}")
        self._must(why is not Fell.FLOOR, f"only the floor stopped a private packet of {packet.pair}")
        if why is Fell.REPLAYED:
            return
        # To the dead nothing can be told.
        if why not in self._black_holes or station.gateway is None:
            self._holes.pop(packet.pair, None)
            return
        now = self._clock.now
        start, last = self._holes.get(packet.pair, (now, now))
        start = now if now - last > SAME_HOLE else start
        self._holes[packet.pair] = start, now
        self.longest_hole = max(self.longest_hole, now - start)
        text = f"packets of {packet.pair} vanish for {now - start:.1f} s"
        self._must(now - start <= self._black_hole_limit, text, why)

    def delivered(self, station: Station, packet: Packet) -> None:
        self._holes.pop(packet.pair, None)

    def happened(self, station: Station, what: str) -> None:
        if self.story is not None:
            self.story(station.name, f"*** {what} ***")

    # --- SAs and keys ------------------------------------------------------------------------------------------

    def _installed(self, station: Station, command: InstallChild) -> None:
        child, directions = command.child, command.directions
        if directions is not Directions.OUTBOUND:
            self._owned(child.inbound, command)
            self._inbound_ever.add((child.inbound.spi, child.inbound.key.octets))
        if directions is Directions.INBOUND:
            return
        self._owned(child.outbound, command)
        key = child.outbound.key.octets
        sender = (station.name, station.incarnation, child.id)
        self._must(self._senders.setdefault(key, sender) == sender, "two SAs send with one key", command)
        if directions is Directions.BOTH:
            self._must(
                (child.outbound.spi, key) in self._inbound_ever, "the peer's inbound SA is not in place yet", command
            )
        else:
            placed = station.kernel.placed.get(child.id)
            self._must(placed is not None and placed.inbound, "outbound before inbound", command)

    def _owned(self, sa: EspSa, command: InstallChild) -> None:
        # By SPI alone: an address may have another name at the other end.
        self._must(self._owners.setdefault(sa.key.octets, sa.spi) == sa.spi, "a key is used for two SAs", command)

    def _removed(self, station: Station, command: RemoveChild) -> None:
        placed = station.kernel.placed.get(command.child)
        if placed is None or not placed.outbound:
            return
        pair = placed.child.pair
        is_last = len(station.kernel.outlets(pair)) == 1
        is_protected = station.kernel.verdict(pair) is Verdict.PROTECTED
        self._must(not (is_last and is_protected), f"the SA of {pair} goes before its decision", command)

    # --- decisions and packets ---------------------------------------------------------------------------------

    def _decided(self, station: Station, command: Decide) -> None:
        outlet = station.kernel.outlet(command.pair)
        if command.verdict is Verdict.PROTECTED:
            self._must(outlet is not None, "decided as protected without an SA", command)
        else:
            self._must(outlet is None or outlet.is_dead, "decided against a living SA", command)
        if select(station.policies, command.pair.destination).group is Group.PRIVATE:
            self._must(command.verdict is not Verdict.CLEAR, "private decided as clear", command)
            self._must(command.fail_closed, "private does not fail closed", command)

    def _released(self, station: Station, command: Release) -> None:
        self._must(list(command.packets) == sorted(command.packets), "released in another order", command)
        for id in command.packets:
            packet = station.held.get(id)
            self._must(packet is not None, "a packet is released that is not held", command)
            if packet is None:
                continue
            group = select(station.policies, packet.pair.destination).group
            if command.verdict is Verdict.CLEAR:
                self._must(group is not Group.PRIVATE, "a private packet is released in clear", command)
            decided = station.kernel.verdict(packet.pair) is command.verdict
            is_farewell = command.verdict is Verdict.CLEAR and station.is_stopping
            allowed = decided or is_farewell or group in SETTLED_BY_POLICY
            self._must(allowed, f"released before {packet.pair} is decided so", command)
            if command.verdict is Verdict.PROTECTED:
                self._must(station.kernel.outlet(packet.pair) is not None, "released into no tunnel", command)

    # --- messages ----------------------------------------------------------------------------------------------

    def _sent(self, station: Station, command: SendDatagram) -> None:
        """No IV twice under one key, no Message ID twice with another content, no nonce twice."""
        octets = command.data
        vector = IV.get(PayloadType(octets[16]))
        if vector is None:
            self._sent_in_clear(octets)
            return
        spis, flags = octets[:16], octets[19]
        # Every IKE_INTERMEDIATE ends with other keys (RFC 9370 2.2.2).
        keys = octets[20:24] if octets[18] == ExchangeType.IKE_INTERMEDIATE else b""
        known = self._vectors.setdefault((spis, bool(flags & 8), keys + octets[vector]), octets)
        self._must(known == octets, "an IV is used twice", command.remote)
        part = octets[FRAGMENT] if octets[16] == PayloadType.SKF else b""
        request = (spis, flags, octets[20:24], part)
        if self._requests.setdefault(request, octets) == octets:
            return
        self._must(False, "a Message ID is used twice", command.remote)

    def _sent_in_clear(self, octets: bytes) -> None:
        header = decode_header(octets)
        if header.exchange != ExchangeType.IKE_SA_INIT:
            return
        try:
            nonce = find(decode_message(octets, header).payloads, NoncePayload)
        except ParseError as error:
            raise Violation(f"we sent what we cannot read: {error}") from error
        if nonce is None:
            return
        # A COOKIE or another group makes the request anew, with the nonce of the first.
        user = (header.initiator_spi, header.is_response)
        self._must(self._nonces.setdefault(nonce.data, user) == user, "a nonce is used twice", header)

    def _must(self, holds: bool, text: str, about: object = "") -> None:
        if not holds:
            told = _told(about) if isinstance(about, Command) else str(about)
            raise Violation(f"{text}: {told}" if told else text)


def _told(command: Command) -> str:
    """One line of the transcript."""
    text = type(command).__name__
    match command:
        case InstallChild(child=child, directions=directions):
            text = (
                f"install {child.id} {directions} {child.pair} in {child.inbound.spi:08x} out {child.outbound.spi:08x}"
            )
        case Decide(pair=pair, verdict=verdict, lifetime=lifetime):
            text = f"decide {pair} {verdict} for {lifetime:.0f} s"
        case Release(packets=packets, verdict=verdict):
            text = f"release {len(packets)} {verdict}"
        case Drop(packets=packets, reason=reason):
            text = f"drop {len(packets)}: {reason}"
        case RemoveChild(child=child):
            text = f"remove {child}"
        case Note(event=event, fields=fields):
            text = f"{event} {dict(fields)}"
    return text
