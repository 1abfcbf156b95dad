"""Damaged files through the whole of imaging, in the pool as the archive runs it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pacs.dicom.layout import Span
from pacs.errors import PacsError
from pacs.imaging import forms
from pacs.imaging.decode import decode_frames
from pacs.imaging.options import RenderOptions
from pacs.imaging.pool import Pool
from pacs.imaging.show import picture
from pacs.imaging.source import Source
from pacs.imaging.transcode import transcode
from tests.unit.imaging import sources, work

_MUTATIONS = 12


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool(workers=2, timeout_s=20, memory_bytes=3 << 30)
    yield pool
    pool.close()


def compressed() -> list[Path]:
    paths = sources.real_images()
    return [path for path in paths if sources.source_of(path).transfer_syntax_uid.startswith("1.2.840.10008.1.2.4")]


@pytest.mark.parametrize("path", [*compressed(), sources.real("MR_small_RLE.dcm")], ids=lambda path: path.name)
def test_damaged_codestreams_give_pixels_or_a_refusal(path: Path, pool: Pool, tmp_path: Path) -> None:
    source = sources.source_of(path)
    assert source.layout.pixels is not None
    start, length = source.layout.pixels.frames[0][0]
    original = path.read_bytes()
    chance = random.Random(path.name)
    for _ in range(_MUTATIONS):
        data = bytearray(original)
        for _ in range(chance.choice((1, 3, 30))):
            # Headers are where damage hurts most.
            data[start + chance.randrange(min(length, chance.choice((80, length))))] = chance.randrange(256)
        damaged = tmp_path / "damaged.dcm"
        damaged.write_bytes(data)
        broken = replace(source, path=damaged)
        for call in (
            lambda broken=broken: pool.run(decode_frames, broken, [1]),
            lambda broken=broken: pool.run(picture, broken, forms.IMAGE, 1, RenderOptions()),
            lambda broken=broken: pool.run(transcode, broken, tmp_path / "out.dcm", sources.EXPLICIT),
        ):
            try:
                call()
            except PacsError as err:
                assert str(err)  # noqa: PT017  any kind will do
    assert pool.run(work.add, 1) == 2


@pytest.mark.parametrize("name", ["examples_palette.dcm", "rtdose.dcm", "image_dfl.dcm", "693_J2KI.dcm"])
def test_layouts_that_point_beyond_the_file_are_refused(name: str, pool: Pool) -> None:
    source = sources.source_of(sources.real(name))
    pixels = source.layout.pixels
    assert pixels is not None
    for span in (Span(1 << 40, pixels.value.length), Span(pixels.value.offset, 1 << 40)):
        frames = tuple((span,) for _ in pixels.frames)
        broken = replace(source, layout=replace(source.layout, pixels=replace(pixels, value=span, frames=frames)))
        for function, arguments in ((decode_frames, (broken, [pixels.number_of_frames])),):
            if span.offset == pixels.value.offset and not pixels.encapsulated:
                continue  # the frame itself is still there
            with pytest.raises(PacsError):
                pool.run(function, *arguments)


def test_a_file_that_is_gone_is_said_to_be(pool: Pool, tmp_path: Path) -> None:
    source = sources.source_of(sources.real("CT_small.dcm"))
    with pytest.raises(PacsError):
        pool.run(picture, replace(source, path=tmp_path / "gone"), forms.IMAGE, 1, RenderOptions())


def test_sources_cross_the_process_border(pool: Pool) -> None:
    source: Source = sources.source_of(sources.real("CT_small.dcm"))
    assert pool.run(decode_frames, source, [1]) == decode_frames(source, [1])
