"""A gateway whose surroundings are played by the test: DNS answers, the IKE engine, the kernel, the clock."""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address, ip_network
from itertools import count
from typing import TypeVar

from oe.gateway import Gateway, GatewaySettings, OwnSide
from oe.gateway.coordinator import Admits
from oe.messages import (
    ChildInstalled,
    Command,
    CountersRead,
    Decide,
    Drop,
    Event,
    InstallChild,
    KeysLookedUp,
    LookUpKeys,
    PacketTrapped,
    ReadCounters,
    Release,
    RemoveChild,
    Undecide,
)
from oe.model import (
    Address,
    Anonymity,
    ChildCounters,
    ChildSa,
    Delegation,
    Directions,
    Encapsulation,
    EspCipher,
    EspSa,
    Grade,
    Group,
    HeldPacket,
    HostPair,
    Identity,
    KeyAlgorithm,
    KeyAnswer,
    LookupOutcome,
    Mode,
    PairStatus,
    PublicKey,
    RecordKind,
    Secret,
    SocketAddress,
)
from oe.negotiation import ChildReady, IkeInput, IkeOutput, JudgePeer, Negotiate, PeerJudged
from oe.policy.groups import Entry, PolicySet
from oe.policy.outcome import Anonymous, GroupSettings, Unreachable
from oe.reasons import Reason
from oe.trap.holds import HoldTable

OURS = ip_address("192.0.2.1")
CLIENT = ip_address("203.0.113.7")
PEER = ip_address("198.51.100.9")
OTHER = ip_address("198.51.100.10")
OUR_KEY = PublicKey(KeyAlgorithm.EDDSA, b"\x01" * 32)
PEER_KEY = PublicKey(KeyAlgorithm.EDDSA, b"\x02" * 32)
OTHER_KEY = PublicKey(KeyAlgorithm.EDDSA, b"\x03" * 32)

NETS = {
    "198.51.100.0/24": Group.PRIVATE_OR_CLEAR,
    "198.51.100.64/26": Group.PRIVATE,
    "198.51.100.128/26": Group.CLEAR,
    "198.51.100.192/27": Group.BLOCK,
    "198.51.100.224/27": Group.CLEAR_OR_PRIVATE,
}
PRIVATE_PEER = ip_address("198.51.100.70")

SomeCommand = TypeVar("SomeCommand", bound=Command)


def group_settings(
    anonymous: Anonymous = Anonymous.NO, unreachable: Unreachable = Unreachable.AUTO
) -> dict[Group, GroupSettings]:
    settings = GroupSettings(published_but_unreachable=unreachable, anonymous=anonymous)
    return dict.fromkeys(Group, settings)


def delegation(
    key: PublicKey | None = PEER_KEY, gateway: Address | None = None, precedence: int = 10, name: str | None = None
) -> Delegation:
    return Delegation(RecordKind.IPSECKEY, precedence, gateway, name, key)


def found(owner: Address, *delegations: Delegation, grade: Grade = Grade.SECURE, expires: float = 1e9) -> KeyAnswer:
    return KeyAnswer(owner, LookupOutcome.FOUND, grade, None, delegations, expires)


def missing(
    owner: Address, reason: Reason = Reason.NO_KEY, grade: Grade = Grade.SECURE, expires: float = 1e9
) -> KeyAnswer:
    outcomes = {
        Reason.NO_KEY: LookupOutcome.NO_KEY,
        Reason.DNS_TIMEOUT: LookupOutcome.FAILED,
        Reason.DNS_FAILED: LookupOutcome.FAILED,
        Reason.DNS_BOGUS: LookupOutcome.BOGUS,
    }
    return KeyAnswer(owner, outcomes.get(reason, LookupOutcome.UNUSABLE), grade, reason, (), expires)


def child(
    id: int,
    pair: HostPair,
    remote: Address | None = None,
    *,
    fail_closed: bool = False,
    encapsulation: Encapsulation | None = None,
) -> ChildSa:
    key = Secret(bytes(36))
    return ChildSa(
        id=id,
        pair=pair,
        local=OURS,
        remote=remote or pair.destination,
        inbound=EspSa(0x1000 + id, EspCipher.AES_GCM_16_256, key),
        outbound=EspSa(0x2000 + id, EspCipher.AES_GCM_16_256, key),
        esn=True,
        mode=Mode.TUNNEL,
        encapsulation=encapsulation,
        lifetime=3600.0,
        fail_closed=fail_closed,
    )


@dataclass
class FakeIke:
    """Plays the engine: remembers what it is told, says what the test wants."""

    admits: Admits
    heard: list[IkeInput] = field(default_factory=list)
    says: list[IkeOutput] = field(default_factory=list)
    reacts: Callable[[IkeInput], list[IkeOutput]] = lambda event: []

    def handle(self, event: IkeInput, now: float) -> None:
        self.heard.append(event)
        self.says += self.reacts(event)

    def expire(self, now: float) -> None:
        """The fake has no timers."""

    def deadline(self) -> float | None:
        return None

    def take(self) -> list[IkeOutput]:
        says, self.says = self.says, []
        return says


