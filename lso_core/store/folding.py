"""The worker's side of the store: what is ready, the entries and states behind it, and the fenced commit.

Everything that is written here carries the lease that it is written under. Losing a race is an answer, not an error:
somebody else holds the partition, or the system is gone, and the work is dropped.
"""

import enum
import functools
import re
import secrets
import struct
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from lso_core.compute.state import SLOT_PREFIX
from lso_core.model import snapshots
from lso_core.model.errors import BadKeyError
from lso_core.model.formats import Formats
from lso_core.model.snapshots import Summary, Verdict
from lso_core.model.systems import System
from lso_core.model.windows import PARTITIONS, partition_of
from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.history import Row
from lso_core.store.ingest import DEAD_LETTERS, UNARCHIVED
from lso_core.store.registry import read_system, snapshot_args
from lso_core.store.runs import RunWrites
from lso_core.store.server import BEGINNINGS, Call, Fixed, Server, Value

MARK_BYTES: Final = 4 << 20
"""Folded entries are trimmed in pieces of about this many bytes, or of a sixteenth of what a partition may keep…"""
MARKS_A_SHARE: Final = 16
MARKS_AN_AGE: Final = 60
"""…or of this part of the time that they are kept."""
TRIM_STEPS: Final = 64
HELD: Final = PARTITIONS / 4
"""While one of its systems is being archived a partition may keep so many times its share more: a quarter of all of them,
since one is archived at a time. It is what arrives while a file is built."""
SWEEP_COUNT: Final = 200
_ENTRY_ID: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


class Lease(msgspec.Struct, frozen=True):
    """The right to fold one partition."""

    partition: int
    owner: str
    epoch: int
    needs: Formats = {}
    """What its holder should be able to read."""


class Outcome(enum.Enum):
    """What became of a commit."""

    DONE = b"ok"
    GONE = b"gone"
    """The system was deleted."""
    FENCED = b"fenced"
    """Somebody else holds the partition."""
    MOVED = b"moved"
    """The state is not as it was read."""
    BROKEN = b"broken"
    """A key of the system holds something else than it should."""


class Position(msgspec.Struct, frozen=True, gc=False):
    """How far a system's stream is folded: the cursor, and sums over everything up to it."""

    cursor: str = ""
    """Id of the last folded entry, "" before the first."""
    token: bytes = b""
    """Random, new with each commit."""
    events: int = 0
    entries: int = 0
    bytes: int = 0
    at_ms: int | None = None
    """Arrival of the entry at the cursor."""
    rows: int = 0
    """How many rows of history were ever written."""
    written_ms: int = 0
    """As `Meta.written_ms`, for those who do not read a meta, or cannot."""


