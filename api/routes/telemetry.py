"""LSO's own metrics for Prometheus: the sum over all processes, and gauges of the systems that want attention most."""

import asyncio
from typing import Any, Final

import msgspec
from litestar import Response, get

from api.routes.archive import NEVER, archive_status
from api.service import Asked, Service, service_of
from lso_core.model import times
from lso_core.model.batches import FleetPage
from lso_core.model.errors import NotFoundError, StoreError
from lso_core.model.health import Health
from lso_core.model.snapshots import FleetLine
from lso_core.model.systems import PAGE_MAX
from lso_core.telemetry import gauge_families, render, series

EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"

_line = msgspec.json.Decoder(FleetLine)


class _AsOf(msgspec.Struct):
    as_of: str


_as_of = msgspec.json.Decoder(_AsOf)


@get("/metrics")
async def get_own_metrics(request: Asked) -> Response[str]:
    """Counters summed over all processes, living and gone; they never fall when one dies.

    While Redis is away there is only the gauge that says so: this process' own counters would look like a fall.
    """
    service = service_of(request)
    try:
        samples = await _everything(service)
    except StoreError:
        samples = {}
    samples["lso_redis_circuits_open"] = float(service.breakers.not_closed)
    text = render([*service.telemetry.families(), *gauge_families()], samples)
    return Response(text, media_type=EXPOSITION)


async def _everything(service: Service) -> dict[str, float]:
    """All that the store knows. Raises StoreError."""
    await service.store.telemetry.publish(service.process, "api", service.telemetry.samples())
    counters, gauges = await service.store.telemetry.collect()
    return {**counters, **gauges, **await _archive_gauges(service), **await _system_gauges(service)}


async def _archive_gauges(service: Service) -> dict[str, float]:
    """Sizes of the archive by what it holds, and whether it works; nothing where there is none."""
    if not service.has_archive:
        return {}
    status = await archive_status(service)
    gauges = {"lso_archive_failing": float(status.reason not in {"", NEVER})}
    for name, tier in status.tiers.items():
        gauges[series("lso_archive_files", holds=name)] = float(tier.files)
        gauges[series("lso_archive_bytes", holds=name)] = float(tier.bytes)
    if status.worked_at is not None:
        worked_s = (service.clock.now_ms() - times.from_text(status.worked_at)) / 1_000
        gauges["lso_archive_worked_seconds"] = max(0.0, worked_s)
    return gauges


async def _system_gauges(service: Service) -> dict[str, float]:
    """Gauges of the fleet, and of up to `metrics_systems` systems, worst first."""
    counts, lines = await _worst(service)
    gauges = {series("lso_systems", health=name): float(count) for name, count in counts.items()}
    ages = await asyncio.gather(*(_age_s(service, line.system_id) for line in lines))
    letters = await asyncio.gather(*(service.store.dead_letters.count(line.system_id) for line in lines))
    for line, age_s, count in zip(lines, ages, letters, strict=True):
        gauges.update(_gauges_of(line, age_s, count))
    gauges["lso_snapshot_age_seconds"] = max((age for age in ages if age is not None), default=0.0)
    return gauges


async def _worst(service: Service) -> tuple[dict[str, int], list[FleetLine]]:
    wanted, cursor = service.settings.metrics_systems, None
    lines: list[FleetLine] = []
    while True:
        page: FleetPage = await service.store.reads.fleet(cursor, min(PAGE_MAX, max(1, wanted - len(lines))))
        lines += map(_line.decode, page.lines)
        cursor = page.next
        if cursor is None or len(lines) >= wanted:
            return page.counts, lines[:wanted]


async def _age_s(service: Service, system_id: int) -> float | None:
    """How old the state is that the system's answer shows."""
    try:
        body = (await service.store.reads.health(system_id)).body
    except NotFoundError:
        return None
    return max(0, service.clock.now_ms() - times.from_text(_as_of.decode(body).as_of)) / 1_000


def _gauges_of(line: FleetLine, age_s: float | None, dead_letters: int) -> dict[str, float]:
    values: dict[str, float | None] = {
        "lso_system_health": Health[line.health],
        "lso_system_events": line.total,
        "lso_system_errors": line.errors,
        "lso_system_error_ratio": line.error_rate,
        "lso_system_events_per_second": line.rps,
        "lso_system_p95_latency_seconds": None if line.p95_latency is None else line.p95_latency / 1_000,
        "lso_system_snapshot_age_seconds": age_s,
        "lso_system_dead_letters": dead_letters,
    }
    labels = {"system_id": str(line.system_id), "name": line.name}
    return {series(name, **labels): float(value) for name, value in values.items() if value is not None}


HANDLERS: tuple[Any, ...] = (get_own_metrics,)
