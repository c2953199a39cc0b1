"""The hot tier of history: rollup rows as they are stored, and reading them together with what is in no row yet."""

import struct
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from lso_core.compute import rollups
from lso_core.compute.fold import unwritten
from lso_core.compute.rollups import Rollup
from lso_core.compute.state import SLOT_PREFIX, decode_meta, decode_slot, slot_start
from lso_core.model.errors import Finding, InputError, NotFoundError
from lso_core.model.rollups import MOST_ROWS, Piece, Width
from lso_core.model.windows import SLOT_MS, UNWRITTEN_MS, partition_of
from lso_core.store import keys
from lso_core.store.server import Call, Server

_NUMBER: Final = struct.Struct(">Q")
"""Big-endian, so that rows of one minute read in the order in which they were written."""


READ_ROWS: Final = 2_000
"""Most rows that Redis hands out at once, unless they are all of one minute: some 2 ms of its time."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One rollup row as it is stored."""

    number: int
    """It is the system's n-th, from 1. No number is given twice, nor to two rows."""
    start_ms: int
    data: bytes
    """`compute.rollups.encode`"""

    @property
    def member(self) -> bytes:
        """As it stands in the sorted set."""
        return _NUMBER.pack(self.number) + self.data


def number_of(member: bytes) -> int:
    """The number of a row from its member."""
    number: int = _NUMBER.unpack_from(member)[0]
    return number


def data_of(member: bytes) -> bytes:
    """The encoded row of a member."""
    return member[_NUMBER.size :]


class Stretch(msgspec.Struct, frozen=True):
    """A part of one system's history, as it stood in Redis at one moment and still in bytes."""

    from_ms: int
    to_ms: int
    """Exclusive."""
    members: list[bytes]
    meta: bytes
    slots: dict[bytes, bytes]

    def behind(self, number: int) -> "Stretch":
        """The same without the rows up to that number."""
        return msgspec.structs.replace(self, members=[one for one in self.members if number_of(one) > number])

    def rollups(self) -> Iterator[Rollup]:
        """The rows, and what is in no row yet."""
        for member in self.members:
            yield rollups.decode(data_of(member))
        if self.slots:
            slots = {slot_start(field): decode_slot(value) for field, value in self.slots.items()}
            present = unwritten(decode_meta(self.meta), slots)
            yield from (row for row in present if self.from_ms <= row.start_ms < self.to_ms)


class Hot(msgspec.Struct, frozen=True):
    """What was read of one system's history."""

    as_of_ms: int | None
    """Redis' time up to which everything accepted is in; None before anything was folded."""
    stretches: list[Stretch]

    def rollups(self) -> list[Rollup]:
        """Rows of minutes, several of one where it was repaired. Takes some 10 µs a row: not for an event loop.

        Raises CorruptEntryError or NewerFormatError.
        """
        return [row for stretch in self.stretches for row in stretch.rollups()]


class History:
    """Reads of history, as far as it stands in Redis: by the minute, whatever width would do."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def now_ms(self) -> int:
        """Redis' time."""
        seconds, micros = await self._server.soon(("TIME",))
        return int(seconds) * 1_000 + int(micros) // 1_000

    async def read(self, system_id: int, some: Sequence[Piece], most: int) -> Hot:
        """What happened in pieces that follow one another.

        Raises NotFoundError, and InputError where it stands in more than `most` rows.
        """
        from_ms, to_ms = some[0].from_ms, some[-1].to_ms
        watermark = await self._server.soon(("GET", keys.watermark(partition_of(system_id))))
        stretches = await self._read(system_id, from_ms, to_ms, most)
        return Hot(None if watermark is None else int(watermark), stretches)

    async def _read(self, system_id: int, from_ms: int, to_ms: int, most: int) -> list[Stretch]:
        """One stretch, or the two halves of one that would keep Redis too long.

        A row lies in one of them, and so does a minute that is written between their reads: nothing is missed or met twice.
        """
        whole = to_ms - from_ms <= Width.MINUTE
        where = (keys.system(system_id), keys.state(system_id), keys.rows(system_id))
        what = (from_ms, to_ms, most if whole else min(most, READ_ROWS), SLOT_PREFIX, SLOT_MS, UNWRITTEN_MS // SLOT_MS)
        outcome, *found = await self._server.soon(Call("rows", where, what))
        if outcome == b"gone":
            raise NotFoundError(f"there is no system {system_id}")
        if outcome == b"many" and int(found[0]) > most:
            raise too_many(int(found[0]), most)
        if outcome == b"many":
            middle_ms = Width.MINUTE.start_of((from_ms + to_ms) // 2)
            first = await self._read(system_id, from_ms, middle_ms, most)
            return first + await self._read(system_id, middle_ms, to_ms, most)
        rows, meta, flat = found
        return [Stretch(from_ms, to_ms, rows, meta, {flat[at]: flat[at + 1] for at in range(0, len(flat), 2)})]


def too_many(found: int, most: int) -> InputError:
    """The refusal of a question that touches too much."""
    message = f"this takes {found} rollup rows; a request may take {MOST_ROWS}, of which {most} are left"
    return InputError(message, (Finding(None, "from", message),))
