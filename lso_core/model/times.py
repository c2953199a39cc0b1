"""Times as LSO writes them: RFC 3339 in UTC with milliseconds, always `TEXT_LENGTH` characters."""

import datetime as dt
import functools
import re

TEXT_LENGTH = 24
"""`2025-12-14T14:33:10.529Z`"""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MS = dt.timedelta(milliseconds=1)
EARLIEST_MS = (dt.datetime.min.replace(tzinfo=dt.UTC) - _EPOCH) // _MS
LATEST_MS = (dt.datetime.max.replace(tzinfo=dt.UTC) - _EPOCH) // _MS
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)


def to_text(ms: int) -> str:
    """`ms` since the epoch as RFC 3339 text of fixed width."""
    seconds, rest = divmod(ms, 1_000)
    return f"{_second(seconds)}.{rest:03d}Z"


@functools.lru_cache(4_096)
def _second(seconds: int) -> str:
    """A whole second, without what follows it: the times of many systems lie in the same few."""
    return (_EPOCH + dt.timedelta(seconds=seconds)).isoformat()[: -len("+00:00")]


def to_text_or_none(ms: int | None) -> str | None:
    """As `to_text`, with None for a time that has not been."""
    return None if ms is None else to_text(ms)


def earliest(*moments: int | None) -> int | None:
    """The first of the moments that there are."""
    return min((one for one in moments if one is not None), default=None)


def from_text(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 date-time; digits past the millisecond are cut off.

    Stricter than `datetime.fromisoformat`, which also reads dates alone and basic format. Raises ValueError, also for
    a time whose offset carries it out of the years 1 to 9999: `to_text` could not write it again.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 date-time such as 2025-12-14T14:33:10.529Z")
    year, month, day, hour, minute, second, fraction, sign, off_hours, off_minutes = match.groups()
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    local = dt.datetime(  # raises ValueError for a day or an hour that is none
        int(year), int(month), int(day), int(hour), int(minute), int(second), micros, tzinfo=dt.UTC
    )
    ms = (local - _EPOCH) // _MS - _offset_ms(sign, off_hours, off_minutes)
    if not EARLIEST_MS <= ms <= LATEST_MS:
        raise ValueError("a time outside of the years 1 to 9999 in UTC")
    return ms


def _offset_ms(sign: str | None, hours: str | None, minutes: str | None) -> int:
    if sign is None or hours is None or minutes is None:
        return 0
    if int(hours) > 23 or int(minutes) > 59:
        raise ValueError("an offset beyond 23:59")
    return (-1 if sign == "-" else 1) * (int(hours) * 60 + int(minutes)) * 60_000
