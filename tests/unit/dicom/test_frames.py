"""Where frames lie: offset tables true and false, fragments, native layouts, files that contradict themselves."""

from __future__ import annotations

from pathlib import Path
from struct import pack
from typing import Any

import pytest

from pacs.dicom.header import read_header
from pacs.dicom.layout import Layout, PixelLayout
from pacs.errors import Unreadable
from tests import builders

JPEG = "1.2.840.10008.1.2.4.50"
RLE = "1.2.840.10008.1.2.5"
MPEG4 = "1.2.840.10008.1.2.4.102"
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
A, B, C = (b"\xff\xd8\xff" + bytes([n]) * n for n in (5, 7, 9))  # even lengths, each the start of a JPEG stream
MORE = b"more of it"


@pytest.fixture
def frames(tmp_path: Path) -> Any:
    """Contents of the frames of encapsulated pixel data."""

    def read(fragments: list[bytes], syntax: str = JPEG, **options: Any) -> list[bytes]:
        data = builders.encapsulated(fragments, transfer_syntax=syntax, **options)
        (tmp_path / "file").write_bytes(data)
        pixels = read_header(tmp_path / "file").layout.pixels
        assert pixels is not None
        assert pixels.encapsulated
        assert pixels.number_of_frames == len(pixels.frames)
        assert pixels.frame_length == 0
        return [b"".join(data[span.offset : span.offset + span.length] for span in frame) for frame in pixels.frames]

    return read


def offsets(*lengths: int) -> list[int]:
    found = [0]
    for length in lengths[:-1]:
        found.append(found[-1] + 8 + length)
    return found


def test_a_basic_offset_table_says_which_fragments_are_a_frame(frames: Any) -> None:
    table = [0, len(A) + len(MORE) + 16]
    assert frames([A, MORE, B, MORE], offsets=table, NumberOfFrames=2) == [A + MORE, B + MORE]


def test_without_a_table_there_is_a_fragment_a_frame_when_their_numbers_agree(frames: Any) -> None:
    assert frames([A, MORE, C], NumberOfFrames=3) == [A, MORE, C]


def test_without_a_table_frames_begin_where_codestreams_do(frames: Any) -> None:
    assert frames([A, MORE, B, C, MORE], NumberOfFrames=3) == [A + MORE, B, C + MORE]
    assert frames([A, MORE, MORE], NumberOfFrames=...) == [A + MORE + MORE]


@pytest.mark.parametrize(
    "table",
    [
        [0, 0, 0],
        [0, 5, 9],
        [4, 8, 12],
        [0, 1 << 31, 0xFFFFFFFF],
        [0, 99999, 999999],
        offsets(len(A), len(B), len(C))[::-1],
        [0],
        [0, len(A) + 8],
    ],
)
def test_a_table_that_cannot_be_true_is_ignored(frames: Any, table: list[int]) -> None:
    assert frames([A, B, C], offsets=table, NumberOfFrames=3) == [A, B, C]


def test_a_true_table_outweighs_a_wrong_number_of_frames(frames: Any) -> None:
    table = offsets(len(A), len(B), len(C))
    for claimed in (1, 2, 7, 0, ...):
        assert frames([A, B, C], offsets=table, NumberOfFrames=claimed) == [A, B, C]


def test_codestreams_outweigh_a_wrong_number_of_frames(frames: Any) -> None:
    for claimed in (1, 2, 7, ...):
        assert frames([A, B, C], NumberOfFrames=claimed) == [A, B, C]
        assert frames([A, B, C, MORE], NumberOfFrames=claimed) == [A, B, C + MORE]


def test_rle_has_a_fragment_a_frame_whatever_is_claimed(frames: Any) -> None:
    segment = pack("<16L", 1, 64, *[0] * 14) + b"\0\0"
    for claimed in (1, 2, 3, 9):
        assert frames([segment, segment, segment], RLE, NumberOfFrames=claimed) == [segment] * 3


def test_streams_without_a_mark_are_shared_out_evenly(frames: Any) -> None:
    assert frames([MORE] * 4, DEFLATED_FRAMES, NumberOfFrames=2) == [MORE * 2] * 2
    assert frames([MORE] * 3, DEFLATED_FRAMES, NumberOfFrames=1) == [MORE * 3]
    assert frames([MORE] * 3, DEFLATED_FRAMES, NumberOfFrames=2) == [MORE] * 3


def test_an_extended_offset_table_gives_exact_lengths(frames: Any) -> None:
    table = pack("<3Q", *offsets(len(A), len(B), len(C)))
    exact = pack("<3Q", len(A) - 1, len(B), len(C))
    found = frames([A, B, C], NumberOfFrames=3, ExtendedOffsetTable=table, ExtendedOffsetTableLengths=exact)
    assert found == [A[:-1], B, C]


def test_an_extended_offset_table_larger_than_what_is_inline_is_used(frames: Any) -> None:
    count = 200
    table = pack(f"<{count}Q", *offsets(*[len(A)] * count))
    exact = pack(f"<{count}Q", *[len(A) - 1] * count)
    found = frames([A] * count, NumberOfFrames=9, ExtendedOffsetTable=table, ExtendedOffsetTableLengths=exact)
    assert found == [A[:-1]] * count


