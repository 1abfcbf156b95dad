"""Compressed targets: what comes back out of them, by decoders that share nothing with the encoders."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openjpeg
import pydicom
import pytest
from numpy.typing import NDArray

from pacs.dicom import transfer_syntax as syntaxes
from pacs.errors import NotAcceptable
from pacs.imaging import codestream, encapsulate, encode, frames, rle
from pacs.imaging.decode import decode_frames, photometric_after
from pacs.imaging.encapsulate import encoded_frames
from pacs.imaging.source import Source
from pacs.imaging.transcode import NATIVE, TARGETS, targets_of, transcode
from tests.unit.imaging import sources

_BY_DCMTK = {
    syntaxes.JPEG_LOSSLESS_SV1: "dcmdjpeg",
    syntaxes.JPEG_LS_LOSSLESS: "dcmdjpls",
    syntaxes.RLE_LOSSLESS: "dcmdrle",
}
_JPEG2000_FAMILY = (syntaxes.JPEG_2000_LOSSLESS, syntaxes.HTJ2K_LOSSLESS, syntaxes.HTJ2K_LOSSLESS_RPCL)


def holders() -> list[tuple[Path, str]]:
    """Every real image with every lossless compressed transfer syntax that can hold it."""
    found = []
    for path in sources.real_images():
        if path.name == "JPEG2000-embedded-sequence-delimiter.dcm":  # its codestream is overwritten
            continue
        found += [(path, uid) for uid in targets_of(sources.source_of(path)) if uid in encode.LOSSLESS]
    return found


def arrays(source: Source) -> list[NDArray[Any]]:
    """All frames by our own decoder, which test_decode compares with others, chroma at full resolution."""
    image = frames.image_of(source)
    count = frames.pixels_of(source).number_of_frames
    with source.open() as reader:
        return [frames.frame_array(source, reader, image, number)[0] for number in range(1, count + 1)]


def by_others(path: Path, uid: str, folder: Path) -> list[NDArray[Any]]:
    """All frames by DCMTK, or by OpenJPEG where that knows nothing of it."""
    source = sources.source_of(path)
    if uid in _BY_DCMTK:
        native = folder / "native.dcm"
        as_it_is = ["+cn"] if uid == syntaxes.JPEG_LOSSLESS_SV1 else []  # no conversion from YBR
        done = sources.dcmtk(_BY_DCMTK[uid], *as_it_is, path, native)
        assert done.returncode == 0, done.stderr
        return arrays(sources.source_of(native))
    import openjpeg

    count = frames.pixels_of(source).number_of_frames
    with source.open() as reader:
        found = [openjpeg.decode(frames.stored_frame(source, reader, number)) for number in range(1, count + 1)]
    image = frames.image_of(source)
    return [frame.reshape(image.rows, image.columns, image.samples) for frame in found]


@pytest.mark.parametrize(("path", "uid"), holders(), ids=lambda value: getattr(value, "name", value))
def test_every_real_image_comes_back_bit_by_bit_from_every_lossless_transfer_syntax(
    path: Path, uid: str, tmp_path: Path
) -> None:
    source, out = sources.source_of(path), tmp_path / "out.dcm"
    transcode(source, out, uid)
    result = sources.source_of(out)
    assert result.transfer_syntax_uid == uid
    expected, ours, others = arrays(source), arrays(result), by_others(out, uid, tmp_path)
    assert len(expected) == len(ours) == len(others)
    for old, new, other in zip(expected, ours, others, strict=True):
        np.testing.assert_array_equal(new, old)
        np.testing.assert_array_equal(other, old)
    assert result.number("00280100", 0) == source.number("00280100", 0)
    assert result.number("00280103", 0) == source.number("00280103", 0)
    assert sources.dcmtk("dcmdump", out).returncode == 0


def lossy_holders() -> list[tuple[Path, str]]:
    names = ("CT_small.dcm", "MR_small.dcm", "examples_ybr_color.dcm", "examples_rgb_color.dcm")
    found = []
    for path in map(sources.real, names):
        found += [(path, uid) for uid in targets_of(sources.source_of(path)) if uid in encode.LOSSY]
    return found


@pytest.mark.parametrize(("path", "uid"), lossy_holders(), ids=lambda value: getattr(value, "name", value))
def test_a_lossy_result_is_near_the_original_and_says_what_it_is(path: Path, uid: str, tmp_path: Path) -> None:
    source, out = sources.source_of(path), tmp_path / "out.dcm"
    transcode(source, out, uid)
    result, data_set = sources.source_of(out), pydicom.dcmread(out)
    before = pydicom.dcmread(path)
    assert data_set.SOPInstanceUID == before.SOPInstanceUID
    assert data_set.ImageType == before.ImageType
    assert data_set.LossyImageCompression == "01"
    methods = data_set.LossyImageCompressionMethod
    last = methods if isinstance(methods, str) else methods[-1]
    assert last == encode.LOSSY_METHODS[uid]
    ratios = data_set.LossyImageCompressionRatio
    ratio = float(ratios if isinstance(ratios, (float, pydicom.valuerep.DSfloat)) else ratios[-1])
    expected, found = arrays(source), arrays(result)
    stored_bytes = sum(span.length for frame in frames.pixels_of(result).frames for span in frame)
    assert ratio == pytest.approx(sum(each.nbytes for each in expected) / stored_bytes, rel=0.02)
    assert ratio > 1.5
    for old, new in zip(expected, found, strict=True):
        if uid == syntaxes.JPEG_LS_NEAR_LOSSLESS:
            assert np.abs(new.astype(int) - old).max() <= 2
            continue
        old_rgb, new_rgb = in_rgb(source, old), in_rgb(result, new)
        spread = float(old_rgb.max() - old_rgb.min())
        assert np.sqrt(np.mean((new_rgb - old_rgb) ** 2)) < spread * 0.03


def in_rgb(source: Source, array: NDArray[Any]) -> NDArray[np.float64]:
    values = array.astype(np.float64)
    photometric = photometric_after(source)
    if not photometric.startswith("YBR_FULL"):
        return values
    y, cb, cr = values[..., 0], values[..., 1] - 128, values[..., 2] - 128
    return np.dstack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb])


def test_lossy_steps_add_up(tmp_path: Path) -> None:
    pixels = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    source = sources.image_file(
        tmp_path / "a.dcm",
        pixels,
        LossyImageCompression="01",
        LossyImageCompressionRatio="12.5",
        LossyImageCompressionMethod="ISO_10918_1",
        ImageType=["ORIGINAL", "PRIMARY"],
    )
    transcode(source, tmp_path / "out.dcm", syntaxes.JPEG_2000)
    data_set = pydicom.dcmread(tmp_path / "out.dcm")
    assert list(data_set.LossyImageCompressionMethod) == ["ISO_10918_1", "ISO_15444_1"]
    assert len(data_set.LossyImageCompressionRatio) == 2
    transcode(source, tmp_path / "lossless.dcm", syntaxes.JPEG_2000_LOSSLESS)
    data_set = pydicom.dcmread(tmp_path / "lossless.dcm")
    assert data_set.LossyImageCompressionMethod == "ISO_10918_1"


def test_attributes_tell_what_the_codestreams_are(tmp_path: Path) -> None:
    path, out = sources.real("SC_rgb_small_odd.dcm"), tmp_path / "out.dcm"
    planar = tmp_path / "planar.dcm"
    data_set = pydicom.dcmread(path)
    data_set.PixelData = np.moveaxis(data_set.pixel_array, 2, 0).tobytes()
    data_set.PlanarConfiguration = 1
    data_set.save_as(planar)
    expected = {
        syntaxes.JPEG_BASELINE: "YBR_FULL_422",
        syntaxes.JPEG_2000: "YBR_ICT",
        syntaxes.JPEG_2000_LOSSLESS: "YBR_RCT",
        syntaxes.HTJ2K_LOSSLESS_RPCL: "YBR_RCT",
        syntaxes.JPEG_LOSSLESS_SV1: "RGB",
        syntaxes.JPEG_LS_LOSSLESS: "RGB",
        syntaxes.RLE_LOSSLESS: "RGB",
    }
    for uid, photometric in expected.items():
        transcode(sources.source_of(planar), out, uid)
        result = pydicom.dcmread(out)
        assert result.PhotometricInterpretation == photometric
        assert result.PlanarConfiguration == (1 if uid == syntaxes.RLE_LOSSLESS else 0)
        if uid in encode.LOSSLESS:
            assert "LossyImageCompression" not in result
            np.testing.assert_array_equal(arrays(sources.source_of(out))[0], arrays(sources.source_of(planar))[0])


@pytest.mark.parametrize(("rows", "columns", "levels"), [(64, 64, 5), (512, 512, 5), (2048, 100, 5), (40, 4097, 7)])
def test_the_smallest_picture_in_htj2k_has_at_most_64_pixels_a_side(
    tmp_path: Path, rows: int, columns: int, levels: int
) -> None:
    image = np.random.default_rng(5).integers(0, 4000, (rows, columns)).astype(np.uint16)
    source = sources.image_file(tmp_path / "a.dcm", image)
    (codestream,) = encoded_frames(source, [1], syntaxes.HTJ2K_LOSSLESS_RPCL)
    assert codestream[codestream.index(b"\xff\x52") + 9] == levels
    smallest = imagecodecs.htj2k_decode(codestream, skipres=levels)
    assert max(smallest.shape) <= 64
    np.testing.assert_array_equal(openjpeg.decode(codestream), image)


def test_colour_by_plane_comes_back_by_plane_through_rle(tmp_path: Path) -> None:
    planes = np.random.default_rng(4).integers(0, 9, (3, 20, 30)).astype(np.uint8)
    native = sources.image_file(tmp_path / "a.dcm", np.moveaxis(planes, 0, 2), PlanarConfiguration=1)
    native.path.write_bytes(native.path.read_bytes()[: -planes.size] + planes.tobytes())
    transcode(native, tmp_path / "rle.dcm", syntaxes.RLE_LOSSLESS)
    transcode(sources.source_of(tmp_path / "rle.dcm"), tmp_path / "back.dcm", sources.EXPLICIT)
    back = pydicom.dcmread(tmp_path / "back.dcm")
    assert (back.PlanarConfiguration, back.PixelData) == (1, planes.tobytes())


@pytest.mark.parametrize("bits", [2, 7, 8, 9, 10, 12, 15, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("uid", encode.LOSSLESS)
def test_every_depth_keeps_its_extremes(uid: str, samples: int, signed: bool, bits: int, tmp_path: Path) -> None:
    low = -(1 << (bits - 1)) if signed else 0
    dtype = np.dtype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    pixels = np.random.default_rng(3).integers(low, low + (1 << bits), (19, 23, samples)).astype(dtype)
    pixels[0, 0], pixels[0, 1] = low, low + (1 << bits) - 1
    pixels = pixels if samples == 3 else pixels[..., 0]
    described = {"BitsStored": bits, "HighBit": bits - 1}
    source = sources.image_file(tmp_path / "a.dcm", pixels, **described)
    transcode(source, tmp_path / "out.dcm", uid)
    result = sources.source_of(tmp_path / "out.dcm")
    np.testing.assert_array_equal(arrays(result)[0], pixels.reshape(19, 23, samples))
    for other in by_others(tmp_path / "out.dcm", uid, tmp_path):
        np.testing.assert_array_equal(other.astype(dtype), pixels.reshape(19, 23, samples))


@pytest.mark.parametrize("uid", encode.LOSSLESS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 1), (2, 3, 3), (3, 300), (1, 1, 3)])
def test_tiny_and_odd_images_are_held(uid: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, shape).astype(np.uint8)
    source = sources.image_file(tmp_path / "a.dcm", pixels)
    transcode(source, tmp_path / "out.dcm", uid)
    assert decode_frames(sources.source_of(tmp_path / "out.dcm"), [1])[0] == pixels.tobytes()


@pytest.mark.parametrize("uid", encode.LOSSLESS)
def test_bits_beyond_bits_stored_are_kept(uid: str, tmp_path: Path) -> None:
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    pixels[10:20] |= 0x8000  # an overlay of old
    source = sources.image_file(tmp_path / "a.dcm", pixels, BitsStored=12, HighBit=11)
    transcode(source, tmp_path / "out.dcm", uid)
    assert decode_frames(sources.source_of(tmp_path / "out.dcm"), [1])[0] == pixels.tobytes()
    with pytest.raises(NotAcceptable):
        transcode(source, tmp_path / "lossy.dcm", syntaxes.JPEG_2000)
    assert not (tmp_path / "lossy.dcm").exists()


@pytest.mark.parametrize("uid", _JPEG2000_FAMILY)
def test_a_codestream_says_bits_stored(uid: str, tmp_path: Path) -> None:
    for signed in (False, True):
        pixels = (np.arange(4096).reshape(64, 64) - 2048 * signed).astype(np.int16 if signed else np.uint16)
        source = sources.image_file(tmp_path / "a.dcm", pixels, BitsStored=12, HighBit=11)
        (made,) = encoded_frames(source, [1], uid)
        head = codestream.jpeg2000(made)
        assert (head.precision, head.signed) == (12, signed)
        assert b"\xff\x55" in made or uid == syntaxes.JPEG_2000_LOSSLESS  # TLM
        progression = made[made.index(b"\xff\x52") + 5]
        assert progression == 2 or uid == syntaxes.JPEG_2000_LOSSLESS  # RPCL


def refused() -> dict[str, tuple[NDArray[Any], dict[str, Any], set[str]]]:
    """What cannot be held: pixels, attributes, and the compressed transfer syntaxes that are left."""
    whole = set(encode.LOSSLESS + encode.LOSSY)
    grey = np.zeros((8, 8), np.uint8)
    return {
        "32 bits": (np.zeros((8, 8), np.uint32), {}, set()),
        "single bits": (grey, {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, set()),
        "16 bits": (np.zeros((8, 8), np.uint16), {}, whole - {syntaxes.JPEG_BASELINE}),
        "signed bytes": (np.zeros((8, 8), np.int8), {}, whole - {syntaxes.JPEG_BASELINE}),
        "palette": (grey, {"PhotometricInterpretation": "PALETTE COLOR"}, set(encode.LOSSLESS)),
        "other colours": (np.zeros((8, 8, 3), np.uint8), {"PhotometricInterpretation": "HSV"}, set()),
        "bytes": (grey, {}, whole),
    }


@pytest.mark.parametrize("kind", refused())
def test_what_cannot_be_held_is_not_offered(kind: str, tmp_path: Path) -> None:
    pixels, described, left = refused()[kind]
    source = sources.image_file(tmp_path / "a.dcm", pixels, **described)
    assert set(targets_of(source)) == {*NATIVE, *left}
    for uid in set(TARGETS) - {*NATIVE, *left}:
        with pytest.raises(NotAcceptable):
            transcode(source, tmp_path / "out.dcm", uid)


def test_without_pixels_the_native_ones_are_left() -> None:
    assert targets_of(sources.source_of(sources.real("reportsi.dcm"))) == NATIVE
    assert targets_of(sources.source_of(sources.real("rtdose_1frame.dcm"))) == NATIVE


def test_the_basic_offset_table_finds_every_frame(tmp_path: Path) -> None:
    out = tmp_path / "out.dcm"
    source = sources.source_of(sources.real("examples_ybr_color.dcm"))
    transcode(source, out, syntaxes.JPEG_LS_LOSSLESS)
    data_set = pydicom.dcmread(out)
    offsets = pydicom.encaps.parse_basic_offsets(data_set.PixelData)
    assert len(offsets) == 30 == data_set.NumberOfFrames
    fragments = list(pydicom.encaps.generate_fragments(data_set.PixelData[8 + 4 * 30 :]))
    assert len(fragments) == 30
    assert all(len(fragment) % 2 == 0 for fragment in fragments)
    starts = [0]
    for fragment in fragments[:-1]:
        starts.append(starts[-1] + 8 + len(fragment))
    assert offsets == starts


def test_past_4_gib_an_extended_offset_table_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encapsulate, "_MAX_BASIC_OFFSET", 1000)
    out = tmp_path / "out.dcm"
    source = sources.source_of(sources.real("examples_ybr_color.dcm"))
    transcode(source, out, syntaxes.RLE_LOSSLESS)
    data_set = pydicom.dcmread(out)
    assert pydicom.encaps.parse_basic_offsets(data_set.PixelData) == []
    result = sources.source_of(out)
    with result.open() as reader:
        ours = [frames.stored_frame(result, reader, number) for number in (1, 17, 30)]
    extended = (data_set.ExtendedOffsetTable, data_set.ExtendedOffsetTableLengths)
    theirs = [
        pydicom.encaps.get_frame(data_set.PixelData, index, number_of_frames=30, extended_offsets=extended)
        for index in (0, 16, 29)
    ]
    assert ours == theirs
    np.testing.assert_array_equal(arrays(result)[16], arrays(source)[16])


@pytest.mark.parametrize(
    ("missing", "uids"),
    [
        ("imagecodecs", (syntaxes.RLE_LOSSLESS, syntaxes.JPEG_2000_LOSSLESS, syntaxes.JPEG_LS_LOSSLESS)),
        ("jpeg_ls", (syntaxes.JPEG_LS_LOSSLESS,)),
    ],
)
def test_another_way_in_makes_the_same_pixels(
    missing: str, uids: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for name in ("CT_small.dcm", "examples_rgb_color.dcm"):
        source = sources.source_of(sources.real(name))
        for uid in uids:
            transcode(source, tmp_path / "out.dcm", uid)
            result = sources.source_of(tmp_path / "out.dcm")
            np.testing.assert_array_equal(arrays(result)[0], arrays(source)[0])


@pytest.mark.parametrize("uid", [syntaxes.JPEG_BASELINE, syntaxes.JPEG_2000])
def test_another_way_in_is_as_near(uid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    for name in ("examples_rgb_color.dcm", "examples_ybr_color.dcm"):
        test_a_lossy_result_is_near_the_original_and_says_what_it_is(sources.real(name), uid, tmp_path)


def test_rows_are_packed_one_by_one_and_as_imagecodecs_does() -> None:
    random = np.random.default_rng(2)
    for columns in (1, 2, 3, 127, 128, 129, 300):
        plane = np.repeat(random.integers(0, 3, (5, columns)), 1, axis=1).astype(np.uint8)
        plane[2] = 7
        plane[3] = random.integers(0, 255, columns)
        packed = rle.pack(plane)
        assert rle.unpack(packed, plane.size) == plane.tobytes()
        row_by_row = b"".join(rle.pack(plane[row : row + 1]) for row in range(5))
        assert packed == row_by_row
        fast = b"".join(imagecodecs.packbits_encode(plane[row]) for row in range(5))
        assert imagecodecs.packbits_encode(plane, axis=-1) == fast
