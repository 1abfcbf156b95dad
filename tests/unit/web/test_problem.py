from __future__ import annotations

import inspect

import orjson
import pytest

from pacs import errors
from pacs.web import problem

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.PacsError) and kind is not errors.PacsError
]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.Invalid("x", "limit"), 400),
        (errors.NotFound("x"), 404),
        (errors.NotAcceptable("x"), 406),
        (errors.Undecodable("x"), 406),
        (errors.Conflict("x"), 409),
        (errors.Unreadable("x"), 409),
        (errors.TooLarge("x"), 413),
        (errors.OutOfResources("x"), 503),
        (errors.Corrupt("x"), 500),
    ],
)
def test_each_kind_has_its_status_and_a_problem_body(error: errors.PacsError, status: int) -> None:
    response = problem.of_error(error)
    assert response.status == status
    assert response.content_type == "application/problem+json"
    body = orjson.loads(response.body)  # type: ignore[arg-type]
    assert (body["status"], body["detail"]) == (status, "x")


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_is_forgotten(kind: type[errors.PacsError]) -> None:
    if kind is not errors.Corrupt:
        assert problem.status_of(kind("x")) != 500


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (errors.StudyMismatch, 0xA901),
        (errors.Conflict, 0x0111),
        (errors.MissingAttribute, 0x0120),
        (errors.MissingValue, 0x0121),
        (errors.Unreadable, 0xC000),
        (errors.OutOfResources, 0xA700),
        (errors.Rejected, 0x0110),
        (errors.Corrupt, 0x0110),
    ],
)
def test_failure_reasons_of_stow(kind: type[errors.PacsError], reason: int) -> None:
    assert problem.failure_reason(kind("x")) == reason


def test_details_for_the_client() -> None:
    invalid = orjson.loads(problem.of_error(errors.Invalid("x", "limit")).body)  # type: ignore[arg-type]
    assert invalid["parameter"] == "limit"
    there = orjson.loads(problem.of_error(errors.NotAcceptable("x", ("a/b",))).body)  # type: ignore[arg-type]
    assert there["available"] == ["a/b"]
    assert int(problem.of_error(errors.OutOfResources("x")).headers["Retry-After"]) > 0


def test_a_bug_shows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    response = problem.of_bug(RuntimeError("secret"))
    assert response.status == 500
    assert b"secret" not in response.body  # type: ignore[operator]
    assert "secret" in caplog.text
