#!/usr/bin/env python3
"""A real pipeline, watched by LSO: four years of Seattle's weather from CSV into SQLite.

Extracts the daily observations that the package `vega_datasets` carries, transforms them year by year (parse, validate,
monthly aggregates), loads both into SQLite, and reports each stage. `--fail` and `--slow` break or delay a stage, so
that its health can be watched turning. Needs `./scripts/up` in another terminal.
"""

import argparse
import csv
import importlib.util
import json
import os
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lso_core import client as lso

SYSTEM = "weather-etl"
STAGES = ("extract", "transform", "load")
THRESHOLDS = {
    "error_rate": {"warn": 0.05, "crit": 0.20},
    "p95_latency": {"warn": 250.0, "crit": 1_000.0},
    "min_events": 5,
}
SLOW_S = 0.4
"""What `--slow` adds to a stage: more than the limit for DEGRADED, less than that for UNHEALTHY."""


class Day(NamedTuple):
    """One day's observation: rain in mm, temperatures in °C, wind in m/s."""

    date: str
    precipitation: float
    temp_max: float
    temp_min: float
    wind: float
    weather: str


class Month(NamedTuple):
    """What a month came to."""

    month: str
    days: int
    rain_mm: float
    temp_mean: float
    wind_max: float


def observations() -> Path:
    """The CSV file inside the installed package; its import would want pandas, so it is only located."""
    spec = importlib.util.find_spec("vega_datasets")
    if spec is None or not spec.submodule_search_locations:
        sys.exit(
            "The observations come with the package vega_datasets, which ./scripts/up installs into .venv: run this with .venv/bin/python"
        )
    return Path(spec.submodule_search_locations[0], "_data", "seattle-weather.csv")


def extract(path: Path, year: int) -> list[dict[str, str]]:
    """The raw rows of one year."""
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["date"].startswith(str(year))]


def transform(rows: list[dict[str, str]]) -> tuple[list[Day], list[Month]]:
    """Typed days and their monthly aggregates. Raises ValueError for an observation that cannot be."""
    days = [_day(row) for row in rows]
    months: dict[str, list[Day]] = {}
    for day in days:
        months.setdefault(day.date[:7], []).append(day)
    return days, [_month(month, its_days) for month, its_days in sorted(months.items())]


def _day(row: dict[str, str]) -> Day:
    day = Day(
        row["date"].replace("/", "-"),
        float(row["precipitation"]),
        float(row["temp_max"]),
        float(row["temp_min"]),
        float(row["wind"]),
        row["weather"],
    )
    if day.temp_min > day.temp_max or day.precipitation < 0:
        raise ValueError(f"{day.date}: {day.temp_min} °C to {day.temp_max} °C with {day.precipitation} mm cannot be")
    return day


def _month(month: str, days: list[Day]) -> Month:
    mean = sum(day.temp_max + day.temp_min for day in days) / (2 * len(days))
    rain = sum(day.precipitation for day in days)
    return Month(month, len(days), round(rain, 1), round(mean, 2), max(day.wind for day in days))


def load(database: Path, days: list[Day], months: list[Month]) -> int:
    """Write days and months, in place of what was there; how many rows."""
    with sqlite3.connect(database) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS days (date TEXT PRIMARY KEY, precipitation REAL, temp_max REAL, temp_min REAL, wind REAL, weather TEXT)"
        )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS months (month TEXT PRIMARY KEY, days INTEGER, rain_mm REAL, temp_mean REAL, wind_max REAL)"
        )
        connection.executemany("INSERT OR REPLACE INTO days VALUES (?, ?, ?, ?, ?, ?)", days)
        connection.executemany("INSERT OR REPLACE INTO months VALUES (?, ?, ?, ?, ?)", months)
    connection.close()
    return len(days) + len(months)


