"""A viewer who applies what he is sent knows the fleet, through whatever happens and wherever he comes back."""

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.live.frames import GZIP_HEAD, LINES, Filter, Frame, View, heartbeat
from api.live.hub import BUFFERED, Viewer
from api.live.picture import SKEW_MS, Change, Picture
from lso_core.model.batches import FleetShare
from lso_core.model.windows import PARTITIONS, partition_of

STALE_MS = 15_000
STATES = ["UNHEALTHY", "DEGRADED", "UNKNOWN", "OK"]
FILTERS = [
    Filter(),
    Filter(systems=frozenset({1, 2, 33})),
    Filter(states=frozenset({"OK", "UNKNOWN"})),
    Filter(tag="a"),
    Filter(frozenset({1, 33, 65}), frozenset({"UNHEALTHY"}), "b"),
]


def body_of(system_id: int, health: str, tags: list[str], total: int) -> bytes:
    line = {
        "system_id": system_id, "name": f"s{system_id}", "health": health, "since": "2025-12-14T14:33:10.529Z", "reason": "so",
        "total": total, "errors": 0, "error_rate": None, "rps": 0.0, "p95_latency": None, "last_event_at": None,
        "tags": tags, "observer_behind": False,
    }  # fmt: skip
    return json.dumps(line, separators=(",", ":")).encode()


