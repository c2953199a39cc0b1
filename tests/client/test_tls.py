"""Over TLS: the certificate is checked, and the rest is as without."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.client.conftest import SYSTEM
from tests.client.observatory import Observatory

Python = Callable[..., subprocess.Popen[str]]
EMIT = """
from lso_core import client as lso
for number in range(3):
    lso.event("success", latency_ms=1, n=number, text="x" * 1000)
    print(lso.flush(5))
"""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost, signed by itself, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    path = tmp_path / "localhost.pem"
    request = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*request, *names, "-keyout", path, "-out", tmp_path / "c.pem"], check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "c.pem").read_text())
    return path


@pytest.fixture
def secure(observatory: Observatory, certificate: Path) -> str:
    """The URL of an observatory that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    observatory._server.socket = context.wrap_socket(observatory._server.socket, server_side=True)
    return f"https://localhost:{observatory.address[1]}"


def test_events_arrive_over_tls(python: Python, secure: str, observatory: Observatory, certificate: Path) -> None:
    out, errors = python(EMIT, LSO_URL=secure, LSO_SYSTEM=SYSTEM, SSL_CERT_FILE=str(certificate)).communicate(
        timeout=30
    )
    assert out.split() == ["True"] * 3, errors
    assert observatory.numbers(SYSTEM) == dict.fromkeys(range(3), 1)


def test_a_certificate_that_nobody_vouches_for_is_refused(
    python: Python, secure: str, observatory: Observatory
) -> None:
    out, errors = python(EMIT.replace("5", "0.2"), LSO_URL=secure, LSO_SYSTEM=SYSTEM).communicate(timeout=30)
    assert out.split() == ["False"] * 3
    assert errors.count("CERTIFICATE_VERIFY_FAILED") == 1
    assert observatory.systems == {}
