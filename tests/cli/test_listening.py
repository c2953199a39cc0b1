"""The listening socket."""

import socket

import pytest

from lso_core.cli.listening import listen, url_of
from lso_core.model.errors import ConfigurationError
from lso_core.settings import Settings


def test_port_0_is_a_free_one_and_the_address_tells_which() -> None:
    with listen(Settings(port=0)) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_connections_wait_until_somebody_accepts() -> None:
    with listen(Settings(port=0)) as listener:
        socket.create_connection(listener.getsockname(), timeout=5).close()


@pytest.mark.parametrize(("host", "address"), [("localhost", "127.0.0.1"), ("::1", "[::1]")])
def test_names_and_both_families_are_taken(host: str, address: str) -> None:
    with listen(Settings(host=host, port=0)) as listener:
        assert url_of(listener).startswith(f"http://{address}:")


@pytest.mark.parametrize(("host", "address"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]")])
def test_every_address_is_one_that_a_client_here_reaches(host: str, address: str) -> None:
    with listen(Settings(host=host, port=0, insecure=True)) as listener:
        url = url_of(listener)
        assert url.startswith(f"http://{address}:")
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=5).close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_are_let_in_only_with_keys_or_on_demand(host: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"can be reached from other machines; set LSO_API_KEYS, or give --insecure"
    ):
        listen(Settings(host=host, port=0, api_keys=" , "))
    listen(Settings(host=host, port=0, api_keys="read:secret")).close()


def test_a_taken_port_is_named() -> None:
    with listen(Settings(port=0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"^port {port} on 127\.0\.0\.1 is taken by another program"):
            listen(Settings(port=port))


def test_a_name_that_is_none_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"LSO_HOST 'no such host' is no address"):
        listen(Settings(host="no such host", port=0))


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"LSO_HOST 192\.0\.2\.1 is not an address of this machine"):
        listen(Settings(host="192.0.2.1", port=0, insecure=True))
