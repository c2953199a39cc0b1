"""Dead letters as an operator meets them: listed, looked at, sent again after a fix, thrown away."""

import base64
import json

import httpx
import pytest

from tests.e2e.conftest import NewSystem
from tests.e2e.service import Service
from tests.e2e.systems import Json, ObservedSystem, event, events, spoil
from tests.waiting import wait_for

BAD = {"event_type": "success", "status": "fine", "latency_ms": 12}


def letters(http: httpx.Client, system: ObservedSystem, **params: str) -> Json:
    answer = http.get("/dead-letters", params={"system_id": str(system.id), **params})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.fixture
def skipped(system: ObservedSystem) -> ObservedSystem:
    """A system that was sent five bad events among good ones."""
    system.post([event(), *([BAD] * 5)], on_invalid="skip")
    return system


def test_bad_events_of_a_mixed_batch_are_listed_with_their_reason(http: httpx.Client, skipped: ObservedSystem) -> None:
    page = letters(http, skipped, limit="3")
    rest = letters(http, skipped, limit="3", cursor=page["next"])
    found = page["items"] + rest["items"]
    assert [3, 2, None] == [len(page["items"]), len(rest["items"]), rest["next"]]
    assert found == sorted(found, key=lambda one: one["id"], reverse=True)
    assert {("event", "status", 'status must be "ok" or "error"')} == {
        (one["kind"], one["field"], one["reason"]) for one in found
    }


def test_one_is_shown_with_its_bytes(http: httpx.Client, skipped: ObservedSystem) -> None:
    first = letters(http, skipped)["items"][0]
    whole = http.get(f"/dead-letters/{skipped.id}/{first['id']}").json()
    assert BAD == json.loads(whole["text"]) == json.loads(base64.b64decode(whole["event"]))
    assert first.items() <= whole.items()


def test_an_event_that_is_still_bad_stays_where_it_is(http: httpx.Client, skipped: ObservedSystem) -> None:
    first = letters(http, skipped)["items"][0]
    answer = http.post(f"/dead-letters/{skipped.id}/{first['id']}/requeue")
    assert (422, [(0, "status")]) == (
        answer.status_code,
        [(one["index"], one["field"]) for one in answer.json()["errors"]],
    )
    assert 5 == len(letters(http, skipped)["items"])


@pytest.mark.parametrize("body", [True, False], ids=["whose body can be read", "of rubbish alone"])
def test_an_unreadable_entry_goes_to_the_dead_letters_and_may_come_again(
    http: httpx.Client, service: Service, new_system: NewSystem, body: bool
) -> None:
    system = new_system()
    system.take(events(10))
    spoil(service, system, body=body)
    system.take(events(3))
    system.health_with(total=13)
    (letter,) = wait_for(lambda: letters(http, system)["items"], "the entry is among the dead letters")
    assert ("entry", 7) == (letter["kind"], letter["events"])
    where = f"/dead-letters/{system.id}/{letter['id']}"
    answer = http.post(f"{where}/requeue")
    assert (202, 7) == (answer.status_code, answer.json()["accepted"])
    assert 404 == http.post(f"{where}/requeue").status_code == http.get(where).status_code
    if body:
        system.health_with(total=20)
        assert [] == letters(http, system)["items"]
    else:
        (again,) = wait_for(lambda: letters(http, system)["items"], "it is among the dead letters again")
        assert again["id"] != letter["id"]
        assert 13 == system.health()["total"]
    wait_for(lambda: http.get("/autoscale").json()["backlog"]["events"] == 0, "nothing waits")


def test_what_is_thrown_away_is_gone(http: httpx.Client, skipped: ObservedSystem) -> None:
    first = letters(http, skipped)["items"][0]
    where = f"/dead-letters/{skipped.id}/{first['id']}"
    assert [204, 404] == [http.delete(where).status_code, http.delete(where).status_code]
    assert {"purged": 4} == http.delete("/dead-letters", params={"system_id": str(skipped.id)}).json()
    assert {"items": [], "next": None} == letters(http, skipped)


def test_metrics_count_them(http: httpx.Client, skipped: ObservedSystem) -> None:
    def shown() -> list[str]:
        text = http.get("/metrics").text.splitlines()
        return [one for one in text if one.startswith("lso_system_dead_letters{") and f'"{skipped.id}"' in one]

    (line,) = wait_for(shown, "the system has a gauge")
    assert line.endswith(" 5")


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/dead-letters", 422, "system_id"),
        ("/dead-letters?system_id=x", 422, "system_id"),
        ("/dead-letters?system_id=999999", 404, None),
        ("/dead-letters?system_id=1&cursor=x", 422, "cursor"),
        ("/dead-letters?system_id=1&cursor=99999999999999999999-0", 422, "cursor"),
        ("/dead-letters/999999/1-0", 404, None),
    ],
)
def test_what_is_wrong_is_named(
    http: httpx.Client, system: ObservedSystem, path: str, status: int, field: str | None
) -> None:
    answer = http.get(path)
    assert (status, field) == (
        answer.status_code,
        next((one["field"] for one in answer.json().get("errors", [])), None),
    )


def test_before_the_first_id_there_is_none(http: httpx.Client, system: ObservedSystem) -> None:
    assert [] == letters(http, system, cursor="0-0")["items"]


def test_an_id_that_is_none_is_named(http: httpx.Client, system: ObservedSystem) -> None:
    answer = http.get(f"/dead-letters/{system.id}/latest")
    assert (422, "letter_id") == (answer.status_code, answer.json()["errors"][0]["field"])
