"""DuckDB, as the archive asks it: with a memory limit, a deadline, and nothing but the files it is told.

A connection for each request: opening one takes some milliseconds, and nothing is left behind. Everything here blocks.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from lso_core.model.errors import ArchiveError

THREADS: Final = 2


class Limits(msgspec.Struct, frozen=True):
    """What one question may take."""

    memory: int
    """Bytes."""
    timeout_s: float

    @property
    def deadline(self) -> float:
        """When a question that begins now must be answered, by the monotonic clock."""
        return time.monotonic() + self.timeout_s

    def check(self, deadline: float, needed: int) -> None:
        """Raise ArchiveError past the deadline, or for more bytes than there may be."""
        if time.monotonic() > deadline:
            raise self.late()
        if needed > self.memory:
            raise self.large()

    def late(self) -> ArchiveError:
        """The error past the deadline."""
        sentence = f"the archive was not read within {self.timeout_s:g} s (LSO_ARCHIVE_TIMEOUT); ask for less of it"
        return ArchiveError(sentence)

    def large(self) -> ArchiveError:
        """The error past the memory."""
        return ArchiveError(f"the answer does not fit in {self.memory} bytes (LSO_ARCHIVE_MEMORY); ask for less of it")


class Duck:
    """Questions about Parquet files within limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def rows(self, sql: str, values: Sequence[Any], deadline: float) -> list[tuple[Any, ...]]:
        """The rows of one answer. Raises ArchiveError past the deadline or the memory, FileNotFoundError for lost files."""
        with self.asking(deadline) as connection:
            found: list[tuple[Any, ...]] = connection.execute(sql, list(values)).fetchall()
            return found

    @contextmanager
    def asking(self, deadline: float) -> Iterator[Any]:
        """A connection for questions that belong together; errors as of `rows`."""
        import duckdb  # noqa: PLC0415 - takes 50 ms and 60 MB, and only for who asks the archive

        config: dict[str, str | int | float | list[str]] = {
            "memory_limit": f"{self.limits.memory}B",
            "threads": THREADS,
            "temp_directory": "",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        connection = duckdb.connect(":memory:", config=config)
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield connection
        except duckdb.InterruptException:
            raise self.limits.late() from None
        except duckdb.OutOfMemoryException:
            raise self.limits.large() from None
        except duckdb.IOException as error:
            raise FileNotFoundError(str(error)) from None
        finally:
            timer.cancel()
            connection.close()
