"""Who gets the dashboard's page and who gets JSON, and how its files are sent."""

import gzip
import re
from collections.abc import Callable

import httpx
import pytest

from api.routes.dashboard import assets, page
from tests.e2e.service import Service

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
TRANSFER_BYTES = 110_000
"""Of page and files together, compressed; what they show takes the rest of 120 KB."""


@pytest.mark.parametrize("accept", [BROWSER, "text/html", "TEXT/HTML;q=0.9, application/json;q=0.5"])
def test_a_browser_gets_the_page_of_a_system(http: httpx.Client, system_id: int, accept: str) -> None:
    answer = http.get(f"/systems/{system_id}", headers={"Accept": accept})
    assert (200, "text/html; charset=utf-8") == (answer.status_code, answer.headers["content-type"])
    assert http.get("/").text == answer.text


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "text/html;q=0.5, application/json", "text/html;q=0", "text/html;q=x", ""]
)
def test_everybody_else_gets_json(http: httpx.Client, system_id: int, accept: str) -> None:
    answer = http.get(f"/systems/{system_id}", headers={"Accept": accept})
    assert (200, system_id) == (answer.status_code, answer.json()["system_id"])


def test_caches_are_told_that_there_are_two_answers(http: httpx.Client, system_id: int) -> None:
    for path in (f"/systems/{system_id}", "/systems/999999999"):
        for accept in (BROWSER, "application/json"):
            assert "accept" in http.get(path, headers={"Accept": accept}).headers["vary"].split(", "), (path, accept)


def test_only_reading_is_negotiated(http: httpx.Client, system_id: int) -> None:
    assert 200 == http.head(f"/systems/{system_id}", headers={"Accept": BROWSER}).status_code
    for path in (f"/systems/{system_id}/health", "/systems", "/health"):
        assert http.get(path, headers={"Accept": BROWSER}).headers["content-type"].startswith("application/json")
    answer = http.patch(f"/systems/{system_id}", headers={"Accept": BROWSER}, json={"description": "changed"})
    assert "changed" == answer.json()["description"]
    assert 204 == http.delete(f"/systems/{system_id}", headers={"Accept": BROWSER}).status_code


def test_the_page_needs_no_key_and_shows_nothing_that_would(
    keyed: Service, as_role: Callable[[str], httpx.Client]
) -> None:
    system_id = as_role("admin").post("/systems", json={"name": "secret-name"}).json()["system_id"]
    nobody = as_role("")
    answer = nobody.get(f"/systems/{system_id}", headers={"Accept": BROWSER})
    assert (200, page()[0].plain.decode()) == (answer.status_code, answer.text)
    assert 401 == nobody.get(f"/systems/{system_id}").status_code
    for path in re.findall(r'(?:src|href)="(/assets/[^"]+)"', answer.text):
        assert 200 == nobody.get(path).status_code


def test_the_policy_allows_nothing_from_elsewhere(http: httpx.Client) -> None:
    answer = http.get("/")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert ("'none'", "'self'", "'self'", "'none'") == tuple(
        policy[name] for name in ("default-src", "style-src", "connect-src", "frame-ancestors")
    )
    assert re.fullmatch(r"'self' 'sha256-[A-Za-z0-9+/=]{44}'", policy["script-src"])
    assert "http" not in answer.text
    for path, asset in assets().items():
        if not path.startswith("vendor/"):
            assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)", asset.plain), path


def test_files_are_compressed_kept_for_good_and_known_by_their_tag(http: httpx.Client) -> None:
    url = re.findall(r'src="(/assets/[^"]+/app\.js)"', http.get("/").text)[0]
    packed = http.get(url, headers={"Accept-Encoding": "gzip"})
    plain = http.get(url, headers={"Accept-Encoding": "identity"})
    assert ("gzip", "public, max-age=31536000, immutable", "nosniff") == tuple(
        packed.headers[name] for name in ("content-encoding", "cache-control", "x-content-type-options")
    )
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert plain.content == packed.content == assets()["app.js"].plain
    assert gzip.decompress(assets()["app.js"].gzipped) == plain.content
    again = http.get(url, headers={"If-None-Match": plain.headers["etag"]})
    assert (304, b"") == (again.status_code, again.content)
    older = http.get(re.sub(r"/assets/\w+/", "/assets/0123456789ab/", url))
    assert (200, "no-cache") == (older.status_code, older.headers["cache-control"])


def test_the_page_is_asked_for_each_time_and_sent_only_where_it_is_new(http: httpx.Client) -> None:
    first = http.get("/")
    assert "no-cache" == first.headers["cache-control"]
    assert 304 == http.get("/", headers={"If-None-Match": first.headers["etag"]}).status_code


@pytest.mark.parametrize(
    "path",
    ["nothing.js", "../app.py", "%2e%2e/app.py", "index.html", "types.d.ts", "vendor", "", "vendor/../../app.py"],
)
def test_there_are_no_other_files(http: httpx.Client, path: str) -> None:
    assert 404 == http.get(f"/assets/x/{path}").status_code


def test_all_of_it_is_small() -> None:
    sizes = {name: len(asset.gzipped) for name, asset in assets().items() if not name.endswith("LICENSE")}
    assert len(page()[0].gzipped) + sum(sizes.values()) < TRANSFER_BYTES, sizes


def test_vendored_files_have_their_licence_beside_them() -> None:
    names = {name.removeprefix("vendor/") for name in assets() if name.startswith("vendor/")}
    assert {"preact.LICENSE", "htm.LICENSE", "uPlot.LICENSE"} <= names
    assert {"preact.mjs", "hooks.mjs", "htm.mjs", "htm-preact.mjs", "uPlot.iife.min.js", "uPlot.min.css"} <= names
