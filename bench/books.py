"""A gateway's books: coordinator, hands and the kernel's table as the daemon has them, packets and answers made up.

    PacketTrapped ──► coordinator ──► LookUpKeys ──► "no key", at once, kept in the daemon's own cache
                          │
                          └──► Decide ──► table `inet oe` in this network namespace, then Release ──► counted

Left out are the kernel's queue and DNS on the wire: they have benchmarks of their own.
"""

import asyncio
import json
import subprocess
from collections import deque
from collections.abc import Iterable
from ipaddress import IPv4Address, ip_address, ip_network
from itertools import count
from pathlib import Path
from time import monotonic

from cryptography.hazmat.primitives.asymmetric import rsa

from oe.config import read_config
from oe.control import Json
from oe.daemon.hands import Hands, Tools
from oe.daemon.machine import choose_backend, trap_spec
from oe.daemon.making import make_gateway
from oe.daemon.reload import Input
from oe.dnskeys.cache import Cache
from oe.dnskeys.engine import CACHE_SIZE
from oe.keystore import PUBLIC_EXPONENT, KeyStore
from oe.messages import Event, KeepMapping, KeysLookedUp, LookUpKeys, PacketTrapped, SendDatagram
from oe.model import (
    Delegation,
    Grade,
    Group,
    HeldPacket,
    HostPair,
    KeyAnswer,
    LookupOutcome,
    RecordKind,
)
from oe.observe import DaemonStatus, status_document
from oe.policy.files import PolicyLoad
from oe.policy.groups import Entry, PolicySet
from oe.reasons import Reason
from oe.trap.nft import NftTable
from oe.trap.queue import QueueStatistics

OWN = ip_address("10.9.0.1")
TTL = 900.0
"""Seconds for which "no key" may be believed."""
_EVERYWHERE = ip_network("0.0.0.0/0"), ip_network("::/0")
_FIRST = int(ip_address("198.18.0.0"))
_CONFIGURATION = "[gateway]\nmax-pairs = {}\n[ike]\ncrash-tokens = false\n"


class Books:
    """In this thread's network namespace, which must be its own. Times are monotonic seconds, moved by `skip`."""

    def __init__(self, pairs: int) -> None:
        """For as many pairs. Raises MachineLacks or KernelError."""
        self._loop = asyncio.get_running_loop()
        self._skipped = 0.0
        self._events: deque[Event] = deque()
        self._working = False
        self._cache = Cache(CACHE_SIZE)
        self._ids = count(1)
        self.released = 0
        """Packets that were let go."""
        keys = KeyStore((rsa.generate_private_key(PUBLIC_EXPONENT, 2048),))
        self._own_keys = tuple(Delegation(RecordKind.IPSECKEY, 10, OWN, None, key) for key in keys.public_keys)
        world = (Entry(net, Group.PRIVATE_OR_CLEAR, "private-or-clear", 1, str(net)) for net in _EVERYWHERE)
        config = read_config(_CONFIGURATION.format(pairs).encode(), Path("oe.toml"))
        found = Input(config, PolicyLoad(PolicySet.of(world)[0], ()), keys, ())
        self._gateway, _ = make_gateway(found, (OWN,))
        self._backend, probe = choose_backend(config.gateway.backend)
        self._status = DaemonStatus("bench", self._backend.name.value, probe.why, 0.0, (), {}, ())
        self._table = NftTable()
        self._table.install(trap_spec(config, found.policies.policies, self._backend))
        tools = Tools(self, self._table, self, self, self._backend, keys)
        self._hands = Hands(tools, self._loop, self.feed, lambda: None)

    def close(self) -> None:
        self._hands.close()
        self._backend.close()
        self._table.remove()
        self._table.close()

    # --- the daemon's loop -------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        self._events.append(event)
        if self._working:
            return
        self._working = True
        while self._events:
            self._gateway.handle(self._events.popleft(), self._now())
            self._carry_out()
        self._working = False
        # The daemon sets its timer by it.
        self._gateway.deadline()

    def trap(self, number: int) -> None:
        """The first packet to destination `number`, and all that follows from it."""
        pair = HostPair(OWN, IPv4Address(_FIRST + number))
        self.feed(PacketTrapped(HeldPacket(next(self._ids), pair, 17, 5000, 5000, 46, 0, False)))

    def skip(self, seconds: float) -> None:
        """Let time pass for the coordinator; the kernel's stays as it is."""
        self._skipped += seconds

    def ring(self) -> bool:
        """See to timers that are due, as many as the daemon does in one turn; whether some are left."""
        self._gateway.expire(self._now())
        self._carry_out()
        deadline = self._gateway.deadline()
        return deadline is not None and deadline <= self._now()

    def status(self, _request: Json) -> Json:
        """The daemon's answer to `oe status`."""
        return status_document(self._status, self._gateway.snapshot(), self._now())

    def elements(self) -> int:
        """Pairs that are decided clear in the kernel's table."""
        command = "nft", "--json", "list", "set", "inet", "oe", "passed4"
        listed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return sum(len(entry["set"].get("elem", ())) for entry in listed["nftables"] if "set" in entry)

    def _now(self) -> float:
        return monotonic() + self._skipped

    def _carry_out(self) -> None:
        for command in self._gateway.take():
            self._hands.carry_out(command)

    # --- what the hands hold -----------------------------------------------------------------------------------

    def look_up(self, question: LookUpKeys) -> None:
        """As the resolver, with answers for everybody."""
        now = self._now()
        answer = self._cache.get(question.owner, now)
        if answer is None:
            mine = question.owner == OWN
            outcome, reason = (LookupOutcome.FOUND, None) if mine else (LookupOutcome.NO_KEY, Reason.NO_KEY)
            records, detail = (self._own_keys, "") if mine else ((), f"nothing at {question.owner.reverse_pointer}")
            answer = KeyAnswer(question.owner, outcome, Grade.SECURE, reason, records, now + TTL, detail)
            self._cache.put(answer, now)
        self.feed(KeysLookedUp(question.ticket, answer))

    def release(self, ids: Iterable[int], _bits: int) -> None:
        self.released += len(tuple(ids))

    def drop(self, ids: Iterable[int]) -> None:
        """Nothing is dropped here: then `released` is too small, and the benchmark says so."""

    def statistics(self) -> dict[int, QueueStatistics]:
        return {}

    def send(self, datagram: SendDatagram) -> None:
        raise AssertionError(f"nobody publishes a key, and yet we write to {datagram.remote}")

    def keep_mapping(self, mapping: KeepMapping) -> None:
        raise AssertionError(f"there is no tunnel, and yet {mapping}")
