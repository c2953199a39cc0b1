"""What the doctor makes of figures. Pure: the figures come from elsewhere."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

Level = Literal["well", "look", "wrong", "skipped"]

GIB: Final = 1024**3
SKEW_LOOK_S, SKEW_WRONG_S = 2.0, 30.0
"""An emitter whose clock is more than 60 s ahead is refused."""
LAG_LOOK_S, LAG_WRONG_S = 5.0, 15.0
"""From 15 s on every system reads UNKNOWN."""
OLDEST: Final = (7, 0)


class Check(NamedTuple):
    """One finding."""

    name: str
    level: Level
    found: str
    advice: str = ""


def clock(skew_s: float, uncertain_s: float, other: str) -> Check:
    """`skew_s`: how far this machine's clock is ahead of `other`'s."""
    way = "ahead of" if skew_s > 0 else "behind"
    found = f"this clock and that of {other} agree within {max(uncertain_s, abs(skew_s)):.1f} s"
    if abs(skew_s) - uncertain_s <= SKEW_LOOK_S:
        return Check("clock", "well", found)
    level: Level = "wrong" if abs(skew_s) > SKEW_WRONG_S else "look"
    advice = "set both clocks by NTP; events that seem more than 60 s ahead are refused, old ones count as late"
    return Check("clock", level, f"this clock is {abs(skew_s):.1f} s {way} that of {other}", advice)


def lag(autoscale: Mapping[str, Any]) -> Iterator[Check]:
    backlog, workers, wanted = autoscale["backlog"], autoscale["workers"], autoscale["desired_workers"]
    age = float(backlog["oldest_age_s"])
    found = f"{backlog['events']:,} events wait, the oldest for {age:.1f} s"
    level: Level = "wrong" if age > LAG_WRONG_S else "look" if age > LAG_LOOK_S else "well"
    advice = f"run more workers (LSO_WORKERS or `lso worker`); {wanted} would keep up" if level != "well" else ""
    yield Check("lag", level, found, advice)
    if not workers:
        yield Check("workers", "wrong", "no worker is alive", "start one: `lso up` brings them, or run `lso worker`")
    elif wanted > workers:
        yield Check(
            "workers", "look", f"{workers} alive, {wanted} wanted", "set LSO_WORKERS, or run `lso worker` elsewhere"
        )
    else:
        yield Check("workers", "well", f"{workers} alive, which is enough")


def version(server: Mapping[str, Any]) -> Check:
    text = str(server.get("valkey_version") or server["redis_version"])
    name = "Valkey" if server.get("valkey_version") else "Redis"
    speaks = tuple(int(part) for part in str(server["redis_version"]).split(".")[:2])
    if speaks < OLDEST:
        return Check("redis version", "wrong", f"{name} {text}", "LSO needs Redis 7.0, or any Valkey: upgrade it")
    return Check("redis version", "well", f"{name} {text}")


def memory(info: Mapping[str, Any]) -> Iterator[Check]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        yield Check("redis policy", "well", "maxmemory-policy is noeviction")
    else:
        yield Check(
            "redis policy",
            "wrong",
            f"maxmemory-policy is {policy}, which drops data",
            "CONFIG SET maxmemory-policy noeviction",
        )
    used, most = int(info["used_memory"]), int(info.get("maxmemory", 0))
    if not most:
        advice = "set maxmemory, so that LSO can refuse in time instead of the machine running out"
        yield Check("redis memory", "look", f"{size(used)} used, no limit", advice)
        return
    level: Level = "wrong" if used >= 0.95 * most else "look" if used >= 0.8 * most else "well"
    advice = "give it more memory (LSO_REDIS_MAXMEMORY), or keep less (LSO_HOT_BYTES)" if level != "well" else ""
    yield Check("redis memory", level, f"{size(used)} of {size(most)} used", advice)


def persistence(info: Mapping[str, Any], fsync: str | None) -> Check:
    if not int(info.get("aof_enabled", 0)):
        return Check(
            "redis aof",
            "wrong",
            "the append-only file is off",
            "CONFIG SET appendonly yes; else a restart loses what was accepted",
        )
    failed = [
        name for name in ("aof_last_write_status", "aof_last_bgrewrite_status") if str(info.get(name, "ok")) != "ok"
    ]
    if failed:
        return Check(
            "redis aof", "wrong", f"{failed[0]} is {info[failed[0]]}", "see Redis' log and the free space of its disk"
        )
    if fsync == "no":
        return Check(
            "redis aof",
            "look",
            "on, appendfsync no",
            "CONFIG SET appendfsync everysec; else a power cut loses half a minute",
        )
    return Check("redis aof", "well", "on" + (f", appendfsync {fsync}" if fsync else ""))


def disk(free: int, total: int, where: str) -> Check:
    found = f"{size(free)} of {size(total)} free at {where}"
    if free < GIB // 4:
        return Check("disk", "wrong", found, "make room: Redis refuses everything once it cannot write")
    if free < GIB or free < total // 20:
        return Check("disk", "look", found, "make room before it runs out")
    return Check("disk", "well", found)


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
