"""`lso rebuild`."""

import json

import httpx

from tests.cli.conftest import RunLso


def sent(http: httpx.Client, lso: RunLso, name: str) -> int:
    """A system with one event."""
    system_id = int(lso("systems", "add", name).stdout)
    one = {"event_type": "success", "status": "ok", "latency_ms": 5}
    assert 202 == http.post(f"/systems/{system_id}/events", json={"events": [one]}).status_code
    return system_id


def test_each_named_system_gets_a_sentence(http: httpx.Client, lso: RunLso, name: str) -> None:
    first, second = sent(http, lso, name), sent(http, lso, f"{name}-b")
    done = lso("rebuild", name, str(second))
    assert (0, "") == (done.returncode, done.stderr)
    head, *_ = lines = done.stdout.splitlines()
    assert 2 == len(lines)
    assert head.startswith(f"system {first}: ")
    assert head.endswith(" slots replaced (0 of them different), 0 kept, 0 lost")


def test_all_of_them_an_object_a_line(http: httpx.Client, lso: RunLso, name: str) -> None:
    system_id = sent(http, lso, name)
    done = lso("rebuild", "--all", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert (0, {"done"}, 1) == (
        done.returncode,
        {one["progress"] for one in found},
        sum(one["system_id"] == system_id for one in found),
    )


def test_which_ones_must_be_said(lso: RunLso, name: str) -> None:
    for words in ((), ("--all", name)):
        wrong = lso("rebuild", *words)
        assert 2 == wrong.returncode
        assert "name systems, or say --all" in wrong.stderr


def test_an_unknown_system_is_refused(lso: RunLso) -> None:
    unknown = lso("rebuild", "999999")
    assert (2, "") == (unknown.returncode, unknown.stdout)
    assert unknown.stderr.startswith("lso: LSO answered 404")
