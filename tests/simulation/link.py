"""The network between the machines: it loses, repeats, delays and reorders."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from oe.model import Address
from tests.simulation.clock import Clock
from tests.simulation.frames import Frame

Filter = Callable[[Frame], bool]


@dataclass(slots=True)
class Weather:
    """How the network treats frames. The default is perfect."""

    delay: float = 0.01
    jitter: float = 0.0
    loss: float = 0.0
    duplicates: float = 0.0


@dataclass(slots=True)
class Link:
    """Carries frames to `arrive`; `told(frame, fate)` hears of each, for the transcript."""

    clock: Clock
    random: Random
    weather: Weather
    arrive: Callable[[Frame], None]
    told: Callable[[Frame, str], None] | None = None
    stoppers: list[Filter] = field(default_factory=list)
    """What any of them is true for is lost."""
    dark: set[tuple[Address, Address]] = field(default_factory=set)
    """Directions in which nothing passes."""

    def carry(self, frame: Frame) -> None:
        chance, weather = self.random.random, self.weather
        copies = 2 if weather.duplicates and chance() < weather.duplicates else 1
        arrived = 0
        if (frame.source.address, frame.destination.address) in self.dark or any(stop(frame) for stop in self.stoppers):
            copies = 0
        for _ in range(copies):
            if weather.loss and chance() < weather.loss:
                continue
            arrived += 1
            self.clock.after(weather.delay + weather.jitter * chance(), lambda: self.arrive(frame))
        if self.told is not None:
            self.told(frame, ("lost", "", "twice")[arrived])
