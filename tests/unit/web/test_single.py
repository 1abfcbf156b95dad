from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from pacs.web.single import asked_range, cut, etag_of, not_modified, resolve_range

ETAG = etag_of("a")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=5-", (5, 95)),
        ("bytes=-10", (90, 10)),
        ("bytes=90-1000", (90, 10)),
        ("bytes=-1000", (0, 100)),
        ("bytes=100-", None),
        ("bytes=-0", None),
    ],
)
def test_a_range_is_cut_to_the_body(header: str, expected: tuple[int, int] | None) -> None:
    wanted = asked_range(make_mocked_request("GET", "/", headers={"Range": header}), ETAG)
    assert wanted is not None
    assert resolve_range(wanted, 100) == expected


@pytest.mark.parametrize("header", ["", "bytes=", "bytes=-", "bytes=9-5", "bytes=0-1,4-5", "items=0-1", "bytes=a-b"])
def test_a_range_that_means_nothing_here_is_ignored(header: str) -> None:
    assert asked_range(make_mocked_request("GET", "/", headers={"Range": header}), ETAG) is None


def test_if_range_of_another_version_makes_the_range_void() -> None:
    for condition, is_void in ((ETAG, False), ('"other"', True)):
        request = make_mocked_request("GET", "/", headers={"Range": "bytes=0-1", "If-Range": condition})
        assert (asked_range(request, ETAG) is None) is is_void


@pytest.mark.parametrize("header", [ETAG, f'"x", {ETAG}', f"W/{ETAG}", "*"])
def test_a_known_version_is_not_sent_again(header: str) -> None:
    answer = not_modified(make_mocked_request("GET", "/", headers={"If-None-Match": header}), ETAG)
    assert answer is not None
    assert answer.status == 304
    assert answer.headers["ETag"] == ETAG


def test_another_version_is_sent() -> None:
    assert not_modified(make_mocked_request("GET", "/", headers={"If-None-Match": '"x"'}), ETAG) is None


def test_cut_gives_the_same_bytes_as_a_slice() -> None:
    pieces = [b"abc", b"", b"defgh", b"i"]
    whole = b"".join(pieces)
    for offset in range(len(whole) + 1):
        assert b"".join(cut(pieces, offset, None)) == whole[offset:]
        for length in range(1, len(whole) + 1):
            assert b"".join(cut(pieces, offset, length)) == whole[offset : offset + length]


def test_cut_closes_what_it_reads_from() -> None:
    closed = []

    def pieces():  # type: ignore[no-untyped-def]
        try:
            yield b"abc"
            yield b"def"
        finally:
            closed.append(True)

    assert b"".join(cut(pieces(), 0, 1)) == b"a"
    assert closed == [True]
