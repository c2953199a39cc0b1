"""URLs of clusters and sentinels, and what becomes of commands whose node moved or went."""

from collections.abc import Iterator

import pytest

from lso_core.model.errors import ConfigurationError, StoreError
from lso_core.model.windows import PARTITIONS
from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.links import connect, connect_queue, parse
from lso_core.store.server import Ask, Server
from tests.redises import RealCluster, running_cluster
from tests.waiting import eventually
from worker.main import run


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    places = parse("rediss+cluster://me:p%40ss@one:7000,two,[::1]:7002")
    assert (("one", 7000), ("two", 6379), ("::1", 7002)) == places.servers
    assert ("me", "p@ss", True) == (places.options["username"], places.options["password"], places.tls)


def test_sentinels_come_with_the_name_of_what_they_watch() -> None:
    places = parse("redis+sentinel://:secret@one,two:26380/observed/3?sentinel_password=other")
    assert (("one", 26379), ("two", 26380)) == places.servers
    assert ("observed", 3, False) == (places.service, places.options["db"], places.tls)
    assert ("secret", {"password": "other"}) == (places.options["password"], places.sentinel_options)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+cluster://:hidden@", "its servers must be host:port"),
        ("redis+cluster://:hidden@one:70000", "its servers must be host:port"),
        ("redis+cluster://:hidden@one,,two", "its servers must be host:port"),
        ("redis+cluster://:hidden@one:7000/1", "a cluster has database 0 only"),
        ("redis+cluster://:hidden@" + ",".join(["one"] * 65), "the most is 64"),
        ("redis+sentinel://:hidden@one:26379", "the name of the master must follow"),
        ("redis+sentinel://:hidden@one:26379/observed/x", "the database after the master's name must be a number"),
        ("redis+magic://:hidden@one", "schemes"),
    ],
)
def test_a_wrong_url_is_refused_by_name_without_its_credentials(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        connect(url)
    assert str(refusal.value).startswith("LSO_REDIS_URL is not a Redis URL: ")
    assert says in str(refusal.value)
    assert "hidden" not in str(refusal.value)


def test_a_worker_on_a_cluster_needs_a_plain_redis_for_its_timetable() -> None:
    with pytest.raises(ConfigurationError, match="LSO_QUEUE_URL must name a plain Redis"):
        connect_queue("redis+cluster://one:7000")
    with pytest.raises(ConfigurationError, match="LSO_QUEUE_URL must name a plain Redis"):
        run(Settings(redis_url="redis+cluster://127.0.0.1:1"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    with running_cluster(replicas=1) as found:
        yield found


async def test_calls_follow_a_slot_that_moves_and_a_master_that_is_replaced(cluster: RealCluster) -> None:
    server = Server.connect(cluster.url)
    where = [keys.stats(p) for p in range(PARTITIONS)]
    await server.run(*(("HSET", key, "added", at) for at, key in enumerate(where)))

    source, target = cluster.masters[1], cluster.masters[2]
    moved = next(p for p, key in enumerate(where) if cluster.owner(key) is source)
    cluster.move(where[moved], source, target)
    assert [b"%d" % p for p in range(PARTITIONS)] == await server.run(*(("HGET", key, "added") for key in where))
    [(now_ms, _)] = await server.timed(("HGET", where[moved], "added"))
    assert now_ms > 0
    assert await server.one(Ask(("DBSIZE",), where[moved])) == target.ask("DBSIZE")

    victim = cluster.masters[0]
    lost = [key for key in where if cluster.owner(key) is victim]
    spared = [key for key in where if key not in lost]
    victim.ask("WAIT", 1, 1_000)
    victim.kill()
    answers = await server.reached(*(("HGET", key, "added") for key in (*lost, *spared)))
    assert all(isinstance(one, StoreError) for one in answers[: len(lost)])
    assert all(isinstance(one, bytes) for one in answers[len(lost) :])

    async def back() -> bool:
        answers = await server.reached(*(("HGET", key, "added") for key in lost))
        return not any(isinstance(one, StoreError) for one in answers)

    await eventually(back, "the replica has taken over", within=30)
    assert [b"%d" % p for p in range(PARTITIONS)] == await server.run(*(("HGET", key, "added") for key in where))
    await server.close()
