"""Series, histograms and objectives over HTTP, against a count over the events that were sent."""

import math
import random
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import httpx
import pytest
from hdrh.histogram import HdrHistogram

from tests.e2e.answers import named, now_ms, problem, to_ms, to_text
from tests.e2e.conftest import NewSystem
from tests.e2e.systems import Json, ObservedSystem, error, event
from tests.e2e.systems import register as register_system
from tests.waiting import wait_for

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
STAGES = (None, "extract", "load")
METRICS = "total,errors,error_rate,rps,min,mean,max,p50,p95,p999,p99.5"


class Past(NamedTuple):
    """A system with a past of three hours, and the counted events that it was sent."""

    system: ObservedSystem
    sent: list[Json]
    end_ms: int
    """The end of the minute in which it was sent, or of a later one."""

    def between(self, from_ms: int, to_ms: int) -> list[Json]:
        return [one for one in self.sent if from_ms <= to_ms_of(one) < to_ms]


def to_ms_of(one: Json) -> int:
    return to_ms(one["ts"])


def past(http: httpx.Client, seed: int) -> Past:
    """Events over the last three hours: nearly all of them are late, each in its own minute."""
    dice, system = random.Random(seed), register_system(http)
    now = now_ms()
    sent = [
        dice.choice((event, event, event, error))(
            ts=to_text(now - int(dice.random() ** 3 * 3 * HOUR)),
            latency_ms=round(dice.lognormvariate(4, 1.5), 3),
            **({} if (stage := dice.choice(STAGES)) is None else {"stage": stage}),
        )
        for _ in range(900)
    ]
    for at in range(0, len(sent), 300):
        system.take([*sent[at : at + 300], {"event_type": "heartbeat", "status": "ok"}])
    end = now - now % MINUTE + MINUTE
    whole = {"metric": "total", "from": to_text(end - 4 * HOUR), "to": to_text(end), "step": "4h"}
    wait_for(lambda: series(system, **whole)[0]["total"] == len(sent), "everything is folded")
    return Past(system, sent, end)


