"""The documentation works with no connection to anywhere, and says what is true."""

import json
import re
import shutil
import subprocess
import tempfile
from typing import Any

import httpx
import jsonschema_rs
import pytest
from litestar import Litestar

from api import openapi
from api.app import ROUTES
from api.routes.dashboard import get_asset, get_page
from api.routes.docs import get_docs, get_docs_file, get_schema
from tests.api.conftest import EVENT, register
from tests.e2e.service import Service
from tests.waiting import wait_for

UNLISTED = {"/", "/assets/{version}/{path}", "/docs", "/docs/{name}", "/schema/openapi.json"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi.document()


def test_every_route_is_documented_and_nothing_else(document: dict[str, Any]) -> None:
    app = Litestar(list(ROUTES), openapi_config=None)
    routes = {
        (re.sub(r":\w+\}", "}", path), method)
        for handler in app.route_handler_method_map
        for path in [handler]
        for method in app.route_handler_method_map[handler]
        if method != "OPTIONS"
    }
    documented = {
        (path, method.upper()) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    assert {(path, method) for path, method in routes if path not in UNLISTED} == documented
    assert UNLISTED == {
        path
        for handler in (get_page, get_asset, get_docs, get_docs_file, get_schema)
        for path in re.sub(r":\w+\}", "}", next(iter(handler.paths))).split()
    }


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for item in document["paths"].values() for name, one in item.items() if name != "parameters"]


def test_every_operation_has_its_errors_and_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [one["operationId"] for one in operations(document)]
    assert len(names) == len(set(names))
    for one in operations(document):
        assert {"400", "500"} <= set(one["responses"]), one["operationId"]


def resolver(document: dict[str, Any]) -> Any:
    """Checks a value against a schema of the document."""

    def check(schema: dict[str, Any], value: Any) -> None:
        whole = {**schema, "components": document["components"]}
        jsonschema_rs.validator_for(whole).validate(value)

    return check


def test_every_example_is_valid(document: dict[str, Any]) -> None:
    check, checked = resolver(document), 0
    answers = [answer for one in operations(document) for answer in one["responses"].values()]
    bodies = [one["requestBody"] for one in operations(document) if "requestBody" in one]
    for holder in [*answers, *bodies, *document["components"]["responses"].values()]:
        for content in holder.get("content", {}).values():
            examples = [one["value"] for one in content.get("examples", {}).values()]
            for example in [*examples, *([content["example"]] if "example" in content else [])]:
                check(content["schema"], example)
                checked += 1
    assert checked > 25


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    for found in re.findall(r"#/components/(\w+)/([\w-]+)", openapi.document_bytes().decode()):
        assert found[1] in document["components"][found[0]]


def test_the_document_is_openapi_3_1_and_served(http: httpx.Client, document: dict[str, Any]) -> None:
    answer = http.get("/schema/openapi.json")
    assert (200, "application/json") == (answer.status_code, answer.headers["content-type"])
    assert json.loads(openapi.document_bytes()) == answer.json()
    assert "3.1.0" == document["openapi"]


def test_real_answers_are_as_documented(http: httpx.Client, document: dict[str, Any]) -> None:
    check = resolver(document)
    system_id = register(http)
    base = f"/systems/{system_id}"
    http.post(
        f"{base}/events", json={"events": [{**EVENT, "stage": "a", "payload": {"n": 1}}, {**EVENT, "status": "error"}]}
    )
    wait_for(lambda: http.get(f"{base}/health").json()["total"] == 2, "the events are folded")
    for path, template in {
        "/systems": "/systems",
        base: "/systems/{system_id}",
        f"{base}/events": "/systems/{system_id}/events",
        f"{base}/health": "/systems/{system_id}/health",
        f"{base}/metrics": "/systems/{system_id}/metrics",
        f"{base}/series": "/systems/{system_id}/series",
        f"{base}/slo?objective=99": "/systems/{system_id}/slo",
        f"/series?systems={system_id}&metric=p50": "/series",
        "/health": "/health",
        "/autoscale": "/autoscale",
        "/healthz": "/healthz",
        "/readyz": "/readyz",
    }.items():
        schema = document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        answer = http.get(path).json()
        check(schema, answer)
        properties = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]["properties"]
        assert set(properties) == set(answer), path


def test_the_page_asks_no_address_outside(http: httpx.Client) -> None:
    page = http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "http" not in page.text.replace("http-equiv", "").replace("HTTP", "")
    assert re.search(r"<script(?![^>]*src=)", page.text) is None
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    for source in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        answer = http.get(source)
        assert 200 == answer.status_code
        assert "@import" not in answer.text[:1_000]
    assert "validatorUrl: null" in http.get("/docs/start.js").text


@pytest.mark.browser
def test_a_browser_shows_the_operations(service: Service) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("there is no Chromium")
    with tempfile.TemporaryDirectory() as home:
        command = [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={home}",
            "--virtual-time-budget=15000", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--dump-dom", f"{service.url}/docs",
        ]  # fmt: skip
        shown = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False).stdout
    assert "Send a batch of events" in shown
    assert "Failed to load" not in shown
