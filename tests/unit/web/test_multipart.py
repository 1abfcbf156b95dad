from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacs.errors import Invalid
from pacs.web.multipart import PartBegin, PartEnd, Reader, Writer

Parts = list[tuple[dict[str, str], bytes, bool]]


def read(body: bytes, boundary: str, sizes: list[int] | int = 1 << 20) -> Parts:
    """All parts as (headers, payload, complete), the body fed in pieces of these sizes in turn."""
    reader = Reader(boundary)
    parts: Parts = []
    headers: dict[str, str] = {}
    payload = b""

    def take(events):  # type: ignore[no-untyped-def]
        nonlocal headers, payload
        for event in events:
            if isinstance(event, PartBegin):
                headers, payload = dict(event.headers), b""
            elif isinstance(event, PartEnd):
                parts.append((headers, payload, event.complete))
            else:
                payload += bytes(event)

    turn = [sizes] if isinstance(sizes, int) else sizes
    position = step = 0
    while position < len(body):
        size = turn[step % len(turn)]
        take(reader.feed(body[position : position + size]))
        position += size
        step += 1
    take(reader.close())
    return parts


def body_of(payloads: list[bytes], boundary: str = "b") -> bytes:
    writer = Writer(boundary)
    return b"".join(writer.part("application/dicom") + payload for payload in payloads) + writer.end()


NASTY = [
    b"",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n-",
    b"\r\n--",
    b"\r\n--c",
    b"x--b",
    b"\r\n--bb\r\n",
    b"\r\n--b x\r\n",
    b"\0" * 9,
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 64, 1 << 20])
def test_what_the_writer_makes_the_reader_gives_back_whatever_the_pieces(size: int) -> None:
    found = read(body_of(NASTY), "b", size)
    assert [(payload, complete) for _, payload, complete in found] == [(payload, True) for payload in NASTY]
    assert all(headers == {"content-type": "application/dicom"} for headers, _, _ in found)


payload = st.lists(st.sampled_from([b"\r", b"\n", b"-", b"b", b"x", b"\r\n--", b"--b"]), max_size=12).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(payload, min_size=1, max_size=4), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_any_payload_without_the_delimiter_survives_any_cut(payloads: list[bytes], sizes: list[int]) -> None:
    payloads = [each for each in payloads if b"\r\n--b" not in b"\r\n" + each]
    if payloads:
        assert [each for _, each, _ in read(body_of(payloads), "b", sizes)] == payloads


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"--b\nContent-Type: application/dicom\n\nx\ny\n--b\n\n\r\n--b--", [b"x\ny", b"\r"]),
        (b"\r\n--b\r\nContent-Type: a/b\r\n\r\nx\r\n--b--", [b"x"]),
        (b"preamble --b\r\n--b\r\n\r\nx\r\n--b--\r\nepilogue\r\n--b\r\n\r\nno", [b"x"]),
        (b"--b  \r\n\r\nx\r\n--b \t\r\n\r\ny\r\n--b--", [b"x", b"y"]),
        (b"--b\r\nCONTENT-TYPE : a/b\r\nbroken line\r\n\r\nx\r\n--b--", [b"x"]),
        (b"--b\r\n\r\nx\r\n--b\r\n", [b"x"]),
        (b"--b\r\n\r\n\r\n--b--", [b""]),
        (b"--b--\r\n", []),
        (b"", []),
        (b"no boundary at all", []),
    ],
)
def test_sloppy_bodies_are_read(body: bytes, expected: list[bytes], size: int) -> None:
    found = read(body, "b", size)
    assert [payload for _, payload, _ in found] == expected
    assert all(complete for _, _, complete in found)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_body_that_ends_early_leaves_its_last_part_incomplete(size: int) -> None:
    body = body_of([b"whole", b"x" * 100])
    for end in range(body.rindex(b"x" * 100) + 1, len(body) - len(b"--b--\r\n")):
        found = read(body[:end], "b", size)
        assert found[0][1:] == (b"whole", True)
        assert found[1][2] is False


def test_quoted_and_odd_boundaries_are_plain_text_to_the_reader() -> None:
    boundary = "=_a'(1) +,?:b/" + "x" * 150
    assert read(body_of([b"payload"], boundary), boundary)[0][1] == b"payload"


def test_a_header_without_end_is_refused_before_it_fills_the_memory() -> None:
    reader = Reader("b")
    list(reader.feed(b"--b\r\n"))
    with pytest.raises(Invalid):
        deque((event for _ in range(100) for event in reader.feed(b"x" * 4096)), maxlen=0)


@pytest.mark.parametrize("boundary", ["", "x" * 1000])
def test_a_missing_or_endless_boundary_is_refused(boundary: str) -> None:
    with pytest.raises(Invalid):
        Reader(boundary)


def test_reader_holds_no_more_than_a_possible_delimiter() -> None:
    reader = Reader("b" * 30)
    list(reader.feed(b"--" + b"b" * 30 + b"\r\n\r\n"))
    block = random.Random(1).randbytes(1 << 20)
    given_back = sum(len(event) for _ in range(20) for event in reader.feed(block) if isinstance(event, memoryview))
    assert given_back >= 20 * len(block) - 64
