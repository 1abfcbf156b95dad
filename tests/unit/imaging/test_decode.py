from __future__ import annotations

import io
import sys
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pacs.errors import NotFound, Undecodable
from pacs.imaging import codecs, frames
from pacs.imaging.decode import can_decode, changed_attributes, decode_frames, photometric_after
from tests.unit.imaging import sources

_JPEG = "1.2.840.10008.1.2.4."
_LOSSLESS_SV1, _LS, _J2K, _HTJ2K, _RLE = _JPEG + "70", _JPEG + "80", _JPEG + "90", _JPEG + "201", "1.2.840.10008.1.2.5"

# pydicom as installed for tests has no decoder for these; DCMTK has.
_BY_DCMTK = {
    "JPEG-lossy.dcm": "dcmdjpeg",
    "JPGExtended.dcm": "dcmdjpeg",
    "SC_rgb_jpeg_gdcm.dcm": "dcmdjpeg",
    "MR_small_jpeg_ls_lossless.dcm": "dcmdjpls",
    "SC_rgb_jls_lossy_line.dcm": "dcmdjpls",
    "SC_rgb_jls_lossy_sample.dcm": "dcmdjpls",
    "image_dfl.dcm": "dcmconv",  # pydicom reads its pixel data as padding
    "badVR.dcm": "dcmconv",  # pydicom stops at NumberOfFrames "1A"
}
# Their first frame has no oracle here: see the tests that name them.
_WITHOUT_ORACLE = {
    "JPEG2000-embedded-sequence-delimiter.dcm",  # the codestream's header is overwritten
    "GDCMJ2K_TextGBR.dcm",  # pydicom's pillow plugin refuses it, DCMTK has no JPEG 2000
    "JPEGLSNearLossless_08.dcm",  # DCMTK refuses the odd length
    "JPEGLSNearLossless_16.dcm",
    "SC_rgb_jpeg.dcm",  # neither reads its mixture of implicit and explicit VR
}


_DCMTK_REFUSES = {"SC_rgb_jpeg.dcm"}  # the mixture of implicit and explicit VR again


def gradient(dtype: str = "u2", rows: int = 64, columns: int = 48, high: int = 4000) -> NDArray[Any]:
    low = -high if np.dtype(dtype).kind == "i" else 0
    ramp = np.linspace(low, high, rows * columns).reshape(rows, columns)
    return (ramp + np.random.default_rng(5).integers(0, 5, (rows, columns))).astype(dtype)


def colors(rows: int = 40, columns: int = 60) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:rows, 0:columns]
    return np.dstack([x * 4, y * 6, 255 - x * 4]).astype(np.uint8)


def as_array(raw: bytes, source: Any) -> NDArray[Any]:
    image = frames.image_of(source)
    flat = np.frombuffer(raw, image.dtype.newbyteorder("<"))
    planar = changed_attributes(source).get("00280006", int(image.planar)) and image.samples > 1
    if planar:
        return np.moveaxis(flat.reshape(image.samples, image.rows, image.columns), 0, 2)
    return flat.reshape((image.rows, image.columns, image.samples)[: 3 if image.samples > 1 else 2])


@pytest.mark.parametrize("path", sources.real_images(), ids=lambda path: path.name)
def test_every_real_frame_is_what_an_independent_decoder_makes_of_it(path: Path, tmp_path: Path) -> None:
    if path.name in _WITHOUT_ORACLE:
        pytest.skip("no independent decoder here")
    source = sources.source_of(path)
    count = frames.pixels_of(source).number_of_frames
    if path.name in _BY_DCMTK:
        native = tmp_path / "native.dcm"
        done = sources.dcmtk(_BY_DCMTK[path.name], *(["+te"] if path.name == "image_dfl.dcm" else []), path, native)
        assert done.returncode == 0, done.stderr
        expected = decode_frames(sources.source_of(native), range(1, count + 1))
        assert decode_frames(source, range(1, count + 1)) == expected
        return
    for number in {1, count}:
        image = frames.image_of(source)
        with source.open() as reader:
            array, _ = frames.frame_array(source, reader, image, number)
        if sources.becomes_rgb(source):
            expected_array = sources.pydicom_rgb(path, number - 1)
            assert np.abs(array.astype(int) - expected_array).max() <= 2
            assert photometric_after(source) == "RGB"
            expected_array = array
        else:
            expected_array = sources.pydicom_raw(path, number - 1)
        assert np.array_equal(array.reshape(expected_array.shape), expected_array)
        if image.bits_allocated > 1 and not image.subsampled:
            (raw,) = decode_frames(source, [number])
            assert np.array_equal(as_array(raw, source), expected_array)


