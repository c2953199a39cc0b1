"""How the dashboard feels: first paint, bytes sent, and the longest tasks while systems change every second.

    python scripts/bench/dashboard.py [--systems 500] [--tiles 500] [--rounds 5] [--seconds 10] [--json results.json]

It starts an LSO of its own, sends each of `--systems` systems an event a second, and opens the fleet in the machine's
headless Chromium, in a window so high that `--tiles` tiles are in sight. A task longer than 50 ms would hold up a frame.
Chromium's trace tells of each task of the page's main thread how long it took, and how much of that it had a CPU: where the
machine is also used by others only the latter is the page's doing. Headless Chromium draws on the CPU, too;
the service gives way to it.
Below the table stands what the longest tasks were made of.
"""

import argparse
import contextlib
import heapq
import itertools
import json
import math
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple

from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import _cpu, _rates, _target
from scripts.bench.stream import emitting
from tests.browsers import running_browser

Json = dict[str, Any]

COLUMNS: Final = 6
TILE_HEIGHT: Final = 132
FRAME_MS: Final = 50
TOLD: Final = 3
"""Tasks of which it is told what they were made of."""
PARTS: Final = 6
_TASKS: Final = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"]
_COUNT: Final = """() => {
    window.drawn = 0;
    new MutationObserver(changes => {
        for (const { target } of changes) if (target.parentElement?.matches(".reason")) window.drawn += 1;
    }).observe(document.querySelector(".grid"), { characterData: true, subtree: true });
}"""
"""Every event changes a reason, so that reasons tell how many tiles were drawn anew."""


class Task(NamedTuple):
    """One task of the page's main thread."""

    cpu: float
    """ms it had a CPU."""
    took: float
    """ms of the clock."""
    parts: Counter[str]
    """ms of CPU by what was done."""

    def text(self) -> str:
        """For people: the largest parts."""
        parts = ", ".join(f"{name} {ms:.1f}" for name, ms in self.parts.most_common(PARTS))
        return f"{self.cpu:.1f} ms of CPU: {parts}"


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
        give_way(served.pid)
        height = max(900, math.ceil(options.tiles / COLUMNS) * TILE_HEIGHT)
        visits = []
        for _ in range(options.rounds + 1):
            with browser.new_context(viewport={"width": 1720, "height": height}) as context:
                visits.append(measure(browser, context.new_page(), served.url, options.seconds))
    rounds, tasks = zip(*visits[1:], strict=True)
    figures = {name: _rates.Rounds.of([one[name] for one in rounds]) for name in rounds[0]}
    print(f"{options.rounds} rounds of {options.seconds:g} s, {options.systems} systems that change once a second\n")
    print(_rates.table(["figure", "median (least to most)"], [[name, one.text(1)] for name, one in figures.items()]))
    longest = heapq.nlargest(TOLD, itertools.chain(*tasks), key=lambda task: task.cpu)
    print("\nThe longest tasks:\n" + "\n".join(task.text() for task in longest))
    _rates.write_json(
        options.json, {"bench": "dashboard", "machine": machine, "options": vars(options), "rounds": rounds}
    )


def give_way(pid: int | None) -> None:
    """Let the browser go first: whoever looks at the page has it on another machine than the service. Linux only."""
    for one in _cpu.family(pid):
        with contextlib.suppress(OSError):
            Path(f"/proc/{one}/autogroup").write_text("19")
            os.setpriority(os.PRIO_PROCESS, one, 19)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="first paint, bytes and long tasks of the dashboard")
    parser.add_argument("--systems", type=int, default=500)
    parser.add_argument("--tiles", type=int, default=500, help="in sight at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--json", help="file for every round's figures")
    return parser.parse_args()


def measure(browser: Browser, page: Page, url: str, seconds: float) -> tuple[dict[str, float], list[Task]]:
    """One visit with nothing in the browser's cache: its figures and the page's tasks."""
    sizes: list[int] = []
    page.on("response", lambda answer: sizes.append(int(answer.headers.get("content-length", 0))))
    page.goto(url)
    page.get_by_role("listitem").first.wait_for()
    tiles = page.get_by_role("listitem").count()
    page.wait_for_timeout(2_000)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    page.evaluate(_COUNT)
    browser.start_tracing(page=page, categories=_TASKS)
    page.wait_for_timeout(seconds * 1_000)
    drawn = page.evaluate("window.drawn")
    tasks = tasks_of(json.loads(browser.stop_tracing()))
    figures = {
        "first contentful paint, ms": float(paint),
        "page and files, kB": sum(sizes) / 1_000,
        "tiles rendered": float(tiles),
        "tiles drawn anew a second": drawn / seconds,
        "longest task, ms of CPU": max(one.cpu for one in tasks),
        "longest task, ms of the clock": max(one.took for one in tasks),
        "tasks over 50 ms of CPU": float(sum(one.cpu > FRAME_MS for one in tasks)),
        "tasks over 50 ms of the clock": float(sum(one.took > FRAME_MS for one in tasks)),
        "CPU of the main thread, ms a second": sum(one.cpu for one in tasks) / seconds,
    }
    return figures, tasks


def tasks_of(trace: Json) -> list[Task]:
    """The tasks of the page's main thread, each with what lies within it."""
    events = trace["traceEvents"]
    main = {
        (one["pid"], one["tid"])
        for one in events
        if one["name"] == "thread_name" and one["args"]["name"] == "CrRendererMain"
    }
    spans = [one for one in events if one.get("dur") and (one["pid"], one["tid"]) in main]
    spans.sort(key=lambda one: (one["pid"], one["tid"], one["ts"], -one["dur"]))
    tasks: list[Task] = []
    around: list[Json] = []
    for span in spans:
        cpu = span.get("tdur", span["dur"]) / 1_000
        while around and span["ts"] >= around[-1]["ts"] + around[-1]["dur"]:
            around.pop()
        if around:
            tasks[-1].parts[around[-1]["name"]] -= cpu
        elif span["name"] == "RunTask":
            tasks.append(Task(cpu, span["dur"] / 1_000, Counter()))
        else:
            continue  # its task began before the trace
        tasks[-1].parts[span["name"]] += cpu
        around.append(span)
    return tasks


if __name__ == "__main__":
    main()
