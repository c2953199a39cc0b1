"""The registry: which systems there are, under which names.

A system lives in two places: its name and id under `{reg}`, everything else in its partition. Creating it reserves the
first, makes the second, then publishes the first; deleting runs backwards; a change goes from the first to the second.
Whatever is under way stands in `pending`, and `finish_pending` completes what a killed process left there.
"""

import contextlib
from typing import Any, Final

import msgspec

from lso_core.model import snapshots, times
from lso_core.model.batches import Page
from lso_core.model.errors import ConflictError, Finding, InputError, NotFoundError, StoreError
from lso_core.model.snapshots import Summary
from lso_core.model.systems import System, SystemPatch, SystemSpec
from lso_core.model.windows import partition_of
from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.ingest import LOOK_BACK, bucket_ms
from lso_core.store.server import Call, Server

TAKEN_OVER_MS: Final = 10_000
"""A reservation this old was left by a process that is gone."""
_ATTEMPTS: Final = 5
_LOST_IDS: Final = 100
"""How many ids a registration may find in use, one after the other, where the registry lost its latest."""


class _StoredSpec(SystemSpec, frozen=True, forbid_unknown_fields=False, kw_only=True):
    """What a newer release adds to a system, while it is rolled out, is none of this one's business."""


_LATER: Final = {"max_runtime_seconds", "heartbeat_timeout_seconds"}

_spec = msgspec.json.Decoder(_StoredSpec)
_system = msgspec.json.Decoder(System)


class Record(msgspec.Struct, frozen=True):
    """A system's entry in the registry: `status created-ms revision spec`."""

    raw: bytes
    status: str
    created_ms: int
    revision: int
    spec: SystemSpec

    @classmethod
    def parse(cls, raw: bytes) -> "Record":
        status, created, revision, spec = raw.split(b" ", 3)
        return cls(raw, status.decode(), int(created), int(revision), _spec.decode(spec))

    @property
    def live(self) -> bool:
        return self.status == "L"

    def system(self, system_id: int) -> System:
        spec = self.spec
        return System(
            system_id=system_id,
            name=spec.name,
            description=spec.description,
            tags=spec.tags,
            window_seconds=spec.window_seconds or 0,
            thresholds=spec.thresholds,
            created_at=times.to_text(self.created_ms),
            max_runtime_seconds=spec.max_runtime_seconds,
            heartbeat_timeout_seconds=spec.heartbeat_timeout_seconds,
        )


