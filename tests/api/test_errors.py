"""One table turns every error into problem+json."""

from collections.abc import Iterator

import msgspec
import pytest
from litestar.exceptions import MethodNotAllowedException, NotFoundException

from api import errors
from lso_core.model import errors as tree_room
from lso_core.model.errors import (
    BacklogFullError,
    ConfigurationError,
    ConflictError,
    Finding,
    InputError,
    LsoError,
    RateLimitedError,
    UnauthorizedError,
)


def below(kind: type[LsoError]) -> Iterator[type[LsoError]]:
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


OVER_HTTP = sorted(
    (kind for kind in below(LsoError) if not issubclass(kind, ConfigurationError)), key=lambda kind: kind.__name__
)


@pytest.mark.parametrize("kind", OVER_HTTP)
def test_every_class_has_a_row_of_its_own(kind: type[LsoError]) -> None:
    assert kind in errors.ROWS


def test_the_names_of_problems_are_unique() -> None:
    rows = [*errors.ROWS.values(), *errors.FOREIGN.values(), errors.INTERNAL]
    assert len({row.slug for row in rows}) == len(rows)


def test_the_tree_on_page_one_gives_the_status_of_each_row() -> None:
    tree = (tree_room.__doc__ or "").splitlines()
    for kind, row in errors.ROWS.items():
        line = next(line for line in tree if f" {kind.__name__} " in line)
        assert str(row.status) in line.split()


def told(error: Exception) -> tuple[int, errors.Problem, dict[str, str]]:
    answer = errors.answer(error)
    return answer.status, msgspec.json.decode(answer.body, type=errors.Problem), answer.headers


def test_findings_are_listed() -> None:
    finding = Finding(3, "status", "status must be …")
    status, problem, _ = told(InputError("1 of 9 events is wrong", (finding,)))
    assert (422, "1 of 9 events is wrong", [finding]) == (status, problem.detail, problem.errors)


def test_no_more_than_a_hundred_findings_are_listed() -> None:
    _, problem, _ = told(InputError("all wrong", tuple(Finding(at, "", "x") for at in range(200))))
    assert 100 == len(problem.errors or [])


def test_a_conflict_names_the_other_system() -> None:
    _, problem, _ = told(ConflictError("taken", 12))
    assert 12 == problem.system_id


@pytest.mark.parametrize(("error", "after"), [(RateLimitedError("x", 3), "3"), (BacklogFullError("x"), "2")])
def test_what_passes_says_when_to_try_again(error: LsoError, after: str) -> None:
    assert after == told(error)[2]["Retry-After"]


def test_401_says_how_to_authenticate() -> None:
    assert told(UnauthorizedError("x"))[2]["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("error", [ValueError("secret"), ConfigurationError("secret"), RuntimeError("secret")])
def test_internals_never_show(error: Exception) -> None:
    status, problem, _ = told(error)
    assert 500 == status
    assert "secret" not in problem.detail


def test_the_framework_s_own_errors_are_problems_too() -> None:
    assert [404, 405] == [told(error)[0] for error in (NotFoundException(), MethodNotAllowedException())]
