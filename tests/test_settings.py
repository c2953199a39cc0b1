"""Settings: from variables and options to one frozen struct, or one sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.model.errors import ConfigurationError
from lso_core.settings import Settings, field_docs, key_pairs


def test_nothing_set_is_the_defaults() -> None:
    assert Settings() == Settings.from_env({"PATH": "/bin", "HOME": "/"})


def test_variables_are_read_by_their_type() -> None:
    settings = Settings.from_env({"LSO_PORT": " 9000 ", "LSO_INSECURE": "yes", "LSO_HOST": "::1"})
    assert (settings.port, settings.insecure, settings.host) == (9000, True, "::1")


def test_an_option_wins_over_its_variable_and_an_absent_one_does_not() -> None:
    assert Settings.from_env({"LSO_PORT": "9000"}, port="9001").port == 9001
    assert Settings.from_env({"LSO_PORT": "9000"}, port=None).port == 9000


def test_a_blank_variable_is_not_set() -> None:
    assert Settings.from_env({"LSO_PORT": "", "LSO_HOST": " ", "LSO_INSECURE": ""}) == Settings()


def test_what_others_read_is_left_to_them() -> None:
    environ = {"LSO_URL": "http://lso:8000", "LSO_SYSTEM": "etl", "LSO_VENV": "x", "LSO_WORKER_ID": "w"}
    assert Settings() == Settings.from_env(environ)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("LSO_PORT", "http", "LSO_PORT must be a whole number from 0 to 65535, not 'http'"),
        ("LSO_PORT", "65536", "LSO_PORT must be a whole number from 0 to 65535, not 65536"),
        ("LSO_PORT", "-1", "LSO_PORT must be a whole number from 0 to 65535, not -1"),
        ("LSO_PORT", "80.5", "LSO_PORT must be a whole number from 0 to 65535, not '80.5'"),
        ("LSO_INSECURE", "maybe", "LSO_INSECURE must be 1 or 0, not 'maybe'"),
        ("LSO_LOG_LEVEL", "loud", "LSO_LOG_LEVEL must be one of debug, info, warning, error, not 'loud'"),
        ("LSO_PROT", "8000", "LSO_PROT is not a setting of LSO; see `lso up --help` for those there are"),
    ],
)
def test_a_wrong_variable_is_one_sentence_that_names_it(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env({variable: value})
    assert sentence == str(refused.value)


def test_a_wrong_option_is_called_as_it_was_typed() -> None:
    with pytest.raises(ConfigurationError, match=r"^--api-processes must be a whole number"):
        Settings.from_env({}, api_processes="many")


def test_every_setting_is_described_and_has_bounds_if_it_is_a_number() -> None:
    for field in field_docs():
        assert field.doc.text
        if isinstance(field.default, int) and not isinstance(field.default, bool):
            assert field.doc.minimum is not None
            assert field.doc.maximum is not None
            assert field.doc.minimum <= field.default <= field.doc.maximum


@given(
    st.builds(
        Settings,
        host=st.sampled_from(["127.0.0.1", "::", "localhost"]),
        port=st.integers(0, 65_535),
        insecure=st.booleans(),
        redis_url=st.sampled_from(["", "redis://:p%40ss@host:1/2", "unix:///tmp/a%20b.sock"]),
        redis_appendfsync=st.sampled_from(["everysec", "always"]),
        window_seconds=st.integers(60, 3_600),
    )
)
def test_children_read_from_their_variables_what_the_supervisor_knows(settings: Settings) -> None:
    assert settings == Settings.from_env(settings.environ())


def test_keys_are_pairs_of_a_role_and_anything() -> None:
    assert key_pairs(" read:a:b , admin:sha256:00,") == (("read", "a:b"), ("admin", "sha256:00"))
    assert key_pairs(" , ") == ()


@pytest.mark.parametrize("keys", ["secret", "root:secret", "read:", "read:fine,secret"])
def test_keys_that_are_none_are_refused_and_not_shown(keys: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^LSO_API_KEYS must be role:key pairs") as refused:
        Settings.from_env({"LSO_API_KEYS": keys})
    assert "secret" not in str(refused.value)
