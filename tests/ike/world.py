"""Two or more IKE engines on virtual time, over a link that may be bad.

Each `Host` also plays what stands around its engine: the coordinator (who is who, which pair is granted), the key hand
and the kernel. What the kernel holds is checked whenever it changes.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from ipaddress import ip_address
from itertools import count
from random import Random
from typing import Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from oe.ike.endpoint import Endpoint
from oe.ike.message import decode_header
from oe.ike.registry import ExchangeType
from oe.ike.sa import Timer
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.messages import (
    ChildInstalled,
    DatagramReceived,
    KeepMapping,
    Note,
    OctetsSigned,
    ReserveSpi,
    SendDatagram,
    SignOctets,
    SpiReserved,
)
from oe.model import (
    Address,
    ChildSa,
    Directions,
    HostPair,
    Identity,
    KeyAlgorithm,
    PublicKey,
    Secret,
    SignatureScheme,
    SocketAddress,
)
from oe.negotiation import (
    CheckLiveness,
    ChildClosed,
    ChildMoved,
    ChildReady,
    ChildRedundant,
    CloseChild,
    IkeInput,
    IkeOutput,
    JudgePeer,
    Negotiate,
    NegotiationEnded,
    PeerExpected,
    PeerJudged,
    Rejected,
    RekeyChild,
)
from oe.reasons import Reason

QUIET = 2.0
"""Seconds after which a Child SA that is redundant has been seen to be quiet."""

KeyKind = Literal["rsa", "ecdsa", "ecdsa-p384", "ed25519"]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}


@cache
def private_key(kind: KeyKind, number: int) -> PrivateKey:
    """One of a few keys, made once a run."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1() if kind == "ecdsa" else ec.SECP384R1())


def public_key(private: PrivateKey) -> PublicKey:
    if isinstance(private, rsa.RSAPrivateKey):
        numbers = private.public_key().public_numbers()
        modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
        return PublicKey(KeyAlgorithm.RSA, b"\x03\x01\x00\x01" + modulus)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        point, size = private.public_key().public_numbers(), private.key_size // 8
        return PublicKey(KeyAlgorithm.ECDSA, point.x.to_bytes(size, "big") + point.y.to_bytes(size, "big"))
    return PublicKey(KeyAlgorithm.EDDSA, private.public_key().public_bytes_raw())


def sign(private: PrivateKey, scheme: SignatureScheme, octets: bytes) -> bytes:
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private.sign(octets)
    digest = _HASHES[scheme.value.rpartition("-")[2]]
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return private.sign(octets, ec.ECDSA(digest))
    return private.sign(octets, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)


@dataclass(slots=True)
class KernelChild:
    """What a kernel has of a Child SA."""

    child: ChildSa
    inbound: bool = False
    outbound: bool = False


@dataclass(slots=True)
class Link:
    """How the network treats datagrams. The default is perfect and takes 10 ms."""

    random: Random
    delay: float = 0.01
    jitter: float = 0.0
    loss: float = 0.0
    duplicates: float = 0.0
    passes: Callable[[SendDatagram], bool] = field(default=lambda _: True)
    """A test's own choice of what gets through."""
    middlebox: Callable[[SendDatagram], SendDatagram | None] = field(default=lambda datagram: datagram)
    """What becomes of a datagram on its way."""

    def arrivals(self, datagram: SendDatagram, now: float) -> list[float]:
        """When copies of it arrive; none if it is lost."""
        copies = 2 if self.random.random() < self.duplicates else 1
        return [
            now + self.delay + self.jitter * self.random.random()
            for _ in range(copies)
            if self.random.random() >= self.loss and self.passes(datagram)
        ]


