"""Everything that is stored in a format of ours: what this release writes of one history, and how each is read.

`files/KIND-NUMBER` is what the release that brought that number wrote, `files/KIND-NUMBER.json` what must be read from it
for ever. `python -m tests.golden` adds the files of this release that are missing; it never changes one.
"""

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from lso_core.compute import cells, columns, parts, rollups, runs, state
from lso_core.compute.columns import BodyKind
from lso_core.compute.fold import Arrival, fold, unwritten
from lso_core.compute.libraries import arrow
from lso_core.compute.readback import Reading, Wanted
from lso_core.compute.rollups import ROLLUP_FORMAT
from lso_core.compute.run_events import SUMMED, Piece, Said
from lso_core.compute.run_ids import RunIds
from lso_core.compute.summarize import summarize
from lso_core.model import snapshots, times
from lso_core.model.batches import StoredEntry
from lso_core.model.errors import Finding
from lso_core.model.events import Event
from lso_core.model.health import Thresholds
from lso_core.model.rollups import Width
from lso_core.model.runs import Limits
from lso_core.model.systems import System, SystemSpec
from lso_core.store import dead_letters, registry

FOLDER: Final = Path(__file__).parent / "files"
AT_MS: Final = 1_765_722_790_601
SYSTEM: Final = System(
    system_id=7,
    name="nightly-löad",
    description="what it is",
    tags=("a", "b"),
    window_seconds=300,
    thresholds=Thresholds(),
    created_at="2025-12-14T14:00:00.000Z",
)
EVENTS: Final = (
    Event("success", "ok", 12.5, ts="2025-12-14T14:33:10.529Z", stage="extract", run_id="r1"),
    Event("success", "ok", 0.001, ts="2025-12-14T14:32:59.000Z", stage="löad", run_id="r1", payload={"rows": 3}),
    Event("failure", "error", 604_800_000.0, stage="extract"),
    Event("start", "ok"),
    Event("success", "ok", 7.25, ts="2025-12-14T10:00:00.000Z"),
    Event("success", "ok", 8.0, ts="2025-12-14T14:33:30.000Z"),
)
FINDING: Final = Finding(0, "status", 'status must be "ok" or "error"')
BODIES: Final = {
    BodyKind.JSON: b'{"events": %s}' % msgspec.json.encode(EVENTS),
    BodyKind.NDJSON: b"\n".join(msgspec.json.encode(event) for event in EVENTS),
}

Json = dict[str, Any]

_UNNUMBERED: Final = {"details": 1, "fleet-line": 2, "record": 1, "registry": 1, "letter-event": 1, "letter-entry": 1}
"""Kinds that carry no number; one that is written otherwise than before gets the next here."""


def current() -> Mapping[str, int]:
    """The number of each kind that this release writes."""
    numbers = {
        "columns": columns.FORMAT,
        "meta": state.STATE_FORMAT,
        "slot": state.STATE_FORMAT,
        "rollup": ROLLUP_FORMAT,
        "run": runs.RUN_FORMAT,
        "run-tally": runs.RUN_FORMAT,
    }
    bodies = {f"body-{kind.name.lower()}": 1 for kind in BodyKind}
    return {**numbers, **bodies, "snapshot": snapshots.VERSION, **_UNNUMBERED}


def written() -> dict[str, bytes]:
    """What this release writes, by kind."""
    cut = columns.cut(EVENTS)
    folded = fold(state.State(), [Arrival(AT_MS, columns.block_of(cut))], SYSTEM.window, AT_MS + 1)
    judged, summary = summarize(folded.state, SYSTEM)
    before = registry.Record(b"", "L", times.from_text(SYSTEM.created_at), 2, SystemSpec(name="before"))
    return {
        "columns": columns.encode(cut),
        "meta": state.encode_meta(judged.meta),
        "slot": max(judged.slots.items())[1],
        "rollup": rollups.encode(rollups.merge([*folded.rows, *unwritten(judged.meta, judged.opened())], Width.DAY)[0]),
        "run": runs.encode_run(_runs().watched["r1"]),
        "run-tally": runs.encode_tally(_runs().tally),
        **{f"body-{kind.name.lower()}": columns.pack_body(text, kind) for kind, text in BODIES.items()},
        "body-parts": columns.pack_body(_parts(), BodyKind.PARTS),
        "body-arrow": columns.pack_body(_arrow_rows(), BodyKind.ARROW),
        "snapshot": snapshots.encode(summary),
        "details": snapshots.encode_details(summary),
        "fleet-line": snapshots.fleet_line(summary, SYSTEM),
        "record": registry.stored(SYSTEM),
        "registry": registry._changed(before, SYSTEM).raw,
        "letter-event": _fields(at=b"%d" % AT_MS, reason=msgspec.json.encode(FINDING), event=b'{"status": "fine"}'),
        "letter-entry": _fields(entry=b"5-1", reason=b"cut off", at=b"%d" % AT_MS, n=b"6", c=b"LSO cut", b=b"body"),
    }


