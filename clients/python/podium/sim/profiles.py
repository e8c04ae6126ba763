"""How simulated agents behave: seeded, so that the same fleet does the same again."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Profile:
    """A kind of agent.

    Args:
        name: of the profile.
        speed: factor on the time a task takes; below 1 is faster.
        accuracy: share of attempts that succeed.
        phases: factors of which one is drawn every few seconds instead of `speed`.
    """

    name: str
    speed: float
    accuracy: float
    phases: tuple[float, ...] = ()


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("fast_accurate", speed=0.8, accuracy=0.95),
        Profile("slow_precise", speed=1.5, accuracy=0.99),
        Profile("variable_load", speed=1.0, accuracy=0.90, phases=(0.5, 0.8, 1.0, 1.6, 2.5)),
        # Costs nothing and never fails: for benches.
        Profile("instant", speed=0.0, accuracy=1.0),
    )
}

PHASE_S = 5.0


@dataclass(frozen=True)
class Behaviour:
    """What goes wrong with an agent; nothing by default.

    Args:
        failure_rate: share of attempts that fail beside the profile's own.
        never_ack_rate: share of assignments that it neither takes nor declines.
        disconnect_every_s: mean time between losses of its host's stream; 0 = never.
        freeze_every_s: mean time between freezes of its host's process; 0 = never.
        freeze_s: how long a freeze lasts.
    """

    failure_rate: float = 0.0
    never_ack_rate: float = 0.0
    disconnect_every_s: float = 0.0
    freeze_every_s: float = 0.0
    freeze_s: float = 5.0


@dataclass(frozen=True)
class ServiceTime:
    """How long tasks of a type take: log-normal, by its median and the spread around it."""

    median_ms: float
    sigma: float = 0.3

    def draw_s(self, draw: random.Random) -> float:
        """Returns one duration in seconds."""
        return self.median_ms / 1e3 * math.exp(draw.gauss(0.0, self.sigma))


# What the example types cost on an agent of speed 1.
SERVICE_TIMES: Mapping[str, ServiceTime] = {
    "text.summarize": ServiceTime(40.0),
    "text.translate": ServiceTime(60.0),
    "code.review": ServiceTime(120.0, 0.5),
    "data.profile": ServiceTime(30.0, 0.2),
    "image.caption": ServiceTime(80.0, 0.4),
    "math.solve": ServiceTime(20.0, 0.6),
    "search.rank": ServiceTime(10.0, 0.2),
    "audio.transcribe": ServiceTime(150.0, 0.3),
}
DEFAULT_TIME = ServiceTime(50.0)


@dataclass
class Worker:
    """One simulated agent: draws how each attempt goes."""

    profile: Profile
    seed: int
    behaviour: Behaviour = field(default_factory=Behaviour)
    times: Mapping[str, ServiceTime] = field(default_factory=lambda: SERVICE_TIMES)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._speed = self.profile.speed
        self._phase_until_s = 0.0

    @property
    def instant(self) -> bool:
        """Whether every attempt succeeds at once, so that nothing need be drawn."""
        quiet = not (self.behaviour.failure_rate or self.behaviour.never_ack_rate)
        return self.profile.speed == 0.0 and self.profile.accuracy == 1.0 and quiet

    def duration_s(self, task_type: str, now_s: float) -> float:
        """Returns how long the next attempt takes."""
        profile = self.profile
        if profile.phases and now_s >= self._phase_until_s:
            self._phase_until_s = now_s + self._draw.expovariate(1 / PHASE_S)
            self._speed = self._draw.choice(profile.phases)
        return self.times.get(task_type, DEFAULT_TIME).draw_s(self._draw) * self._speed

    def succeeds(self) -> bool:
        """Returns whether the next attempt succeeds."""
        chance = self.profile.accuracy * (1.0 - self.behaviour.failure_rate)
        return self._draw.random() < chance

    def acks(self) -> bool:
        """Returns whether it takes the next assignment."""
        rate = self.behaviour.never_ack_rate
        return not rate or self._draw.random() >= rate