class Host:
    """An engine and everything around it."""

    def __init__(self, world: "World", address: str, kind: KeyKind, number: int, settings: IkeSettings) -> None:
        self.world = world
        self.address = ip_address(address)
        self.socket = SocketAddress(self.address, 500)
        self.identity = Identity.of(self.address)
        self.private = private_key(kind, number)
        self.key = public_key(self.private)
        self.settings = settings
        self.kernel: dict[int, KernelChild] = {}
        self.kernel_log: list[tuple[float, frozenset[tuple[int, bool, bool]]]] = []
        self.sent: list[SendDatagram] = []
        self.signed_with: list[PublicKey] = []
        self.rejected: Counter[Reason] = Counter()
        self.details: list[str] = []
        self.notes: list[Note] = []
        self.kept: list[float] = []
        """When a NAT's mapping was to be kept alive."""
        self.expected: list[Address] = []
        """Peers that the engine will soon ask about."""
        self.judged: list[JudgePeer] = []
        self.ready: list[ChildReady] = []
        self.ended: dict[int, NegotiationEnded] = {}
        self.closed: dict[int, Reason] = {}
        self.given_up: set[int] = set()
        """Child SAs that a test closed."""
        self.redundant: dict[int, bool] = {}
        """Child SAs that the engine has too many, and whether they are ours to close."""
        self.spare: dict[int, ChildReady] = {}
        """Outbound halves of theirs that nobody needs so far."""
        self.sees_traffic = True
        """The peer is seen to send in the other one."""
        self.judge: Callable[[JudgePeer], PeerJudged] = world.judge
        self.installs: Callable[[ChildReady], Reason | None] = lambda _: None
        self.answers: Callable[[IkeOutput], float | None] = lambda _: 0.0
        """Delay of the surroundings' answer; None: it never comes."""
        self.crash_secret: Secret | None = Secret(self.address.packed.rjust(32, b"s"))
        self.restart()

    def restart(self) -> None:
        """A new engine that knows nothing; the kernel is empty too."""
        seed = Random(f"{self.world.seed} {self.address} {next(self.world.serial)}")
        self.kernel.clear()
        self.tickets: Iterator[int] = count(1)
        self.endpoint = Endpoint(
            self.settings,
            (self.key,),
            seed.randbytes,
            self.world.admits(self),
            self.tickets,
            self.world.child_ids,
            self.crash_secret,
        )

    # --- what tests say ---

    def negotiate(
        self,
        peer: "Host",
        *,
        patience: float = 3.0,
        keys: tuple[PublicKey, ...] | None = None,
        identity: Identity | None = None,
        pair: HostPair | None = None,
        fail_closed: bool = False,
    ) -> int:
        ticket = next(self.tickets)
        self.feed(
            Negotiate(
                ticket,
                pair or HostPair(self.address, peer.address),
                self.socket,
                peer.socket,
                self.identity,
                identity or peer.identity,
                (peer.key,) if keys is None else keys,
                fail_closed,
                self.world.now + patience,
            )
        )
        return ticket

    def feed(self, input: IkeInput) -> None:
        self.endpoint.handle(input, self.world.now)
        self.drain()

    def check_all(self) -> None:
        for child in tuple(self.kernel):
            self.feed(CheckLiveness(child))

    def rekey(self, *children: int) -> None:
        """Ask for successors of these Child SAs, or of all."""
        for child in children or tuple(self.kernel):
            self.feed(RekeyChild(child))

    def rekey_ike(self) -> None:
        """Let the time come at which the IKE SAs are rekeyed."""
        for sa in tuple(self.endpoint._ctx.sas.values()):
            if sa.state is State.ESTABLISHED:
                sa.timers[Timer.REKEY] = self.world.now
                self.endpoint._arm(sa)
        self.endpoint.expire(self.world.now)
        self.drain()

    def close(self, child: int) -> None:
        self.forget(child)
        self.given_up.add(child)
        self.feed(CloseChild(child, Reason.OPERATOR_FLUSH))

    @property
    def states(self) -> list[State]:
        return [row.state for row in self.endpoint.snapshot()]

    # --- the surroundings ---

    def drain(self) -> None:
        for output in self.endpoint.take():
            self.execute(output)

    def execute(self, output: IkeOutput) -> None:
        match output:
            case SendDatagram():
                assert output.local.address == self.address
                self.sent.append(output)
                self.world.carry(output)
            case SignOctets():
                self.signed_with.append(output.key)
                signature = sign(self.private, output.scheme, output.octets)
                self.answer(output, OctetsSigned(output.ticket, signature))
            case ReserveSpi():
                self.answer(output, SpiReserved(output.ticket, next(self.world.spis)))
            case JudgePeer():
                self.judged.append(output)
                self.answer(output, self.judge(output))
            case ChildReady():
                self.ready.append(output)
                is_spare = output.directions is Directions.OUTBOUND and output.child.id in self.redundant
                if is_spare and self._carries(output.child.pair):
                    self.spare[output.child.id] = output
                else:
                    self.answer(output, None)
            case _:
                self.hear(output)

    def hear(self, output: IkeOutput) -> None:
        """What is not answered."""
        match output:
            case PeerExpected():
                self.expected.append(output.remote)
            case ChildRedundant(child, is_ours):
                self.redundant[child] = is_ours
                self.world.later(QUIET if is_ours else 5 * QUIET, lambda: self._close_redundant(child))
            case ChildMoved():
                if (held := self.kernel.get(output.child)) is not None:
                    held.child = replace(held.child, remote=output.remote, encapsulation=output.encapsulation)
            case KeepMapping():
                self.kept.append(self.world.now)
            case NegotiationEnded():
                assert output.ticket not in self.ended
                self.ended[output.ticket] = output
            case ChildClosed():
                assert output.child not in self.closed
                self.closed[output.child] = output.reason
                self.forget(output.child)
            case Rejected():
                self.rejected[output.reason] += 1
                self.details.append(f"{output.reason}: {output.detail}")
            case Note():
                self.notes.append(output)

    def answer(self, question: IkeOutput, answer: IkeInput | None) -> None:
        delay = self.answers(question)
        if delay is None:
            return
        self.world.later(delay, lambda: self.feed(answer if answer is not None else self.install(question)))

    def install(self, ready: IkeOutput) -> ChildInstalled:
        assert isinstance(ready, ChildReady)
        reason = self.installs(ready)
        if reason is None and ready.child.id not in {*self.closed, *self.given_up}:
            held = self.kernel.setdefault(ready.child.id, KernelChild(ready.child))
            if ready.directions is Directions.OUTBOUND:
                assert held.inbound
            held.inbound = held.inbound or ready.directions is not Directions.OUTBOUND
            held.outbound = held.outbound or ready.directions is not Directions.INBOUND
            self.log_kernel()
        return ChildInstalled(ready.ticket, ready.child.id, ready.directions, reason)

    def forget(self, child: int) -> None:
        held = self.kernel.pop(child, None)
        self.spare.pop(child, None)
        if held is None:
            return
        self.log_kernel()
        if not self._carries(held.child.pair):
            for ready in [one for one in self.spare.values() if one.child.pair == held.child.pair]:
                self.answer(self.spare.pop(ready.child.id), None)

    def _carries(self, pair: HostPair) -> bool:
        return any(held.outbound for held in self.kernel.values() if held.child.pair == pair)

    def _close_redundant(self, child: int) -> None:
        held = self.kernel.get(child)
        others = [] if held is None else [id for id, one in self.kernel.items() if one.child.pair == held.child.pair]
        if self.sees_traffic and len(others) > 1:
            self.closed[child] = Reason.REDUNDANT
            self.forget(child)
            self.feed(CloseChild(child, Reason.REDUNDANT))

    def log_kernel(self) -> None:
        held = frozenset((id, held.inbound, held.outbound) for id, held in self.kernel.items())
        self.kernel_log.append((self.world.now, held))