class Stored(msgspec.Struct, frozen=True):
    """A system as it is stored: its settings, position, and state, all that may fail to decode still in bytes."""

    record: bytes
    revision: int
    position: Position
    meta: bytes | None
    slots: dict[bytes, bytes]
    """Field to value."""
    entry_bytes: int
    """Mean size of the entries so far, to judge how many to read at once."""
    runs: dict[bytes, bytes] = {}
    """Watched runs by id; "" is what is known of all."""

    @property
    def system(self) -> System:
        """The settings, decoded. Raises msgspec.MsgspecError, as where a newer release wrote them."""
        return read_system(self.record)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A stream entry as folding sees it."""

    entry_id: str
    at_ms: int | None
    """None where the entry has no readable arrival."""
    events: int
    columns: bytes
    size: int
    """Bytes of columns and body, as the append script counted them."""


class Read(msgspec.Struct, frozen=True, gc=False):
    """Entries behind a cursor. `end_ms` is Redis' time before the read if it reached the stream's end, else None."""

    entries: list[Entry]
    end_ms: int | None


class Commit(msgspec.Struct, frozen=True, gc=False):
    """Everything that one fold of one system writes."""

    system: System
    revision: int
    before: Position
    after: Position
    meta: bytes
    slots: dict[bytes, bytes]
    """Fields that changed."""
    dropped: list[bytes]
    """Fields that go."""
    rows: list[Row]
    due_ms: int | None
    """When the window must roll; None once it is empty."""
    summary: Summary
    dead: list[tuple[str, str]]
    """(entry id, reason) of entries that could not be read."""
    runs: RunWrites


class Trimmed(msgspec.Struct, frozen=True):
    """What a trim did to a partition."""

    entries: int
    bytes: int
    more: bool
    lost: int = 0
    """Events that were dropped although they were not archived."""


class Peek(msgspec.Struct, frozen=True):
    """Systems of one partition that want work."""

    partition: int
    ready: list[int]
    """With unfolded entries, longest waiting first."""
    due: list[int]
    """Whose window must roll."""


def new_token() -> bytes:
    """A commit token: 64 random bits, so that a Redis that came back with an older tail is noticed."""
    return secrets.token_bytes(8)


_XRANGE: Final = b"XRANGE"
"""Written so, redis-py does not know it, and hands out what Redis says: it would make a dictionary of each entry."""
_FIELDS: Final = [b"at", b"n", b"c", b"b"]
"""Of an entry, in their order."""


class Folding:
    """What a worker asks of Redis."""

    def __init__(self, server: Server, settings: Settings) -> None:
        self._server = server
        self._mark_ms = max(1_000, settings.hot_seconds * 1_000 // MARKS_AN_AGE)
        self._hot_ms = settings.hot_seconds * 1_000
        self._runs_kept = settings.runs_kept
        self._runs_ms = settings.runs_seconds * 1_000
        self._archive = settings.archive
        self._beginning = functools.lru_cache(BEGINNINGS)(_begin)
        self.mark_for(settings.hot_bytes // PARTITIONS)

    def mark_for(self, share_bytes: int) -> None:
        """Mark finely enough for a partition that may keep `share_bytes` of folded entries."""
        self._mark_bytes = min(MARK_BYTES, share_bytes // MARKS_A_SHARE)

    async def peek(self, partitions: Sequence[int], now_ms: int, most: int) -> list[Peek]:
        """What wants work in `partitions` at about Redis' time `now_ms`; at most `most` systems of each kind."""
        if not partitions:
            return []
        answers = await self._server.run(*(command for p in partitions for command in _peek(p, now_ms, most)))
        return [
            Peek(p, [int(one) for one in answers[2 * at]], [int(one) for one in answers[2 * at + 1]])
            for at, p in enumerate(partitions)
            if answers[2 * at] or answers[2 * at + 1]
        ]

    async def load(self, system_ids: Sequence[int]) -> dict[int, Stored | BadKeyError]:
        """The stored systems; those that are gone are missing, and an error stands for one with a key gone bad."""
        if not system_ids:
            return {}
        answers = await self._server.each(*(command for one in system_ids for command in _load(one)))
        found = {one: _stored(*answers[3 * at : 3 * at + 3]) for at, one in enumerate(system_ids)}
        return {one: stored for one, stored in found.items() if stored is not None}

    async def forget(self, system_ids: Sequence[int]) -> None:
        """Take systems that are gone off the lists of work."""
        commands = [("ZREM", of(partition_of(one)), one) for one in system_ids for of in (keys.ready, keys.due)]
        if commands:
            await self._server.run(*commands)

    async def read(self, wanted: Sequence[tuple[int, str, int]]) -> dict[int, Read | BadKeyError]:
        """Entries of several systems: (system, cursor, most entries) each; an error for a stream that is none.

        The time is taken before the reads: whatever arrived before it stands in a stream that was read to its end.
        Bodies come too, although nobody wants them here: a script that left them out would take Redis more time than to
        send them.
        """
        if not wanted:
            return {}
        found = await self._server.timed(
            *(
                (_XRANGE, keys.stream(system_id), f"({cursor}" if cursor else "-", "+", "COUNT", most)
                for system_id, cursor, most in wanted
            )
        )
        return {
            system_id: entries
            if isinstance(entries, BadKeyError)
            else Read([_entry(one) for one in entries], now_ms if len(entries) < most else None)
            for (system_id, _, most), (now_ms, entries) in zip(wanted, found, strict=True)
        }

    async def commit(self, commits: Sequence[tuple[Lease, Commit]]) -> list[tuple[Outcome, int]]:
        """Commit each under its lease, all in one trip; its outcome and the system's revision by now (0 unless done)."""
        if not commits:
            return []
        replies = await self._server.each(*(self._commit(lease, commit) for lease, commit in commits))
        return [
            (Outcome.BROKEN, 0)
            if isinstance(reply, BadKeyError)
            else (Outcome(reply[0]), int(reply[1]) if len(reply) > 1 else 0)
            for reply in replies
        ]

    def _commit(self, lease: Lease, commit: Commit) -> Call:
        where, fixed = self._beginning(commit.system.system_id, lease.owner, lease.epoch)
        return Call("commit", where, self._committed(commit), fixed)

    def _committed(self, commit: Commit) -> tuple[Any, ...]:
        """The arguments of a commit behind those that say who commits what."""
        after = commit.after
        return (
            commit.before.cursor,
            commit.before.token,
            after.cursor,
            after.token,
            commit.revision,
            after.events,
            after.entries,
            after.bytes,
            "" if after.at_ms is None else after.at_ms,
            "" if commit.due_ms is None else commit.due_ms,
            commit.meta,
            *snapshot_args(commit.summary, commit.system),
            keys.GROUP,
            self._mark_ms,
            self._mark_bytes,
            DEAD_LETTERS,
            after.rows,
            after.written_ms,
            "" if commit.runs.due_ms is None else commit.runs.due_ms,
            commit.runs.tally,
            self._runs_kept,
            commit.summary.as_of_ms - self._runs_ms,
            len(commit.slots),
            *(part for pair in commit.slots.items() for part in pair),
            len(commit.dropped),
            *commit.dropped,
            len(commit.rows),
            *(part for row in commit.rows for part in (row.start_ms, row.member)),
            *commit.runs.args(),
            *(part for pair in commit.dead for part in pair),
        )

    async def park(self, lease: Lease, system_id: int, verdict: Verdict, retry_ms: int) -> Outcome:
        """Set a system aside for `retry_ms` with `verdict`, since when its health was that; its figures stay as they were.

        Where its snapshot is itself what cannot be read, it is only set aside.
        """
        partition = lease.partition
        snapshot, line = await self._server.each(
            ("GET", keys.snapshot(system_id)), ("HGET", keys.fleet_lines(partition), system_id)
        )
        where = (
            keys.system(system_id),
            keys.lease(partition),
            keys.ready(partition),
            keys.due(partition),
            keys.parked(partition),
            keys.snapshot(system_id),
            keys.fleet(partition),
            keys.fleet_lines(partition),
            keys.stats(partition),
            keys.changes(partition),
        )
        what = (system_id, lease.owner, lease.epoch, retry_ms, *_judged(system_id, snapshot, line, verdict))
        return Outcome((await self._server.one(Call("park", where, what)))[0])

    async def unpark(self, leases: Sequence[Lease]) -> int:
        """Let parked systems whose time has come try again; how many."""
        return sum(int(found) for found in await self._server.run(*map(_unpark, leases))) if leases else 0

    async def trim(self, leases: Sequence[Lease], cap_bytes: int, *, pressed: bool) -> Trimmed:
        """Trim folded entries that are too old or too many; all of them when Redis is `pressed` for memory."""
        if not leases:
            return Trimmed(0, 0, more=False)
        keep_ms = 0 if pressed else self._hot_ms
        # Under pressure nothing may wait for the archive, except where it must.
        lossy = "" if self._archive != "best-effort" else 0 if pressed else int(UNARCHIVED * cap_bytes)
        held = 0 if pressed else int((UNARCHIVED + HELD) * cap_bytes)
        replies = await self._server.run(*(self._trim(lease, keep_ms, cap_bytes, lossy, held) for lease in leases))
        return Trimmed(
            sum(int(reply[0]) for reply in replies),
            sum(int(reply[1]) for reply in replies),
            any(reply[2] == b"1" for reply in replies),
            sum(int(reply[3]) for reply in replies),
        )

    def _trim(self, lease: Lease, keep_ms: int, cap_bytes: int, lossy: Value, held: int) -> Call:
        p = lease.partition
        prefixes = [keys.prefix(p, of) for of in (keys.STREAM_PREFIX, keys.STATE_PREFIX, keys.MARKS_PREFIX)]
        what = (lease.owner, lease.epoch, *prefixes, keep_ms, cap_bytes, TRIM_STEPS, self._archives(p), lossy, held)
        return Call("trim", (keys.lease(p), keys.hot(p), keys.stats(p), keys.unarchived(p)), what)

    def _archives(self, partition: int) -> str:
        """What the keys of archives start with; "" where there is none."""
        return "" if self._archive == "off" else keys.prefix(partition, keys.ARCHIVE_PREFIX)

    async def sweep(self, partition: int) -> int:
        """Look through all systems of a partition for forgotten work; how many were found."""
        cursor, found = "0", 0
        p = partition
        where = (keys.fleet_lines(p), keys.ready(p), keys.due(p), keys.parked(p), keys.unarchived(p), keys.unfiled(p))
        prefixes = (
            keys.prefix(p, keys.SYSTEM_PREFIX),
            keys.prefix(p, keys.STATE_PREFIX),
            self._archives(p),
            keys.prefix(p, keys.ROWS_PREFIX),
        )
        while True:
            reply = await self._server.one(Call("sweep", where, (cursor, SWEEP_COUNT, *prefixes)))
            cursor, found = reply[0].decode(), found + int(reply[1])
            if cursor == "0":
                return found

    async def arrived(self, partitions: Sequence[int]) -> int:
        """How many events `partitions` were ever sent."""
        if not partitions:
            return 0
        counts = await self._server.run(*(("HGET", keys.stats(p), "added") for p in partitions))
        return sum(int(count or 0) for count in counts)


