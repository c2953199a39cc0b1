"""The events of a system as a pure function of seed and time: whoever asks for a span twice, or in pieces, gets the same.

Time is told in two ways: real seconds, and the story's, which go `speed` times as fast from the moment the demo began.
Traffic and schedules live in the story's time; trouble comes and goes in real time, as windows roll in it.
"""

import datetime as dt
import math
import random
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any, Final, NamedTuple

from lso_core.cli.demo.cast import Member, Runs, Stage
from lso_core.cli.demo.scenarios import Effect, effect_of

GOLDEN: Final = (math.sqrt(5) - 1) / 2
HEARTBEAT_S: Final = 60
PAST_RUNS: Final = 12
"""So many runs of a schedule are told of before the demo began, by their start and end."""
_FAILED_SHARE: Final = 0.12
_NORMAL: Final = NormalDist()


class Told(NamedTuple):
    """An event and when it is sent."""

    due_ms: int
    event: dict[str, Any]


class Story(NamedTuple):
    """What happens."""

    scenario: str
    seed: int
    speed: float
    began_ms: int
    """The real moment at which the demo began."""

    def events(self, member: Member, start_ms: int, end_ms: int) -> Iterator[Told]:
        """What a system sends in `[start_ms, end_ms)` of real time, in order."""
        for second in range(self._second(start_ms), self._second(end_ms) + 1):
            yield from (told for told in self._of_second(member, second) if start_ms <= told.due_ms < end_ms)

    def past(self, member: Member, before_ms: int) -> Iterator[Told]:
        """Starts and ends before `before_ms` of the latest runs: what began a run that is on, and what came before it."""
        traffic = member.traffic
        if not isinstance(traffic, Runs):
            return
        second = self._second(before_ms)
        latest = second - (second - traffic.offset_s) % traffic.every_s
        for began in range(latest - PAST_RUNS * traffic.every_s, latest + 1, traffic.every_s):
            yield from (told for told in self._past_run(member, traffic, began) if told.due_ms < before_ms)

    def _past_run(self, member: Member, traffic: Runs, began: int) -> Iterator[Told]:
        dice = random.Random(f"{self.seed}/{member.name}/run {began}")  # noqa: S311 - a demo's dice
        run_id, start_ms, end_ms = _run_id(member, began), self._due_ms(began), self._due_ms(began + traffic.lasts_s)
        yield Told(start_ms, {"ts": stamp(start_ms), "event_type": "start", "status": "ok", "run_id": run_id})
        failed, shorter = dice.random() < _FAILED_SHARE, 0.3 * dice.random()
        payload = {"error": dice.choice(member.mishaps)} if failed else {"rows": dice.randrange(10_000, 2_000_000)}
        ended_ms = end_ms - round(shorter * (end_ms - start_ms))
        status = "error" if failed else "ok"
        end = {"ts": stamp(ended_ms), "event_type": "end", "status": status, "run_id": run_id, "payload": payload}
        yield Told(end_ms, end)

    def _second(self, real_ms: int) -> int:
        """The story's second at a real moment."""
        return math.floor((self.began_ms + (real_ms - self.began_ms) * self.speed) / 1_000)

    def _due_ms(self, story_s: float) -> int:
        return self.began_ms + math.floor((story_s * 1_000 - self.began_ms) / self.speed)

    def _of_second(self, member: Member, second: int) -> Iterator[Told]:
        """One second of the story, which has its own dice."""
        dice = random.Random(f"{self.seed}/{member.name}/{second}")  # noqa: S311 - a demo's dice
        yield from self._lifecycle(member, second)
        count = _poisson(member.traffic.rate(second), dice)
        for number, part in enumerate(sorted(dice.random() for _ in range(count))):
            due_ms = self._due_ms(second + part)
            effect = effect_of(self.scenario, member, (due_ms - self.began_ms) / 1_000)
            told = _event(member, effect, second, number, dice)
            if not effect.silent:
                yield Told(due_ms, {"ts": stamp(due_ms - _lateness_ms(effect, second, number)), **told})

    def _lifecycle(self, member: Member, second: int) -> Iterator[Told]:
        """A run's start, signs of life, and end."""
        traffic, due_ms = member.traffic, self._due_ms(second)
        if not isinstance(traffic, Runs) or effect_of(self.scenario, member, (due_ms - self.began_ms) / 1_000).silent:
            return
        into = (second - traffic.offset_s) % traffic.every_s
        kind = "start" if into == 0 else "end" if into == traffic.lasts_s else "heartbeat"
        if into > traffic.lasts_s or (kind == "heartbeat" and into % HEARTBEAT_S):
            return
        run_id = _run_id(member, second - into)
        yield Told(due_ms, {"ts": stamp(due_ms), "event_type": kind, "status": "ok", "run_id": run_id})


def _event(member: Member, effect: Effect, second: int, number: int, dice: random.Random) -> dict[str, Any]:
    """One counted event. The dice fall alike in every scenario."""
    stage = _choose(member.stages, dice.random())
    latency_ms = effect.slowness * _latency_ms(stage, dice.random())
    mishap = member.mishaps[int(dice.random() * len(member.mishaps))]
    rows = 1 + int(dice.random() ** 3 * 5_000)
    failed = _spread(second, number) < effect.errors
    event: dict[str, Any] = {
        "event_type": "failure" if failed else "success",
        "status": "error" if failed else "ok",
        "latency_ms": round(latency_ms, 3),
        "stage": stage.name,
        "payload": {"error": mishap} if failed else {"rows": rows},
    }
    began = member.traffic.run_at(second)
    return event if began is None else {**event, "run_id": _run_id(member, began)}


def _spread(second: int, number: int) -> float:
    """A number from 0 to 1 for an event; those of neighbours lie far apart, so that a share of few events comes out even."""
    return (second * GOLDEN + number * math.sqrt(2)) % 1


def _lateness_ms(effect: Effect, second: int, number: int) -> int:
    late = _spread(number + 7, second) < effect.late_share
    return round(effect.late_s * 1_000) if late else 0


def _latency_ms(stage: Stage, chance: float) -> float:
    return stage.median_ms * math.exp(stage.spread * _NORMAL.inv_cdf(min(max(chance, 1e-9), 1 - 1e-9)))


def _choose(stages: tuple[Stage, ...], chance: float) -> Stage:
    for stage in stages:
        chance -= stage.share
        if chance < 0:
            return stage
    return stages[-1]


def _poisson(mean: float, dice: random.Random) -> int:
    """How many events fall into one second, by Knuth's product of uniforms."""
    limit, count, product = math.exp(-mean), 0, dice.random()
    while product > limit:
        count += 1
        product *= dice.random()
    return count


def _run_id(member: Member, began_s: float) -> str:
    return f"{member.name}-{dt.datetime.fromtimestamp(began_s, dt.UTC):%Y%m%dT%H%M%S}"


def stamp(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1_000, dt.UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
