"""A small LSO for tests of the client: the HTTP contract with its caps and its memory of keys, over real sockets."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import zlib
from collections import Counter
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LIFECYCLE = {"start", "heartbeat", "end", "log"}
FIELDS = {"event_type", "status", "latency_ms", "ts", "run_id", "stage", "payload", "system_id"}
TS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MAX_BODY = 16 * 1024 * 1024
MAX_EVENTS = 10_000
MAX_LATENCY_MS = 604_800_000

Answer = tuple[int, dict[str, Any]]


class Observatory:
    """What the server knows. `events` holds every accepted event, by system id, in order."""

    def __init__(self) -> None:
        self.systems: dict[str, int] = {}
        self.events: dict[int, list[dict[str, Any]]] = {}
        self.keys: dict[tuple[int, str], tuple[bytes, dict[str, Any]]] = {}
        self.duplicates = 0
        self.api_key = ""
        self.max_body = MAX_BODY
        self.registered = 0
        self.lookups = 0
        self.refuse_value: object = None
        """Events whose payload has `n` equal to this are refused."""
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.observatory = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str) -> int:
        """Register a system."""
        with self._lock:
            system_id = self.systems[name] = len(self.systems) + 1
            self.events[system_id] = []
            return system_id

    def of(self, name: str) -> list[dict[str, Any]]:
        """Events accepted for the system of that name."""
        return list(self.events.get(self.systems.get(name, 0), []))

    def numbers(self, name: str) -> Counter[int]:
        """How often each `n` in a payload was counted."""
        return Counter(event["payload"]["n"] for event in self.of(name) if "n" in event.get("payload", {}))

    def get(self, path: str, query: dict[str, list[str]]) -> Answer:
        if path == "/systems":
            self.lookups += 1
            names = query.get("name") or list(self.systems)
            return 200, {
                "items": [{"system_id": self.systems[n], "name": n} for n in names if n in self.systems],
                "next": None,
            }
        if path == "/health":
            return 200, {"counts": {"OK": len(self.systems)}, "items": [], "next": None}
        found = re.fullmatch(r"/systems/(\d+)/health", path)
        if found and int(found[1]) in self.events:
            return 200, {"system_id": int(found[1]), "health": "OK", "total": len(self.events[int(found[1])])}
        found = re.fullmatch(r"/systems/(\d+)/events", path)
        if found and int(found[1]) in self.events:
            return 200, {"items": self.events[int(found[1])][::-1], "next": None}
        return _problem(404, "no such thing")

    def register(self, body: bytes) -> Answer:
        name = json.loads(body)["name"]
        if name in self.systems:
            return _problem(409, f"a system named {name} exists")
        self.registered += 1
        return 201, {"system_id": self.add(name), "name": name}

    def ingest(self, system_id: int, key: str, body: bytes) -> Answer:
        if system_id not in self.events:
            return _problem(404, f"no system {system_id}")
        if len(body) > self.max_body:
            return _problem(413, f"the body is over {self.max_body} bytes")
        try:
            events = [json.loads(line, parse_constant=_refuse_constant) for line in body.decode().split("\n") if line]
        except ValueError as error:
            return _problem(422, f"malformed: {error}")
        errors = [finding for index, event in enumerate(events) for finding in self._findings(index, event)]
        if errors or not 0 < len(events) <= MAX_EVENTS:
            return 422, {"title": "invalid", "status": 422, "detail": "the batch is refused", "errors": errors[:100]}
        return self._append(system_id, key, body, events)

    def _append(self, system_id: int, key: str, body: bytes, events: list[dict[str, Any]]) -> Answer:
        digest = hashlib.sha256(body).digest()
        with self._lock:
            known = self.keys.get((system_id, key))
            if known is not None:
                self.duplicates += 1
                return (
                    (202, {**known[1], "duplicate": True})
                    if known[0] == digest
                    else _problem(422, "the key came with another body")
                )
            answer = {"accepted": len(events), "duplicate": False, "entries": ["1-0", "1-0"]}
            if key:
                self.keys[system_id, key] = (digest, answer)
            self.events[system_id] += events
            return 202, answer

    def _findings(self, index: int, event: Any) -> list[dict[str, Any]]:
        if not isinstance(event, dict):
            return [{"index": index, "field": "", "message": "not an object"}]
        wrong = [field for field in event if field not in FIELDS]
        wrong += [field for field in ("event_type", "stage", "run_id") if not _is_name(event, field)]
        wrong += ["status"] * (event.get("status") not in {"ok", "error"})
        wrong += ["latency_ms"] * (not _is_latency(event))
        wrong += ["ts"] * (not _is_ts(event))
        wrong += ["payload"] * (not self._is_payload(event))
        return [{"index": index, "field": field, "message": f"{field} is wrong"} for field in wrong]

    def _is_payload(self, event: dict[str, Any]) -> bool:
        payload = event.get("payload", {})
        if not isinstance(payload, dict) or (self.refuse_value is not None and payload.get("n") == self.refuse_value):
            return False
        size = len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode())
        return size <= 16 * 1024 and depth(payload) <= 32


def depth(value: Any) -> int:
    """Containers within containers."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def _is_name(event: dict[str, Any], field: str) -> bool:
    if field not in event:
        return field != "event_type"
    return isinstance(event[field], str) and 0 < len(event[field].encode()) <= 200


def _is_latency(event: dict[str, Any]) -> bool:
    if "latency_ms" not in event:
        return event.get("event_type") in LIFECYCLE
    return isinstance(event["latency_ms"], int | float) and 0 <= event["latency_ms"] <= MAX_LATENCY_MS


def _is_ts(event: dict[str, Any]) -> bool:
    if "ts" not in event:
        return True
    return bool(TS.fullmatch(event["ts"])) and datetime.fromisoformat(event["ts"]).timestamp() < time.time() + 60


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _problem(status: int, detail: str) -> Answer:
    return status, {"type": "about:blank", "title": "problem", "status": status, "detail": detail}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        self._say(self._guard() or self._lso().get(place.path, parse_qs(place.query)))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Type") == "application/json" and self.path.endswith("/events"):
            events = json.loads(body)["events"]
            body = b"\n".join(json.dumps(event).encode() for event in events)
        if self.headers.get("Content-Encoding") == "gzip":
            body = zlib.decompress(body, 31)
        found = re.fullmatch(r"/systems/(\d+)/events", self.path)
        if refusal := self._guard():
            self._say(refusal)
        elif self.path == "/systems":
            self._say(self._lso().register(body))
        elif found and self.headers.get("Content-Type") in {"application/x-ndjson", "application/json"}:
            self._say(self._lso().ingest(int(found[1]), self.headers.get("Idempotency-Key") or "", body))
        else:
            self._say(_problem(404, "no such thing"))

    def _guard(self) -> Answer | None:
        key = self._lso().api_key
        return (
            None
            if not key or self.headers.get("Authorization") == f"Bearer {key}"
            else _problem(401, "no key, or an unknown one")
        )

    def _lso(self) -> Observatory:
        return self.server.observatory  # type: ignore[attr-defined, no-any-return]

    def _say(self, answer: Answer) -> None:
        status, body = answer
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