@pytest.mark.parametrize("table", [b"\1" * 24, pack("<3Q", 0, 1, 2), pack("<2Q", 0, len(A) + 8), b"\0" * 7])
def test_a_wrong_extended_offset_table_is_ignored(frames: Any, table: bytes) -> None:
    found = frames([A, B, C], NumberOfFrames=3, ExtendedOffsetTable=table, ExtendedOffsetTableLengths=b"\xff" * 24)
    assert found == [A, B, C]


def test_a_missing_delimiter_is_tolerated_but_not_a_fragment_cut_short(frames: Any, tmp_path: Path) -> None:
    assert frames([A, B], NumberOfFrames=2, delimiter=False) == [A, B]
    data = builders.encapsulated([A, B], transfer_syntax=JPEG, delimiter=False)
    (tmp_path / "file").write_bytes(data[:-1])
    with pytest.raises(Unreadable, match="ends early"):
        read_header(tmp_path / "file")


@pytest.mark.parametrize("delimiter", [True, False])
@pytest.mark.parametrize("trailing", [b"\0" * 3, b"\0" * 600, b"\xab" * 21])
def test_bytes_after_the_last_item_are_tolerated(tmp_path: Path, delimiter: bool, trailing: bytes) -> None:
    data = builders.encapsulated([A, B], transfer_syntax=JPEG, delimiter=delimiter) + trailing
    (tmp_path / "file").write_bytes(data)
    pixels = read_header(tmp_path / "file").layout.pixels
    assert pixels is not None
    assert pixels.number_of_frames == 2


def test_odd_fragments_keep_their_length(frames: Any) -> None:
    assert frames([A + b"x", B], NumberOfFrames=2) == [A + b"x", B]


def test_a_missing_offset_table_item_does_not_swallow_the_first_frame(tmp_path: Path) -> None:
    without_table = builders.encapsulated([A, B], transfer_syntax=JPEG, NumberOfFrames=2).replace(
        pack("<HHL", 0xFFFE, 0xE000, 0), b"", 1
    )
    (tmp_path / "file").write_bytes(without_table)
    pixels = read_header(tmp_path / "file").layout.pixels
    assert pixels is not None
    assert pixels.number_of_frames == 2


def test_video_is_one_stream(frames: Any) -> None:
    assert frames([MORE, A, MORE], MPEG4, NumberOfFrames=120) == [MORE + A + MORE]


def test_pixel_data_without_fragments_are_no_pixels(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(builders.encapsulated([], transfer_syntax=JPEG))
    assert read_header(tmp_path / "file").layout.pixels is None


NATIVE = [
    # what differs from a 4×4 CT, bytes of pixel data → number of frames, bytes of one
    ({}, 32, (1, 32)),
    ({"NumberOfFrames": 3}, 96, (3, 32)),
    ({"NumberOfFrames": 3}, 64, (2, 32)),
    ({"NumberOfFrames": 3}, 200, (3, 32)),
    ({"NumberOfFrames": 3}, 20, (1, 0)),
    ({"NumberOfFrames": 0}, 32, (1, 32)),
    ({"BitsAllocated": 8}, 16, (1, 16)),
    ({"BitsAllocated": 8, "SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, 48, (1, 48)),
    ({"BitsAllocated": 8, "SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422"}, 32, (1, 32)),
    ({"BitsAllocated": 8, "SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422"}, 48, (1, 48)),
    ({"BitsAllocated": 1, "NumberOfFrames": 5}, 10, (5, 2)),
    ({"BitsAllocated": 1, "Rows": 3, "Columns": 3, "NumberOfFrames": 5}, 6, (5, 0)),
    ({"BitsAllocated": 1, "Rows": 3, "Columns": 3}, 2, (1, 2)),
    ({"Rows": 3, "Columns": 3, "BitsAllocated": 8}, 10, (1, 9)),
    ({"Rows": ...}, 32, (1, 0)),
    ({"BitsAllocated": None}, 32, (1, 0)),
]


@pytest.mark.parametrize(("attributes", "length", "expected"), NATIVE)
def test_native_frames_are_counted_by_what_is_there(
    tmp_path: Path, attributes: dict[str, Any], length: int, expected: tuple[int, int]
) -> None:
    (tmp_path / "file").write_bytes(builders.ct(**{"Rows": 4, "Columns": 4, "PixelData": bytes(length), **attributes}))
    pixels = read_header(tmp_path / "file").layout.pixels
    assert pixels is not None
    assert (pixels.number_of_frames, pixels.frame_length) == expected
    assert (pixels.value.length, pixels.encapsulated, pixels.frames) == (length, False, ())


@pytest.mark.parametrize(
    ("keyword", "tag", "width"), [("FloatPixelData", "7FE00008", 4), ("DoubleFloatPixelData", "7FE00009", 8)]
)
def test_float_pixel_data_are_pixels(tmp_path: Path, keyword: str, tag: str, width: int) -> None:
    value = bytes(16 * width * 2)
    (tmp_path / "file").write_bytes(
        builders.ct(Rows=4, Columns=4, NumberOfFrames=2, PixelData=..., BitsAllocated=..., **{keyword: value})
    )
    header = read_header(tmp_path / "file")
    assert header.layout.pixels == PixelLayout(tag, header.layout.bulk[tag], False, 2, 16 * width)


def test_a_layout_survives_the_index_and_a_shift(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(builders.encapsulated([A, MORE, B], transfer_syntax=JPEG, NumberOfFrames=2))
    layout = read_header(tmp_path / "file").layout
    assert Layout.from_bytes(layout.to_bytes()) == layout
    assert layout.shifted(10).shifted(-10) == layout
