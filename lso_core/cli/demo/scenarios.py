"""What goes wrong with whom, and when. Pure: seconds since the demo began in, trouble out."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from lso_core.cli.demo.cast import Member

FIRST_S: Final = 120.0
"""How long the trouble that is there at the beginning goes on."""
WELL_S: Final = 180.0
TROUBLE_S: Final = 180.0


class Effect(NamedTuple):
    """How far a system is from its usual self."""

    errors: float = 0.003
    """Share of events that fail."""
    slowness: float = 1.0
    """Latencies are multiplied by it."""
    silent: bool = False
    late_share: float = 0.0
    """Share of events that arrive long after they happened."""
    late_s: float = 0.0


USUAL: Final = Effect()


class Trouble(NamedTuple):
    """An effect that comes and goes: on until `first_s`, then well for `well_s`, on for `on_s`, and so on."""

    word: str
    effect: Effect
    first_s: float = FIRST_S
    well_s: float = WELL_S
    on_s: float = TROUBLE_S

    def is_on(self, second: float) -> bool:
        if second < self.first_s:
            return True
        return (second - self.first_s) % (self.well_s + self.on_s) >= self.well_s


FAILING: Final = Trouble("fails", Effect(errors=0.62, slowness=6.0))
ERRING: Final = Trouble("errs", Effect(errors=0.11))
SLOW: Final = Trouble("is slow", Effect(slowness=3.4))
STOPPED: Final = Trouble("has stopped sending", Effect(silent=True))
FLAPPING: Final = Trouble("errs", Effect(errors=0.45), first_s=25, well_s=75, on_s=45)
LATE: Final = Trouble("delivers late", Effect(late_share=0.7, late_s=1_500))

SCENARIOS: Final[Mapping[str, Mapping[str, Trouble]]] = {
    "all-green": {},
    "degraded": {"crm-sync": ERRING, "ml-feature-build": SLOW, "clickstream-sessions": ERRING},
    "outage": {"payments-stream": FAILING, "inventory-feed": FAILING, "email-digest": ERRING},
    "unknown": {"inventory-feed": STOPPED, "weather-observations": STOPPED, "crm-sync": STOPPED},
    "flapping": {"clickstream-sessions": FLAPPING, "payments-stream": FLAPPING._replace(first_s=55)},
    "late-data": {"weather-observations": LATE, "inventory-feed": LATE, "clickstream-sessions": LATE},
    "mixed": {
        "payments-stream": FAILING,
        "crm-sync": ERRING,
        "ml-feature-build": SLOW,
        "inventory-feed": STOPPED,
        "clickstream-sessions": FLAPPING,
        "weather-observations": LATE,
    },
}
MIXED: Final = "mixed"
YES: Final = frozenset({"1", "true", "yes", "on"})
"""What USE_MOCK_DATA may say for the default scenario."""


def trouble_of(scenario: str, member: Member, second: float) -> Trouble | None:
    """What is wrong with a system `second` seconds after the demo began (before: less than 0); None when nothing is."""
    trouble = SCENARIOS[scenario].get(member.name)
    if trouble is None or not trouble.is_on(second):
        return None
    if (
        trouble.effect.silent and second < 8 - member.window_s
    ):  # it sent until a moment ago, so that its silence can be seen to begin
        return None
    return trouble


def effect_of(scenario: str, member: Member, second: float) -> Effect:
    trouble = trouble_of(scenario, member, second)
    return USUAL if trouble is None else trouble.effect
