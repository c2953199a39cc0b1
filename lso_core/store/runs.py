"""Runs in the store: what a worker reads to fold them, what a commit writes of them, and what is shown."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from lso_core.model.batches import StoredEntry
from lso_core.model.errors import BadKeyError, Finding, InputError
from lso_core.store import keys
from lso_core.store.server import Command, Server, Value

CHUNK: Final = 200
"""So many runs are read at once for a page."""


class RunWrites(msgspec.Struct, frozen=True, gc=False):
    """What a commit writes of a system's runs. Each run: (id, start in ms, `compute.runs.encode_run`)."""

    watched: list[tuple[str, int, bytes]] = []
    settled: list[tuple[str, int, bytes]] = []
    gone: list[str] = []
    """Watched ones to forget; "" is what is known of all runs."""
    tally: bytes = b""
    """Empty where it did not change."""
    due_ms: int | None = None
    """When a deadline passes."""

    @property
    def size(self) -> int:
        """About how many bytes they are."""
        return len(self.tally) + sum(len(run) for _, _, run in (*self.watched, *self.settled))

    def args(self) -> tuple[Value, ...]:
        """The part of the commit's arguments that stands behind the slots."""
        watched, settled = ([part for run in some for part in run] for some in (self.watched, self.settled))
        return (len(self.watched), *watched, len(self.settled), *settled, len(self.gone), *self.gone)


class RunWants(msgspec.Struct, frozen=True):
    """What of one system is needed to fold its runs."""

    system_id: int
    entry_ids: list[str]
    run_ids: tuple[str, ...]
    """Those that may have settled."""
    before: str
    """Cursor from which to look back for what came before a run was known, "" for not at all."""
    look_back: int
    """How many entries."""


class RunParts(msgspec.Struct, frozen=True):
    """What was found of it."""

    entries: list[StoredEntry]
    settled: dict[str, bytes]
    recent: list[tuple[str, bytes]]
    """Entry id and columns, newest first."""


class FoundRuns(msgspec.Struct, frozen=True):
    """Runs as they are stored, None for those that are not, and what is known of all runs of the system."""

    now_ms: int
    """Redis' time."""
    runs: list[bytes | None]
    tally: bytes | None


class RunPlace(msgspec.Struct, frozen=True):
    """Where a page of runs begins: behind the run that it names."""

    start_ms: int
    run_id: str

    @classmethod
    def parse(cls, cursor: str) -> "RunPlace":
        """The place of a cursor. Raises InputError for one that is not ours."""
        start, dot, run_id = cursor.partition(".")
        digits = start.removeprefix("-")
        if not (dot and run_id and digits.isascii() and digits.isdigit() and len(digits) <= 15):
            message = "cursor is not one that this list gave"
            raise InputError(message, (Finding(None, "cursor", message),))
        return cls(int(start), run_id)

    def __str__(self) -> str:
        return f"{self.start_ms}.{self.run_id}"


class RunStore:
    """The runs of systems."""

    def __init__(self, server: Server) -> None:
        self._server = server

    # -- for folding --------------------------------------------------------------------------------------------

    async def parts(self, wants: Sequence[RunWants]) -> list[RunParts | BadKeyError]:
        """What is needed for each system, in one round trip."""
        if not wants:
            return []
        calls = [_part_commands(want) for want in wants]
        answers = iter(await self._server.each(*(command for some in calls for command in some)))
        return [_parts(want, [next(answers) for _ in some]) for want, some in zip(wants, calls, strict=True)]

    async def entries(self, wanted: Sequence[tuple[int, str]]) -> list[StoredEntry | None]:
        """Entries as a whole, by system and id; None for one that is gone."""
        if not wanted:
            return []
        answers = await self._server.each(*(_entry_command(system_id, one) for system_id, one in wanted))
        return [None if isinstance(one, BadKeyError) else _entry(one) for one in answers]

    # -- for reading --------------------------------------------------------------------------------------------

    async def starts(
        self, system_id: int, from_ms: int | None, to_ms: int | None, after: RunPlace | None = None
    ) -> list[tuple[str, int]]:
        """Run ids and starts in `[from_ms, to_ms)`, newest first; of one start by id, backwards. From `after` on, if given."""
        high: int | str = "+inf" if to_ms is None else f"({to_ms}"
        if after is not None and (to_ms is None or after.start_ms < to_ms):
            high = after.start_ms
        low = "-inf" if from_ms is None else from_ms
        where = ("ZRANGE", keys.run_starts(system_id), high, low, "BYSCORE", "REV", "WITHSCORES")
        found = await self._server.one(where)
        pairs = [(run_id.decode(), int(float(start))) for run_id, start in zip(found[::2], found[1::2], strict=True)]
        if after is None:
            return pairs
        return [(one, ms) for one, ms in pairs if (ms, one.encode()) < (after.start_ms, after.run_id.encode())]

    async def latest(self, system_id: int) -> str | None:
        """The run that started last."""
        found = await self._server.one(("ZRANGE", keys.run_starts(system_id), 0, 0, "REV"))
        return found[0].decode() if found else None

    async def get(self, system_id: int, run_ids: Sequence[str]) -> FoundRuns:
        """The runs of these ids."""
        # One that settles in between is found in the first or the second, one that wakes up again in the third.
        where = (keys.watched_runs(system_id), keys.runs(system_id), keys.watched_runs(system_id))
        answers = await self._server.timed(*(("HMGET", key, *run_ids, "") for key in where))
        for _, answer in answers:
            if isinstance(answer, BadKeyError):
                raise answer
        (now_ms, watched), (_, settled), (_, again) = answers
        found = [one or two or three for one, two, three in zip(watched, settled, again, strict=True)]
        return FoundRuns(now_ms, found[:-1], found[-1])


def _part_commands(want: RunWants) -> list[Command]:
    commands: list[Command] = [_entry_command(want.system_id, one) for one in want.entry_ids]
    if want.run_ids:
        commands.append(("HMGET", keys.runs(want.system_id), *want.run_ids))
    if want.before:
        commands.append(("XREVRANGE", keys.stream(want.system_id), want.before, "-", "COUNT", want.look_back))
    return commands


def _parts(want: RunWants, answers: list[Any]) -> RunParts | BadKeyError:
    for answer in answers:
        if isinstance(answer, BadKeyError):
            return answer
    count = len(want.entry_ids)
    entries = [one for one in map(_entry, answers[:count]) if one is not None]
    rest = iter(answers[count:])
    settled = zip(want.run_ids, next(rest), strict=True) if want.run_ids else ()
    recent = next(rest) if want.before else []
    return RunParts(
        entries,
        {run_id: raw for run_id, raw in settled if raw is not None},
        [(entry_id.decode(), fields.get(b"c", b"")) for entry_id, fields in recent],
    )


def _entry_command(system_id: int, entry_id: str) -> Command:
    return ("XRANGE", keys.stream(system_id), entry_id, entry_id)


def _entry(found: Any) -> StoredEntry | None:
    """An entry, None where it is gone or none of ours."""
    if not found:
        return None
    entry_id, fields = found[0]
    try:
        return StoredEntry(entry_id.decode(), int(fields[b"at"]), int(fields[b"n"]), fields[b"c"], fields[b"b"])
    except (KeyError, ValueError):
        return None
