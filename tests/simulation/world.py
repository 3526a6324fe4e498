"""Machines, network, DNS and applications of one scenario, and the ways between them."""

from ipaddress import IPv4Network, ip_address, ip_network
from random import Random

from oe.gateway import GatewaySettings
from oe.ike.settings import IkeSettings
from oe.model import Address, Group, HostPair, Secret
from oe.policy.groups import Entry, PolicySet
from oe.policy.outcome import GroupSettings
from tests.simulation.adversary import Adversary
from tests.simulation.clock import Clock
from tests.simulation.frames import Frame, Packet
from tests.simulation.kernel import BLACK_HOLES, PACKET_OCTETS, Fell, Kernel
from tests.simulation.link import Link
from tests.simulation.monitor import Monitor
from tests.simulation.names import Resolver, Zone
from tests.simulation.nat import NatBox
from tests.simulation.scenario import Kind, Scenario, Shape, Side, Theme
from tests.simulation.station import Station
from tests.simulation.traffic import Traffic

HOST, NEW_HOME = ip_address("192.0.2.1"), ip_address("192.0.2.9")
GATEWAYS = (ip_address("198.51.100.1"), ip_address("198.51.100.2"))
NAT = ip_address("192.0.2.254")
CLIENTS = IPv4Network("203.0.113.0/24")
CLIENT = CLIENTS[7]
NETS = tuple(ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"))

MODERATE_LOSS = 0.2
IDLE = 60.0


def policies_of(address: Address, group: Group) -> PolicySet:
    """One group for everybody else."""
    entries = [Entry(net, group, str(group), 1, str(net)) for net in NETS if address not in net]
    return PolicySet.of(entries)[0]


class World:
    """`tell`: keep a transcript in `story`."""

    def __init__(self, scenario: Scenario, *, tell: bool = False) -> None:
        self.scenario = scenario
        self.clock = Clock()
        self.began = self.clock.now
        self.frames = 0
        self.story: list[str] = []
        self._tells = tell
        random = Random(f"world {scenario.seed}")
        self.monitor = Monitor(self.clock, self._black_holes(), self._black_hole_limit())
        self.zone = Zone(scenario.grade, scenario.ttl)
        self.traffic = Traffic(self.clock, self._chance(random), self._from_application)
        told = self._on_the_wire if tell else None
        self.link = Link(self.clock, self._chance(random), scenario.weather, self._arrive, told)
        is_attacked = scenario.theme is Theme.ATTACK
        self.adversary = (
            Adversary(self.clock, self._chance(random), self._inject, scenario.is_spoiled) if is_attacked else None
        )
        is_behind = scenario.theme is Theme.NAT
        self.nat = NatBox(self.clock, self._chance(random), HOST, NAT) if is_behind else None
        addresses = (HOST, *GATEWAYS)
        self.stations = [
            self._station("ABC"[number], addresses[number], side, self._chance(random))
            for number, side in enumerate(scenario.sides)
        ]
        if scenario.heedless is not None:
            self.stations[scenario.heedless].is_heedless = True
        self._by_address: dict[Address, Station] = {station.address: station for station in self.stations}
        self._pairs = self._publish()
        if tell:
            self.monitor.story = self._tell

    @staticmethod
    def _chance(random: Random) -> Random:
        """Everything has dice of its own, so that a change of one thing does not change all."""
        return Random(random.random())

    def _black_holes(self) -> frozenset[Fell]:
        """Where names fail, or nothing gets through, one side decides that there is nobody to encrypt for, and the
        other's closed door is no fault of theirs."""
        scenario = self.scenario
        is_nameless = scenario.theme in (Theme.NAMES, Theme.KEYLESS)
        has_old_keys = any(trouble.kind is Kind.NEW_KEY for trouble in scenario.troubles)
        is_bad = scenario.weather.loss > MODERATE_LOSS or scenario.is_spoiled
        may_decide = is_nameless or has_old_keys or is_bad
        return BLACK_HOLES - {Fell.DOOR} if may_decide else BLACK_HOLES

    def _black_hole_limit(self) -> float:
        """Seconds. One-way traffic is noticed within 4.5; where a peer says that it forgot, 3.5 more tell, else 7.5."""
        if self.scenario.weather.loss > MODERATE_LOSS:
            return 30.0
        return 16.0 if self.scenario.theme is Theme.DARKNESS else 12.0

    # --- making ------------------------------------------------------------------------------------------------

    def _station(self, name: str, address: Address, side: Side, random: Random) -> Station:
        scenario = self.scenario
        policies = policies_of(address, side.group)
        group = GroupSettings(published_but_unreachable=side.unreachable, anonymous=side.anonymous)
        gateway = GatewaySettings(dict.fromkeys(Group, group), liveness=scenario.liveness, idle=IDLE)
        ike = IkeSettings(
            additional_key_exchange=side.is_hybrid,
            child_lifetime=scenario.child_lifetime,
            child_octets=side.child_packets * PACKET_OCTETS,
            ike_lifetime=scenario.ike_lifetime,
            cookie_threshold=scenario.cookie_threshold,
        )
        served = (CLIENTS,) if address in GATEWAYS and scenario.shape is not Shape.PAIR else ()
        station = Station(name, address, served, (gateway, ike), policies, random, self, self.monitor)
        station.crash_secret = Secret(random.randbytes(32)) if side.has_crash_secret else None
        station.kernel = Kernel(self.clock, side.backend, policies, self._chance(random), station)
        station.resolver = Resolver(self.clock, self.zone, self._chance(random), scenario.slow_names)
        return station

    def _publish(self) -> list[HostPair]:
        """Records of everybody who has any; says who talks to whom."""
        for station, side in zip(self.stations, self.scenario.sides, strict=True):
            if not side.is_keyless:
                self.zone.publish(station.address, station.address, station.key)
        self.zone.publish(NEW_HOME, NEW_HOME, self.stations[0].key)
        if self.scenario.shape is Shape.PAIR:
            pair = HostPair(HOST, GATEWAYS[0])
            return [pair, pair.reversed]
        for rank, station in enumerate(self.stations[1:]):
            self.zone.publish(CLIENT, station.address, station.key, 10 + rank)
        pair = HostPair(HOST, CLIENT)
        more = [HostPair(HOST, GATEWAYS[0])] if self.scenario.also_gateway else []
        return [pair, pair.reversed, *more]

    @property
    def pairs(self) -> list[HostPair]:
        """Who talks to whom."""
        return [self.traffic.by_now(pair) for pair in self._pairs]

    def move_host(self) -> None:
        """The host has another address from now on; what is sent to or from the old one gets nowhere."""
        host = self.stations[0]
        if host.address == HOST:
            self.traffic.moved[HOST] = NEW_HOME
            self._by_address[NEW_HOME] = self._by_address.pop(HOST)
            host.move_to(NEW_HOME)

    # --- ways --------------------------------------------------------------------------------------------------

    def carry(self, frame: Frame) -> None:
        """Send a frame over the network; behind a NAT it may not get as far."""
        self.frames += 1
        if self.nat is not None and frame.source.address == HOST:
            seen = self.nat.leave(frame)
            if seen is None:
                self._on_the_wire(frame, "stopped by the NAT")
                return
            frame = seen
        if self._station_of(frame.source.address) is None:
            self._on_the_wire(frame, "from an address that is gone")
            return
        if self.adversary is not None:
            self.adversary.sees(frame)
        self.link.carry(frame)

    def _inject(self, frame: Frame) -> None:
        """A frame of somebody on the way."""
        if self._tells:
            self._on_the_wire(frame, "forged or repeated")
        self._arrive(frame)

    def _arrive(self, frame: Frame) -> None:
        if self.nat is not None and frame.destination.address == HOST:
            return
        if self.nat is not None and frame.destination.address == NAT:
            inside = self.nat.enter(frame)
            if inside is None:
                return
            frame = inside
        station = self._station_of(frame.destination.address)
        if station is not None:
            station.arrive(frame)

    def _station_of(self, address: Address) -> Station | None:
        """The machine that packets from and to an address pass; a client turns to its second gateway when the first
        is down."""
        if address not in CLIENTS:
            return self._by_address.get(HOST if address == NAT else address)
        gateways = self.stations[1:]
        if self.scenario.far_gateway_first:
            gateways.reverse()
        return next((one for one in gateways if one.gateway is not None), gateways[0])

    def _from_application(self, packet: Packet) -> None:
        station = self._station_of(packet.pair.source)
        assert station is not None
        station.kernel.output(packet)

    def deliver(self, packet: Packet) -> None:
        self.traffic.receive(packet)

    # --- the transcript ----------------------------------------------------------------------------------------

    def _on_the_wire(self, frame: Frame, fate: str) -> None:
        if self._tells:
            here, there = (self._station_of(end.address) for end in (frame.source, frame.destination))
            arrow = f"{here.name if here else '?'} ─▶ {there.name if there else '?'}"
            self._tell(arrow, f"{frame}{'  ✗ ' if fate else ''}{fate}")

    def _tell(self, who: str, what: str) -> None:
        self.story.append(f"{self.clock.now - self.began:9.4f}  {who:7} {what}")
