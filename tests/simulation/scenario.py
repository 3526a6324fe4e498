"""From a seed to a scenario: who is there, how the network is, what goes wrong and when."""

from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

from oe.ipsec.model import BackendName
from oe.model import Grade, Group
from oe.policy.outcome import Anonymous, Unreachable
from tests.simulation.link import Weather

SHORT = 30.0
"""Seconds. In a shorter life the time between a rekey and the end is not enough to hand over without haste."""

MANY = 10**6


class Shape(StrEnum):
    """Who is there."""

    PAIR = "two hosts"
    CLIENT = "a host, and a gateway with a client"
    TWO_GATEWAYS = "a host, and two gateways with one client"


class Theme(StrEnum):
    """What a scenario is about; all else is drawn in every one."""

    BOTH_BEGIN = "both begin"
    LOST_ANSWERS = "IKE_AUTH answers lost"
    RESTARTS = "crashes, restarts"
    DELETES = "flushes, stops, reloads"
    SHORT_LIVES = "short lifetimes"
    DARKNESS = "blackouts"
    NAMES = "the DNS fails"
    NAT = "behind a NAT"
    ATTACK = "forgeries, replays"
    IDLE = "idle for a while"
    MOVES = "host moves"
    KEYLESS = "keyless"
    ANONYMOUS = "anonymous"


class Kind(StrEnum):
    """What may go wrong."""

    CRASH = "crash"
    STOP = "stop"
    FLUSH = "flush"
    DARK = "dark"
    ONE_WAY = "one way"
    DNS_OUTAGE = "no DNS"
    DNS_FAILING = "DNS fails"
    WITHDRAWAL = "record withdrawn"
    DECISIONS_LOST = "decisions lost"
    INSTALL_FAILS = "installation fails"
    AUTH_ANSWERS_LOST = "IKE_AUTH answers lost"
    INFORMATIONAL_LOST = "INFORMATIONAL lost"
    REBIND = "NAT forgets"
    SAS_LOST = "SAs lost"
    NEW_KEY = "new key"
    ROLLOVER = "key rolled over"
    MOVE = "host moves"
    RELOAD = "policy reloaded"


@dataclass(frozen=True, slots=True)
class Trouble:
    """`kind` befalls machine number `who`, `at` seconds after the start, for `lasts` seconds."""

    at: float
    kind: Kind
    who: int
    lasts: float


@dataclass(frozen=True, slots=True)
class Side:
    """The choices of one machine's operator."""

    group: Group
    backend: BackendName
    unreachable: Unreachable
    child_packets: int
    """What a Child SA may carry one way, as octets."""
    is_hybrid: bool
    has_crash_secret: bool
    anonymous: Anonymous = Anonymous.NO
    is_keyless: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that is decided before it begins."""

    seed: int
    theme: Theme
    shape: Shape
    sides: tuple[Side, ...]
    """The host's first, then the gateways'."""
    weather: Weather
    grade: Grade
    ttl: float
    slow_names: float
    child_lifetime: float
    ike_lifetime: float
    liveness: float
    cookie_threshold: int
    storm: float
    """Seconds of trouble."""
    begins: tuple[float, float]
    """When the host, and when the other end, says its first word."""
    pauses: tuple[float, float]
    """Seconds between their words."""
    far_gateway_first: bool
    """The client's packets leave through the second gateway."""
    also_gateway: bool
    """The host talks to the first gateway itself too."""
    is_spoiled: bool
    """Whoever forges is faster than the truth."""
    breaks: tuple[tuple[float, float], ...]
    """When nobody talks."""
    troubles: tuple[Trouble, ...]
    heedless: int | None
    """The machine that deletes nothing for being redundant and sends in what is youngest, as others' products do."""

    @property
    def expects_tunnel(self) -> bool:
        """In the end all packets are to be protected."""
        return self.theme is not Theme.KEYLESS

    @property
    def may_talk(self) -> bool:
        """Without keys a private side keeps silent."""
        return self.expects_tunnel or all(side.group is not Group.PRIVATE for side in self.sides)

    @property
    def is_calm(self) -> bool:
        """Nothing goes wrong but the machines' own doings: no packet may be lost."""
        is_good = not (self.weather.loss or self.weather.jitter or self.slow_names or self.child_lifetime < SHORT)
        return (
            is_good
            and not self.troubles
            and not self.is_spoiled
            and self.theme not in (Theme.NAT, Theme.KEYLESS, Theme.ANONYMOUS)
        )

    def __str__(self) -> str:
        weather = self.weather
        sides = ", ".join(f"{side.group} on {side.backend}" for side in self.sides)
        rule = "" if self.heedless is None else f"; {self.heedless} goes by another rule"
        troubles = "; ".join(f"{one.at:.1f} s {one.kind} of {one.who} for {one.lasts:.1f} s" for one in self.troubles)
        return (
            f"{self.theme}; {self.shape} ({sides}); loss {weather.loss:.0%}, twice {weather.duplicates:.0%}, "
            f"{weather.delay * 1000:.0f} to {(weather.delay + weather.jitter) * 1000:.0f} ms; TTL {self.ttl:.0f} s, "
            f"lifetimes {self.child_lifetime:.0f} and {self.ike_lifetime:.0f} s; {troubles or 'no trouble'}{rule}"
        )