def is_message(datagram: SendDatagram, exchange: ExchangeType, *, is_response: bool) -> bool:
    header = decode_header(datagram.data)
    return header.exchange == exchange and header.is_response == is_response


class World:
    """Virtual time, a link, and hosts on it."""

    def __init__(self, seed: int = 0, *, hybrid: bool = False) -> None:
        """`hybrid`: engines do the additional key exchange of the product's settings. Its octets do not replay."""
        self.seed = seed
        self.hybrid = hybrid
        self.now = 1000.0
        self.serial = count()
        self.child_ids = count(1)
        self.spis = count(0x1000)
        self.link = Link(Random(seed))
        self.hosts: dict[Address, Host] = {}
        self.refused: dict[HostPair, Reason] = {}
        self.not_admitted: set[Address] = set()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def host(
        self, address: str, kind: KeyKind = "ed25519", number: int | None = None, settings: IkeSettings | None = None
    ) -> Host:
        number = len(self.hosts) if number is None else number
        settings = replace(settings or IkeSettings(), additional_key_exchange=self.hybrid)
        host = Host(self, address, kind, number, settings)
        self.hosts[host.address] = host
        return host

    def pair(self, kind: KeyKind = "ed25519", settings: IkeSettings | None = None) -> tuple[Host, Host]:
        """Two hosts that know each other's keys."""
        return self.host("192.0.2.1", kind, settings=settings), self.host("192.0.2.2", kind, settings=settings)

    def judge(self, question: JudgePeer) -> PeerJudged:
        """The answer of an honest directory: an address has its host's key."""
        address = question.identity.address
        peer = self.hosts.get(address) if address is not None else None
        if peer is None:
            return PeerJudged(question.ticket, (), None)
        return PeerJudged(question.ticket, (peer.key,), self.refused.get(question.pair))

    def admits(self, host: Host) -> Callable[[Address], bool]:
        return lambda address: address not in self.not_admitted

    def later(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self.serial), act))

    def carry(self, datagram: SendDatagram) -> None:
        for at in self.link.arrivals(datagram, self.now):
            self.later(at - self.now, lambda: self.deliver(datagram))

    def deliver(self, sent: SendDatagram) -> None:
        datagram = self.link.middlebox(sent)
        receiver = self.hosts.get(datagram.remote.address) if datagram is not None else None
        if datagram is not None and receiver is not None:
            receiver.feed(DatagramReceived(datagram.remote, datagram.local, datagram.data))

    def run(self, seconds: float, steps: int = 20000) -> None:
        """Let `seconds` pass. Fails when so much happens that it looks like a livelock."""
        end = self.now + seconds
        for _ in range(steps):
            deadlines = [deadline for host in self.hosts.values() if (deadline := host.endpoint.deadline()) is not None]
            times = deadlines + [event[0] for event in self._events[:1]]
            if not times or min(times) > end:
                self.now = end
                return
            self.now = max(self.now, min(times))
            if self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
                continue
            for host in self.hosts.values():
                host.endpoint.expire(self.now)
                host.drain()
        raise AssertionError(f"no rest after {steps} steps")


def assert_matched(one: Host, other: Host) -> None:
    """Both kernels hold the same Child SAs, whole, and each end's outbound SA is the other's inbound SA."""
    assert sorted(held.child.inbound.spi for held in one.kernel.values()) == sorted(
        held.child.outbound.spi for held in other.kernel.values()
    )
    by_spi = {held.child.outbound.spi: held for held in other.kernel.values()}
    for held in one.kernel.values():
        mirror = by_spi[held.child.inbound.spi]
        assert held.inbound
        assert held.outbound
        assert mirror.inbound
        assert mirror.outbound
        assert held.child.outbound == mirror.child.inbound
        assert held.child.inbound == mirror.child.outbound
        assert held.child.outbound.key.octets != held.child.inbound.key.octets
        assert held.child.pair == HostPair(mirror.child.pair.destination, mirror.child.pair.source)
        assert (held.child.local, held.child.remote) == (mirror.child.remote, mirror.child.local)
        assert held.child.esn == mirror.child.esn
