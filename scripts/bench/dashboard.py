"""How the dashboard feels: first paint, bytes sent, and the longest tasks while systems change every second.

    python scripts/bench/dashboard.py [--systems 500] [--tiles 500] [--rounds 5] [--seconds 10] [--json results.json]

It starts an LSO of its own, sends each of `--systems` systems an event a second, and opens the fleet in the machine's
headless Chromium, in a window so high that `--tiles` tiles are in sight. A task longer than 50 ms would hold up a frame.
Chromium's trace tells of each task of the page's main thread how long it took, and how much of that it had a CPU: where the
machine is also used by others only the latter is the page's doing. Headless Chromium draws on the CPU, too.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import _rates, _target
from scripts.bench.stream import emitting
from tests.browsers import running_browser

Json = dict[str, Any]

COLUMNS: Final = 6
TILE_HEIGHT: Final = 132
FRAME_MS: Final = 50
_TASKS: Final = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"]


def main() -> None:
    """Measure, print a table, keep every round."""
    options = parse()
    machine = _rates.machine()
    options.changes = options.systems
    with (
        _target.service(None, ["--api-processes", "1"]) as served,
        emitting(served.url, options),
        running_browser() as browser,
    ):
        height = max(900, math.ceil(options.tiles / COLUMNS) * TILE_HEIGHT)
        rounds = []
        for _ in range(options.rounds + 1):
            with browser.new_context(viewport={"width": 1720, "height": height}) as context:
                rounds.append(measure(browser, context.new_page(), served.url, options.seconds))
    figures = {name: _rates.Rounds.of([one[name] for one in rounds[1:]]) for name in rounds[0]}
    print(f"{options.rounds} rounds of {options.seconds:g} s, {options.systems} systems that change once a second\n")
    print(_rates.table(["figure", "median (least to most)"], [[name, one.text(1)] for name, one in figures.items()]))
    _rates.write_json(
        options.json, {"bench": "dashboard", "machine": machine, "options": vars(options), "rounds": rounds[1:]}
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="first paint, bytes and long tasks of the dashboard")
    parser.add_argument("--systems", type=int, default=500)
    parser.add_argument("--tiles", type=int, default=500, help="in sight at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--json", help="file for every round's figures")
    return parser.parse_args()


def measure(browser: Browser, page: Page, url: str, seconds: float) -> dict[str, float]:
    """One visit with nothing in the browser's cache."""
    sizes: list[int] = []
    page.on("response", lambda answer: sizes.append(int(answer.headers.get("content-length", 0))))
    page.goto(url)
    page.get_by_role("listitem").first.wait_for()
    tiles = page.get_by_role("listitem").count()
    page.wait_for_timeout(2_000)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    browser.start_tracing(page=page, categories=_TASKS)
    page.wait_for_timeout(seconds * 1_000)
    tasks = tasks_of(json.loads(browser.stop_tracing()))
    return {
        "first contentful paint, ms": float(paint),
        "page and files, kB": sum(sizes) / 1_000,
        "tiles rendered": float(tiles),
        "longest task, ms of CPU": max(cpu for _, cpu in tasks),
        "longest task, ms of the clock": max(took for took, _ in tasks),
        "tasks over 50 ms of CPU": float(sum(cpu > FRAME_MS for _, cpu in tasks)),
        "tasks over 50 ms of the clock": float(sum(took > FRAME_MS for took, _ in tasks)),
        "CPU of the main thread, ms a second": sum(cpu for _, cpu in tasks) / seconds,
    }


def tasks_of(trace: Json) -> list[tuple[float, float]]:
    """(duration, CPU time) in ms of each task of the page's main thread."""
    events = trace["traceEvents"]
    main = {
        (one["pid"], one["tid"])
        for one in events
        if one["name"] == "thread_name" and one["args"]["name"] == "CrRendererMain"
    }
    return [
        (one["dur"] / 1_000, one.get("tdur", one["dur"]) / 1_000)
        for one in events
        if one["name"] == "RunTask" and one.get("dur") and (one["pid"], one["tid"]) in main
    ]


if __name__ == "__main__":
    main()
