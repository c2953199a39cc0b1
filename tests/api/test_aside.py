"""Questions are computed beside the API process, which goes on without the one that does so."""

import httpx
import psutil

from tests.api.conftest import register
from tests.e2e.service import Service
from tests.waiting import wait_for


def beside(service: Service) -> list[psutil.Process]:
    """The processes that compute for an API process."""
    return [one for one in service.tree() if "api.aside.serving" in " ".join(one.cmdline())]


def test_one_that_is_killed_is_started_again_and_nobody_notices(service: Service, http: httpx.Client) -> None:
    path = f"/systems/{register(http)}/series"
    assert 200 == http.get(path).status_code
    [first] = beside(service)
    first.kill()
    wait_for(lambda: not psutil.pid_exists(first.pid), "the API takes note of it")
    answers = [http.get(path) for _ in range(3)]
    assert [200] * 3 == [answer.status_code for answer in answers], answers[0].text
    [second] = beside(service)
    assert second.nice() > psutil.Process(service.process.pid).nice()


def test_a_page_of_events_asks_for_it_and_a_refusal_comes_through(service: Service, http: httpx.Client) -> None:
    system_id = register(http)
    sent = [{"event_type": "x", "status": "ok", "latency_ms": 1, "payload": {"n": number}} for number in range(30)]
    assert 202 == http.post(f"/systems/{system_id}/events", json={"events": sent}).status_code
    page = http.get(f"/systems/{system_id}/events", params={"limit": 7}).json()
    assert [29 - at for at in range(7)] == [item["payload"]["n"] for item in page["items"]]
    rest = http.get(f"/systems/{system_id}/events", params={"limit": 500, "cursor": page["next"]}).json()
    assert [22 - at for at in range(23)] == [item["payload"]["n"] for item in rest["items"]]
    assert rest["next"] is None