class Registry:
    """Systems by id and name."""

    def __init__(self, server: Server, settings: Settings) -> None:
        self._server = server
        self._settings = settings

    async def create(self, spec: SystemSpec) -> System:
        """Register a system. Raises InputError, or ConflictError where the name is taken."""
        spec = msgspec.structs.replace(spec, window_seconds=spec.window_seconds or self._settings.window_seconds)
        spec.check()
        for _ in range(_LOST_IDS):
            reply = await self._server.one(
                Call(
                    "reserve",
                    (keys.NAMES, keys.RECORDS, keys.LAST_ID, keys.PENDING),
                    (spec.name, stored(spec), TAKEN_OVER_MS),
                )
            )
            if reply[0] == b"taken":
                raise ConflictError(f"a system named {spec.name!r} exists already", int(reply[1]))
            record = Record(b"", "C", int(reply[2]), int(reply[3]), spec)
            if (system := await self._complete_creation(int(reply[1]), record)) is not None:
                return system
        raise StoreError(f"the last {_LOST_IDS} ids are in use by systems that the registry does not know; try again")

    async def _complete_creation(self, system_id: int, record: Record) -> System | None:
        """The system; None, and the reservation undone, where its partition has another system under this id.

        That is so where the registry's server failed over and lost its latest ids.
        """
        system = record.system(system_id)
        if not await self._server.one(_install(system, record)):
            found = await self._server.one(("HGET", keys.system(system_id), "record"))
            if found is not None and read_system(found).name != system.name:
                await self._retire(system_id, record, "forget")
                return None
            await self._server.one(_configure(system, record))  # a process that is gone installed what it was told
        if not await self._server.one(Call("publish", (keys.RECORDS, keys.IDS, keys.PENDING), (system_id,))):
            await self._server.one(_uninstall(system_id, self._settings))  # or its keys would stay for ever
            raise NotFoundError(f"system {system_id} was deleted while it was being created")
        return system

    async def get(self, system_id: int) -> System:
        """The system. Raises NotFoundError."""
        return (await self._record(system_id)).system(system_id)

    async def require(self, system_id: int) -> None:
        """Raise NotFoundError unless there is such a system."""
        await self._record(system_id)

    async def _record(self, system_id: int) -> Record:
        raw = await self._server.one(("HGET", keys.RECORDS, system_id))
        record = None if raw is None else Record.parse(raw)
        if record is None or not record.live:
            raise NotFoundError(f"there is no system {system_id}")
        return record

    async def find(self, name: str) -> System | None:
        """The system of that name, None where there is none."""
        system_id = await self._server.one(("HGET", keys.NAMES, name))
        if system_id is None:
            return None
        try:
            return await self.get(int(system_id))
        except NotFoundError:
            return None  # being created or deleted

    async def list(self, cursor: str | None, limit: int) -> Page[System]:
        """A page of systems, newest first. Raises InputError for a cursor that is not one of ours."""
        highest = "+inf" if cursor is None else f"({_system_cursor(cursor)}"
        found = await self._server.one(("ZRANGE", keys.IDS, highest, "-inf", "BYSCORE", "REV", "LIMIT", 0, limit + 1))
        ids = [int(one) for one in found[:limit]]
        raws = await self._server.one(("HMGET", keys.RECORDS, *ids)) if ids else []
        records = [(one, Record.parse(raw)) for one, raw in zip(ids, raws, strict=True) if raw is not None]
        items = [record.system(one) for one, record in records if record.live]
        return Page(items, str(ids[-1]) if len(found) > limit else None)

    async def patch(self, system_id: int, patch: SystemPatch) -> System:
        """Change a system. Raises NotFoundError, InputError, or ConflictError where the new name is taken."""
        for _ in range(_ATTEMPTS):
            record = await self._record(system_id)
            changed = _changed(record, patch.apply(record.system(system_id)))
            reply = await self._server.one(
                Call(
                    "amend",
                    (keys.NAMES, keys.RECORDS, keys.PENDING),
                    (system_id, record.raw, changed.raw, record.spec.name, changed.spec.name),
                )
            )
            if reply[0] == b"ok":
                return await self._complete_change(system_id, changed)
            if reply[0] == b"gone":
                raise NotFoundError(f"there is no system {system_id}")
            if reply[0] == b"taken":
                raise ConflictError(f"a system named {changed.spec.name!r} exists already", int(reply[1]))
        raise StoreError(f"system {system_id} is being changed by others; try again")

    async def _complete_change(self, system_id: int, record: Record) -> System:
        system = record.system(system_id)
        await self._server.one(_configure(system, record))
        await self._server.one(Call("settle", (keys.RECORDS, keys.PENDING), (system_id, record.raw)))
        return system

    async def delete(self, system_id: int) -> None:
        """Remove a system and every key of it. Raises NotFoundError."""
        record = await self._record(system_id)
        if not await self._retire(system_id, record, "mark"):
            raise NotFoundError(f"there is no system {system_id}")
        await self._complete_deletion(system_id, record)

    async def _complete_deletion(self, system_id: int, record: Record) -> None:
        await self._server.one(_uninstall(system_id, self._settings))
        await self._retire(system_id, record, "forget")

    async def _retire(self, system_id: int, record: Record, step: str) -> bool:
        where = (keys.NAMES, keys.RECORDS, keys.IDS, keys.PENDING)
        return bool(await self._server.one(Call("retire", where, (system_id, record.spec.name, step))))

    async def finish_pending(self, now_ms: int, limit: int = 100) -> int:
        """Complete what killed processes began more than `TAKEN_OVER_MS` before Redis' time `now_ms`; how many."""
        found = await self._server.one(
            ("ZRANGE", keys.PENDING, "-inf", now_ms - TAKEN_OVER_MS, "BYSCORE", "LIMIT", 0, limit)
        )
        for one in found:
            await self._finish(int(one))
        return len(found)

    async def _finish(self, system_id: int) -> None:
        raw = await self._server.one(("HGET", keys.RECORDS, system_id))
        if raw is None:
            await self._server.one(("ZREM", keys.PENDING, system_id))
            return
        record = Record.parse(raw)
        if record.status == "C":
            with contextlib.suppress(NotFoundError):
                await self._complete_creation(system_id, record)
        elif record.status == "D":
            await self._complete_deletion(system_id, record)
        else:
            await self._complete_change(system_id, record)