class Fleet:
    """The truth, and what a store would say of it."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.lines: dict[int, bytes] = {}
        self.moved: dict[int, int] = {}
        self.positions = [0] * PARTITIONS
        self.stale: set[int] = set()

    def put(self, system_id: int, health: str, tags: list[str]) -> None:
        p = partition_of(system_id)
        self.positions[p] += 1
        self.moved[system_id] = self.positions[p]
        self.lines[system_id] = body_of(system_id, health, tags, self.positions[p])

    def drop(self, system_id: int) -> None:
        self.lines.pop(system_id, None)

    def answer(self, asked: Any) -> list[FleetShare]:
        return [self._share(p, position) for p, position in enumerate(asked)]

    def _share(self, p: int, position: int) -> FleetShare:
        mine = {one: body for one, body in self.lines.items() if partition_of(one) == p}
        lines = mine if position < 0 else {one: body for one, body in mine.items() if self.moved[one] > position}
        watermark = self.now_ms - (60_000 if p in self.stale else 100)
        return FleetShare(self.now_ms + p % 3, watermark, self.positions[p], len(mine), position < 0, dict(lines))

    def truth(self, wanted: Filter) -> dict[int, tuple[str, int, bool]]:
        """(health, total, observer behind) of each system that passes."""
        found = {}
        for system_id, body in self.lines.items():
            line = json.loads(body)
            behind = partition_of(system_id) in self.stale
            health = "UNKNOWN" if behind else line["health"]
            if (
                (not wanted.systems or system_id in wanted.systems)
                and (not wanted.states or health in wanted.states)
                and (not wanted.tag or wanted.tag in line["tags"])
            ):
                found[system_id] = (health, line["total"], behind)
        return found


class Client:
    """Reads a stream as anybody would."""

    def __init__(self) -> None:
        self.known: dict[int, Any] = {}
        self.last_id: int | None = None
        self.counts: dict[str, int] = {}

    def read(self, frames: list[Frame]) -> None:
        for frame in frames:
            fields = dict(line.split(": ", 1) for line in frame.plain.decode().strip().split("\n"))
            if "id" in fields:
                self.last_id = int(fields["id"])
            data = json.loads(fields["data"])
            if fields["event"] == "snapshot":
                self.known = {}
            if fields["event"] in {"snapshot", "change"}:
                self.counts = data["counts"]
                self.known.update({line["system_id"]: line for line in data["items"]})
                for one in data["gone"]:
                    self.known.pop(one, None)

    def sees(self) -> dict[int, tuple[str, int, bool]]:
        return {one: (line["health"], line["total"], line["observer_behind"]) for one, line in self.known.items()}


IDS = st.sampled_from([1, 2, 3, 33, 34, 65])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), IDS, st.sampled_from(STATES), st.lists(st.sampled_from("ab"), max_size=2)),
        st.tuples(st.just("drop"), IDS),
        st.tuples(st.just("stale"), IDS),
        st.tuples(st.just("fresh"), IDS),
        st.tuples(st.just("look"), st.integers(1, 4_000)),
        st.tuples(st.just("leave"), st.integers(0, len(FILTERS) - 1)),
        st.tuples(st.just("come_back"), st.integers(0, len(FILTERS) - 1)),
    ),
    max_size=40,
)


class Scene:
    """A fleet, the picture of it, and a viewer of each filter who may be away for a while."""

    def __init__(self) -> None:
        self.fleet, self.picture = Fleet(), Picture(STALE_MS)
        self.fleet.put(1, "OK", ["a"])
        self.picture.take(self.fleet.answer(self.picture.positions()))
        self.views = [View(wanted, self.picture) for wanted in FILTERS]
        self.clients, self.away = [Client() for _ in FILTERS], [False] * len(FILTERS)
        for client, view in zip(self.clients, self.views, strict=True):
            client.read(view.snapshot())

    def put(self, system_id: int, health: str, tags: list[str]) -> None:
        self.fleet.put(system_id, health, tags)

    def drop(self, system_id: int) -> None:
        self.fleet.drop(system_id)

    def stale(self, system_id: int) -> None:
        self.fleet.stale.add(partition_of(system_id))

    def fresh(self, system_id: int) -> None:
        self.fleet.stale.discard(partition_of(system_id))

    def leave(self, at: int) -> None:
        self.away[at] = True

    def come_back(self, at: int) -> None:
        last = self.clients[at].last_id
        assert last is not None
        change = self.picture.since(last)
        self.clients[at].read(self.views[at].snapshot() if change is None else self.views[at].resumed(change))
        self.away[at] = False

    def look(self, ms: int) -> None:
        self.fleet.now_ms += ms
        change = self.picture.take(self.fleet.answer(self.picture.positions()))
        for at, view in enumerate(self.views):
            frames = view.follow(change)
            if not self.away[at]:
                self.clients[at].read(frames or [heartbeat(self.picture)])


@given(STEPS)
def test_what_is_sent_adds_up_to_what_is(steps: list[Any]) -> None:
    scene = Scene()
    for name, *given_ in steps:
        getattr(scene, name)(*given_)
    for at in range(len(FILTERS)):
        scene.come_back(at)
    for _ in range(
        PARTITIONS + 1
    ):  # a deletion shows when the number of lines does not fit, or at the partition's turn
        scene.look(1_000)
    for wanted, client in zip(FILTERS, scene.clients, strict=True):
        assert scene.fleet.truth(wanted) == client.sees()
    everything = [health for health, _, _ in scene.fleet.truth(Filter()).values()]
    assert {state: everything.count(state) for state in STATES} == scene.clients[0].counts


def test_who_comes_back_gets_only_what_is_new() -> None:
    fleet, picture = Fleet(), Picture(STALE_MS)
    for one in range(1, 9):
        fleet.put(one, "OK", [])
    picture.take(fleet.answer(picture.positions()))
    view, client = View(Filter(), picture), Client()
    client.read(view.snapshot())
    fleet.now_ms += SKEW_MS + 5_000
    picture.take(fleet.answer(picture.positions()))
    before = picture.as_of_ms
    fleet.now_ms += SKEW_MS + 5_000
    fleet.put(3, "UNHEALTHY", [])
    view.follow(picture.take(fleet.answer(picture.positions())))
    change = picture.since(before)
    assert change == Change({3}, set())
    assert [b"change", b"change"] == [f.plain.split(b"event: ")[1].split(b"\n")[0] for f in view.resumed(change)] * 2
    assert picture.since(fleet.now_ms - 60_000) is None
    assert picture.since(fleet.now_ms + 60_000) is None


def test_a_large_picture_comes_in_parts_of_which_only_the_last_can_be_resumed_from() -> None:
    fleet, picture = Fleet(), Picture(STALE_MS)
    for one in range(1, 2 * LINES + 10):
        fleet.put(one, STATES[one % 4], [])
    picture.take(fleet.answer(picture.positions()))
    parts = View(Filter(), picture).snapshot()
    assert [b"event: snapshot", b"event: change", b"id: "] == [part.plain[: len(head)] for part, head in zip(
        parts, (b"event: snapshot", b"event: change", b"id: "), strict=True)]  # fmt: skip
    client = Client()
    client.read(parts)
    assert fleet.truth(Filter()) == client.sees()
    healths = [line["health"] for line in client.known.values()]
    assert sorted(healths, key=STATES.index) == healths


def test_compressed_frames_make_one_stream_wherever_it_begins() -> None:
    frames = [Frame(b"id: %d\nevent: change\ndata: %s\n\n" % (at, b"abc" * 500)) for at in range(4)]
    unpacker = zlib.decompressobj(31)
    found = unpacker.decompress(GZIP_HEAD)
    for frame in frames[2:]:
        piece = unpacker.decompress(frame.gzipped)
        assert piece == frame.plain  # each at once, not with the next
        found += piece
    assert len(frames[0].gzipped) < len(frames[0].plain) / 10


@pytest.mark.parametrize("gzip", [False, True])
async def test_a_viewer_that_does_not_read_is_cut_off(gzip: bool) -> None:
    viewer, cut_off = Viewer(gzip=gzip), []
    for number in range(BUFFERED + 1):
        viewer.put([Frame(b"data: %d\n\n" % number)])
        cut_off.append(viewer.cut_off)
    assert [False] * BUFFERED + [True] == cut_off
    assert 1 == len([chunk async for chunk in viewer.chunks()])