def _begin(system_id: int, owner: str, epoch: int) -> tuple[tuple[str, ...], Fixed]:
    """The keys of a commit, and the arguments that say who commits."""
    partition = partition_of(system_id)
    where = (
        keys.system(system_id),
        keys.lease(partition),
        keys.state(system_id),
        keys.stream(system_id),
        keys.ready(partition),
        keys.due(partition),
        keys.stats(partition),
        keys.snapshot(system_id),
        keys.details(system_id),
        keys.fleet(partition),
        keys.fleet_lines(partition),
        keys.marks(system_id),
        keys.hot(partition),
        keys.dead_letters(system_id),
        keys.parked(partition),
        keys.changes(partition),
        keys.rows(system_id),
        keys.watched_runs(system_id),
        keys.runs(system_id),
        keys.run_starts(system_id),
        keys.unarchived(partition),
        keys.unfiled(partition),
    )
    return where, Fixed(system_id, owner, epoch)


def _peek(partition: int, now_ms: int, most: int) -> tuple[tuple[Any, ...], ...]:
    return (
        ("ZRANGE", keys.ready(partition), 0, most - 1),
        ("ZRANGE", keys.due(partition), "-inf", now_ms, "BYSCORE", "LIMIT", 0, most),
    )


def _judged(system_id: int, snapshot: Any, line: Any, verdict: Verdict) -> tuple[Value, ...]:
    """Snapshot, fleet rank, member and line with `verdict` in them; nothing where they cannot be read."""
    try:
        verdict = snapshots.continued(line[1:], verdict)
        judged = snapshots.with_verdict(snapshot, verdict), snapshots.line_with_verdict(line[1:], verdict)
    except (TypeError, ValueError, struct.error):
        return ()
    return judged[0], int(verdict.health), keys.member(system_id), judged[1]


