"""What goes out: events of a stream (SSE), built once for all viewers with the same filter and compressed once as well."""

import zlib
from collections.abc import Iterable
from functools import cached_property
from typing import Final

import msgspec

from api.live.picture import Change, Line, Picture
from lso_core.model import times
from lso_core.model.health import Health

LINES: Final = 500
"""Most lines of one event; a larger picture comes as a snapshot and changes that complete it."""
GZIP_HEAD: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
RETRY: Final = b"retry: 2000\n\n"


class Filter(msgspec.Struct, frozen=True):
    """Which systems a viewer wants to see; what is empty asks for nothing."""

    systems: frozenset[int] = frozenset()
    states: frozenset[str] = frozenset()
    tag: str = ""

    def takes(self, system_id: int, line: Line) -> bool:
        """Whether a system passes."""
        return (
            (not self.systems or system_id in self.systems)
            and (not self.states or line.health in self.states)
            and (not self.tag or self.tag in line.tags)
        )

    def among(self, system_ids: set[int]) -> set[int]:
        """Those of `system_ids` that may pass, whatever their lines say."""
        return system_ids & self.systems if self.systems else system_ids


class Frame:
    """Bytes of a stream, plain and compressed.

    Compressed frames refer to nothing before them, so that one viewer may begin where another goes on.
    """

    def __init__(self, plain: bytes) -> None:
        self.plain = plain

    @cached_property
    def gzipped(self) -> bytes:
        """As a part of a gzip stream, behind `GZIP_HEAD`."""
        packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        return packer.compress(self.plain) + packer.flush(zlib.Z_FULL_FLUSH)


class View:
    """The picture through one filter."""

    def __init__(self, wanted: Filter, picture: Picture) -> None:
        self._filter = wanted
        self._picture = picture
        self._shown = {one for one in wanted.among(set(picture.lines)) if wanted.takes(one, picture.lines[one])}
        self._told_counts = dict(picture.counts)
        self._snapshot: list[Frame] = []

    def snapshot(self) -> list[Frame]:
        """The whole picture."""
        if not self._snapshot:
            self._snapshot = self._in_parts("snapshot", self._sorted(self._shown), [])
        return self._snapshot

    def resumed(self, change: Change) -> list[Frame]:
        """What is new to a viewer that comes back."""
        touched = self._filter.among(change.changed)
        gone = (touched - self._shown) | (self._filter.among(change.gone) - self._shown)
        return self._in_parts("change", self._sorted(touched & self._shown), sorted(gone))

    def follow(self, change: Change) -> list[Frame]:
        """Take in one look; what it means for this view, nothing where that is nothing."""
        self._snapshot = []
        touched, lines = self._filter.among(change.changed), self._picture.lines
        passing = {one for one in touched if self._filter.takes(one, lines[one])}
        gone = self._shown & ((touched - passing) | change.gone)
        self._shown = (self._shown - gone) | passing
        if not passing and not gone and self._told_counts == self._picture.counts:
            return []
        self._told_counts = dict(self._picture.counts)
        return self._in_parts("change", self._sorted(passing), sorted(gone))

    def _sorted(self, system_ids: Iterable[int]) -> list[bytes]:
        """Lines, worst first."""
        lines = self._picture.lines
        ranked = sorted((Health[lines[one].health], one) for one in system_ids)
        return [lines[one].body for _, one in ranked]

    def _in_parts(self, kind: str, bodies: list[bytes], gone: list[int]) -> list[Frame]:
        """Events of up to `LINES` lines. Only the last has an id: who missed it must begin again."""
        parts = [bodies[at : at + LINES] for at in range(0, len(bodies), LINES)] or [[]]
        last = len(parts) - 1
        return [
            self._event("change" if at else kind, part, [] if at else gone, named=at == last)
            for at, part in enumerate(parts)
        ]

    def _event(self, kind: str, bodies: list[bytes], gone: list[int], *, named: bool) -> Frame:
        picture = self._picture
        worst = next((health.name for health in Health if picture.counts[health.name]), None)
        data = b'{%s,"worst":%s,"counts":%s,"items":[%s],"gone":%s}' % (
            _moment(picture),
            msgspec.json.encode(worst),
            msgspec.json.encode(picture.counts),
            b",".join(bodies),
            msgspec.json.encode(gone),
        )
        return event(kind, data, picture.as_of_ms if named else None)


def heartbeat(picture: Picture) -> Frame:
    """Nothing is new as of now."""
    return event("heartbeat", b"{%s}" % _moment(picture), picture.as_of_ms)


def event(kind: str, data: bytes, number: int | None = None) -> Frame:
    """One event; `data` is JSON and so has no line break."""
    head = b"" if number is None else b"id: %d\n" % number
    return Frame(b"%sevent: %s\ndata: %s\n\n" % (head, kind.encode(), data))


def _moment(picture: Picture) -> bytes:
    return b'"as_of":"%s","behind_s":%.3f' % (times.to_text(picture.as_of_ms).encode(), picture.behind_ms / 1_000)