def read_system(raw: bytes) -> System:
    """A system as its partition keeps it."""
    return _system.decode(raw)


def stored(value: SystemSpec | System) -> bytes:
    """As JSON, without limits of runs that are not set: releases before this one know no such members."""
    members = msgspec.structs.asdict(value)
    return msgspec.json.encode({name: one for name, one in members.items() if one is not None or name not in _LATER})


def _changed(record: Record, system: System) -> Record:
    """The record after a change, with the next revision."""
    spec = SystemSpec(
        name=system.name,
        description=system.description,
        tags=system.tags,
        window_seconds=system.window_seconds,
        thresholds=system.thresholds,
        max_runtime_seconds=system.max_runtime_seconds,
        heartbeat_timeout_seconds=system.heartbeat_timeout_seconds,
    )
    revision = record.revision + 1
    raw = b"L %d %d %s" % (record.created_ms, revision, stored(spec))
    return Record(raw, "L", record.created_ms, revision, spec)


def _install(system: System, record: Record) -> Call:
    summary = Summary.before_events(system, record.created_ms)
    system_id, partition = system.system_id, partition_of(system.system_id)
    where = (
        keys.system(system_id),
        keys.snapshot(system_id),
        keys.details(system_id),
        keys.fleet(partition),
        keys.fleet_lines(partition),
        keys.stats(partition),
        keys.changes(partition),
    )
    what = (system_id, stored(system), record.revision, *snapshot_args(summary, system))
    return Call("install", where, what)


def _configure(system: System, record: Record) -> Call:
    where = (keys.system(system.system_id), keys.due(partition_of(system.system_id)))
    return Call("configure", where, (system.system_id, stored(system), record.revision))


def snapshot_args(summary: Summary, system: System) -> tuple[bytes | int | str, ...]:
    """A summary as scripts take it: snapshot, details, fleet rank, fleet member, fleet line."""
    return (
        snapshots.encode(summary),
        snapshots.encode_details(summary),
        int(summary.verdict.health),
        keys.member(summary.system_id),
        snapshots.fleet_line(summary, system),
    )


def _uninstall(system_id: int, settings: Settings) -> Call:
    partition = partition_of(system_id)
    where: tuple[Any, ...] = (
        keys.system(system_id),
        keys.stream(system_id),
        keys.state(system_id),
        keys.snapshot(system_id),
        keys.details(system_id),
        keys.marks(system_id),
        keys.dead_letters(system_id),
        keys.idempotency(system_id),
        keys.ready(partition),
        keys.due(partition),
        keys.parked(partition),
        keys.hot(partition),
        keys.stats(partition),
        keys.fleet(partition),
        keys.fleet_lines(partition),
        keys.rebuild(system_id),
        keys.rebuilds(partition),
        keys.changes(partition),
        keys.rows(system_id),
        keys.watched_runs(system_id),
        keys.runs(system_id),
        keys.run_starts(system_id),
        keys.archive(system_id),
        keys.unarchived(partition),
        keys.unlinked(partition),
        keys.unfiled(partition),
    )
    return Call("uninstall", where, (system_id, keys.member(system_id), bucket_ms(settings), LOOK_BACK))


def _system_cursor(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 15):
        message = "cursor is not one that this list gave"
        raise InputError(message, (Finding(None, "cursor", message),))
    return int(cursor)