class Script:
    """Drives one gateway. `answers` is the DNS: what is not in it never answers."""

    def __init__(
        self,
        *,
        served: tuple[str, ...] = (),
        answers: tuple[KeyAnswer, ...] | None = None,
        max_pairs: int = 100,
        liveness: float = 5.0,
        anonymous: Anonymous = Anonymous.NO,
        unreachable: Unreachable = Unreachable.AUTO,
        keys: tuple[PublicKey, ...] = (OUR_KEY,),
        addresses: tuple[Address, ...] = (OURS, ip_address("2001:db8::1")),
    ) -> None:
        entries = [Entry(ip_network(net), group, str(group), 1, net) for net, group in NETS.items()]
        self.policies = PolicySet.of(entries)[0]
        self.now = 0.0
        if answers is None:
            answers = (found(OURS, delegation(OUR_KEY)), found(PEER, delegation()))
        self.answers = {answer.owner: answer for answer in answers}
        self.commands: list[Command] = []
        """Everything the gateway ever commanded."""
        self.traffic: dict[int, tuple[int, int]] | None = None
        """Packets in and out by Child SA; None: counters are not answered."""
        self._packets = count(1)

        def make_ike(admits: Admits) -> FakeIke:
            self.ike = FakeIke(admits)
            return self.ike

        own = OwnSide(addresses, tuple(ip_network(net) for net in served), keys)
        settings = GatewaySettings(
            group_settings(anonymous, unreachable), setup_budget=3.0, max_pairs=max_pairs, liveness=liveness
        )
        holds = HoldTable(per_pair=4, total=16, patience=3.0)
        self.gateway = Gateway(settings, self.policies, own, make_ike, holds, count(1000), bytes)

    # --- driving -----------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> list[Command]:
        """One event and what follows from it; DNS answers come at once."""
        self.gateway.handle(event, self.now)
        return self._settle()

    def _settle(self) -> list[Command]:
        new: list[Command] = []
        while commands := self.gateway.take():
            new += commands
            for command in commands:
                if isinstance(command, LookUpKeys) and command.owner in self.answers:
                    self.gateway.handle(KeysLookedUp(command.ticket, self.answers[command.owner]), self.now)
                if isinstance(command, ReadCounters) and self.traffic is not None:
                    read = (ChildCounters(id, i, 100 * i, o, 100 * o) for id, (i, o) in self.traffic.items())
                    self.gateway.handle(CountersRead(tuple(read)), self.now)
        self.commands += new
        return new

    def run_until(self, at: float) -> list[Command]:
        """Jump from deadline to deadline up to `at`."""
        new: list[Command] = []
        for _ in range(10_000):
            deadline = self.gateway.deadline()
            if deadline is None or deadline > at:
                self.now = at
                return new
            self.now = max(self.now, deadline)
            self.gateway.expire(self.now)
            new += self._settle()
        raise AssertionError("the gateway never comes to rest")

    def trap(self, destination: Address = PEER, source: Address = OURS) -> int:
        """A packet is trapped; its id."""
        packet = HeldPacket(next(self._packets), HostPair(source, destination), 6, 40000, 80, 60, 0, source != OURS)
        self.feed(PacketTrapped(packet))
        return packet.id

    def engine_says(self, *outputs: IkeOutput) -> list[Command]:
        """The engine has something to say: its timers rang."""
        self.ike.says += outputs
        self.gateway.expire(self.now)
        return self._settle()

    def install(self, ready: ChildReady) -> list[Command]:
        """Let the engine's Child SA go into the kernel."""
        self.engine_says(ready)
        return self.feed(ChildInstalled(ready.ticket, ready.child.id, ready.directions))

    def protect(
        self,
        destination: Address = PEER,
        id: int = 1,
        *,
        initiated: bool = True,
        replaces: int | None = None,
        key: PublicKey | None = PEER_KEY,
        source: Address = OURS,
    ) -> list[Command]:
        """A complete Child SA for (source, destination); without a key an anonymous one."""
        negotiation = self.negotiations()[-1].ticket if initiated else None
        rank = Anonymity.ANONYMOUS if key is None else Anonymity.AUTHENTICATED
        sa = child(id, HostPair(source, destination))
        return self.install(ChildReady(id, sa, Directions.BOTH, negotiation, key, rank, replaces))

    def claim(
        self, pair: HostPair, peer: Address, *, identity: Address | Identity | None = None, nat: bool = False
    ) -> PeerJudged | None:
        """A peer at `peer` asks for `pair`; the judgement, None while it is out."""
        local, remote = SocketAddress(OURS, 500), SocketAddress(peer, 500)
        claimed = identity if isinstance(identity, Identity) else Identity.of(identity or peer)
        self.engine_says(JudgePeer(77, local, remote, claimed, pair, self.now + 3, nat))
        judged = [event for event in self.ike.heard if isinstance(event, PeerJudged)]
        return judged[-1] if judged else None

    # --- looking -----------------------------------------------------------------------------------------------

    def all(self, kind: type[SomeCommand]) -> list[SomeCommand]:
        return [command for command in self.commands if isinstance(command, kind)]

    def negotiations(self) -> list[Negotiate]:
        return [event for event in self.ike.heard if isinstance(event, Negotiate)]

    def status(self, destination: Address = PEER, source: Address = OURS) -> PairStatus | None:
        rows = [row for row in self.gateway.snapshot() if row.pair == HostPair(source, destination)]
        return rows[0] if rows else None


ACTIONS = (Decide, Undecide, Release, Drop, InstallChild, RemoveChild)


def actions(commands: list[Command]) -> list[Command]:
    """Those commands that touch packets, decisions or SAs, in order."""
    return [command for command in commands if isinstance(command, ACTIONS)]


def v4(text: str) -> IPv4Address:
    return IPv4Address(text)