_THEMES = {
    Theme.BOTH_BEGIN: 5,
    Theme.LOST_ANSWERS: 3,
    Theme.RESTARTS: 3,
    Theme.DELETES: 2,
    Theme.SHORT_LIVES: 4,
    Theme.DARKNESS: 2,
    Theme.NAMES: 2,
    Theme.NAT: 3,
    Theme.ATTACK: 3,
    Theme.IDLE: 1,
    Theme.MOVES: 1,
    Theme.KEYLESS: 1,
    Theme.ANONYMOUS: 2,
}
_SHAPES = {Shape.PAIR: 6, Shape.CLIENT: 2, Shape.TWO_GATEWAYS: 1}

# Kinds by theme, with their longest duration in seconds; each scenario has one to three of them.
_TROUBLES: dict[Theme, dict[Kind, float]] = {
    Theme.BOTH_BEGIN: {},
    Theme.LOST_ANSWERS: {Kind.AUTH_ANSWERS_LOST: 6.0},
    Theme.RESTARTS: {Kind.CRASH: 8.0, Kind.NEW_KEY: 3.0},
    Theme.DELETES: {
        Kind.FLUSH: 0.0,
        Kind.STOP: 5.0,
        Kind.RELOAD: 6.0,
        Kind.INFORMATIONAL_LOST: 5.0,
        Kind.DECISIONS_LOST: 0.0,
        Kind.SAS_LOST: 0.0,
    },
    Theme.SHORT_LIVES: {Kind.INSTALL_FAILS: 0.0, Kind.INFORMATIONAL_LOST: 3.0},
    Theme.DARKNESS: {Kind.DARK: 25.0, Kind.ONE_WAY: 25.0},
    Theme.NAMES: {Kind.DNS_OUTAGE: 8.0, Kind.DNS_FAILING: 8.0, Kind.WITHDRAWAL: 10.0, Kind.ROLLOVER: 15.0},
    Theme.NAT: {Kind.REBIND: 0.0, Kind.CRASH: 5.0, Kind.FLUSH: 0.0},
    Theme.ATTACK: {},
    Theme.IDLE: {},
    Theme.MOVES: {Kind.MOVE: 0.0, Kind.CRASH: 3.0},
    Theme.KEYLESS: {Kind.CRASH: 5.0, Kind.FLUSH: 0.0},
    Theme.ANONYMOUS: {Kind.CRASH: 5.0, Kind.FLUSH: 0.0},
}
_STORMS = {
    Theme.BOTH_BEGIN: 6.0,
    Theme.LOST_ANSWERS: 15.0,
    Theme.RESTARTS: 25.0,
    Theme.DELETES: 15.0,
    Theme.SHORT_LIVES: 40.0,
    Theme.DARKNESS: 45.0,
    Theme.NAMES: 20.0,
    Theme.NAT: 30.0,
    Theme.ATTACK: 15.0,
    Theme.IDLE: 260.0,
    Theme.MOVES: 20.0,
    Theme.KEYLESS: 15.0,
    Theme.ANONYMOUS: 20.0,
}