def _load(system_id: int) -> tuple[tuple[Any, ...], ...]:
    return (
        ("HMGET", keys.system(system_id), "record", "rev", "bytes", "entries", "rows", "written"),
        ("HGETALL", keys.state(system_id)),
        ("HGETALL", keys.watched_runs(system_id)),
    )


def _stored(head: Any, fields: Any, runs: Any) -> Stored | BadKeyError | None:
    """One system from its answers; None where it is gone."""
    for answer in (head, fields, runs):
        if isinstance(answer, BadKeyError):
            return answer
    if head[0] is None:
        return None
    try:
        return _parsed(head, fields, runs)
    except ValueError as error:  # also of Unicode
        return BadKeyError(f"a field of its state cannot be read: {error}")


def _parsed(head: list[bytes | None], fields: dict[bytes, bytes], runs: dict[bytes, bytes]) -> Stored:
    record, revision, size, entries, rows, written = (part or b"0" for part in head)
    at, cursor = fields.get(b"a"), fields.get(b"c", b"").decode()
    if cursor and not _ENTRY_ID.fullmatch(cursor):
        raise ValueError(f"{cursor[:40]!r} is not the id of an entry")
    position = Position(
        cursor,
        fields.get(b"t", b""),
        int(fields.get(b"n", 0)),
        int(fields.get(b"e", 0)),
        int(fields.get(b"b", 0)),
        None if at is None else int(at),
        int(rows),
        int(written),
    )
    slots = {field: value for field, value in fields.items() if field.startswith(SLOT_PREFIX)}
    return Stored(
        record,
        int(revision),
        position,
        fields.get(b"m"),
        slots,
        int(size) // max(1, int(entries)),
        runs,
    )


def _entry(found: tuple[bytes, list[bytes]]) -> Entry:
    entry_id, told = found
    if told[::2] == _FIELDS:
        _, at, _, events, _, columns, _, body = told
    else:
        get = dict(zip(told[::2], told[1::2], strict=False)).get
        at, events, columns, body = (get(name, b"") for name in _FIELDS)
    return Entry(
        entry_id.decode(),
        int(at) if at.isdigit() else None,
        int(events) if events.isdigit() else 0,
        columns,
        len(columns) + len(body),
    )


def _unpark(lease: Lease) -> Call:
    p = lease.partition
    where = (keys.lease(p), keys.ready(p), keys.due(p), keys.parked(p))
    return Call("unpark", where, (lease.owner, lease.epoch))
