"""Runs as they are shown, and a run's rank among those that have ended."""

import math

import numpy as np

from lso_core.compute import histogram
from lso_core.compute.run_events import StageSums, sums_of
from lso_core.compute.runs import Run, Tally, shown_time
from lso_core.model import times
from lso_core.model.runs import Rank, RunState, ShownRun, ShownStage, Sums


def show(run: Run, system_id: int, now_ms: int) -> ShownRun:
    """A run at `now_ms`, which an open one has gone on to."""
    sums = sums_of(run.stages.values())
    duration_us = duration_at(run, now_ms)
    stages = sorted(run.stages.items(), key=lambda one: (one[1].first_ms, one[0]))
    return ShownRun(
        system_id=system_id,
        run_id=run.run_id,
        state=run.state.name,
        attempts=run.attempts,
        started_at=shown_time(run.started_ms),
        ended_at=times.to_text_or_none(run.ended_ms),
        duration_ms=duration_us / 1_000,
        last_event_at=shown_time(run.last_ms),
        events=sum(stage.events for stage in run.stages.values()),
        errors=sum(stage.errors for stage in run.stages.values()),
        error_summary=None if run.error is None else run.error[1],
        rows=sums.rows,
        rows_in=sums.rows_in,
        rows_out=sums.rows_out,
        bytes=sums.bytes,
        stages=[_stage(name, stage) for name, stage in stages if name],
    )


def duration_at(run: Run, now_ms: int) -> int:
    """How long the latest attempt took, or takes by now, in µs; a lost one up to its last sign of life."""
    if run.duration_us is not None:
        return run.duration_us
    until_ms = run.last_ms if run.state is RunState.LOST or run.closed else now_ms
    return max(0, until_ms - run.started_ms) * 1_000


def rank(tally: Tally, run: Run, duration_us: int) -> Rank:
    """Where a duration stands among those of the other runs that ended, within the histogram's 0.1 %."""
    index = histogram.index_of(np.array([min(duration_us, histogram.HIGHEST_US)], np.int64))[0]
    runs = int(tally.cells.sum()) - (run.ranked_us is not None)
    slower_than = int(tally.cells[tally.keys < index].sum())
    if not runs:
        return Rank(0, 0, None, "no other run has ended")
    percent = 100 * slower_than / runs
    by_now = "" if run.ended_ms is not None else "already "
    return Rank(runs, slower_than, round(percent, 1), f"{by_now}slower than {math.floor(percent)} % of {_count(runs)}")


def _count(runs: int) -> str:
    return f"{runs} run" if runs == 1 else f"{runs} runs"


def _stage(name: str, stage: StageSums) -> ShownStage:
    sums = Sums(*stage.sums)
    return ShownStage(
        name=name,
        state="RUNNING" if stage.outcome is None else "FAILED" if stage.outcome % 2 else "SUCCESS",
        started_at=shown_time(stage.first_ms),
        ended_at=None if stage.outcome is None else shown_time(stage.outcome // 2),
        duration_ms=stage.busy_us / 1_000 if stage.timed else None,
        events=stage.events,
        errors=stage.errors,
        rows=sums.rows,
        rows_in=sums.rows_in,
        rows_out=sums.rows_out,
        bytes=sums.bytes,
    )
