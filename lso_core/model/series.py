"""What is asked of history: the metrics, and the stretch of time cut into points. Integer milliseconds throughout."""

import re
from typing import Final

import msgspec

from lso_core.model import times
from lso_core.model.errors import Finding, InputError
from lso_core.model.rollups import Piece, Width, pieces

MOST_POINTS: Final = 10_000
"""Most points of one line of an answer."""
MOST_POINTS_IN_ALL: Final = 100_000
"""Most points of an answer, over all its lines: of stages, and of systems."""
MOST_METRICS: Final = 20
MINUTES_SPAN_MS: Final = 30 * Width.DAY
"""So far back history is told by the minute; before, by the hour."""
_SLACK_MS: Final = Width.HOUR
"""A question for the last 30 days takes a moment to arrive, and begins with a whole minute."""
DEFAULT_SPAN_MS: Final = Width.HOUR
DEFAULT_POINTS: Final = 500
"""Where no step is given, it is the least of `_STEPS` that makes no more points than this."""
_STEPS: Final = tuple(
    minutes * Width.MINUTE for minutes in (1, 2, 5, 10, 15, 30, 60, 180, 360, 720, 1_440, 10_080, 43_200)
)

_SUMS: Final = ("total", "errors", "error_rate", "rps", "min", "mean", "max")
_PERCENTILE: Final = re.compile(r"p([1-9]\d?|100|999{0,3}|\d{1,2}\.\d{1,5})")
_DURATION: Final = re.compile(r"([1-9]\d{0,8})([smhd]?)")
_UNITS: Final = {"": 1_000, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Metric(msgspec.Struct, frozen=True):
    """One figure of a point, by its name in the question and the answer."""

    name: str
    percentile: float | None = None
    """0 to 100, exclusive of 0; None for the others."""


def metrics_of(text: str) -> tuple[Metric, ...]:
    """Metrics from their names between commas. Raises InputError for a name that is none."""
    names = text.split(",")
    if len(names) > MOST_METRICS:
        raise _refused("metric", f"metric names {len(names)}; the cap is {MOST_METRICS}")
    if len(set(names)) < len(names):
        raise _refused("metric", "metric names one twice")
    return tuple(_metric(name) for name in names)


def _metric(name: str) -> Metric:
    if name in _SUMS:
        return Metric(name)
    match = _PERCENTILE.fullmatch(name)
    if match is None or not float(match[1]):
        raise _refused(
            "metric",
            f"metric must be of {', '.join(_SUMS)}, p1 to p100, p999 or p9999, or with up to five digits behind a point as "
            f"p99.5, with commas between; not {name[:40]!r}",
        )
    digits = match[1]
    nines = digits.startswith("99") and "." not in digits and len(digits) > 2
    return Metric(name, float(f"{digits[:2]}.{digits[2:]}" if nines else digits))


class Grid(msgspec.Struct, frozen=True):
    """A stretch of time in points of `step_ms` each, from `from_ms` on; the last one may be shorter."""

    from_ms: int
    to_ms: int
    """Exclusive."""
    step_ms: int

    @property
    def points(self) -> int:
        """How many there are."""
        return -(-(self.to_ms - self.from_ms) // self.step_ms)

    @property
    def starts(self) -> list[int]:
        """Where each point begins."""
        return list(range(self.from_ms, self.to_ms, self.step_ms))

    @property
    def pieces(self) -> list[Piece]:
        """The stretch in pieces of rows as wide as may be, where none reaches out of its point."""
        fitting = (width for width in reversed(Width) if not (self.from_ms % width or self.step_ms % width))
        return pieces(self.from_ms, self.to_ms, next(fitting))


def grid_of(from_: str | None, to: str | None, step: str | None, now_ms: int) -> Grid:
    """The grid that a question means at `now_ms`; what it leaves out is chosen. Raises InputError.

    Without `to` it ends with the present minute (or hour, where only whole hours will do), without `from` it spans the
    last hour.
    """
    from_ms, to_ms = span_of(from_, to, now_ms)
    unit = unit_of(from_ms, now_ms)
    step_ms = _step(from_ms, to_ms, unit) if step is None else duration_of("step", step)
    grid = Grid(from_ms, to_ms, step_ms)
    _check_whole("step", step_ms, unit)
    if grid.points > MOST_POINTS:
        raise _refused("step", f"from, to and step make {grid.points} points; the cap is {MOST_POINTS}")
    return grid


def span_of(from_: str | None, to: str | None, now_ms: int) -> tuple[int, int]:
    """First and last (exclusive) millisecond of the stretch that a question means. Raises InputError."""
    given_from = None if from_ is None else time_of("from", from_)
    unit = Width.MINUTE if given_from is None else unit_of(given_from, now_ms)
    to_ms = unit.start_of(now_ms) + unit if to is None else time_of("to", to)
    from_ms = to_ms - DEFAULT_SPAN_MS if given_from is None else given_from
    unit = unit_of(from_ms, now_ms)
    _check_whole("from", from_ms, unit)
    _check_whole("to", to_ms, unit)
    if from_ms >= to_ms:
        raise _refused("to", "to must be later than from")
    return from_ms, to_ms


def unit_of(from_ms: int, now_ms: int) -> Width:
    """What a stretch that begins at `from_ms` must be made of."""
    return Width.HOUR if from_ms < now_ms - MINUTES_SPAN_MS - _SLACK_MS else Width.MINUTE


def _step(from_ms: int, to_ms: int, unit: Width) -> int:
    fitting = (step for step in _STEPS if step >= unit and (to_ms - from_ms) <= DEFAULT_POINTS * step)
    return next(fitting, _STEPS[-1])


def time_of(field: str, text: str) -> int:
    """Milliseconds since the epoch of a parameter. Raises InputError."""
    try:
        return times.from_text(text)
    except ValueError as error:
        raise _refused(field, f"{field} is {error}") from None


def duration_of(field: str, text: str) -> int:
    """Milliseconds of a parameter such as 60, 60s, 5m, 6h or 30d. Raises InputError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise _refused(field, f"{field} must be a number of seconds, or one with a unit as in 90s, 5m, 6h or 30d")
    return int(match[1]) * _UNITS[match[2]]


def _check_whole(field: str, value_ms: int, unit: Width) -> None:
    if not value_ms % unit:
        return
    if unit is Width.MINUTE:
        raise _refused(field, f"{field} must be in whole minutes")
    raise _refused(
        field, f"{field} must be in whole hours where from lies more than {MINUTES_SPAN_MS // Width.DAY} days back"
    )


def check_points(lines: int, grid: Grid, field: str) -> None:
    """Raise InputError where an answer of so many lines would have too many points."""
    if lines * grid.points > MOST_POINTS_IN_ALL:
        message = f"{lines} lines of {grid.points} points each; the cap is {MOST_POINTS_IN_ALL} points in one answer"
        raise _refused(field, message)


def _refused(field: str, message: str) -> InputError:
    return InputError(message, (Finding(None, field, message),))
