"""Whatever the bytes: a header or a Rejected, soon, and never another exception."""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pacs.dicom.header import parse_data_set, read_header
from pacs.dicom.layout import Layout
from pacs.errors import Rejected, Unreadable
from tests import builders

# Small files of every encoding; mutations of large ones mostly hit pixels.
SEEDS = [path.read_bytes() for path, _ in builders.real_files() if path.stat().st_size < 12_000]
SPECIAL = [
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\xfe\xff\x00\xe0",
    b"\xfe\xff\x0d\xe0",
    b"\xfe\xff\xdd\xe0",
    b"SQ",
    b"UN",
]


def read(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        started = time.process_time()
        try:
            header = read_header(Path(file.name), derive_uids=True)
        except Rejected:
            header = None
        assert time.process_time() - started < 5
    if header is not None:
        assert orjson.loads(header.json) is not None
        assert Layout.from_bytes(header.layout.to_bytes()) == header.layout
        end = len(data) if not header.layout.deflated else 1 << 40
        for span in header.layout.bulk.values():
            assert 0 < span.offset <= span.offset + span.length <= end
        pixels = header.layout.pixels
        if pixels is not None:
            assert pixels.number_of_frames >= 1
            assert all(s.offset + s.length <= end for frame in pixels.frames for s in frame)
            assert pixels.encapsulated or pixels.frame_length * pixels.number_of_frames <= pixels.value.length + 1


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_mutated_files_are_read_or_refused(data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + 4] = data.draw(st.sampled_from(SPECIAL) | st.binary(min_size=1, max_size=4))
    read(bytes(raw[: data.draw(st.just(len(raw)) | st.integers(0, len(raw)))]))


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_files_with_random_damage_are_read_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(40):
        raw = bytearray(SEEDS[seed])
        for _ in range(chance.choice((1, 2, 8, 40))):
            at = chance.randrange(len(raw))
            raw[at : at + 4] = chance.choice((chance.randbytes(1), chance.randbytes(4), chance.choice(SPECIAL)))
        read(bytes(raw))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"]))
def test_any_identifier_is_read_or_refused(raw: bytes, syntax: str) -> None:
    with contextlib.suppress(Unreadable):
        orjson.dumps(parse_data_set(raw, syntax))


@pytest.mark.parametrize(
    "unit",
    [
        b"\x40\x00\x75\xa7\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff",  # implicit, nested without end
        b"\xfe\xff\x0d\xe0\0\0\0\0",
        b"\xfe\xff\x00\xe0\0\0\0\0",
        b"\x08\x00\x60\x00CS\0\0",
        b"\x28\x00\x06\x01\2\0\0\0\1\0",
        b"\x02\x00\x10\x00UI\0\0",
        b"\x08\x00\x05\x00CS\x02\0AB",
    ],
)
def test_repetition_costs_no_more_than_its_length(unit: bytes) -> None:
    started = time.process_time()
    for prefix in (b"", b"\x08\x00\x05\x00CS\0\0", b"\x08\x00\x00\x00\x04\0\0\0\0\0\0\0"):
        read(prefix + unit * (2_000_000 // len(unit)))
    assert time.process_time() - started < 15
