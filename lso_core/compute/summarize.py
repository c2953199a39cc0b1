"""From a state to the summary that is stored: figures, percentiles, judgement."""

from typing import Final

import msgspec

from lso_core.compute import classify
from lso_core.compute.runs import Runs
from lso_core.compute.state import NO_EVENTS, Meta, State, Sums, Tally
from lso_core.model import times
from lso_core.model.snapshots import Details, Figures, Latency, StageSummary, Summary, Verdict
from lso_core.model.systems import System

NO_RUNS: Final = Runs()


def summarize(state: State, system: System, runs: Runs = NO_RUNS) -> tuple[State, Summary]:
    """The summary at the state's `as_of`, and the state with the judgement in its meta."""
    sums = state.summed()
    by_stage = dict(sorted(sums.stages.items()))
    overall, *others = by_stage.values() or (NO_EVENTS,)
    for tally in others:
        overall = overall.plus(tally)
    latency, *by_number = _latencies(state.values, overall, by_stage)
    meta = state.meta
    judgement = classify.judge(
        classify.Measured(overall.total, overall.errors, latency.p95, meta.last_counted_ms, runs.trouble),
        system.thresholds,
        system.window,
    )
    since = meta.as_of_ms if meta.since_ms is None or meta.health is not judgement.health else meta.since_ms
    if since != meta.since_ms or judgement.health is not meta.health:
        meta = msgspec.structs.replace(meta, health=judgement.health, since_ms=since)
        state = msgspec.structs.replace(state, meta=meta)
    summary = Summary(
        system.system_id,
        system.window,
        meta.as_of_ms,
        Verdict(judgement.health, since, judgement.reason),
        Figures(
            total=overall.total,
            errors=overall.errors,
            error_rate=_rate(overall),
            rps=round(overall.total / system.window_seconds, 6),
            p95_latency=latency.p95,
            last_event_at=times.to_text_or_none(meta.last_event_ms),
            last_ok_at=times.to_text_or_none(meta.last_ok_ms),
        ),
        _details(meta, sums, by_stage, latency, by_number),
        _steady_until(state, system, runs),
    )
    return state, summary


def _steady_until(state: State, system: System, runs: Runs) -> int | None:
    """When the oldest slot leaves the window, or a run's time has come."""
    leaves_ms = min(state.slots) + system.window_seconds * 1_000 if state.slots else None
    return times.earliest(leaves_ms, runs.due_ms)


def _details(meta: Meta, sums: Sums, by_stage: dict[int, Tally], latency: Latency, by_number: list[Latency]) -> Details:
    event_types = {meta.event_types[number]: count for number, count in sorted(sums.event_types.items())}
    stages = {
        meta.stages[number - 1]: StageSummary(tally.total, tally.errors, _rate(tally), of_stage)
        for (number, tally), of_stage in zip(by_stage.items(), by_number, strict=True)
        if number
    }
    return Details(latency, stages, event_types, sums.late, sums.clock_skewed)


def _rate(tally: Tally) -> float | None:
    return tally.errors / tally.total if tally.total else None


def _latencies(found: list[list[int]], overall: Tally, by_stage: dict[int, Tally]) -> list[Latency]:
    """The distributions over all stages and of each stage."""
    timed = [number for number, tally in by_stage.items() if tally.timed]
    if not timed:
        return [Latency()] * (1 + len(by_stage))
    # The cells of each stage lie together and in its order, and every stage that has cells is among the timed.
    values = dict(zip(timed, found[1:], strict=True))
    of_all = _latency(found[0], overall)
    if len(by_stage) == 1:
        return [of_all, of_all]
    return [of_all, *(_latency(values.get(number, []), by_stage[number]) for number in by_stage)]


def _latency(values_us: list[int], tally: Tally) -> Latency:
    """The distribution in milliseconds; all None where there is nothing."""
    if not tally.timed:
        return Latency()
    # A bucket's upper end may lie above the largest value that was seen; nothing seen was above that.
    most_us = tally.max_us
    p50, p90, p95, p99, p999 = [min(value, most_us) / 1_000 for value in values_us]
    mean = round(tally.sum_us / tally.timed / 1_000, 6)
    return Latency(tally.min_us / 1_000, mean, p50, p90, p95, p99, p999, most_us / 1_000)
