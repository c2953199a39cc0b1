"""Record batches to columns, by whole arrays: the rules of an event where they can be held against all of them at once."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lso_core.compute import payloads, run_ids, timestamps
from lso_core.compute.arrow.sheet import column_of
from lso_core.compute.arrow.texts import codes_of, texts_of, valid_of
from lso_core.compute.columns import Bools, Columns, to_us
from lso_core.compute.packing import Ints
from lso_core.compute.run_ids import Numbers, RunIds
from lso_core.model import times
from lso_core.model.events import LATENCY_MS_MAX, NAME_BYTES
from lso_core.model.runs import LIFE

Floats = npt.NDArray[np.float64]

UNIT_S: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""How many of a timestamp's units make a second."""
_TS_BYTES: Final = 40
"""No RFC 3339 text that is read is longer."""
_STATUSES: Final = {"ok": 0, "error": 1}


class DoubtError(Exception):
    """It is not certain that every event is good."""


def cut(batches: list[Any], system_id: int) -> tuple[Columns, Floats]:
    """The columns of the events, and their latencies as they came. Raises DoubtError."""
    stages, event_types = Numbers({None: 0}), Numbers()
    parts = [_cut_one(batch, system_id, stages, event_types) for batch in batches]
    whole = parts[0] if len(parts) == 1 else [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    ts_ms, has_ts, latency_ms, has_latency, error, stage, event_type = whole
    types = tuple(name for name in event_types if name is not None)
    columns = Columns(
        ts_ms,
        has_ts,
        to_us(latency_ms, has_latency),
        has_latency,
        error,
        stage,
        event_type,
        tuple(name for name in stages if name is not None),
        types,
        _run_ids(batches, stage, event_type, types),
    )
    return columns, latency_ms


def _run_ids(batches: list[Any], stage: Ints, event_type: Ints, event_types: tuple[str, ...]) -> RunIds | None:
    """The run ids of the events; `run_ids.cut` says which are told."""
    found = (column_of(batch, "run_id") for batch in batches)
    columns = [column for column in found if column is not None]
    if not columns:  # one schema for all: either every batch has it or none
        return None
    makers = run_ids.makers_of(stage, event_type, event_types)
    encoded = [one if pa.types.is_dictionary(one.type) else one.dictionary_encode() for one in columns]
    distinct = sum(len(one.dictionary) for one in encoded)
    if LIFE.isdisjoint(event_types) and not run_ids.repeat(distinct, len(stage)):
        makers = makers[-run_ids.MOST_OUTCOMES :]
        return run_ids.of_makers(makers, _at(columns, makers))
    numbers = Numbers({None: 0})
    number = np.concatenate([_names(one, numbers, len(one)) for one in encoded])
    return run_ids.of_all(numbers, number, makers)


def _at(columns: list[Any], places: Ints) -> list[str | None]:
    """The texts at some places of columns that follow one another."""
    texts = pa.chunked_array([one.cast(pa.string()) for one in columns])
    taken: list[str | None] = texts.take(pa.array(places)).to_pylist()
    return taken


def _cut_one(batch: Any, system_id: int, stages: Numbers, event_types: Numbers) -> list[npt.NDArray[Any]]:
    ids = column_of(batch, "system_id")
    if ids is not None and not pc.all(pc.equal(ids, pa.scalar(system_id, ids.type)), min_count=0).as_py():
        raise DoubtError
    _check_run_ids(column_of(batch, "run_id"))
    _check_payloads(column_of(batch, "payload"))
    ts_ms, has_ts = _times(column_of(batch, "ts"), batch.num_rows)
    latency_ms, has_latency = _latencies(column_of(batch, "latency_ms"), batch.num_rows)
    statuses = Numbers()
    error = _names(column_of(batch, "status"), statuses, batch.num_rows)
    if not statuses.keys() <= _STATUSES.keys():
        raise DoubtError
    is_error = np.array([_STATUSES[str(name)] for name in statuses], np.bool_)[error]
    stage = _names(column_of(batch, "stage"), stages, batch.num_rows)
    event_type = _names(column_of(batch, "event_type"), event_types, batch.num_rows)
    return [ts_ms, has_ts, latency_ms, has_latency, is_error, stage, event_type]


def _names(column: Any | None, numbers: Numbers, rows: int) -> Ints:
    """Each row's name by its number; `numbers` has one for None where a name may be absent."""
    if column is None:
        if None not in numbers:
            raise DoubtError
        return np.zeros(rows, np.int64)
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes, valid = codes_of(encoded)
    names = texts_of(encoded.dictionary)
    size = len(names.start)
    codes[~valid] = size  # a place of its own for null
    used = _in_order(codes, size + 1)
    number_of = np.zeros(size + 1, np.int64)
    for code in used.tolist():
        number_of[code] = numbers[_name(names.at(code) if code < size else None, numbers)]
    return number_of[codes]


def _name(text: memoryview | None, numbers: Numbers) -> str | None:
    if None not in numbers if text is None else not 0 < len(text) <= NAME_BYTES:
        raise DoubtError
    return None if text is None else str(text, "utf-8")


def _in_order(codes: Ints, size: int) -> Ints:
    """The codes that occur, by where each does first."""
    first = np.full(size, len(codes))
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of those that meet, the last is kept
    used = np.flatnonzero(first < len(codes))
    return used[np.argsort(first[used])]


def _check_run_ids(column: Any | None) -> None:
    if column is None:
        return
    kept = column.dictionary if pa.types.is_dictionary(column.type) else column
    if not texts_of(kept).are_within(1, NAME_BYTES):
        raise DoubtError


def _times(column: Any | None, rows: int) -> tuple[Ints, Bools]:
    if column is None:
        return np.zeros(rows, np.int64), np.zeros(rows, np.bool_)
    has_ts = valid_of(column)
    if not pa.types.is_timestamp(column.type):
        return _parsed(column, has_ts)
    ts_ms = to_ms(column)
    if len(ts_ms) and not times.EARLIEST_MS <= int(ts_ms.min()) <= int(ts_ms.max()) <= times.LATEST_MS:
        raise DoubtError
    return ts_ms, has_ts


def to_ms(column: Any) -> Ints:
    """Milliseconds of timestamps, cut off towards the past; 0 where null. Raises DoubtError beyond 64 bits."""
    numbers = column.cast(pa.int64())
    if numbers.null_count:
        numbers = numbers.fill_null(0)
    units: Ints = np.asarray(numbers.to_numpy(zero_copy_only=False), np.int64)
    per_s = UNIT_S[column.type.unit]
    if per_s > 1_000:
        return units // (per_s // 1_000)
    if per_s == 1 and (np.abs(units) > times.LATEST_MS).any():
        raise DoubtError
    return units * (1_000 // per_s)


def _parsed(column: Any, has_ts: Bools) -> tuple[Ints, Bools]:
    texts = texts_of(column)
    if not texts.are_within(1, _TS_BYTES):
        raise DoubtError
    given = [str(text, "utf-8") for row in range(len(has_ts)) if (text := texts.at(row)) is not None]
    ts_ms = np.zeros(len(has_ts), np.int64)
    try:
        ts_ms[texts.valid] = timestamps.parse(given)
    except ValueError:
        raise DoubtError from None
    return ts_ms, texts.valid


def _latencies(column: Any | None, rows: int) -> tuple[Floats, Bools]:
    """Milliseconds, NaN where null."""
    if column is None:
        return np.full(rows, np.nan), np.zeros(rows, np.bool_)
    has_latency = valid_of(column)
    values = column.cast(pa.float64(), safe=False)
    latency_ms: Floats = np.asarray(values.to_numpy(zero_copy_only=False), np.float64)
    given = latency_ms if has_latency.all() else latency_ms[has_latency]
    if not ((given >= 0) & (given <= LATENCY_MS_MAX)).all():  # also where one is NaN
        raise DoubtError
    return latency_ms, has_latency


def _check_payloads(column: Any | None) -> None:
    if column is None:
        return
    kept = column.dictionary if pa.types.is_dictionary(column.type) else column
    texts = texts_of(kept)
    starts, ends = texts.start[texts.valid], (texts.start + texts.length)[texts.valid]
    if not payloads.are_fine(texts.data, starts, ends):
        raise DoubtError