def run_once(source: Path, database: Path, years: list[int], fail: str, slow: str) -> int:
    """One run over all years, each stage reported; how many years failed."""
    failed = 0
    with lso.run() as run:
        for year in years:
            try:
                with run.stage("extract", year=year) as stage:
                    _delay("extract", slow)
                    rows = _spoil(extract(source, year), "extract", fail)
                    stage.set(rows=len(rows))
                with run.stage("transform", year=year) as stage:
                    _delay("transform", slow)
                    days, months = transform(_spoil(rows, "transform", fail))
                    stage.set(rows_in=len(rows), rows_out=len(days) + len(months))
                with run.stage("load", year=year) as stage:
                    _delay("load", slow)
                    stage.set(rows=load(database if fail != "load" else database / "no", days, months))
            except (ValueError, KeyError, OSError, sqlite3.Error) as error:
                failed += 1
                print(f"  {year}: {type(error).__name__}: {error}")
    return failed


def _delay(stage: str, slow: str) -> None:
    if stage == slow:
        time.sleep(SLOW_S)


def _spoil(rows: list[dict[str, str]], stage: str, fail: str) -> list[dict[str, str]]:
    """The rows as a broken source would have delivered them to `fail`."""
    if stage != fail:
        return rows
    if stage == "extract":
        raise OSError("the source closed the connection")
    return [{**row, "temp_max": "-99"} if at == len(rows) // 2 else row for at, row in enumerate(rows)]


def call(method: str, url: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    """One request to LSO: status and decoded answer."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("LSO_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=5) as answer:  # noqa: S310  # the user's own URL
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except urllib.error.URLError as error:
        sys.exit(f"LSO does not answer at {url}: {error.reason}. Is ./scripts/up running?")


def register(url: str) -> int:
    """The pipeline's system with its limits, made or brought up to date; its id."""
    spec = {
        "description": "Seattle weather, CSV to SQLite",
        "tags": ["demo"],
        "window_seconds": 60,
        "thresholds": THRESHOLDS,
    }
    status, system = call("POST", f"{url}/systems", {"name": SYSTEM, **spec})
    if status == 409:
        _, found = call("GET", f"{url}/systems?name={SYSTEM}")
        status, system = call("PATCH", f"{url}/systems/{found['items'][0]['system_id']}", spec)
    if status not in {200, 201}:
        sys.exit(f"LSO refused the system: {system.get('detail', system)}")
    return int(system["system_id"])


def years_of(text: str) -> list[int]:
    """`2012-2015` or `2013` as a list of years."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def rows_of_health(health: dict[str, Any]) -> Iterator[str]:
    """Health as a person reads it."""
    yield f"{health['health']}: {health['reason']}"
    p95 = "-" if health["p95_latency"] is None else f"{health['p95_latency']:g} ms"
    yield f"  {health['total']} events in the last {health['window_seconds']} s, {health['errors']} errors, p95 {p95}, since {health['since']}"


def main() -> None:
    """Run the pipeline and show what LSO makes of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--url", default=os.environ.get("LSO_URL", "http://127.0.0.1:8000"), help="where LSO listens")
    parser.add_argument("--database", type=Path, default=Path("weather.db"), help="SQLite file to write")
    parser.add_argument("--runs", type=int, default=3, help="how many runs")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between runs")
    parser.add_argument("--years", type=years_of, default=years_of("2012-2015"), help="which years, such as 2012-2015")
    parser.add_argument("--fail", choices=STAGES, default="", help="break this stage")
    parser.add_argument("--slow", choices=STAGES, default="", help="delay this stage")
    options = parser.parse_args()

    url = options.url.rstrip("/")
    system_id = register(url)
    lso.init(url, system=system_id)
    source = observations()
    for number in range(1, options.runs + 1):
        failed = run_once(source, options.database, options.years, options.fail, options.slow)
        print(f"run {number} of {options.runs}: {len(options.years) - failed} years loaded, {failed} failed")
        if number < options.runs:
            time.sleep(options.pause)
    lso.flush(timeout=5)
    time.sleep(0.3)  # what was accepted is visible within a moment
    _, health = call("GET", f"{url}/systems/{system_id}/health")
    print(f"\nGET {url}/systems/{system_id}/health")
    print("\n".join(rows_of_health(health)))


if __name__ == "__main__":
    main()
