"""`lso dead-letters`."""

import json

import httpx
import pytest

from tests.cli.conftest import RunLso
from tests.e2e.service import Service
from tests.e2e.systems import accepted, register, spoil
from tests.waiting import wait_for

GOOD = {"event_type": "success", "status": "ok", "latency_ms": 12}
BAD = GOOD | {"status": "fi\x1b[31mne"}


@pytest.fixture
def system(http: httpx.Client, name: str) -> str:
    """The name of a system with three dead letters."""
    accepted(register(http, name=name).post([GOOD, BAD, BAD, BAD], on_invalid="skip"))
    return name


def ids(lso: RunLso, system: str) -> list[str]:
    return [one["id"] for one in json.loads(lso("dead-letters", "list", system, "--json").stdout)]


def test_they_are_listed_and_shown_without_what_steers_a_terminal(lso: RunLso, system: str) -> None:
    listed = lso("dead-letters", "list", system)
    head, *rows = listed.stdout.splitlines()
    assert (0, 3) == (listed.returncode, len(rows))
    assert head.split() == ["id", "at", "kind", "events", "bytes", "field", "reason"]
    first, *_ = found = ids(lso, system)
    assert rows[0].startswith(first)
    assert [first] == [
        one["id"] for one in json.loads(lso("dead-letters", "list", system, "--limit", "1", "--json").stdout)
    ]
    shown = lso("dead-letters", "show", system, first)
    assert 0 == shown.returncode
    assert 'status must be "ok" or "error"' in shown.stdout
    assert "\x1b" not in shown.stdout
    assert BAD == json.loads(json.loads(lso("dead-letters", "show", system, first, "--json").stdout)["text"])
    assert 3 == len(found)


def test_what_is_still_wrong_stays_and_is_named(lso: RunLso, system: str) -> None:
    first = ids(lso, system)[0]
    done = lso("dead-letters", "requeue", system, first)
    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith(f"lso: {first}: LSO answered 422: ")
    assert 3 == len(ids(lso, system))


def test_what_can_be_read_is_taken_and_gone_from_there(
    http: httpx.Client, service: Service, lso: RunLso, name: str
) -> None:
    """An entry whose columns are damaged, while what was sent is still there."""
    system = register(http, name=name)
    spoil(service, system, body=True)
    (letter,) = wait_for(lambda: ids(lso, name), "the entry is among the dead letters")
    done = lso("dead-letters", "requeue", name, "--all")
    assert (0, f"{letter}: 7 events taken\n") == (done.returncode, done.stdout)
    assert [] == ids(lso, name)
    system.health_with(total=7)


def test_thrown_away_after_a_question(lso: RunLso, system: str) -> None:
    first, *rest = ids(lso, system)
    assert 2 == lso("dead-letters", "purge", system, first).returncode
    assert "1 thrown away\n" == lso("dead-letters", "purge", system, first, "--yes").stdout
    assert rest == ids(lso, system)
    assert "2 thrown away\n" == lso("dead-letters", "purge", system, "--all", "--yes").stdout
    assert [] == ids(lso, system)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("requeue",), "name letters by their ids, or say --all"),
        (("purge", "1-0", "--all", "--yes"), "name letters by their ids, or say --all"),
        (("show", "../health"), "is no id of a dead letter"),
        (("show", "1-0"), "has no dead letter 1-0"),
        (("show", "latest"), "two numbers with a hyphen"),
    ],
)
def test_what_is_wrong_is_said(http: httpx.Client, lso: RunLso, name: str, words: tuple[str, ...], said: str) -> None:
    command, *rest = words
    wrong = lso("dead-letters", command, str(register(http, name=name).id), *rest)
    assert 2 == wrong.returncode
    assert said in wrong.stderr
