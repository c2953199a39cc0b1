"""The numbers against a count over every event: 40,000 of them over twice the window."""

import random

import pytest

from tests.e2e.answers import Json, now_ms, to_ms, to_text
from tests.e2e.arithmetic import PER_MILLE, Sample, at_rank, errors, is_close, window_start, within
from tests.e2e.conftest import NewSystem
from tests.e2e.systems import ObservedSystem
from tests.waiting import wait_for

EVENTS = 40_000
WINDOW_S = 300
STAGES = ("extract", "transform", "load")
LONGEST_MS = 15 * 60_000
SEED = 20251214


def random_samples(now: int) -> list[Sample]:
    """Events over twice the window, in random order, from 1 µs to 15 minutes, evenly over the orders of magnitude."""
    dice = random.Random(SEED)
    return [
        Sample(
            ts_ms=now - dice.randrange(2 * WINDOW_S * 1_000),
            stage=dice.choice(STAGES),
            ok=dice.random() < 0.9,
            latency_ms=round(0.001 * (LONGEST_MS / 0.001) ** dice.random(), dice.choice([3, 3, 4, 6])),
        )
        for _ in range(EVENTS)
    ]


def as_event(sample: Sample) -> Json:
    status = "ok" if sample.ok else "error"
    return {
        "event_type": "success" if sample.ok else "failure",
        "status": status,
        "stage": sample.stage,
        "latency_ms": sample.latency_ms,
        "ts": to_text(sample.ts_ms),
    }


def post_all(system: ObservedSystem, samples: list[Sample]) -> int:
    """Post everything in batches; how many must be late, going by the arrival that each entry's id tells."""
    late = at = 0
    while at < len(samples):
        batch = samples[at : at + random.Random(at).randrange(1, 2_000)]
        arrived_ms = int(system.take([as_event(sample) for sample in batch])["entries"][0].partition("-")[0])
        late += sum(sample.ts_ms < window_start(arrived_ms, WINDOW_S) for sample in batch)
        at += len(batch)
    return late


def differences(metrics: Json, samples: list[Sample]) -> list[str]:
    """What an answer says differently from a count over its own stated window."""
    counted = within(samples, to_ms(metrics["window_start"]), to_ms(metrics["window_end"]))
    found = _differences("all", metrics, counted)
    for stage in STAGES:
        found += _differences(stage, metrics["stages"][stage], [sample for sample in counted if sample.stage == stage])
    if abs(metrics["rps"] - len(counted) / WINDOW_S) > 1e-4:
        found.append(f"rps {metrics['rps']} of {len(counted)} in {WINDOW_S} s")
    return found


def _differences(what: str, figures: Json, samples: list[Sample]) -> list[str]:
    values = sorted(sample.latency_ms for sample in samples)
    exact = {"total": len(samples), "errors": errors(samples)}
    found = [f"{what}: {name} {figures[name]}, counted {n}" for name, n in exact.items() if figures[name] != n]
    if figures["error_rate"] != pytest.approx(errors(samples) / len(samples), abs=1e-9):
        found.append(f"{what}: error_rate {figures['error_rate']}")
    shown = figures["latency_ms"]
    wanted = {name: at_rank(values, per_mille) for name, per_mille in PER_MILLE.items()}
    wanted |= {"min": values[0], "max": values[-1], "mean": sum(values) / len(values)}
    found += [
        f"{what}: {name} {shown[name]}, exact {ms}" for name, ms in wanted.items() if not is_close(shown[name], ms)
    ]
    return found


@pytest.mark.timeout(120)
def test_totals_errors_and_percentiles_equal_brute_force_now_and_20_s_later(new_system: NewSystem) -> None:
    system = new_system(window_seconds=WINDOW_S)
    samples = random_samples(now_ms())
    late = post_all(system, samples)

    def all_folded() -> Json | None:
        metrics = system.metrics()
        counted = within(samples, to_ms(metrics["window_start"]), to_ms(metrics["window_end"]))
        return metrics if metrics["total"] == len(counted) and metrics["late"] == late else None

    first = wait_for(all_folded, f"all is folded, {late} of it late", within=20)
    assert first is not None
    assert [] == differences(first, samples)
    assert first["p95_latency"] == first["latency_ms"]["p95"]

    rolled_to = to_ms(first["window_start"]) + 20_000

    def rolled() -> Json | None:
        metrics = system.metrics()
        assert [] == differences(metrics, samples)  # at every moment on the way, too
        return metrics if to_ms(metrics["window_start"]) >= rolled_to else None

    second = wait_for(rolled, "the window rolls on for 20 s", within=30)
    assert second is not None
    assert second["total"] < first["total"]
    assert (0, late) == (second["clock_skewed"], second["late"])


def test_a_window_of_events_in_its_last_slots_is_exact_at_both_ends(new_system: NewSystem) -> None:
    """Every millisecond around the window's start, and around now."""
    system = new_system(window_seconds=60)
    now = now_ms()
    edge = window_start(now, 60)
    times = [*range(edge - 300, edge + 300), *range(now - 300, now + 1)]
    samples = [Sample(ms, STAGES[0], ok=ms % 2 == 0, latency_ms=1.0) for ms in times]
    random.Random(SEED).shuffle(samples)
    system.take([as_event(sample) for sample in samples])
    for _ in range(3):
        metrics = wait_for(lambda: _with_events(system), "events show") or {}
        counted = within(samples, to_ms(metrics["window_start"]), to_ms(metrics["window_end"]))
        assert (len(counted), errors(counted)) == (metrics["total"], metrics["errors"])


def _with_events(system: ObservedSystem) -> Json | None:
    metrics = system.metrics()
    return metrics if metrics["total"] else None
