"""Whose archive it is: ids of systems mean nothing beside another Redis."""

import asyncio
from typing import Final

import msgspec

from lso_core.archive.files import Files
from lso_core.model.errors import ArchiveError
from lso_core.store.archiving import Archiving

FILE: Final = "lso-archive.json"


class _Claim(msgspec.Struct, frozen=True):
    name: str


class Claim:
    """This Redis' claim to an archive."""

    def __init__(self, archiving: Archiving, files: Files) -> None:
        self._archiving = archiving
        self._files = files
        self._made = False

    async def make(self) -> None:
        """See that the archive is this Redis' own. Raises ArchiveError where it is another's, or does not answer."""
        if self._made:
            return
        name = await self._archiving.name()
        try:
            found = msgspec.json.decode(await asyncio.to_thread(self._files.read, FILE), type=_Claim).name
        except FileNotFoundError:
            found = ""
        except msgspec.MsgspecError:
            raise ArchiveError(f"{FILE} in the archive at {self._files.where} cannot be read") from None
        if found not in {"", name}:
            raise ArchiveError(
                f"the archive at {self._files.where} belongs to another Redis ({found}, not {name}); "
                "move it away or name another place with LSO_ARCHIVE_URL"
            )
        if not found:
            await asyncio.to_thread(self._files.write, FILE, msgspec.json.encode(_Claim(name)))
        self._made = True