def draw(seed: int) -> Scenario:
    """The scenario of a seed; always the same."""
    random = Random(f"scenario {seed}")
    choice, uniform = random.choice, random.uniform
    theme = random.choices(list(_THEMES), list(_THEMES.values()))[0]
    shape = random.choices(list(_SHAPES), list(_SHAPES.values()))[0]
    if theme in (Theme.KEYLESS, Theme.ANONYMOUS):
        shape = Shape.PAIR
    elif theme is Theme.NAT and shape is Shape.TWO_GATEWAYS:
        # Only the gateway that the host speaks to gets through its NAT; the client's way back may lead past it.
        shape = Shape.CLIENT
    sides = [_side(random, theme) for _ in range(3 if shape is Shape.TWO_GATEWAYS else 2)]
    if theme in (Theme.KEYLESS, Theme.ANONYMOUS):
        without = random.randrange(2)
        sides[without] = replace(sides[without], is_keyless=True)
    storm = _STORMS[theme]
    first = uniform(0.0, 0.5)
    gap = uniform(0.0, 0.12) if theme is Theme.BOTH_BEGIN else uniform(0.0, 4.0)
    begins = (first, first + gap) if random.random() < 0.5 else (first + gap, first)
    is_short = theme is Theme.SHORT_LIVES
    return Scenario(
        seed=seed,
        theme=theme,
        shape=shape,
        sides=tuple(sides),
        weather=Weather(
            delay=choice((0.001, 0.01, 0.05)),
            jitter=choice((0.0, 0.01, 0.2)),
            loss=choice((0.0, 0.0, 0.05, 0.2, 0.5)),
            duplicates=choice((0.0, 0.0, 0.2)),
        ),
        grade=choice((Grade.SECURE, Grade.INSECURE)) if shape is Shape.PAIR else Grade.SECURE,
        ttl=choice((5.0, 20.0, 60.0)),
        slow_names=choice((0.0, 0.0, 0.3)),
        child_lifetime=uniform(10.0, 40.0) if is_short else 90.0,
        ike_lifetime=uniform(20.0, 60.0) if is_short else 300.0,
        liveness=choice((2.0, 3.0)),
        cookie_threshold=choice((0, 100, 100)),
        storm=storm,
        begins=begins,
        pauses=(uniform(0.5, 2.5), uniform(0.5, 2.5)),
        far_gateway_first=random.random() < 0.3,
        also_gateway=random.random() < 0.3,
        is_spoiled=theme is Theme.ATTACK and random.random() < 0.5,
        breaks=((20.0, uniform(90.0, 170.0)),) if theme is Theme.IDLE else (),
        troubles=_troubles(random, theme, storm, len(sides)),
        heedless=random.choice((None, None, 0, 1)) if theme is Theme.BOTH_BEGIN else None,
    )


def _side(random: Random, theme: Theme) -> Side:
    is_anonymous = theme is Theme.ANONYMOUS
    knobs = (Unreachable.AUTO, Unreachable.AUTO, Unreachable.HOLD)
    groups = (Group.PRIVATE_OR_CLEAR, Group.PRIVATE_OR_CLEAR, Group.PRIVATE)
    return Side(
        group=Group.PRIVATE_OR_CLEAR if is_anonymous else random.choice(groups),
        backend=random.choice((BackendName.XFRM, BackendName.USERSPACE)),
        unreachable=Unreachable.AUTO if theme is Theme.KEYLESS else random.choice(knobs),
        child_packets=random.choice((60, MANY)) if theme is Theme.SHORT_LIVES else MANY,
        is_hybrid=random.random() < 0.5,
        has_crash_secret=random.random() < 0.5,
        anonymous=Anonymous.ASK if is_anonymous else Anonymous.NO,
    )


def _troubles(random: Random, theme: Theme, storm: float, machines: int) -> tuple[Trouble, ...]:
    kinds = _TROUBLES[theme]
    if not kinds:
        return ()
    fewest = 0 if theme is Theme.SHORT_LIVES else 1
    drawn = [
        Trouble(random.uniform(0.0, storm * 0.7), kind, random.randrange(machines), kinds[kind] * random.random())
        for kind in random.choices(list(kinds), k=random.randint(fewest, 3))
    ]
    return tuple(sorted(drawn, key=lambda one: one.at))