def _parts() -> bytes:
    """The same events in parts, each with a run id and a payload, as batches have them that are written alike."""
    payloads = msgspec.json.encode([event.payload for event in EVENTS])
    latencies_ms = np.array([event.latency_ms for event in EVENTS], "<f8")  # None becomes NaN
    return msgspec.msgpack.encode(parts.Parts(b"r1r1r2r2r3r4", 2, payloads, latencies_ms.tobytes()))


def _runs() -> runs.Runs:
    """The runs of the events, and of an end."""
    events = [*EVENTS, Event("end", "error", 15.0, ts="2025-12-14T14:33:10.600Z", run_id="r1")]
    cut = columns.cut(events)
    planned = runs.plan(runs.Runs(), [Arrival(AT_MS, columns.block_of(cut), "5-1")])
    assert planned is not None
    numbers = np.full((len(SUMMED), 2), np.nan)
    numbers[0, 0] = 3
    said = Said(np.array([1, 6]), numbers, {6: "what went wrong"})
    folded = runs.fold(runs.Runs(), planned, [Piece("5-1", AT_MS, cut, said)], [], {})
    return runs.advance(runs.Runs(), folded, AT_MS + 1, Limits()).runs


def _arrow_rows() -> bytes:
    """The rows of an Arrow body, as an API process packs them."""
    import pyarrow as pa

    packed: bytes = arrow().pack(
        [
            pa.record_batch(
                {
                    "run_id": [event.run_id for event in EVENTS],
                    "payload": [None, '{"rows": 3}', None, None, None, None],
                }
            )
        ],
        ["run_id", "payload"],
    )
    return packed


def _fields(**fields: bytes) -> bytes:
    """The fields of a stream's entry, in a file."""
    return json.dumps({name: base64.b64encode(value).decode() for name, value in fields.items()}).encode()


def read(kind: str, data: bytes) -> Json:
    """What is read from a stored value, as JSON."""
    found: Json = json.loads(msgspec.json.encode(_READERS[kind](data)))
    return found


def _columns(data: bytes) -> Json:
    cut = columns.decode(data)
    found = {field: getattr(cut, field) for field in cut.__struct_fields__ if field != "runs"}
    plain = {name: value if isinstance(value, tuple) else value.tolist() for name, value in found.items()}
    return plain | {"runs": None if cut.runs is None else _run_ids(cut.runs)}


def _run_ids(told: RunIds) -> Json:
    return {"ids": told.ids, "makers": told.makers.tolist(), "number": told.number.tolist(), "whole": told.whole}


def _slot(data: bytes) -> Json:
    slot = state.decode_slot(data)
    return {
        "cells": _cells(slot.cells),
        "error_cells": _cells(slot.error_cells),
        "stages": slot.stages,
        "event_types": slot.event_types,
        "late": slot.late,
        "clock_skewed": slot.clock_skewed,
    }


def _cells(packed: bytes) -> list[tuple[int, int]]:
    keys, counts = cells.unpack(packed)
    return list(zip(keys.tolist(), counts.tolist(), strict=True))


def _rollup(data: bytes) -> Json:
    row = rollups.decode(data)
    columns_of = (row.index.tolist(), row.stage.tolist(), row.count.tolist(), row.errors.tolist())
    return {
        "start_ms": row.start_ms,
        "width": row.width,
        "stages": row.stages,
        "cells": list(zip(*columns_of, strict=True)),
        "event_types": row.event_types,
        "revised": row.revised,
    }


def _tally(data: bytes) -> Json:
    tally = runs.decode_tally(data)
    return {**msgspec.structs.asdict(tally), "keys": tally.keys.tolist(), "cells": tally.cells.tolist()}


def _body(data: bytes) -> Json:
    """The events of a body, read back beside their columns."""
    reading = Reading(SYSTEM.system_id, Wanted(), None, 100)
    reading.feed([StoredEntry("5-1", AT_MS, len(EVENTS), columns.encode(columns.cut(EVENTS)), data)])
    return {"events": reading.items, "unreadable": reading.unreadable}


def _snapshot(data: bytes) -> Json:
    answer = snapshots.answer(data, AT_MS, AT_MS, 15_000)
    late = snapshots.answer(data, AT_MS, AT_MS + 20_000, 15_000)
    return {"health": answer.health.name, "answer": json.loads(answer.body), "late": late.health.name}


def _letter(data: bytes) -> Json:
    fields = {name.encode(): base64.b64decode(value) for name, value in json.loads(data).items()}
    letter = dead_letters._letter(SYSTEM.system_id, b"9-1", fields)
    builtins: Json = msgspec.to_builtins(letter)
    return builtins


_READERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "columns": _columns,
    "meta": lambda data: msgspec.structs.asdict(state.decode_meta(data)),
    "slot": _slot,
    "rollup": _rollup,
    "run": lambda data: {**msgspec.structs.asdict(run := runs.decode_run(data)), "seen": run.seen.hex()},
    "run-tally": _tally,
    **dict.fromkeys((f"body-{kind.name.lower()}" for kind in BodyKind), _body),
    "snapshot": _snapshot,
    "details": lambda data: json.loads(b"{%s}" % data),
    "fleet-line": snapshots._fleet_line.decode,
    "record": registry.read_system,
    "registry": lambda data: registry.Record.parse(data).system(SYSTEM.system_id),
    "letter-event": _letter,
    "letter-entry": _letter,
}
