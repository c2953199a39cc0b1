"""The dashboard in a real browser: each state of each page, live, by address, small and dark, and without its server.

One module, since a browser that is driven synchronously lets nothing asynchronous run beside it.
"""

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.api.conftest import EVENT, KEYED, KEYS, running
from tests.browsers import find_chromium, running_browser
from tests.e2e.service import Service
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        find_chromium() is None, reason="there is no Chromium; the dashboard was not tried in a browser"
    ),
]

PATIENCE_MS: Final = 20_000
TRANSFER_BYTES: Final = 120_000
NewPage = Callable[..., Page]

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as found:
        yield found


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def keyed() -> Iterator[Service]:
    """Wants keys, and has no systems."""
    with running(**KEYED) as found:
        yield found


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """Opens pages in contexts of their own. Whatever goes wrong in one fails the test at its end."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def new_page(width: int = 1280, height: int = 900, scheme: str = "light") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            locale="en-GB",
            timezone_id="Asia/Kolkata",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if "Content Security Policy" in line.text else None)
        return page

    yield new_page
    for one in contexts:
        one.close()
    assert [] == faults


class Fleet:
    """Systems with a tag of their own, so that tests share a service."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.tag = f"t-{uuid4().hex[:12]}"
        self.ids: dict[str, int] = {}

    def add(self, name: str, *, ok: int = 0, errors: int = 0, **members: Any) -> int:
        """A system, and so many events of it that are folded when this returns."""
        tags = [self.tag, *members.pop("tags", ())]
        answer = self.http.post("/systems", json={"name": f"{self.tag} {name}", "tags": tags, **members})
        self.ids[name] = int(answer.json()["system_id"])
        if ok + errors:
            self.send(name, ok=ok, errors=errors)
            url = f"/systems/{self.ids[name]}/health"
            wait_for(lambda: self.http.get(url).json()["total"] == ok + errors, "the events are folded")
        return self.ids[name]

    def send(self, name: str, *, ok: int = 0, errors: int = 0, **fields: Any) -> None:
        good = [{**EVENT, **fields}] * ok
        bad = [{**EVENT, "event_type": "failure", "status": "error", **fields}] * errors
        sent = self.http.post(f"/systems/{self.ids[name]}/events", json={"events": [*good, *bad]})
        sent.raise_for_status()

    def path(self, name: str) -> str:
        return f"/systems/{self.ids[name]}"


@pytest.fixture
def fleet(http: httpx.Client) -> Fleet:
    return Fleet(http)


def has_nothing_serious(page: Page) -> None:
    """As axe-core sees it."""
    found = Axe().run(page).response["violations"]
    serious = [
        (one["id"], [node["html"][:160] for node in one["nodes"]])
        for one in found
        if one["impact"] in {"serious", "critical"}
    ]
    assert [] == serious