def decoded_by_dcmtk() -> dict[Path, str]:
    """Real files with the DCMTK tool for their transfer syntax."""
    tools = {
        **dict.fromkeys((_JPEG + "50", _JPEG + "51", _JPEG + "57", _LOSSLESS_SV1), "dcmdjpeg +cn"),
        **dict.fromkeys((_LS, _JPEG + "81"), "dcmdjpls"),
        _RLE: "dcmdrle",
    }
    found = {path: tools.get(sources.source_of(path).transfer_syntax_uid, "") for path in sources.real_images()}
    return {path: tool for path, tool in found.items() if tool}


@pytest.mark.parametrize("path", decoded_by_dcmtk(), ids=lambda path: path.name)
def test_every_frame_that_dcmtk_can_decode_is_what_dcmtk_makes_of_it(path: Path, tmp_path: Path) -> None:
    source, native = sources.source_of(path), tmp_path / "native.dcm"
    tool, *options = decoded_by_dcmtk()[path].split()
    allowed = 0
    if sources.becomes_rgb(source):
        options, allowed = [], 2
    if sources.dcmtk(tool, *options, path, native).returncode:
        assert path.name in _DCMTK_REFUSES
        return
    theirs = sources.source_of(native)
    ours_image, their_image = frames.image_of(source), frames.image_of(theirs)
    assert frames.pixels_of(source).number_of_frames == frames.pixels_of(theirs).number_of_frames
    with source.open() as reader, theirs.open() as their_reader:
        for number in range(1, frames.pixels_of(source).number_of_frames + 1):
            ours, _ = frames.frame_array(source, reader, ours_image, number)
            expected, _ = frames.frame_array(theirs, their_reader, their_image, number)
            assert np.abs(ours.astype(int) - expected).max() <= allowed


def test_a_component_transform_gives_rgb() -> None:
    source = sources.source_of(sources.real("GDCMJ2K_TextGBR.dcm"))
    import openjpeg

    with source.open() as reader:
        expected = openjpeg.decode(frames.stored_frame(source, reader, 1))
    assert np.array_equal(as_array(decode_frames(source, [1])[0], source), expected)
    assert photometric_after(source) == "RGB"


@pytest.mark.parametrize("name", ["JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm"])
def test_near_lossless_agrees_with_libjpeg(name: str) -> None:
    libjpeg = pytest.importorskip("libjpeg")
    source = sources.source_of(sources.real(name))
    with source.open() as reader:
        expected = libjpeg.decode(frames.stored_frame(source, reader, 1))
    assert np.array_equal(as_array(decode_frames(source, [1])[0], source), expected)


def test_an_adobe_marker_cut_short_is_no_marker() -> None:
    source = sources.source_of(sources.real("SC_rgb_jpeg.dcm"))
    uncompressed = sources.source_of(sources.real("SC_rgb_jpeg_dcmd.dcm"))
    assert decode_frames(source, [1]) == decode_frames(uncompressed, [1])


def test_an_overwritten_codestream_is_undecodable() -> None:
    with pytest.raises(Undecodable):
        decode_frames(sources.source_of(sources.real("JPEG2000-embedded-sequence-delimiter.dcm")), [1])


