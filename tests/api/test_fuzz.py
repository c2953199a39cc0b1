"""Whatever is sent, the answer is a documented one, and never LSO's own failure."""

import json
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api import openapi
from tests.api.conftest import register
from tests.e2e.service import Service

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@schemathesis.serializer("application/x-ndjson")
def as_lines(_context: Any, value: Any) -> bytes:
    """Generated text as it is, anything else as one line of JSON."""
    return value.encode(errors="surrogatepass") if isinstance(value, str) else json.dumps(value).encode() + b"\n"


@schemathesis.serializer("application/vnd.apache.arrow.stream")
def as_bytes(_context: Any, value: Any) -> bytes:
    """What is generated is no stream; tests/e2e/test_contract_arrow.py spoils good ones."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


@pytest.fixture(scope="module")
def live_system(http: httpx.Client) -> int:
    return register(http)


schema = schemathesis.openapi.from_dict(openapi.document()).exclude(path="/stream")  # which has no end


@schema.parametrize()
@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_nothing_sent_gets_an_undocumented_answer(case: Any, service: Service, live_system: int) -> None:
    if case.meta.generation.mode.is_positive and case.method != "DELETE" and "system_id" in case.path_parameters:
        case.path_parameters["system_id"] = live_system  # else nearly all would be 404
    case.call_and_validate(base_url=service.url, checks=CHECKS, timeout=30)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PURGE"])
def test_unusual_methods_are_refused(method: str, service: Service) -> None:
    with service.client() as client:
        assert client.request(method, "/systems").status_code in {400, 405}
