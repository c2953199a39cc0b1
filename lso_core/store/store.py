"""All of what is stored in one hand."""

from lso_core.model.errors import ConfigurationError
from lso_core.settings import Settings
from lso_core.store.breaker import Breakers
from lso_core.store.counters import TelemetryStore
from lso_core.store.dead_letters import DeadLetters
from lso_core.store.history import History
from lso_core.store.ingest import Ingest
from lso_core.store.reads import Reads
from lso_core.store.rebuilds import Rebuilds
from lso_core.store.registry import Registry
from lso_core.store.runs import RunStore
from lso_core.store.server import Server


class Store:
    """One process' view of what is stored, by room: registry, ingest, reads, runs, dead letters, history, rebuilds, telemetry."""

    def __init__(self, server: Server, settings: Settings) -> None:
        self.server = server
        self.registry = Registry(server, settings)
        self.ingest = Ingest(server, settings)
        self.reads = Reads(server, settings)
        self.runs = RunStore(server)
        self.dead_letters = DeadLetters(server)
        self.history = History(server)
        self.rebuilds = Rebuilds(server)
        self.telemetry = TelemetryStore(server, self.reads)

    @classmethod
    async def open(cls, settings: Settings, breakers: Breakers | None = None) -> "Store":
        """Connect to `settings.redis_url`, behind `breakers`. Raises ConfigurationError or StoreError."""
        if not settings.redis_url:
            raise ConfigurationError("LSO_REDIS_URL is not set; `lso up` starts an embedded server and sets it")
        store = cls(await Server.open(settings.redis_url, breakers), settings)
        await store.ingest.refresh()
        return store

    async def close(self) -> None:
        """Give the connections back."""
        await self.server.close()
