"""Every key in Redis. A grep for a key's name has one hit, here.

The keys of a partition carry its hash tag, so that a cluster keeps them together and one script can touch them all.
"""

from typing import Final

from lso_core.model.windows import PARTITIONS, partition_of

PREFIX: Final = "lso:"
"""What every key starts with."""
GROUP: Final = "lso"
"""The consumer group that shows a stream's lag to the outside world."""

LAYOUT: Final = "lso:{reg}:layout"
NAMES: Final = "lso:{reg}:names"
RECORDS: Final = "lso:{reg}:records"
IDS: Final = "lso:{reg}:ids"
LAST_ID: Final = "lso:{reg}:last-id"
PENDING: Final = "lso:{reg}:pending"
WORKERS: Final = "lso:{reg}:workers"
SAMPLES: Final = "lso:{reg}:samples"
SEEN: Final = "lso:{reg}:seen"
GONE: Final = "lso:{reg}:gone"
ARCHIVE: Final = "lso:{reg}:archive"


def archiving(work: str) -> str:
    """String: who does such work for the archive, for a while."""
    return f"lso:{{reg}}:archiving-{work}"


_PARTITIONS: Final = [f"lso:{{p{partition:02d}}}:" for partition in range(PARTITIONS)]


def _of_partition(partition: int, name: str) -> str:
    return _PARTITIONS[partition] + name


def lease(partition: int) -> str:
    """Hash: owner, until (ms), epoch; needs (JSON) of whoever holds it, since (ms) when it was given back."""
    return _of_partition(partition, "lease")


def watermark(partition: int) -> str:
    """String: Redis' time (ms) up to which everything accepted is folded."""
    return _of_partition(partition, "watermark")


def ready(partition: int) -> str:
    """Sorted set: systems with unfolded entries, by arrival (ms) of the first."""
    return _of_partition(partition, "ready")


def due(partition: int) -> str:
    """Sorted set: systems whose window holds something, by when it must roll (ms)."""
    return _of_partition(partition, "due")


def parked(partition: int) -> str:
    """Sorted set: systems that cannot be folded, by when they may try again (ms)."""
    return _of_partition(partition, "parked")


def hot(partition: int) -> str:
    """Sorted set: systems with folded entries that are still readable, by age of the oldest (ms)."""
    return _of_partition(partition, "hot")


def unarchived(partition: int) -> str:
    """Sorted set: systems with folded entries that are not archived, by arrival of the oldest (ms), about."""
    return _of_partition(partition, "unarchived")


def unfiled(partition: int) -> str:
    """Sorted set: systems with rollup rows that are not archived, by the time (ms) after which to look at them."""
    return _of_partition(partition, "unfiled")


def unlinked(partition: int) -> str:
    """Set: systems that were deleted, and whose archived files are still there."""
    return _of_partition(partition, "unlinked")


def stats(partition: int) -> str:
    """Hash: added (events, ever), events, entries and bytes not yet folded, hot (bytes folded and readable), changes, lost
    (events, ever, that were trimmed before they were archived).
    """
    return _of_partition(partition, "stats")


def rebuilds(partition: int) -> str:
    """Set: systems that wait for a rebuild."""
    return _of_partition(partition, "rebuilds")


def fleet(partition: int) -> str:
    """Sorted set, all of score 0: rank of health and `member`, so that it reads worst first."""
    return _of_partition(partition, "fleet")


def fleet_lines(partition: int) -> str:
    """Hash: system to rank of health and its line as JSON."""
    return _of_partition(partition, "fleet-lines")


def changes(partition: int) -> str:
    """Sorted set: systems by when their line changed last, counted in the field `changes` of `stats`."""
    return _of_partition(partition, "changes")


def member(system_id: int) -> str:
    """The system in the fleet's order."""
    return f"{system_id:015d}"


SYSTEM_PREFIX: Final = "system:"
STREAM_PREFIX: Final = "stream:"
STATE_PREFIX: Final = "state:"
MARKS_PREFIX: Final = "marks:"
ARCHIVE_PREFIX: Final = "archive:"
ROWS_PREFIX: Final = "rows:"


def prefix(partition: int, of: str) -> str:
    """What the keys of one kind in a partition start with, for scripts that meet systems on the way."""
    return _of_partition(partition, of)


def _of_system(system_id: int, name: str) -> str:
    return _of_partition(partition_of(system_id), f"{name}{system_id}")


def system(system_id: int) -> str:
    """Hash: record (JSON), rev, added (events), entries, bytes, last (entry id), rate_at, rate_left, rows (of
    history, ever) and written (up to when (ms) everything stands in them).
    """
    return _of_system(system_id, SYSTEM_PREFIX)


def stream(system_id: int) -> str:
    """Stream of entries: at (ms), n (events), c (columns), b (body)."""
    return _of_system(system_id, STREAM_PREFIX)


def state(system_id: int) -> str:
    """Hash: c cursor, t token, n events folded, e entries, b bytes, a arrival at the cursor, m meta, s… slots,
    k and K bytes and arrival at the last mark, x and X bytes and events trimmed, d when a run's deadline passes (ms) or "".
    """
    return _of_system(system_id, STATE_PREFIX)


def marks(system_id: int) -> str:
    """List: `entry arrival bytes events`, how much was folded up to that entry."""
    return _of_system(system_id, MARKS_PREFIX)


def rows(system_id: int) -> str:
    """Sorted set: rollup rows, by start (ms); a member is the row's number in eight bytes and `compute.rollups.encode`."""
    return _of_system(system_id, ROWS_PREFIX)


def archive(system_id: int) -> str:
    """Hash: e the last entry that is archived (or lost), a its arrival, n and b events and bytes folded up to it;
    kept and lost, events; r and R number of the last, and start (ms) of the
    newest, rollup row that is archived; E and S, e and r as they were `noted` (ms) by who merges files; p until when (ms)
    nothing of it may be dropped.
    """
    return _of_system(system_id, ARCHIVE_PREFIX)


def watched_runs(system_id: int) -> str:
    """Hash: run id to `compute.runs.encode_run`, of runs that may still change; "" to `encode_tally`."""
    return _of_system(system_id, "watched-runs:")


def runs(system_id: int) -> str:
    """Hash: run id to `compute.runs.encode_run`, of runs that have settled; capped."""
    return _of_system(system_id, "runs:")


def run_starts(system_id: int) -> str:
    """Sorted set: all runs, by start (ms)."""
    return _of_system(system_id, "run-starts:")


def snapshot(system_id: int) -> str:
    """String: `model.snapshots.encode`."""
    return _of_system(system_id, "snapshot:")


def details(system_id: int) -> str:
    """String: `model.snapshots.encode_details`."""
    return _of_system(system_id, "details:")


def rebuild(system_id: int) -> str:
    """String with an expiry: the latest rebuild that was asked for, as JSON."""
    return _of_system(system_id, "rebuild:")


def dead_letters(system_id: int) -> str:
    """Stream, capped: what could not be counted, with the reason."""
    return _of_system(system_id, "dead:")


def idempotency(system_id: int) -> str:
    """Prefix of the hashes, one a period, from key digest to body digest, events and entry."""
    return _of_system(system_id, "keys:") + ":"
