"""What every part of the coordinator shares: settings, our own side, lookups under way, and the ordered output."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from oe.gateway.timers import Timers
from oe.messages import Command, KeysLookedUp, LookUpKeys, Note
from oe.model import Address, Anonymity, Group, HostPair, KeyAnswer, Network, PublicKey
from oe.negotiation import IkeInput, IkeOutput
from oe.policy.groups import PolicySet
from oe.policy.outcome import Anonymous, GroupSettings, anonymous_for
from oe.policy.select import select
from oe.reasons import Reason

Continuation = Callable[[KeyAnswer, float], None]
TimerName = tuple[str, object]

NEVER_NEGOTIATES = frozenset({Group.CLEAR, Group.BLOCK})


class IkeEngine(Protocol):
    """The verbs of `oe.ike.endpoint.Endpoint`, as far as the coordinator drives it."""

    def handle(self, event: IkeInput, now: float) -> None: ...
    def expire(self, now: float) -> None: ...
    def deadline(self) -> float | None: ...
    def take(self) -> list[IkeOutput]: ...


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Limits and budgets of the coordinator; seconds unless said otherwise."""

    groups: Mapping[Group, GroupSettings]
    setup_budget: float = 3.0
    """From the first packet to the first decision: DNS and IKE together."""
    max_pairs: int = 100_000
    liveness: float = 3.0
    """How long traffic may go one way before the peer is asked whether it lives; counters are read twice as often."""
    idle: float = 1200.0
    """How long a tunnel may carry nothing; whether it did is looked at this often, and first after a minute."""
    ike_port: int = 500


@dataclass(frozen=True, slots=True)
class OwnSide:
    """Who we are: our addresses, the client nets we act for, our public keys, newest first."""

    addresses: tuple[Address, ...]
    served: tuple[Network, ...]
    keys: tuple[PublicKey, ...]

    def is_own(self, address: Address) -> bool:
        return address in self.addresses

    def serves(self, address: Address) -> bool:
        """We speak for `address`: it is ours or a client's."""
        return address in self.addresses or any(address in net for net in self.served)

    def address_of_family(self, version: int) -> Address | None:
        return next((address for address in self.addresses if address.version == version), None)


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator may change while the daemon runs."""

    policies: PolicySet
    groups: Mapping[Group, GroupSettings]
    served: tuple[Network, ...]
    keys: tuple[PublicKey, ...]


class Context:
    """The desk that all parts work at. `commands` is the output in order."""

    def __init__(
        self,
        settings: GatewaySettings,
        policies: PolicySet,
        own: OwnSide,
        tickets: Iterator[int],
        entropy: Callable[[int], bytes],
    ) -> None:
        self.settings = settings
        self.policies = policies
        self.own = own
        self.tickets = tickets
        self.entropy = entropy
        self.timers: Timers[TimerName] = Timers()
        self.commands: list[Command] = []
        self.reasons: Counter[Reason] = Counter()
        self._lookups: dict[int, Continuation] = {}

    def adopt(self, rules: Rules) -> None:
        """From now on these rules hold."""
        self.policies = rules.policies
        self.settings = replace(self.settings, groups=rules.groups)
        self.own = replace(self.own, served=rules.served, keys=rules.keys)

    def may_have_tunnel(self, pair: HostPair, anonymity: Anonymity) -> bool:
        """We speak for its source, and the group of its destination encrypts with a peer that is known so far."""
        group = select(self.policies, pair.destination).group
        if not self.own.serves(pair.source) or group in NEVER_NEGOTIATES:
            return False
        takes_strangers = anonymous_for(group, self.settings.groups[group]) is not Anonymous.NO
        return takes_strangers or anonymity is not Anonymity.ANONYMOUS

    def emit(self, *commands: Command) -> None:
        self.commands.extend(commands)

    def note(self, level: str, event: str, **fields: object) -> None:
        """A log line; fields are turned to text here so that notes stay plain values."""
        plain = tuple((k, v if isinstance(v, int | float) else str(v)) for k, v in fields.items())
        self.commands.append(Note(level, event, plain))

    def look_up(self, owner: Address, deadline: float, then: Continuation) -> None:
        """Ask DNS for `owner`; `then(answer, now)` runs once, and must look at the state again."""
        ticket = next(self.tickets)
        self._lookups[ticket] = then
        self.emit(LookUpKeys(ticket, owner, deadline))

    def looked_up(self, event: KeysLookedUp, now: float) -> None:
        then = self._lookups.pop(event.ticket, None)
        if then is None:
            self.reasons[Reason.LATE_ANSWER] += 1
        else:
            then(event.answer, now)
