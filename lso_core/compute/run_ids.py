"""The run ids of a batch: which events belong to which run, and which of them make runs.

A part of the block of columns, there only where it says something. Ids that repeat are told of every event, as names
and a column of numbers. Where nearly every event has one of its own they are no runs' but mere attributes: then only
the events are told that make a run, so that such ids cost next to nothing.

Layout, little-endian: `_HEADER`, a msgpack list of ids, the makers, the numbers.
"""

import functools
import struct
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from lso_core.compute.packing import Ints, narrow, widen
from lso_core.model.runs import LIFE, MAKERS, OUTCOMES

FEW: Final = 255
"""So many ids of a batch are always told…"""
REPEATED: Final = 4
"""…and any number that has this many events each, or comes with a run's start, heartbeat or end."""
SAMPLE: Final = 256
"""Whether ids repeat at all is guessed from about so many events, since asking all of them costs more than the answer is worth."""
_ALWAYS: Final = LIFE & MAKERS
OWN: Final = 0.95
"""With a larger share than this of different ids among the sample, nearly every event has one of its own."""
MOST_OUTCOMES: Final = 500
"""Where ids do not repeat, only the last outcomes of a batch make runs."""

_HEADER: Final = struct.Struct("<IIBBB")
"""bytes of the ids, makers, bytes of a maker, of a number (0: every event has the one id), whether all events are told."""

_NONE: Final[Ints] = np.empty(0, np.int64)
_NONE.flags.writeable = False

_read_ids = msgspec.msgpack.Decoder(tuple[str, ...])


class RunIds(msgspec.Struct, frozen=True):
    """The runs of n events."""

    ids: tuple[str, ...]
    makers: Ints
    """Places of the events that make a run, ascending."""
    number: Ints
    """Of every event, where `whole`, else of every maker: 0 for no id, else 1 + position in `ids`."""
    whole: bool
    """Whether every event is told, or the makers alone."""

    def of_makers(self) -> Ints:
        """The number of each maker."""
        return self.number[self.makers] if self.whole else self.number

    def made(self) -> Sequence[str]:
        """The ids of the makers, each once, as they first come."""
        if not self.whole:
            return self.ids
        return [self.ids[number - 1] for number in dict.fromkeys(self.of_makers().tolist())]


class Numbers(dict[Any, int]):
    """Numbers names in the order in which they are first asked for."""

    def __missing__(self, name: object) -> int:
        number = self[name] = len(self)
        return number


def cut(ids: Sequence[str | None], stage: Ints, event_type: Ints, event_types: tuple[str, ...]) -> RunIds | None:
    """The run ids of events, None where one has none; None where nothing is to be told of them."""
    must = not LIFE.isdisjoint(event_types)
    makers = _makers_of(stage, event_type, event_types)
    if must or not _each_has_its_own(ids):
        numbers, number = _numbered(ids)
        if must or _repeat(len(numbers) - 1, len(ids)):
            return _of_all(numbers, number, makers)
    makers = makers[-MOST_OUTCOMES:]
    return _of_makers(makers, [ids[maker] for maker in makers.tolist()])


def _each_has_its_own(ids: Sequence[str | None]) -> bool:
    """Whether the ids of a batch are surely too many: looks at neighbours, and at events all over the batch."""
    if len(ids) <= FEW:
        return False
    half = SAMPLE // 2
    sample = (*ids[:half], *ids[half :: len(ids) // half])
    return len(set(sample)) > OWN * len(sample)


def _numbered(ids: Sequence[str | None]) -> tuple[Numbers, Ints]:
    """The ids by number, and the number of every event."""
    numbers = Numbers({None: 0})
    if ids and ids[0] == ids[-1] and ids.count(ids[0]) == len(ids):  # cheaper than to look each of them up
        return numbers, np.full(len(ids), numbers[ids[0]], np.int64)
    return numbers, np.fromiter(map(numbers.__getitem__, ids), np.int64, len(ids))


def _repeat(distinct: int, events: int) -> bool:
    """Whether so many different ids among so many events are told of every event."""
    return distinct <= FEW or distinct * REPEATED <= events


def _makers_of(stage: Ints, event_type: Ints, event_types: tuple[str, ...]) -> Ints:
    """Places of the events that make a run if they have an id: a start, an end, an outcome without a stage."""
    if MAKERS.isdisjoint(event_types):
        return np.empty(0, np.int64)
    always = np.array([name in _ALWAYS for name in event_types])
    alone = np.array([name in OUTCOMES for name in event_types])
    return np.flatnonzero(always[event_type] | (alone[event_type] & (stage == 0)))


def _of_all(numbers: Numbers, number: Ints, makers: Ints) -> RunIds | None:
    """What is told of every event."""
    ids = _texts(numbers)
    return RunIds(ids, makers[number[makers] > 0], number, whole=True) if ids else None


def _of_makers(makers: Ints, ids: Sequence[str | None]) -> RunIds | None:
    """What is told where only the makers are, whose ids are `ids`."""
    numbers = Numbers({None: 0})
    number = np.fromiter(map(numbers.__getitem__, ids), np.int64, len(ids))
    named = number > 0
    told = RunIds(_texts(numbers), makers[named], number[named], whole=False)
    return told if told.ids else None


def _texts(numbers: Numbers) -> tuple[str, ...]:
    """The ids in the order of their numbers."""
    return tuple(name for name in numbers if name is not None)


def encode(told: RunIds) -> bytes:
    """The part of a block that `decode` reads."""
    ids, makers = msgspec.msgpack.encode(told.ids), narrow(told.makers)
    alike = len(told.ids) == 1 and bool(told.number.all())
    number = narrow(told.number[:0] if alike else told.number)
    head = _HEADER.pack(len(ids), len(makers), makers.itemsize, 0 if alike else number.itemsize, told.whole)
    return b"".join((head, ids, makers.tobytes(), number.tobytes()))


def decode(data: memoryview, events: int) -> RunIds:
    """The run ids of so many events. Raises ValueError for what `encode` did not write."""
    if len(data) < _HEADER.size:
        raise ValueError("the run ids are cut off")
    length, count, maker_width, width, whole = _HEADER.unpack_from(data)
    told = events if whole else count
    makers_at = _HEADER.size + length
    number_at = makers_at + count * maker_width
    if len(data) != number_at + told * width:
        raise ValueError("the run ids are cut off or have bytes to spare")
    ids = _read_ids.decode(data[_HEADER.size : makers_at])
    makers = widen(data, maker_width, count, makers_at) if count else _NONE
    number = widen(data, width, told, number_at) if width else _ones(told)
    if (count and int(makers.max()) >= events) or (told and (int(number.max()) if width else 1) > len(ids)):
        raise ValueError("a position beyond the events or the ids")
    return RunIds(ids, makers, number, bool(whole))


@functools.lru_cache(maxsize=64)
def _ones(count: int) -> Ints:
    """The numbers of events that all belong to the one run; never to be written to."""
    ones = np.ones(count, np.int64)
    ones.flags.writeable = False
    return ones