def ask(system: ObservedSystem, what: str, **params: Any) -> Json:
    answer = system.http.get(f"{system.path}/{what}", params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def series(system: ObservedSystem, **params: Any) -> list[Json]:
    """The points of a system's only series."""
    [one] = ask(system, "series", **params)["series"]
    return list(one["points"])


@pytest.fixture(scope="module")
def known(http: httpx.Client) -> Past:
    return past(http, 1)


def check(point: Json, own: Sequence[Json], seconds: float) -> None:
    """A point is what a count over its events finds."""
    if not own:
        assert {value for name, value in point.items() if name != "time"} == {None}
        return
    latencies = sorted(one["latency_ms"] for one in own)
    errors = sum(one["status"] == "error" for one in own)
    assert (point["total"], point["errors"]) == (len(own), errors)
    assert point["error_rate"] == pytest.approx(errors / len(own))
    assert point["rps"] == pytest.approx(len(own) / seconds, abs=1e-6)
    assert point["mean"] == pytest.approx(math.fsum(latencies) / len(own), abs=1e-5)
    assert (point["min"], point["max"]) == (latencies[0], latencies[-1])
    for name, per_cent in (("p50", 50), ("p95", 95), ("p999", 99.9), ("p99.5", 99.5)):
        exact = latencies[math.ceil(round(per_cent * len(own) / 100, 9)) - 1]
        assert point[name] == pytest.approx(exact, rel=0.001, abs=0.0005)


@pytest.mark.parametrize("step_minutes", [1, 7, 60, 90])
def test_every_point_is_what_a_count_over_its_events_finds(known: Past, step_minutes: int) -> None:
    from_ms, to_ms_, step = known.end_ms - 3 * HOUR - MINUTE, known.end_ms, step_minutes * MINUTE
    answer = ask(
        known.system,
        "series",
        metric=METRICS,
        **{"from": to_text(from_ms)},
        to=to_text(to_ms_),
        step=f"{step_minutes}m",
    )
    assert (answer["from"], answer["to"], answer["step"]) == (to_text(from_ms), to_text(to_ms_), step // 1_000)
    assert answer["metrics"] == METRICS.split(",")
    [one] = answer["series"]
    assert one["system_id"] == known.system.id
    assert "stage" not in one
    starts = list(range(from_ms, to_ms_, step))
    assert [point["time"] for point in one["points"]] == list(map(to_text, starts))
    for start, point in zip(starts, one["points"], strict=True):
        end = min(start + step, to_ms_)
        check(
            {name: value for name, value in point.items() if name != "revised"},
            known.between(start, end),
            (end - start) / 1_000,
        )
    late = sum(point.get("revised", 0) for point in one["points"])
    assert 0 < late <= len(known.sent)


def test_a_series_for_each_stage(known: Past) -> None:
    span = {"from": to_text(known.end_ms - 3 * HOUR - MINUTE), "to": to_text(known.end_ms), "step": "181m"}
    found = ask(known.system, "series", metric=METRICS, by="stage", **span)["series"]
    assert {one["stage"] for one in found} == set(STAGES)
    for one in found:
        [point] = one["points"]
        own = [each for each in known.sent if each.get("stage") == one["stage"]]
        check({name: value for name, value in point.items() if name != "revised"}, own, 181 * 60)


def test_series_of_several_systems_over_the_same_points(known: Past, http: httpx.Client) -> None:
    other = past(http, 2)
    end = max(known.end_ms, other.end_ms)
    params = {"metric": "total,p95", "from": to_text(end - 4 * HOUR), "to": to_text(end), "step": "1h"}
    ids = [other.system.id, known.system.id]
    answer = http.get("/series", params={"systems": ",".join(map(str, ids)), **params}).json()
    assert [one["system_id"] for one in answer["series"]] == ids
    for one, system in zip(answer["series"], (other.system, known.system), strict=True):
        assert one["points"] == series(system, **params)


def test_late_events_repair_their_minute_and_say_so(new_system: NewSystem) -> None:
    system, now = new_system(window_seconds=60), now_ms()
    minute = now - now % MINUTE - 10 * MINUTE
    span = {"metric": "total,p50", "from": to_text(minute), "to": to_text(minute + 2 * MINUTE)}
    assert series(system, **span) == [
        {"time": to_text(at), "total": None, "p50": None} for at in (minute, minute + MINUTE)
    ]

    def repaired(expected: Json) -> bool:
        return series(system, **span)[0] == expected

    for many in (1, 2):
        system.take([event(ts=to_text(minute + 30_000), latency_ms=5 * many)])
        expected = {"time": to_text(minute), "total": many, "revised": many, "p50": pytest.approx(5, rel=0.001)}
        wait_for(partial(repaired, expected), "the minute is repaired")


def test_the_present_minute_is_in_and_a_series_says_up_to_when_it_is_whole(new_system: NewSystem) -> None:
    system = new_system()
    system.take([event(), event(), {"event_type": "start", "status": "ok"}])
    wait_for(lambda: sum(point["total"] or 0 for point in series(system, metric="total")) == 2, "they are folded")
    answer = ask(system, "series")
    assert answer["step"] == 60
    assert to_ms(answer["to"]) - to_ms(answer["from"]) == HOUR
    assert abs(to_ms(answer["series"][0]["as_of"]) - now_ms()) < 20_000


@pytest.mark.parametrize(
    ("params", "field", "message"),
    [
        ({"metric": "p0"}, "metric", "metric must be of total, errors"),
        ({"from": "yesterday"}, "from", "from is not an RFC 3339 date-time"),
        ({"from": "2025-12-14T14:00:30Z"}, "from", "whole"),
        ({"step": "90s"}, "step", "step must be in whole minutes"),
        ({"step": "1w"}, "step", "step must be a number of seconds"),
        ({"by": "system"}, "by", "stage"),
        ({"from": "2020-01-01T00:00:00Z", "step": "1h"}, "step", "the cap is 10000"),
        ({"steps": "1m"}, "steps", "no parameter here"),
    ],
)
def test_a_series_that_cannot_be_is_refused_with_the_rule(
    system: ObservedSystem, params: Json, field: str, message: str
) -> None:
    body = problem(system.http.get(f"{system.path}/series", params=params), 422)
    assert named(body) == [(None, field)]
    assert message in body["detail"]
    problem(system.http.get("/systems/999999999/series", params=params), 404)


def test_history_far_back_is_asked_for_by_the_hour(system: ObservedSystem) -> None:
    hour = now_ms() // HOUR * HOUR
    from_ms = hour - 40 * DAY
    body = problem(system.http.get(f"{system.path}/series", params={"from": to_text(from_ms + MINUTE)}), 422)
    assert "whole hours where from lies more than 30 days back" in body["detail"]
    answer = ask(system, "series", **{"from": to_text(from_ms)})
    assert (answer["from"], to_ms(answer["to"]) % HOUR, answer["step"] % 3_600) == (to_text(from_ms), 0, 0)


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        (None, "systems is missing"),
        ("1,x", "systems must be ids with commas between"),
        ("1,1", "systems names one twice"),
        (",".join(map(str, range(1, 102))), "systems names 101; the cap is 100"),
    ],
)
def test_systems_are_ids(http: httpx.Client, systems: str | None, message: str) -> None:
    body = problem(http.get("/series", params={} if systems is None else {"systems": systems}), 422)
    assert (named(body), message in body["detail"]) == ([(None, "systems")], True)


def test_an_unknown_system_among_several_is_named(http: httpx.Client, system: ObservedSystem) -> None:
    body = problem(http.get("/series", params={"systems": f"{system.id},999999999"}), 404)
    assert body["detail"] == "there is no system 999999999"


