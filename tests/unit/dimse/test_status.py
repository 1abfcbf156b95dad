"""Every kind of error has the status that PS3.4 and the conformance statement promise."""

from __future__ import annotations

import pytest

from pacs import errors
from pacs.dimse.status import Refused, Status, comment, is_failure, status_of


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.OutOfResources("the disk is full"), 0xA700),
        (errors.TooLarge("x"), 0xA700),
        (errors.ClassMismatch("x"), 0xA900),
        (errors.Unreadable("x"), 0xC000),
        (errors.Conflict("x"), 0x0111),
        (errors.NotStorable("x"), 0x0122),
        (errors.MissingAttribute("x"), 0x0120),
        (errors.MissingValue("x"), 0x0121),
        (errors.InvalidValue("x"), 0x0106),
        (errors.Invalid("x"), 0xA900),
        (errors.Cancelled("x"), 0xFE00),
        (errors.Corrupt("x"), 0x0110),
        (errors.Undecodable("x"), 0x0110),
        (errors.NotFound("x"), 0x0110),
        (errors.PacsError("x"), 0x0110),
    ],
)
def test_status_of_each_kind(error, code):
    status = status_of(error)
    assert (status.code, status.comment) == (code, str(error))


def test_no_kind_is_left_without_a_thought():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PacsError)}
    by_default = {
        errors.PacsError,
        errors.Corrupt,
        errors.Undecodable,
        errors.NotFound,
        errors.Gone,
        errors.NotAcceptable,
        errors.Rejected,
        errors.Unchangeable,
    }
    for kind in kinds - by_default:
        assert status_of(kind("x")).code != 0x0110, kind


def test_of_an_unexpected_error_the_peer_is_told_nothing():
    status = status_of(ValueError("/srv/archive/secret"))
    assert status.code == 0x0110
    assert "secret" not in (status.comment or "")


def test_a_comment_is_one_line_of_64_ascii_characters():
    assert comment("Größe\\\n" + "x" * 100) == "Gr??e??" + "x" * 54 + "..."
    assert len(comment("x" * 64)) == 64
    assert len(comment("x" * 65)) == 64


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.OutOfResources("x"), 0x0213),
        (errors.TooLarge("x"), 0x0213),
        (errors.ClassMismatch("x"), 0x0119),
        (errors.Unreadable("x"), 0x0110),
        (errors.Conflict("x"), 0x0111),
        (errors.Forbidden("x"), 0x0124),
        (errors.NotStorable("x"), 0x0122),
        (errors.MissingAttribute("x"), 0x0120),
        (errors.MissingValue("x"), 0x0121),
        (errors.InvalidValue("x"), 0x0106),
        (errors.Invalid("x"), 0x0106),
        (errors.NotFound("x"), 0x0112),
        (errors.Gone("x"), 0x0112),
        (errors.PacsError("x"), 0x0110),
        (ValueError("x"), 0x0110),
    ],
)
def test_status_of_each_kind_as_the_answer_to_dimse_n(error, code):
    assert status_of(error, normalized=True).code == code


@pytest.mark.parametrize("normalized", [False, True])
def test_a_service_may_say_its_own_status(normalized):
    status = Status(0xC307, "does not exist", ("00081195",))
    assert status_of(Refused(status), normalized=normalized) is status


def test_warnings_are_no_failures():
    codes = (0x0000, 0x0001, 0x0107, 0x0116, 0xB304, 0x0110, 0xC310, 0xA700, 0xFE00)
    assert [is_failure(code) for code in codes] == [False] * 5 + [True] * 4
