"""The archive as a process that answers questions sees it: within memory and time."""

import contextlib
from collections.abc import Callable
from typing import Any, Final, TypeVar

from lso_core.archive.duck import Duck, Limits
from lso_core.archive.files import Files, find_files
from lso_core.model.errors import ArchiveError
from lso_core.settings import Settings

AGAIN: Final = 4
"""How often to look again where files went away meanwhile: small ones are merged to larger ones."""

Found = TypeVar("Found")


class Warm:
    """The warm tier, read."""

    def __init__(self, settings: Settings) -> None:
        self._files: Files | None = find_files(settings)
        self.limits = Limits(settings.archive_memory, settings.archive_timeout)
        self.duck = Duck(self.limits)

    @property
    def there(self) -> bool:
        """Whether there is an archive."""
        return self._files is not None

    @property
    def files(self) -> Files:
        """The archive's files. Raises ArchiveError where it is off."""
        if self._files is None:
            raise ArchiveError("this process reads no archive (LSO_ARCHIVE=off, or its packages are not installed)")
        return self._files

    def patiently(self, question: Callable[..., Found], *about: Any) -> Found:
        """The answer to a question, asked again where it meets a file that is gone. Raises ArchiveError. Blocks."""
        for _ in range(AGAIN):
            with contextlib.suppress(FileNotFoundError):
                return question(*about)
        raise ArchiveError("files of the archive went away while they were read; try again")