def test_a_histogram_has_every_latency_in_its_bucket(known: Past) -> None:
    span = {"from": to_text(known.end_ms - 4 * HOUR), "to": to_text(known.end_ms)}
    found = ask(known.system, "histogram", **span)
    latencies = [one["latency_ms"] for one in known.sent]
    assert (found["total"], found["min"], found["max"]) == (len(latencies), min(latencies), max(latencies))
    assert found["mean"] == pytest.approx(math.fsum(latencies) / len(latencies))
    for bucket in found["buckets"]:
        assert bucket["count"] == sum(bucket["low"] <= one <= bucket["high"] for one in latencies)
    assert sum(bucket["count"] for bucket in found["buckets"]) == len(latencies)
    own = [one for one in known.sent if one.get("stage") == "load"]
    assert ask(known.system, "histogram", stage="load", **span)["total"] == len(own)


def test_a_histogram_without_events_is_null(system: ObservedSystem) -> None:
    found = ask(system, "histogram")
    assert (found["total"], found["min"], found["mean"], found["max"], found["buckets"]) == (None, None, None, None, [])


def test_the_standard_encoding_is_read_by_its_library(known: Past) -> None:
    span = {"from": to_text(known.end_ms - 4 * HOUR), "to": to_text(known.end_ms)}
    answer = known.system.http.get(
        f"{known.system.path}/histogram", params=span, headers={"Accept": "application/vnd.hdrhistogram"}
    )
    assert answer.headers["Content-Type"] == "application/vnd.hdrhistogram"
    found = HdrHistogram.decode(answer.content)
    latencies = [one["latency_ms"] for one in known.sent]
    assert found.total_count == len(latencies)
    assert found.get_max_value() / 1_000 == pytest.approx(max(latencies), rel=0.001)
    assert found.get_min_value() / 1_000 == pytest.approx(min(latencies), rel=0.001)


def test_a_heat_map_has_every_latency_in_its_cell(known: Past) -> None:
    from_ms = known.end_ms - 3 * HOUR - MINUTE
    span = {"from": to_text(from_ms), "to": to_text(known.end_ms), "step": "5m"}
    found = ask(known.system, "histogram", form="heatmap", parts=2, **span)
    starts = list(map(to_ms, found["times"]))
    assert starts == list(range(from_ms, known.end_ms, 5 * MINUTE))
    for at, bucket, count in found["cells"]:
        own = known.between(starts[at], starts[at] + 5 * MINUTE)
        band = found["buckets"][bucket]
        assert count == sum(band["low"] <= one["latency_ms"] <= band["high"] for one in own)
    assert sum(count for *_, count in found["cells"]) == len(known.sent)


def test_an_objective_is_judged_by_what_was_right_and_in_time(known: Past) -> None:
    found = ask(known.system, "slo", objective=70, latency_ms=200, window="4h")
    from_ms, to_ms_ = to_ms(found["from"]), to_ms(found["to"])
    assert to_ms_ - from_ms == 4 * HOUR

    def good(some: Sequence[Json]) -> int:
        return sum(one["status"] == "ok" and one["latency_ms"] <= 200 for one in some)

    own = known.between(from_ms, to_ms_)
    assert abs(found["good"] - good(own)) <= sum(200 < one["latency_ms"] < 200.3 for one in own)
    assert (found["total"], found["window"]) == (len(own), "4h")
    assert found["attained"] == pytest.approx(100 * found["good"] / len(own), abs=1e-5)
    bad = len(own) - found["good"]
    assert found["budget"]["spent"] == bad
    assert found["budget"]["allowed"] == pytest.approx(0.3 * len(own))
    assert found["budget"]["left"] == pytest.approx(1 - bad / (0.3 * len(own)), abs=1e-5)
    hour = known.between(to_ms_ - HOUR, to_ms_)
    assert found["burn_rate"]["1h"] == pytest.approx((1 - good(hour) / len(hour)) / 0.3, rel=0.02)
    assert found["burn_rate"]["3d"] == pytest.approx(bad / len(own) / 0.3, abs=1e-5)


def test_an_objective_without_events_is_null_and_no_success(system: ObservedSystem) -> None:
    found = ask(system, "slo", objective=99.9)
    assert (found["total"], found["good"], found["attained"], found["window"]) == (None, None, None, "30d")
    assert set(found["budget"].values()) | set(found["burn_rate"].values()) == {None}


@pytest.mark.parametrize(
    ("params", "field", "message"),
    [
        ({}, "objective", "objective is missing"),
        ({"objective": 100}, "objective", "must be a number above 0 and below 100"),
        ({"objective": "nan"}, "objective", "must be a number above 0 and below 100"),
        ({"objective": 99, "latency_ms": -1}, "latency_ms", "must be a number from 0 to 604800000"),
        ({"objective": 99, "window": "90s"}, "window", "whole minutes"),
        ({"objective": 99, "window": "43201m"}, "window", "whole hours"),
        ({"objective": 99, "window": "9999999d"}, "window", "longer than 3660 days"),
    ],
)
def test_an_objective_that_cannot_be_is_refused_with_the_rule(
    system: ObservedSystem, params: Json, field: str, message: str
) -> None:
    body = problem(system.http.get(f"{system.path}/slo", params=params), 422)
    assert named(body) == [(None, field)]
    assert message in body["detail"]
