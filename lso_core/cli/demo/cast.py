"""The systems of the demo: what they are, how busy they are at which hour, and how long their steps take."""

import math
from typing import Any, Final, NamedTuple

DAY_S: Final = 86_400
HOUR_S: Final = 3_600


class Stage(NamedTuple):
    """A step: its share of the events and its log-normal latency."""

    name: str
    share: float
    median_ms: float
    spread: float
    """Sigma of the latency's logarithm; p95 is `median · exp(1.645 · spread)`."""


class Stream(NamedTuple):
    """Events all the time, more at one hour than at another."""

    per_second: float
    """On average over a day."""
    swing: float
    """0 is the same all day; 0.8 is nine times as much at the peak as at the trough."""
    peak_hour: float

    def rate(self, second: float) -> float:
        """Events a second at a moment of the (UTC) day."""
        hour = second % DAY_S / HOUR_S
        return self.per_second * (1 + self.swing * math.cos((hour - self.peak_hour) * math.tau / 24))

    def run_at(self, _second: float) -> float | None:
        """A stream has no runs."""
        return None


class Runs(NamedTuple):
    """A schedule: busy while a run is on, and a look now and then in between."""

    every_s: int
    offset_s: int
    lasts_s: int
    per_second: float
    between: float
    """Events a second while no run is on."""

    def rate(self, second: float) -> float:
        return self.between if self.run_at(second) is None else self.per_second

    def run_at(self, second: float) -> float | None:
        """When the run that is on at that moment began; None between runs."""
        into = (second - self.offset_s) % self.every_s
        return second - into if into < self.lasts_s else None


class Member(NamedTuple):
    """One system of the demo."""

    name: str
    description: str
    tags: tuple[str, ...]
    window_s: int
    traffic: Stream | Runs
    stages: tuple[Stage, ...]
    p95_warn_ms: float
    p95_crit_ms: float
    mishaps: tuple[str, ...]
    """What its errors say."""

    def spec(self) -> dict[str, Any]:
        """As the registry wants it."""
        return {
            "description": self.description,
            "tags": ["demo", *self.tags],
            "window_seconds": self.window_s,
            "thresholds": {
                "error_rate": {"warn": 0.05, "crit": 0.20},
                "p95_latency": {"warn": self.p95_warn_ms, "crit": self.p95_crit_ms},
                "min_events": 5,
            },
        }


CAST: Final = (
    Member(
        "payments-stream", "Card payments, authorised and booked as they come", ("payments", "stream"), 60,
        Stream(7.0, 0.5, 18), (Stage("authorize", 0.4, 60, 0.45), Stage("capture", 0.35, 90, 0.4), Stage("book", 0.25, 25, 0.3)),
        400, 2_000, ("acquirer timed out", "issuer answered 503", "connection reset by acquirer"),
    ),
    Member(
        "warehouse-nightly", "The night's load of the data warehouse, freshness checks by day", ("warehouse", "batch"), 300,
        Runs(DAY_S, 2 * HOUR_S, 3 * HOUR_S, 4.0, 0.8), (Stage("extract", 0.4, 700, 0.5), Stage("transform", 0.3, 1_100, 0.5), Stage("load", 0.3, 1_600, 0.5)),
        9_000, 40_000, ("deadlock detected", "disk quota exceeded", "column order_total: value out of range"),
    ),
    Member(
        "crm-sync", "Contacts and deals from the CRM, every hour", ("crm", "batch"), 60,
        Runs(HOUR_S, 300, 720, 5.0, 1.5), (Stage("fetch", 0.5, 180, 0.4), Stage("upsert", 0.5, 110, 0.4)),
        900, 5_000, ("429 Too Many Requests", "OAuth token expired", "field email: not an address"),
    ),
    Member(
        "weather-observations", "Weather stations' readings, every ten minutes", ("weather", "etl"), 60,
        Runs(600, 0, 240, 4.0, 1.5), (Stage("extract", 0.34, 140, 0.5), Stage("transform", 0.33, 20, 0.3), Stage("load", 0.33, 45, 0.4)),
        800, 4_000, ("station feed unreachable", "temperature -99 cannot be", "schema changed: wind_gust"),
    ),
    Member(
        "ml-feature-build", "Features for the recommendation model, every half hour", ("ml", "batch"), 60,
        Runs(1_800, 120, 900, 4.0, 1.5), (Stage("join", 0.4, 450, 0.4), Stage("aggregate", 0.4, 320, 0.4), Stage("publish", 0.2, 80, 0.3)),
        2_000, 20_000, ("executor lost", "feature user_age_days: 12 % null", "feature store timed out"),
    ),
    Member(
        "clickstream-sessions", "Clicks grouped into sessions", ("web", "stream"), 60,
        Stream(9.0, 0.6, 20), (Stage("parse", 0.5, 3, 0.5), Stage("sessionize", 0.5, 12, 0.5)),
        120, 1_000, ("consumer group rebalanced", "malformed user agent", "checkpoint failed"),
    ),
    Member(
        "inventory-feed", "Stock levels from the shops", ("retail", "stream"), 60,
        Stream(2.5, 0.4, 11), (Stage("receive", 0.6, 30, 0.4), Stage("apply", 0.4, 55, 0.4)),
        500, 3_000, ("shop 17 does not answer", "stock below zero", "EDI segment missing"),
    ),
    Member(
        "email-digest", "The morning's digest by mail, delivery reports by day", ("mail", "batch"), 60,
        Runs(DAY_S, 7 * HOUR_S, HOUR_S, 8.0, 1.2), (Stage("render", 0.5, 40, 0.4), Stage("send", 0.5, 210, 0.5)),
        1_500, 8_000, ("mailbox unavailable", "greylisted, try later", "template variable missing"),
    ),
)  # fmt: skip