def encoders() -> dict[str, Any]:
    return {
        _LOSSLESS_SV1: lambda a: imagecodecs.ljpeg_encode(a, bitspersample=16),
        _LS: imagecodecs.jpegls_encode,
        _J2K: lambda a: imagecodecs.jpeg2k_encode(a, reversible=True, codecformat="j2k"),
        _HTJ2K: lambda a: imagecodecs.htj2k_encode(a, reversible=True),
    }


@pytest.mark.parametrize("fallback", [False, True], ids=["imagecodecs", "without imagecodecs"])
@pytest.mark.parametrize("uid", list(encoders()))
def test_lossless_syntaxes_give_back_what_was_encoded(
    uid: str, fallback: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = gradient()
    source = sources.image_file(tmp_path / "a.dcm", pixels, uid, frames=[encoders()[uid](pixels)])
    if fallback:
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert decode_frames(source, [1]) == [pixels.tobytes()]


@pytest.mark.parametrize("uid", [_J2K, _HTJ2K])
@pytest.mark.parametrize("dtype", ["i1", "i2", "u1"])
def test_jpeg_2000_keeps_its_sign(uid: str, dtype: str, tmp_path: Path) -> None:
    pixels = gradient(dtype, high=120)
    source = sources.image_file(tmp_path / "a.dcm", pixels, uid, frames=[encoders()[uid](pixels)])
    assert decode_frames(source, [1]) == [pixels.tobytes()]


def test_a_sign_that_a_codestream_cannot_hold_comes_from_pixel_representation(tmp_path: Path) -> None:
    pixels = gradient("i2", high=2000)
    encoded = imagecodecs.ljpeg_encode((pixels & 0xFFF).astype("u2"), bitspersample=12)
    source = sources.image_file(tmp_path / "a.dcm", pixels, _LOSSLESS_SV1, frames=[encoded], BitsStored=12, HighBit=11)
    assert decode_frames(source, [1]) == [pixels.tobytes()]


@pytest.mark.parametrize(("program", "uid"), [("dcmcjpls", _LS), ("dcmcjpeg", _LOSSLESS_SV1)])
def test_what_dcmtk_compressed_without_loss_comes_back_byte_for_byte(program: str, uid: str, tmp_path: Path) -> None:
    masked = (gradient("i2", high=2000) & 0xFFF).astype("i2")
    native = sources.image_file(tmp_path / "native.dcm", masked, BitsStored=12, HighBit=11)
    assert sources.dcmtk(program, native.path, tmp_path / "a.dcm").returncode == 0
    source = sources.source_of(tmp_path / "a.dcm")
    assert source.transfer_syntax_uid == uid
    assert decode_frames(source, [1]) == [masked.tobytes()]


@pytest.mark.parametrize("fallback", [False, True], ids=["imagecodecs", "without imagecodecs"])
@pytest.mark.parametrize("name", ["SC_rgb_rle_32bit_2frame.dcm", "MR_small_RLE.dcm", "rtdose_rle.dcm"])
def test_rle_in_python_agrees(name: str, fallback: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if fallback:
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
    path = sources.real(name)
    source = sources.source_of(path)
    assert np.array_equal(as_array(decode_frames(source, [1])[0], source), sources.pydicom_raw(path, 0))


@pytest.mark.parametrize("missing", ["imagecodecs", "libjpeg", "PIL.Image", "openjpeg"])
def test_every_real_frame_decodes_without_any_one_library(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"examples_ybr_color.dcm": 2, "SC_jpeg_no_color_transform_2.dcm": 2, "693_J2KI.dcm": 0}
    names |= {"SC_rgb_jpeg_gdcm.dcm": 0, "JPGExtended.dcm": 1, "MR_small_jpeg_ls_lossless.dcm": 0}
    found = {name: sources.source_of(sources.real(name)) for name in names}
    before = {name: decode_frames(source, [1])[0] for name, source in found.items()}
    monkeypatch.setitem(sys.modules, missing, None)
    for name, source in found.items():
        after = as_array(decode_frames(source, [1])[0], source).astype(int)
        worst = np.abs(after - as_array(before[name], source).astype(int)).max()
        assert worst <= names[name], name


@pytest.mark.parametrize("missing", [("imagecodecs",), ("imagecodecs", "PIL.Image")])
def test_ybr_labelled_rgb_is_transformed_by_every_decoder(
    missing: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = colors()
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95, subsampling=0)  # JFIF: so YCbCr
    source = sources.image_file(tmp_path / "a.dcm", pixels, _JPEG + "50", frames=[out.getvalue()], photometric="RGB")
    by_imagecodecs = as_array(decode_frames(source, [1])[0], source)
    assert photometric_after(source) == "RGB"
    assert np.abs(by_imagecodecs.astype(int) - pixels).mean() < 2
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    assert np.abs(as_array(decode_frames(source, [1])[0], source).astype(int) - by_imagecodecs).max() <= 2


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_PARTIAL_420", "YBR_FULL"])
@pytest.mark.parametrize("missing", [(), ("imagecodecs",), ("imagecodecs", "PIL.Image")])
def test_subsampled_jpeg_becomes_rgb_and_ybr_full_stays(
    missing: tuple[str, ...], photometric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, out = colors(), io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=98, subsampling=1)
    jfif = out.getvalue()
    bare = jfif[:2] + jfif[4 + int.from_bytes(jfif[4:6], "big") :]  # without the JFIF marker segment
    for data in (jfif, bare):
        source = sources.image_file(tmp_path / "a.dcm", pixels, _JPEG + "50", frames=[data], photometric=photometric)
        with monkeypatch.context() as without:
            for name in missing:
                without.setitem(sys.modules, name, None)
            found = as_array(decode_frames(source, [1])[0], source).astype(int)
        stays = photometric == "YBR_FULL"
        expected = np.asarray(Image.fromarray(pixels).convert("YCbCr")) if stays else pixels
        assert photometric_after(source) == ("YBR_FULL" if stays else "RGB")
        assert np.abs(found - expected).mean() < 3


def test_progressive_jpeg_decodes(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.fromarray(gradient("u1", high=250)).save(out, "JPEG", quality=100, progressive=True)
    pixels = gradient("u1", high=250)
    source = sources.image_file(tmp_path / "a.dcm", pixels, _JPEG + "55", frames=[out.getvalue()])
    assert np.abs(as_array(decode_frames(source, [1])[0], source).astype(int) - pixels).max() < 5


def test_fragments_of_one_frame_are_joined(tmp_path: Path) -> None:
    pixels = gradient()
    data = imagecodecs.jpegls_encode(pixels)
    pieces = [data[:100], data[100:300], data[300:]]
    source = sources.image_file(tmp_path / "a.dcm", pixels, _LS, frames=pieces)
    assert decode_frames(source, [1]) == [pixels.tobytes()]


def test_single_bits_deflated_frame_by_frame(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (2, 5, 7), np.uint8)
    packed = [np.packbits(frame.reshape(-1), bitorder="little").tobytes() for frame in bits]
    deflated = []
    for data in packed:
        deflater = zlib.compressobj(wbits=-15)
        deflated.append(deflater.compress(data) + deflater.flush())
    source = sources.image_file(
        tmp_path / "a.dcm",
        bits,
        "1.2.840.10008.1.2.8.1",
        frames=deflated,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
    )
    assert decode_frames(source, [1, 2]) == packed


def test_native_single_bit_frames_begin_on_a_byte_of_their_own(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (3, 5, 7), np.uint8)
    whole = np.packbits(bits.reshape(-1), bitorder="little")
    path = tmp_path / "a.dcm"
    sources.image_file(
        path,
        whole[np.newaxis],
        Rows=5,
        Columns=7,
        NumberOfFrames=3,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
    )
    source = sources.source_of(path)
    expected = [np.packbits(frame.reshape(-1), bitorder="little").tobytes() for frame in bits]
    assert decode_frames(source, [1, 2, 3]) == expected


def test_ybr_422_in_full_samples_is_taken_as_it_lies(tmp_path: Path) -> None:
    pixels = colors()
    source = sources.image_file(tmp_path / "a.dcm", pixels, photometric="YBR_FULL_422")
    assert decode_frames(source, [1]) == [pixels.tobytes()]


def test_frames_that_are_not_there_are_not_found() -> None:
    source = sources.source_of(sources.real("rtdose.dcm"))
    assert len(decode_frames(source, [15, 1])) == 2
    for number in (0, 16, -1):
        with pytest.raises(NotFound):
            decode_frames(source, [number])


def test_an_instance_without_pixels_has_no_frames() -> None:
    with pytest.raises(NotFound):
        decode_frames(sources.source_of(sources.real("rtplan.dcm")), [1])


def test_what_can_be_decoded_is_told_by_transfer_syntax() -> None:
    for uid in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", _J2K, _HTJ2K, _RLE):
        assert can_decode(uid)
    for uid in ("1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.92", "1.2.3"):
        assert not can_decode(uid)


# Hostile input: nothing below may crash, hang, or need more than a little memory.


@pytest.mark.parametrize("uid", [*encoders(), _JPEG + "50", _RLE, "1.2.840.10008.1.2.1.98", "1.2.840.10008.1.2.8.1"])
def test_a_declared_gigapixel_with_a_few_bytes_is_undecodable(uid: str, tmp_path: Path) -> None:
    source = sources.image_file(
        tmp_path / "a.dcm", gradient(), uid, frames=[b"\xff\xd8\xff\xd9" * 4], Rows=65535, Columns=65535
    )
    with pytest.raises(Undecodable):
        decode_frames(source, [1])


@pytest.mark.parametrize("uid", list(encoders()))
def test_a_codestream_larger_than_declared_is_refused_before_decoding(
    uid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = gradient(rows=128, columns=128)
    source = sources.image_file(tmp_path / "a.dcm", pixels, uid, frames=[encoders()[uid](pixels)], Rows=64)
    monkeypatch.setattr(codecs, "_first_that_works", lambda ways, data: pytest.fail("a decoder was called"))
    with pytest.raises(Undecodable, match="another size"):
        decode_frames(source, [1])


@pytest.mark.parametrize("uid", list(encoders()))
@pytest.mark.parametrize("keep", [0, 3, 20, 60])
def test_a_codestream_cut_short_in_its_header_is_undecodable(uid: str, keep: int, tmp_path: Path) -> None:
    pixels = gradient()
    source = sources.image_file(tmp_path / "a.dcm", pixels, uid, frames=[bytes(encoders()[uid](pixels))[:keep]])
    with pytest.raises(Undecodable):
        decode_frames(source, [1])


def test_a_jpeg_without_its_end_is_undecodable_rather_than_half_grey(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.fromarray(colors()).save(out, "JPEG")
    whole = out.getvalue()
    source = sources.image_file(
        tmp_path / "a.dcm", colors(), _JPEG + "50", frames=[whole[: len(whole) // 2]], photometric="YBR_FULL_422"
    )
    with pytest.raises(Undecodable):
        decode_frames(source, [1])


@pytest.mark.parametrize(
    "frame", [b"", bytes(64), b"\x02" + bytes(63), b"\x02\0\0\0\x40\0\0\0\xff\xff\xff\x7f" + bytes(52) + b"\x81\0" * 99]
)
def test_rle_with_a_senseless_header_is_undecodable(frame: bytes, tmp_path: Path) -> None:
    source = sources.image_file(tmp_path / "a.dcm", gradient(), _RLE, frames=[frame])
    with pytest.raises(Undecodable):
        decode_frames(source, [1])


@pytest.mark.parametrize(
    "attributes",
    [
        {"Rows": 0},
        {"Columns": None},
        {"BitsAllocated": 12},
        {"BitsAllocated": 0},
        {"SamplesPerPixel": 0},
        {"Rows": 65535, "Columns": 65535},
    ],
)
def test_senseless_image_attributes_are_undecodable(attributes: dict[str, Any], tmp_path: Path) -> None:
    source = sources.image_file(tmp_path / "a.dcm", gradient(), **attributes)
    with pytest.raises(Undecodable):
        decode_frames(source, [1])
