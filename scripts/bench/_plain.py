"""The service that a team writes first: FastAPI, Pydantic and SQLite, health computed from the rows when it is asked.

    python -m scripts.bench._plain FILE PORT

It needs what scripts/bench/requirements.lock lists and nothing of LSO. One process, as SQLite has one writer; a connection
kept open, a write-ahead log without waiting for the disk, an index for the question: plain, not a straw man.
"""

import contextlib
import math
import sqlite3
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field

SCHEMA = """
create table if not exists events (
    system_id integer not null, at real not null, run_id text, stage text, event_type text not null,
    status text not null, latency_ms real, payload text
);
create index if not exists events_by_time on events (system_id, at);
"""
INSERT = "insert into events values (?, ?, ?, ?, ?, ?, ?, ?)"


class Event(BaseModel):
    """One observation."""

    system_id: int
    ts: datetime
    run_id: str = Field(max_length=200)
    stage: str = Field(max_length=200)
    event_type: str = Field(max_length=200)
    status: Literal["ok", "error"]
    latency_ms: float = Field(ge=0)
    payload: dict[str, Any]

    def row(self, system_id: int) -> tuple[Any, ...]:
        """As it is stored."""
        payload = str(self.payload)
        at = self.ts.timestamp()
        return system_id, at, self.run_id, self.stage, self.event_type, self.status, self.latency_ms, payload


class Batch(BaseModel):
    """The body of a POST."""

    events: list[Event]


def create_app(file: str) -> FastAPI:
    """The service on a database file."""
    app = FastAPI()
    database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    database.execute("pragma journal_mode = wal")
    database.execute("pragma synchronous = normal")
    database.executescript(SCHEMA)

    @app.post("/systems/{system_id}/events", status_code=202)
    async def post_events(system_id: int, batch: Batch) -> dict[str, int]:
        with transaction(database):
            database.executemany(INSERT, [event.row(system_id) for event in batch.events])
        return {"accepted": len(batch.events)}

    @app.get("/systems/{system_id}/health")
    async def health(system_id: int, window_s: float = 3600.0) -> dict[str, Any]:
        return health_of(database, system_id, time.time() - window_s)

    return app


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing."""
    database.execute("begin")
    try:
        yield
    except BaseException:
        database.execute("rollback")
        raise
    database.execute("commit")


def health_of(database: sqlite3.Connection, system_id: int, since: float) -> dict[str, Any]:
    """Total, errors and the 95th percentile of the latency in the window."""
    where, given = "from events where system_id = ? and at >= ?", (system_id, since)
    total, errors = database.execute(f"select count(*), sum(status = 'error') {where}", given).fetchone()
    rank = max(0, math.ceil(0.95 * total) - 1)
    p95 = database.execute(f"select latency_ms {where} order by latency_ms limit 1 offset ?", (*given, rank)).fetchone()
    return {"total": total, "errors": errors or 0, "p95_latency": p95[0] if p95 else None}


if __name__ == "__main__":
    uvicorn.run(
        create_app(sys.argv[1]),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        log_level="error",
        access_log=False,
    )