def fits(page: Page) -> bool:
    """Whether nobody has to scroll sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


# -- the fleet -------------------------------------------------------------------------------------------------


def test_the_fleet_is_shown_worst_first_with_colour_shape_and_word(
    service: Service, fleet: Fleet, new_page: NewPage
) -> None:
    fleet.add("fine", ok=10)
    fleet.add("poor", ok=9, errors=1)
    fleet.add("ill", errors=10)
    fleet.add("silent")
    page = new_page()
    page.goto(f"{service.url}/?tag={fleet.tag}")
    tiles = page.get_by_role("listitem")
    expect(tiles).to_have_count(4)
    words = [one.split("\n")[0] for one in tiles.all_inner_texts()]
    assert ["UNHEALTHY", "DEGRADED", "UNKNOWN", "OK"] == words
    assert 4 == len({tile.locator("svg.shape").inner_html() for tile in tiles.all()})
    colours = "one => getComputedStyle(one, '::before').background"
    assert 4 == len({tile.evaluate(colours) for tile in tiles.all()})
    expect(tiles.first).to_contain_text("error rate 100.0 % (10 of 10) is above 20 %")
    expect(tiles.first).to_contain_text("12 ms")
    expect(page.get_by_role("heading", level=1)).to_contain_text("unhealthy")
    assert re.search(r"\d+ UNHEALTHY · LSO", page.title())
    has_nothing_serious(page)


def test_what_happens_shows_within_seconds(service: Service, fleet: Fleet, new_page: NewPage) -> None:
    fleet.add("live", ok=10)
    page = new_page()
    page.goto(f"{service.url}/?tag={fleet.tag}")
    tile = page.get_by_role("listitem").first
    expect(tile).to_contain_text("OK")
    fleet.send("live", errors=20)
    expect(tile).to_contain_text("UNHEALTHY", timeout=5_000)
    fleet.add("new")
    expect(page.get_by_role("listitem")).to_have_count(2)
    fleet.http.delete(fleet.path("new"))
    expect(page.get_by_role("listitem")).to_have_count(1)


def test_search_states_and_tags_narrow_it_and_stand_in_the_address(
    service: Service, fleet: Fleet, new_page: NewPage
) -> None:
    fleet.add("alpha", ok=10, tags=["red"])
    fleet.add("beta", errors=10, tags=["red", "blue"])
    fleet.add("gamma", ok=10)
    page = new_page()
    page.goto(f"{service.url}/?tag={fleet.tag}")
    tiles = page.get_by_role("listitem")
    expect(tiles).to_have_count(3)
    page.keyboard.press("/")
    page.keyboard.type("alpha")
    expect(tiles).to_have_count(1)
    assert "q=alpha" in page.url
    page.keyboard.press("Escape")
    expect(tiles).to_have_count(3)
    page.get_by_role("button", name=re.compile("UNHEALTHY")).click()
    expect(tiles).to_have_count(1)
    assert "state=UNHEALTHY" in page.url
    page.go_back()
    expect(tiles).to_have_count(3)
    page.get_by_label("group by tag").check()
    expect(page.get_by_role("heading", level=2)).to_have_count(3)
    expect(tiles).to_have_count(6)
    page.goto(f"{service.url}/?tag={fleet.tag}&q=nobody")
    expect(page.get_by_text("No system matches")).to_be_visible()


def test_keys_lead_over_the_tiles_and_into_a_system(service: Service, fleet: Fleet, new_page: NewPage) -> None:
    for name in ("a", "b", "c"):
        fleet.add(name, ok=10)
    page = new_page()
    page.goto(f"{service.url}/?tag={fleet.tag}")
    expect(page.get_by_role("listitem")).to_have_count(3)
    page.get_by_role("listitem").first.get_by_role("link").focus()
    page.keyboard.press("ArrowRight")
    wait_for(lambda: page.evaluate("document.activeElement.getAttribute('href')") == fleet.path("b"), "the focus moves")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{fleet.tag} b")
    assert page.url.endswith(fleet.path("b"))
    page.go_back()
    expect(page.get_by_role("listitem")).to_have_count(3)


def test_of_many_systems_only_those_in_sight_are_rendered(service: Service, fleet: Fleet, new_page: NewPage) -> None:
    for at in range(120):
        fleet.add(f"{at:03d}")
    page = new_page(390, 800)
    page.goto(f"{service.url}/?tag={fleet.tag}")
    expect(page.locator("output")).to_contain_text("120 of")
    tiles = page.get_by_role("listitem")
    assert 5 < tiles.count() < 30
    expect(tiles.first).to_have_attribute("aria-setsize", "120")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.get_by_text(f"{fleet.tag} 119")).to_be_visible()
    assert tiles.count() < 30


DRAWN_BY_FRAME: Final = """
async turned => {
  const { known, refresh } = await import(document.querySelector("script[src$='app.js']").src.replace("app.js", "tile.js"));
  const tiles = [...document.querySelectorAll(".tile a")];
  for (const tile of tiles) {
    const id = Number(tile.getAttribute("href").split("/").at(-1));
    const line = known.lines.get(id);
    known.lines.set(id, { ...line, reason: "new", health: id === turned ? "UNHEALTHY" : line.health });
  }
  const frames = [];
  const drawn = new Promise(done => {
    const seen = new MutationObserver(changes => {
      frames.push(changes.map(({ target }) => target.parentElement.closest("a").getAttribute("href")));
      if (tiles.every(tile => tile.querySelector(".reason").textContent === "new")) done(seen.disconnect());
    });
    for (const tile of tiles) seen.observe(tile.querySelector(".reason"), { characterData: true, subtree: true });
  });
  refresh();
  await drawn;
  return frames;
}
"""


def test_many_changes_are_drawn_a_few_in_a_frame_those_of_state_first(
    service: Service, fleet: Fleet, new_page: NewPage
) -> None:
    for at in range(40):
        fleet.add(f"{at:03d}")
    page = new_page(1280, 1600)
    page.goto(f"{service.url}/?tag={fleet.tag}")
    expect(page.get_by_role("listitem")).to_have_count(40)
    frames = page.evaluate(DRAWN_BY_FRAME, fleet.ids["039"])
    assert fleet.path("039") == frames[0][0]
    assert 40 == len({path for frame in frames for path in frame})
    assert max(map(len, frames)) <= 12


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_light_and_dark(service: Service, fleet: Fleet, new_page: NewPage, scheme: str) -> None:
    fleet.add("a system whose name is rather long for a phone", errors=10, tags=["one", "two"])
    fleet.add("silent")
    page = new_page(390, 844, scheme)
    grounds = []
    for path in (f"/?tag={fleet.tag}", next(iter(fleet.ids.values()))):
        page.goto(f"{service.url}{path if isinstance(path, str) else f'/systems/{path}'}")
        expect(page.get_by_text("UNHEALTHY").last).to_be_visible()
        expect(page.locator("[aria-busy=true]")).to_have_count(0)
        assert fits(page)
        has_nothing_serious(page)
        grounds.append(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
    assert (sum(map(int, re.findall(r"\d+", grounds[0])[:3])) < 200) == (scheme == "dark")


# -- a system --------------------------------------------------------------------------------------------------


def test_a_system_is_shown_with_reason_figures_stages_and_events(
    service: Service, fleet: Fleet, new_page: NewPage
) -> None:
    fleet.add("etl", description="Loads what was extracted")
    fleet.send("etl", ok=12, stage="extract", latency_ms=20, payload={"rows": 168})
    fleet.send("etl", errors=8, stage="load", latency_ms=900, run_id="run-7")
    page = new_page()
    page.goto(f"{service.url}{fleet.path('etl')}")
    expect(page.get_by_label("State", exact=True)).to_contain_text("UNHEALTHY")
    expect(page.get_by_label("State", exact=True)).to_contain_text("error rate 40.0 % (8 of 20) is above 20 %")
    expect(page.get_by_text("Loads what was extracted")).to_be_visible()
    figures = page.get_by_label("The window")
    expect(figures).to_contain_text("900 ms")
    expect(figures).to_contain_text("failure 8")
    stage = page.get_by_role("row", name=re.compile("^load"))
    expect(stage).to_contain_text("100 %")
    expect(page.locator(".events li")).to_have_count(20)
    stage.get_by_role("link").click()
    expect(page.locator(".events li")).to_have_count(8)
    assert "e.stage=load" in page.url
    page.get_by_label("Show only events of a status").select_option("ok")
    expect(page.get_by_text("None of the recent events is like that.")).to_be_visible()
    page.goto(f"{service.url}{fleet.path('etl')}?e.run=run-7")
    expect(page.locator(".events li")).to_have_count(8)
    page.locator(".events summary").first.click()
    expect(page.locator(".events pre").first).to_contain_text('"run_id": "run-7"')
    has_nothing_serious(page)


def test_a_system_is_live(service: Service, fleet: Fleet, new_page: NewPage) -> None:
    fleet.add("live", ok=10)
    page = new_page()
    page.goto(f"{service.url}{fleet.path('live')}")
    state = page.get_by_label("State", exact=True)
    expect(state).to_contain_text("OK")
    fleet.send("live", errors=10)
    expect(state).to_contain_text("UNHEALTHY", timeout=5_000)
    expect(page.get_by_label("The window")).to_contain_text("failure 10")
    fleet.http.patch(fleet.path("live"), json={"name": f"{fleet.tag} renamed"})
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{fleet.tag} renamed")
    fleet.http.delete(fleet.path("live"))


def test_what_somebody_types_stays_while_the_page_goes_on(service: Service, fleet: Fleet, new_page: NewPage) -> None:
    fleet.add("typed", ok=5)
    page = new_page()
    page.goto(f"{service.url}{fleet.path('typed')}?range=15m")
    page.get_by_role("button", name="free").click()
    page.get_by_label("from").fill("2026-01-01T10:00")
    page.get_by_label("Show only events of a run").press_sequentially("night")
    for total in (7, 9):
        fleet.send("typed", ok=2)
        expect(page.get_by_role("region", name="The window").locator("dd").first).to_have_text(
            str(total), timeout=10_000
        )
    expect(page.get_by_label("from")).to_have_value("2026-01-01T10:00")
    expect(page.get_by_label("Show only events of a run")).to_have_value("night")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"e\.run=night"))
    page.go_back()
    expect(page.get_by_label("Show only events of a run")).to_have_value("")


def test_history_is_drawn_and_a_stretch_of_it_picked(service: Service, fleet: Fleet, new_page: NewPage) -> None:
    thresholds = {"error_rate": {"warn": 0.02, "crit": 0.5}, "p95_latency": {"warn": 10.0, "crit": 300.0}}
    fleet.add("drawn", ok=18, errors=2, thresholds=thresholds)
    series = f"{fleet.path('drawn')}/series"
    wait_for(lambda: any(one["total"] for one in fleet.http.get(series).json()["series"][0]["points"]), "history")
    page = new_page()
    page.goto(f"{service.url}{fleet.path('drawn')}?range=15m")
    expect(page.get_by_role("img", name="Latency: p50 12 ms, p95 12 ms, p99 12 ms")).to_be_visible()
    expect(page.get_by_role("img", name="Errors: errors 10 %")).to_contain_text("degraded above 2.0 %")
    expect(page.get_by_role("img", name=re.compile("^Latencies by time, 20 events"))).to_be_visible()
    expect(page.locator("canvas")).to_have_count(4)
    page.locator(".u-over").last.scroll_into_view_if_needed()
    box = page.locator(".u-over").last.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 50, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile(r"\?from=.*&to="))
    zoomed = page.url
    expect(page.locator(".ranges time")).to_have_count(2)
    page.get_by_role("link", name="the last 6 hours").click()
    assert page.url.endswith("?range=6h")
    page.go_back()
    assert zoomed == page.url
    page.get_by_role("button", name="free").click()
    page.get_by_label("from").fill("2026-01-01T10:00")
    page.get_by_label("to", exact=True).fill("2026-01-01T12:00")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url(re.compile("from=2026-01-01T04:30:00Z&to=2026-01-01T06:30:00Z"))  # Kolkata's clock
    expect(page.get_by_text("No events in this stretch of time.")).to_be_visible()
    has_nothing_serious(page)


def test_runs_are_shown_with_their_stages_and_failures_unfolded(
    service: Service, fleet: Fleet, new_page: NewPage
) -> None:
    fleet.add("nightly")
    for run_id, errors in (("run-1", 0), ("run-2", 1)):
        fleet.send("nightly", ok=1, event_type="start", run_id=run_id)
        fleet.send("nightly", ok=1, stage="extract", run_id=run_id, payload={"rows": 168})
        bad = {"payload": {"message": "ValueError: -99 °C cannot be"}} if errors else {}
        fleet.send("nightly", ok=1 - errors, errors=errors, stage="transform", run_id=run_id, **bad)
        fleet.send("nightly", ok=1 - errors, errors=errors, run_id=run_id)
    runs = f"{fleet.path('nightly')}/runs"
    wait_for(
        lambda: ["FAILED", "SUCCESS"] == sorted(run["state"] for run in fleet.http.get(runs).json()["items"]),
        "the runs",
    )
    page = new_page()
    page.goto(f"{service.url}{fleet.path('nightly')}")
    rows = page.locator(".run")
    expect(rows).to_have_count(2)
    failed, well = rows.filter(has_text="FAILED"), rows.filter(has_text="SUCCESS")
    expect(failed).to_contain_text("ValueError: -99 °C cannot be")
    expect(failed.get_by_role("table", name="Stages of the run").get_by_role("row")).to_have_count(2)
    expect(well.get_by_role("table")).to_have_count(0)
    well.get_by_role("link", name=re.compile("run-1")).click()
    expect(well.get_by_role("table", name="Stages of the run")).to_contain_text("168 rows")
    expect(well.locator(".events li")).to_have_count(4)
    expect(page.get_by_role("navigation", name="Breadcrumbs")).to_contain_text("run run-1")
    has_nothing_serious(page)
    page.reload()
    expect(well.locator(".events li")).to_have_count(4)
    page.get_by_label("Show only runs in a state").select_option("FAILED")
    assert "r.state=FAILED" in page.url
    page.goto(f"{service.url}{fleet.path('nightly')}?run=never-was")
    expect(page.get_by_text("There is no run never-was here any more.")).to_be_visible()


def test_times_are_local_and_in_utc_on_hover(service: Service, fleet: Fleet, new_page: NewPage) -> None:
    fleet.add("clock", ok=1)
    page = new_page()
    page.goto(f"{service.url}{fleet.path('clock')}")
    since = page.get_by_label("State", exact=True).locator("time")
    # At one moment: the page goes on, and a state that is new is a state since another time.
    moment, title, text = since.evaluate("time => [time.dateTime, time.title, time.textContent]")
    hours, minutes = int(moment[11:13]), int(moment[14:16])
    local = divmod((hours * 60 + minutes + 330) % 1440, 60)  # Kolkata is five hours and a half ahead
    assert f"{local[0]:02d}:{local[1]:02d}" in text
    assert title == f"{moment.replace('T', ' ').replace('Z', ' UTC')}"


def test_a_system_that_is_not_there_is_said_so(service: Service, new_page: NewPage) -> None:
    page = new_page()
    page.goto(f"{service.url}/systems/999999")
    expect(page.get_by_text("There is no system 999999")).to_be_visible()
    page.get_by_role("link", name="All systems").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.url == f"{service.url}/"


# -- LSO itself ------------------------------------------------------------------------------------------------


def test_without_systems_it_says_what_to_paste_and_the_key_is_asked_for(keyed: Service, new_page: NewPage) -> None:
    page = new_page()
    page.goto(keyed.url)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    has_nothing_serious(page)
    dialog.get_by_label("API key").fill("not a key")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("It does not take the one you gave.")
    dialog.get_by_label("API key").fill(KEYS["read"])
    page.keyboard.press("Enter")
    expect(dialog).not_to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("No systems yet")
    expect(page.get_by_label("Shell commands that register a system")).to_contain_text(f"url={keyed.url}")
    assert KEYS["read"] not in page.content()
    has_nothing_serious(page)
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("No systems yet")  # the tab knows the key still


def test_trouble_of_lso_is_told_apart_and_the_last_picture_stays(
    browser: Browser, new_page: NewPage, tmp_path: Path
) -> None:
    environ = {"LSO_STALE_AFTER": "2"}
    service = Service.start(tmp_path, "--api-processes", "1", environ=environ)
    with service.client() as http:
        fleet = Fleet(http)
        fleet.add("watched", ok=10)
    page = new_page()
    page.goto(service.url)
    tile = page.get_by_role("listitem")
    expect(tile).to_contain_text("OK")

    workers = service.children("worker")
    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    expect(tile).to_contain_text("OBSERVER BEHIND")
    expect(page.get_by_text(re.compile(r"LSO itself is \d+ s behind"))).to_be_visible()
    has_nothing_serious(page)
    for worker in workers:
        worker.send_signal(signal.SIGCONT)
    expect(tile).not_to_contain_text("OBSERVER BEHIND")

    port = service.address[1]
    service.stop()
    expect(page.get_by_role("alert")).to_contain_text("LSO cannot be reached")
    expect(page.get_by_role("alert")).to_contain_text(re.compile(r"picture below is \d+ s old"))
    expect(page.get_by_text("no connection")).to_be_visible()
    expect(tile).to_contain_text(f"{fleet.tag} watched")
    has_nothing_serious(page)
    again = Service.start(tmp_path, "--api-processes", "1", "--port", str(port), environ=environ)
    try:
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.locator(".pulse.live")).to_be_visible()
        expect(tile).to_contain_text(f"{fleet.tag} watched")
    finally:
        page.close()
        again.stop()


def test_little_is_sent_and_nothing_comes_from_elsewhere(service: Service, fleet: Fleet, new_page: NewPage) -> None:
    fleet.add("small", ok=10)
    page = new_page()
    sizes: dict[str, int] = {}
    page.on("response", lambda answer: sizes.update({answer.url: int(answer.headers.get("content-length", 0))}))
    page.goto(f"{service.url}{fleet.path('small')}")
    expect(page.locator(".events li")).to_have_count(10)
    expect(page.locator("canvas").first).to_be_attached()
    page.goto(service.url)
    expect(page.get_by_role("listitem").first).to_be_visible()
    assert all(url.startswith((service.url, "data:")) for url in sizes)
    files = {url: size for url, size in sizes.items() if "/assets/" in url}
    assert len(files) > 15
    assert sum(sizes.values()) < TRANSFER_BYTES, json.dumps(files, indent=1)
