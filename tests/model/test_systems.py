"""Systems: what may be said of one, and how a change is applied."""

import msgspec
import pytest

from lso_core.model.errors import InputError
from lso_core.model.health import Level, Thresholds
from lso_core.model.systems import DESCRIPTION_BYTES, TAGS, System, SystemPatch, SystemSpec

SYSTEM = System(
    system_id=7,
    name="weather",
    description="",
    tags=("etl",),
    window_seconds=300,
    thresholds=Thresholds(),
    created_at="2025-12-14T14:33:10.529Z",
)


def fields_refused(spec: SystemSpec) -> list[str]:
    try:
        spec.check()
    except InputError as error:
        return [finding.field for finding in error.findings]
    return []


def test_a_name_is_enough() -> None:
    spec = msgspec.json.decode(b'{"name": "weather"}', type=SystemSpec)
    spec.check()
    assert spec == SystemSpec(name="weather", description="", tags=(), window_seconds=None, thresholds=Thresholds())


def test_texts_are_measured_in_bytes_not_in_characters() -> None:
    assert fields_refused(SystemSpec(name="é" * 100)) == []
    assert fields_refused(SystemSpec(name="é" * 101)) == ["name"]
    assert fields_refused(SystemSpec(name="ok", tags=("fine", "\N{SNOWMAN}" * 67))) == ["tags[1]"]
    assert fields_refused(SystemSpec(name="ok", description="é" * (DESCRIPTION_BYTES // 2))) == []
    assert fields_refused(SystemSpec(name="ok", description="é" * (DESCRIPTION_BYTES // 2 + 1))) == ["description"]


@pytest.mark.parametrize("name", [" ", "\t\n", "\N{EM SPACE}"])
def test_a_blank_name_is_refused(name: str) -> None:
    assert fields_refused(SystemSpec(name=name)) == ["name"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": ""}',
        b"{}",
        b'{"name": "a", "colour": "red"}',
        b'{"name": "a", "window_seconds": 59}',
        b'{"name": "a", "window_seconds": 3601}',
        b'{"name": "a", "window_seconds": 300.5}',
        b'{"name": "a", "tags": [""]}',
        b'{"name": "a", "tags": [' + b",".join([b'"t"'] * (TAGS + 1)) + b"]}",
        b'{"name": "a", "thresholds": {"error_rat": {}}}',
        b'{"name": "a", "thresholds": {"error_rate": {"warn": "high"}}}',
        b'{"name": 5}',
    ],
)
def test_these_describe_no_system(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=SystemSpec)


@pytest.mark.parametrize(("seconds", "refused"), [(60, []), (65, []), (3_600, []), (61, ["window_seconds"])])
def test_a_window_is_a_whole_number_of_slots(seconds: int, refused: list[str]) -> None:
    assert fields_refused(SystemSpec(name="a", window_seconds=seconds)) == refused


def test_a_patch_changes_what_it_names_and_nothing_else() -> None:
    patch = msgspec.json.decode(b'{"description": "hourly", "window_seconds": 600}', type=SystemPatch)
    assert patch.apply(SYSTEM) == msgspec.structs.replace(SYSTEM, description="hourly", window_seconds=600)


def test_an_empty_patch_changes_nothing() -> None:
    assert msgspec.json.decode(b"{}", type=SystemPatch).apply(SYSTEM) == SYSTEM


def test_a_patch_replaces_the_thresholds_as_a_whole() -> None:
    before = msgspec.structs.replace(SYSTEM, thresholds=Thresholds(p95_latency=Level(100.0, 200.0), min_events=50))
    patch = msgspec.json.decode(b'{"thresholds": {"error_rate": {"warn": 0.1}}}', type=SystemPatch)
    assert patch.apply(before).thresholds == Thresholds(error_rate=Level(warn=0.1, crit=None))


@pytest.mark.parametrize(
    "patch",
    [
        SystemPatch(name=" "),
        SystemPatch(window_seconds=61),
        SystemPatch(thresholds=Thresholds(error_rate=Level(0.5, 0.1))),
        SystemPatch(tags=("é" * 101,)),
    ],
)
def test_a_patch_is_checked_like_a_new_system(patch: SystemPatch) -> None:
    with pytest.raises(InputError):
        patch.apply(SYSTEM)


@pytest.mark.parametrize("body", [b'{"system_id": 8}', b'{"created_at": "x"}', b'{"name": null}', b'{"name": ""}'])
def test_a_patch_cannot_name_what_is_not_to_be_changed(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=SystemPatch)
