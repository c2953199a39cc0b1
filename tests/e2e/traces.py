"""What a system leaves in Redis, by the names of keys and by the members of keys that systems share."""

from collections.abc import Iterator
from typing import Any

import redis


def keys_of(store: redis.Redis, system_id: int) -> list[str]:
    """Keys that are the system's own: after the hash tag, its id is a part of their name."""
    wanted = str(system_id)
    return sorted(key for key in _keys(store) if wanted in key.split(":")[2:])


def mentions_of(store: redis.Redis, system_id: int) -> list[str]:
    """Shared keys of the partition, and of the registry, that have the system as a member."""
    tags = ("{reg}", f"{{p{system_id % 32:02d}}}")
    shared = [key for key in _keys(store) if key.split(":")[1] in tags and len(key.split(":")) == 3]
    return sorted(key for key in shared if system_id in _members(store, key))


def _keys(store: redis.Redis) -> Iterator[str]:
    yield from (key.decode() for key in store.scan_iter(match="lso:*", count=1_000))


def _members(store: redis.Redis, key: str) -> set[int]:
    """The members of a sorted set or set and the fields of a hash that are numbers."""
    kind = store.type(key)
    found: Any = []
    if kind == b"zset":
        found = store.zrange(key, 0, -1)
    elif kind == b"set":
        found = store.smembers(key)
    elif kind == b"hash":
        found = store.hkeys(key)
    return {int(last) for name in found if (last := name.rpartition(b":")[2]).isdigit()}


def groups(store: redis.Redis, system_id: int) -> list[dict[str, Any]]:
    """The consumer groups of the system's streams, as Redis shows them to the outside world."""
    streams = [key for key in keys_of(store, system_id) if store.type(key) == b"stream"]
    found: list[Any] = [store.xinfo_groups(stream) for stream in streams]
    return [dict(group) for shown in found for group in shown]
