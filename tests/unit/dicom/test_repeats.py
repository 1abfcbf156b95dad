"""What is taken from data sets read before has to be what reading it would give."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from pacs.dicom import repeats
from pacs.dicom.charset import DEFAULT
from pacs.dicom.parsed import Encoding
from pacs.dicom.parser import parse
from pacs.dicom.repeats import Known, Repeats
from tests.unit.dicom.test_parser import EXPLICIT, IMPLICIT, explicit, implicit, item

CHARSETS = (b"ISO_IR 100", b"ISO_IR 144", b"")


@pytest.fixture(autouse=True)
def _cold() -> Iterator[None]:
    repeats.repeats_of.cache_clear()
    yield
    repeats.repeats_of.cache_clear()


def read(data: bytes, encoding: Encoding) -> dict[str, Any]:
    return parse(data, 0, encoding, bulk_threshold=64).attributes


def data_set(rng: random.Random, encoding: Encoding, *, depth: int = 0) -> bytes:
    """Elements that are mostly alike from one call to the next: some differ, some are missing, some are nested."""
    element = implicit if encoding.implicit else lambda tag, raw: explicit(tag, b"LO", raw)
    parts = []
    if depth == 0 and (charset := rng.choice(CHARSETS)):
        parts.append(implicit(0x00080005, charset) if encoding.implicit else explicit(0x00080005, b"CS", charset))
    for number in range(40):
        tag = 0x00101000 + number if encoding.implicit else 0x00100030 + number
        if rng.random() < 0.03:
            continue
        raw = b"\xc4\xd6 %02d" % number if rng.random() < 0.9 else b"%06d" % rng.randrange(3)
        if rng.random() < 0.02:
            raw = b"long " * 100
        parts.append(element(tag, raw))
    if depth < 2:
        inner = b"".join(item(data_set(rng, encoding, depth=depth + 1)) for _ in range(rng.randrange(3)))
        tag = 0x00400275
        parts.append(implicit(tag, inner) if encoding.implicit else explicit(tag, b"SQ", inner))
    parts += [element(0x00401001 + number, b"after %02d" % number) for number in range(rng.choice((5, 6)))]
    return b"".join(parts)


@pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("seed", range(4))
def test_reading_many_gives_what_reading_each_alone_gives(encoding: Encoding, seed: int) -> None:
    rng = random.Random(seed)
    data_sets = [data_set(rng, encoding) for _ in range(150)]
    warm = [read(data, encoding) for data in data_sets]
    for data, found in zip(data_sets, warm, strict=True):
        repeats.repeats_of.cache_clear()
        assert read(data, encoding) == found
        assert list(read(data, encoding)) == list(found)


def test_a_run_that_goes_on_beyond_an_item_is_not_taken_there() -> None:
    elements = [explicit(0x00100030 + number, b"LO", b"%04d" % number) for number in range(10)]
    whole, part = b"".join(elements), b"".join(elements[:4])
    for _ in range(3):
        assert len(read(whole, EXPLICIT)) == 10
    nested = explicit(0x00080096, b"SQ", item(part)) + b"".join(elements[4:])
    found = read(nested, EXPLICIT)
    assert len(found.pop("00080096")["Value"][0]) == 4
    assert len(found) == 6


def test_runs_part_where_instances_differ() -> None:
    kept = Repeats()

    def members(middle: str) -> list[Known]:
        return [Known(f"{number:08X}", {"vr": "LO"}, 9) for number in range(4)] + [
            Known("00000004", {"vr": "LO", "Value": [middle]}, 9),
            *(Known(f"{number:08X}", {"vr": "LO"}, 9) for number in range(5, 9)),
        ]

    def raw(middle: str) -> bytes:
        return b"".join(b"%08d%c" % (number, b"." if number != 4 else middle.encode()) for number in range(9))

    kept.keep_run(raw("A"), members("A"))
    found = kept.run_at(raw("A"), 0, 81)
    assert found is not None
    assert found.raw == raw("A")
    assert kept.run_at(raw("A"), 0, 80) is None
    assert kept.run_at(raw("B"), 0, 81) is None

    kept.keep_run(raw("B"), members("B"))
    for text in ("A", "B", "C"):
        first = kept.run_at(raw(text), 0, 81)
        second = kept.run_at(raw(text), 45, 81)
        assert first is not None
        assert second is not None
        assert (len(first.raw), len(first.elements)) == (36, 4)
        assert (len(second.raw), len(second.elements)) == (36, 4)
    assert kept.run_at(raw("B"), 36, 81) is None


def test_what_is_kept_is_bounded() -> None:
    for number in range(3 * repeats.MOST):
        found = read(explicit(0x00200013, b"IS", b"%08d" % number), EXPLICIT)
        assert found == {"00200013": {"vr": "IS", "Value": [number]}}
    kept = repeats.repeats_of(DEFAULT, EXPLICIT)
    assert 0 < len(kept.elements) <= repeats.MOST
    long = explicit(0x00104000, b"LT", b"x" * 1000)
    assert read(long, EXPLICIT)["00104000"]["Value"] == ["x" * 1000]
    assert long not in kept.elements
    members = [Known("00100010", {"vr": "LO"}, 10)] * 3
    for number in range(2000):
        kept.keep_run(b"%08d  " % number * 3, members)
    assert len(kept._runs) <= repeats._MOST_RUNS
