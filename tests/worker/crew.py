"""Workers for tests, turned by hand."""

from collections.abc import Callable

from lso_core.model.windows import PARTITIONS
from lso_core.settings import Settings
from lso_core.store.server import Server
from tests.waiting import eventually
from worker.folding import Folder, FoldReport


class Crew:
    """Workers, each over connections of its own."""

    def __init__(self, connect: Callable[[], Server], settings: Settings) -> None:
        self._connect = connect
        self._settings = settings

    def worker(self, name: str, settings: Settings | None = None) -> Folder:
        """A worker that holds nothing yet."""
        return Folder(self._connect(), settings or self._settings, name)

    async def alone(self, name: str = "w1", settings: Settings | None = None) -> Folder:
        """A worker that holds every partition."""
        folder = self.worker(name, settings)
        report = await folder.tend()
        assert report.held == PARTITIONS
        return folder


def held(folder: Folder) -> set[int]:
    """The partitions that a worker thinks are its own."""
    return set(folder._leases)


async def settle(*folders: Folder, within: float = 5.0) -> list[int]:
    """Tend by turns until every partition is held and the shares are even; how many each holds, sorted."""

    async def even() -> bool:
        for folder in folders:
            await folder.tend()
            shares = [held(one) for one in folders]
            assert sum(map(len, shares)) == len(set().union(*shares)), "a partition is held twice"
        sizes = [len(held(folder)) for folder in folders]
        return sum(sizes) == PARTITIONS and max(sizes) - min(sizes) <= 1

    await eventually(even, "every partition is held and the shares are even", within)
    return sorted(len(held(folder)) for folder in folders)


async def fold_all(folder: Folder) -> FoldReport:
    """Fold until there is nothing left to do; the sum of the reports."""
    total = FoldReport()
    for _ in range(1_000):
        report = await folder.fold_once()
        total = FoldReport(
            total.systems + report.systems,
            total.entries + report.entries,
            total.events + report.events,
            total.fenced + report.fenced,
            total.parked + report.parked,
            total.dead + report.dead,
        )
        if report.systems + report.fenced + report.parked == 0:
            return total
    raise AssertionError("folding does not end")
