"""Everything that LSO refuses or cannot do, as one tree.

::

    LsoError
    ├── InputError                422  the caller's input is wrong; carries every finding
    │   ├── KeyReuseError         422  an idempotency key came back with another body
    │   └── FutureEventError      422  a `ts` runs too far ahead of the arrival
    ├── TooLargeError             413  a size is over its cap
    ├── UnsupportedTypeError      415  a Content-Type or Content-Encoding LSO does not read
    ├── NotFoundError             404  no such system
    ├── ConflictError             409  a system of that name exists
    ├── UnauthorizedError         401  no key, or an unknown one
    ├── ForbiddenError            403  the key's role does not reach this far
    ├── RateLimitedError          429  over the system's rate; carries `retry_after_s`
    ├── UnavailableError          503  not able now; carries `retry_after_s`
    │   ├── ArchiveError          503  the warm tier is off, full, away or too slow
    │   ├── BacklogFullError      503  a backlog cap is reached; names it
    │   └── StoreError            503  Redis is away, loading, full or answering nonsense
    │       └── BadKeyError       503  a key of one system holds something else than it should
    └── ConfigurationError        (never over HTTP) a process cannot start like this: one sentence
        └── StoreUnfitError       an outside Redis that is too old, evicts, or belongs to another layout

Foreign errors are translated where they enter (`lso_core.store` for Redis'); the HTTP edge turns each class into
one row of problem+json, and a test fails on a class without a row.
"""

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong with one event (or one field) of a request."""

    index: int | None
    """Position of the event in the batch, from 0; None where the finding is about the request as a whole."""
    field: str
    """The field's name as in the JSON, `payload` for anything inside it, "" for the event itself."""
    message: str
    """One sentence that names the limit."""


class LsoError(Exception):
    """Root of the tree. `str(error)` is a sentence for the person who reads it."""


class InputError(LsoError):
    """The caller's input is wrong. `findings` names what, at most `MAX_FINDINGS` of them."""

    MAX_FINDINGS = 100

    def __init__(self, detail: str, findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(detail)
        self.findings = findings[: self.MAX_FINDINGS]


class KeyReuseError(InputError):
    """An `Idempotency-Key` came back with another body."""


class FutureEventError(InputError):
    """Some `ts` runs too far ahead of the arrival; those after `latest_allowed_ms` do."""

    def __init__(self, detail: str, latest_allowed_ms: int) -> None:
        super().__init__(detail)
        self.latest_allowed_ms = latest_allowed_ms


class TooLargeError(LsoError):
    """A size is over its cap; the message names both."""


class UnsupportedTypeError(LsoError):
    """A Content-Type or Content-Encoding that LSO does not read."""


class NotFoundError(LsoError):
    """No such system."""


class ConflictError(LsoError):
    """A system of that name exists already."""

    def __init__(self, detail: str, system_id: int | None = None) -> None:
        super().__init__(detail)
        self.system_id = system_id


class UnauthorizedError(LsoError):
    """No API key, or an unknown one."""


class ForbiddenError(LsoError):
    """The API key's role does not reach this far."""


class RateLimitedError(LsoError):
    """More events a second than `LSO_RATE_EVENTS` allows the system."""

    def __init__(self, detail: str, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class UnavailableError(LsoError):
    """Not able now; the same request may succeed in `retry_after_s` seconds."""

    def __init__(self, detail: str, retry_after_s: int = 2) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class ArchiveError(UnavailableError):
    """The warm tier cannot be written or read now: it is off, full, away, or the question is too large for its limits."""


class BacklogFullError(UnavailableError):
    """A backlog cap is reached. Nothing accepted is dropped; new events wait until folding has caught up."""


class StoreError(UnavailableError):
    """Redis is away, loading, out of memory, or answered something that is not an answer."""


class BadKeyError(StoreError):
    """A key holds something else than LSO put there. Redis itself is well, and so are other systems."""


class ConfigurationError(LsoError):
    """A process cannot start like this. The message is one sentence that names the variable or option."""


class StoreUnfitError(ConfigurationError):
    """The Redis named is too old, evicts keys, or was laid out with other constants."""
