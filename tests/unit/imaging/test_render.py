from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pacs.errors import Invalid, NotAcceptable, NotFound, Undecodable
from pacs.imaging import forms, show
from pacs.imaging.luts import expand_segments
from pacs.imaging.options import RenderOptions, Viewport, Window
from pacs.imaging.render import render_pixels
from pacs.imaging.source import Source
from tests.unit.imaging import sources

_CT = {"RescaleSlope": 2, "RescaleIntercept": -1024}


def ramp(dtype: str = "u2", low: int = 0, high: int = 4095) -> NDArray[Any]:
    return np.linspace(low, high, 64 * 64).reshape(64, 64).astype(dtype)


def render(source: Source, number: int, options: RenderOptions) -> bytes:
    return show.picture(source, forms.IMAGE, number, options)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("dtype", ["i2", "u2"])
@pytest.mark.parametrize("slope", ["1", "-2.5"])
def test_a_frame_is_shaded_alike_whether_only_its_ends_or_all_its_values_are_looked_at(
    tmp_path: Path, dtype: str, slope: str
) -> None:
    pixels = ramp(dtype, 0, 3000)
    described = {"RescaleSlope": slope, "RescaleIntercept": "-1024"}
    ends = sources.image_file(tmp_path / "ends.dcm", pixels, **described)
    # Padding within the frame's range: every value has to be looked at. None of them is padding.
    pixels = np.where(pixels == 1500, 1501, pixels).astype(dtype)
    all_values = sources.image_file(tmp_path / "all.dcm", pixels, PixelPaddingValue=1500, **described)
    with_ends = render_pixels(ends, 1)
    assert np.array_equal(with_ends[pixels != 1501], render_pixels(all_values, 1)[pixels != 1501])
    assert (with_ends.min(), with_ends.max()) == (0, 255)


# Against DCMTK. Overlays are drawn here and not there; DCMTK has no JPEG 2000 and little JPEG-LS.
_DCMTK_CANNOT = {
    "693_J2KI.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "JPEG2000-embedded-sequence-delimiter.dcm",
    "JPEG2000.dcm",
    "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_gdcm_KY.dcm",
    "SC_rgb_jls_lossy_line.dcm",
    "SC_rgb_jls_lossy_sample.dcm",
    "SC_rgb_jpeg.dcm",
    "examples_jpeg2k.dcm",
    "examples_overlay.dcm",
}


def comparable() -> list[Path]:
    return [path for path in sources.real_images() if path.name not in _DCMTK_CANNOT]


@pytest.mark.parametrize("path", comparable(), ids=lambda path: path.name)
def test_real_images_look_as_dcmtk_shows_them(path: Path, tmp_path: Path) -> None:
    source = sources.source_of(path)
    if path.name.startswith("rtdose"):
        # DCMTK neither scales doses nor swaps 32-bit words whole; without a window the picture is the same.
        if "expb" in path.name:
            pytest.skip("DCMTK swaps the halves of 32-bit words")
        options = ["+Wm"]
    elif source.number("00280002", 1) == 1 and "00281050" in source.attributes:
        options = ["+Wi", "1"]
    else:
        options = ["+Wm"]
    expected = sources.dcmtk_picture(path, tmp_path / "out.bmp", "+ob", "-O", *options)
    shown = render_pixels(source, 1)
    if expected.ndim == 3 and shown.ndim == 2:
        expected = expected[..., 0]
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("path", sources.real_images(), ids=lambda path: path.name)
@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/gif"])
def test_every_real_image_becomes_a_picture(path: Path, media_type: str) -> None:
    if path.name == "JPEG2000-embedded-sequence-delimiter.dcm":
        pytest.skip("its codestream is damaged on purpose")
    source = sources.source_of(path)
    image = opened(render(source, 1, RenderOptions(media_type=media_type)))
    assert image.size == (source.number("00280011", 0), source.number("00280010", 0))
    assert image.format == media_type[6:].upper()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("window", [(0.0, 1000.0), (300.0, 1500.0), (-500.0, 50.0)])
def test_windows_over_rescaled_values_agree_with_dcmtk(
    photometric: str, signed: bool, window: tuple[float, float], tmp_path: Path
) -> None:
    pixels = ramp("i2", -2000, 2000) if signed else ramp()
    source = sources.image_file(tmp_path / "a.dcm", pixels, photometric=photometric, **_CT)
    center, width = window
    expected = sources.dcmtk_picture(source.path, tmp_path / "o.bmp", "+ob", "+Ww", str(center), str(width))
    shown = render_pixels(source, 1, Window(center, width))
    assert np.abs(shown.astype(int) - expected).max() <= 1
    assert len(np.unique(shown)) > 20


def test_a_sigmoid_agrees_with_dcmtk(tmp_path: Path) -> None:
    source = sources.image_file(tmp_path / "a.dcm", ramp(), **_CT)
    options = ("+ob", "+Wfs", "+Ww", "300", "1500")
    expected = sources.dcmtk_picture(source.path, tmp_path / "o.bmp", *options)
    shown = render_pixels(source, 1, Window(300, 1500, "SIGMOID"))
    # DCMTK stretches the curve so that its ends reach black and white.
    assert np.abs(shown.astype(int) - expected).max() <= 10
    assert shown[np.abs(ramp() * 2.0 - 1024 - 300).argmin() // 64, 0] in range(100, 156)


def test_linear_exact_runs_from_edge_to_edge(tmp_path: Path) -> None:
    source = sources.image_file(tmp_path / "a.dcm", np.array([[0, 50, 100, 150, 200]], np.uint16))
    assert render_pixels(source, 1, Window(100, 100, "LINEAR_EXACT")).tolist() == [[0, 0, 128, 255, 255]]


def test_a_window_of_one_is_a_threshold(tmp_path: Path) -> None:
    source = sources.image_file(tmp_path / "a.dcm", np.array([[99, 100, 101]], np.uint16))
    assert render_pixels(source, 1, Window(100, 1)).tolist() == [[0, 255, 255]]


def test_a_stored_window_that_cannot_be_falls_back_to_the_range(tmp_path: Path) -> None:
    pixels = np.array([[10, 20, 30]], np.uint16)
    for center, width in ((20, 0), (20, -5)):
        source = sources.image_file(tmp_path / "a.dcm", pixels, WindowCenter=center, WindowWidth=width)
        assert render_pixels(source, 1).tolist() == [[0, 128, 255]]


def test_padding_does_not_darken_the_picture(tmp_path: Path) -> None:
    pixels = np.array([[-2000, 0, 50, 100]], np.int16)
    source = sources.image_file(tmp_path / "a.dcm", pixels, **{"00280120": {"vr": "SS", "Value": [-2000]}})
    assert render_pixels(source, 1).tolist() == [[0, 0, 128, 255]]


def test_bits_above_bits_stored_are_not_seen(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 4095]], np.uint16)
    clean = sources.image_file(tmp_path / "a.dcm", values, BitsStored=12, HighBit=11)
    expected = render_pixels(clean, 1).tolist()
    dirty = sources.image_file(tmp_path / "b.dcm", values | 0xA000, BitsStored=12, HighBit=11)
    assert render_pixels(dirty, 1).tolist() == expected
    shifted = sources.image_file(tmp_path / "c.dcm", (values << 4) | 5, BitsStored=12, HighBit=15)
    assert render_pixels(shifted, 1).tolist() == expected


def test_inverse_presentation_is_inverted_once(tmp_path: Path) -> None:
    pixels = np.array([[0, 255]], np.uint8)
    shape = {"PresentationLUTShape": "INVERSE"}
    plain = sources.image_file(tmp_path / "a.dcm", pixels, photometric="MONOCHROME2", **shape)
    assert render_pixels(plain, 1).tolist() == [[255, 0]]
    both = sources.image_file(tmp_path / "b.dcm", pixels, photometric="MONOCHROME1", **shape)
    assert render_pixels(both, 1).tolist() == [[255, 0]]


def lut(vr: str, first: int, entries: list[int], bits: int = 16) -> dict[str, Any]:
    import base64

    data = np.array(entries, "<u2").tobytes()
    return {
        "00283002": {"vr": vr, "Value": [len(entries) & 0xFFFF, first, bits]},
        "00283006": {"vr": "OW", "InlineBinary": base64.b64encode(data).decode()},
    }


def test_a_modality_table_agrees_with_dcmtk(tmp_path: Path) -> None:
    entries = [int((index / 4095) ** 2 * 65535) for index in range(4096)]
    sequence = {
        "00283000": {"vr": "SQ", "Value": [{**lut("US", 0, entries), "00283004": {"vr": "LO", "Value": ["US"]}}]}
    }
    source = sources.image_file(tmp_path / "a.dcm", ramp(), BitsStored=12, HighBit=11, **sequence)
    expected = sources.dcmtk_picture(source.path, tmp_path / "o.bmp", "+ob", "+Ww", "30000", "50000")
    assert np.abs(render_pixels(source, 1, Window(30000, 50000)).astype(int) - expected).max() <= 1


def test_a_voi_table_agrees_with_dcmtk(tmp_path: Path) -> None:
    entries = [int((index / 4095) ** 0.5 * 1023) for index in range(4096)]
    sequence = {"00283010": {"vr": "SQ", "Value": [lut("US", 0, entries, 10)]}}
    source = sources.image_file(tmp_path / "a.dcm", ramp(), BitsStored=12, HighBit=11, **sequence)
    expected = sources.dcmtk_picture(source.path, tmp_path / "o.bmp", "+ob", "+Wl", "1")
    assert np.abs(render_pixels(source, 1).astype(int) - expected).max() <= 1


def test_a_voi_table_may_begin_below_zero(tmp_path: Path) -> None:
    sequence = {"00283010": {"vr": "SQ", "Value": [lut("US", -2 & 0xFFFF, [0, 10, 20, 30, 255], 8)]}}
    source = sources.image_file(tmp_path / "a.dcm", np.array([[-9, -2, 0, 2, 9]], np.int16), **sequence)
    assert render_pixels(source, 1).tolist() == [[0, 0, 20, 255, 255]]


def palette(entries: list[list[int]], first: int = 0, bits: int = 16, *, eight: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for channel, values in enumerate(entries, 1):
        found[f"0028110{channel}"] = {"vr": "US", "Value": [len(values) & 0xFFFF, first & 0xFFFF, bits]}
        found[f"0028120{channel}"] = binary(values, "u1" if eight else "<u2")
    return found


def binary(values: list[int], dtype: str) -> dict[str, Any]:
    import base64

    data = np.array(values, dtype).tobytes()
    return {"vr": "OW", "InlineBinary": base64.b64encode(data + b"\0" * (len(data) % 2)).decode()}


_RAINBOW = [[0, 0x4000, 0xFFFF], [0xFFFF, 0x8000, 0], [0x1200, 0x3400, 0x5600]]


def test_palettes_of_sixteen_bits_agree_with_dcmtk(tmp_path: Path) -> None:
    pixels = np.array([[0, 1], [2, 200]], np.uint8)
    source = sources.image_file(tmp_path / "a.dcm", pixels, **palette(_RAINBOW))
    expected = sources.dcmtk_picture(source.path, tmp_path / "o.bmp", "+ob")
    shown = render_pixels(source, 1)
    assert np.abs(shown.astype(int) - expected).max() <= 1
    assert shown[1, 1].tolist() == [255, 0, 0x56]


@pytest.mark.parametrize("form", ["bytes", "low bytes of words", "high bytes of words", "promised sixteen"])
def test_palettes_of_eight_bits_in_every_form_met(form: str, tmp_path: Path) -> None:
    eight = [[value >> 8 for value in channel] for channel in _RAINBOW]
    attributes = {
        "bytes": palette(eight, bits=8, eight=True),
        "low bytes of words": palette(eight, bits=8),
        "high bytes of words": palette([[value << 8 for value in channel] for channel in eight], bits=8),
        "promised sixteen": palette(eight, bits=16),
    }[form]
    source = sources.image_file(tmp_path / "a.dcm", np.array([[0, 1, 2]], np.uint8), **attributes)
    assert render_pixels(source, 1).tolist() == [[[0, 255, 0x12], [0x40, 0x80, 0x34], [255, 0, 0x56]]]


def test_a_palette_of_signed_pixels_may_begin_below_zero(tmp_path: Path) -> None:
    source = sources.image_file(tmp_path / "a.dcm", np.array([[-1, 0, 1]], np.int8), **palette(_RAINBOW, first=-1))
    assert render_pixels(source, 1)[0, :, 0].tolist() == [0, 0x40, 255]


def test_segmented_palettes_are_expanded(tmp_path: Path) -> None:
    attributes = palette(_RAINBOW)
    for channel in (1, 2, 3):
        attributes[f"0028110{channel}"] = {"vr": "US", "Value": [6, 0, 16]}
        del attributes[f"0028120{channel}"]
        # two discrete entries, then four steps up to 0xFFFF
        attributes[f"0028122{channel}"] = binary([0, 2, 0x0100, 0x0200, 1, 4, 0xFFFF], "<u2")
    source = sources.image_file(tmp_path / "a.dcm", np.array([[0, 1, 3, 5]], np.uint8), **attributes)
    assert render_pixels(source, 1)[0, :, 0].tolist() == [1, 2, 129, 255]


def test_indirect_segments_repeat_earlier_ones() -> None:
    words = np.array([0, 2, 5, 6, 1, 2, 10, 2, 2, 0, 0], "<u2")
    assert expand_segments(words, 100).tolist() == [5, 6, 8, 10, 5, 6, 8, 10]
    with pytest.raises(Undecodable):
        expand_segments(np.array([2, 1, 0, 0, 7, 7], "<u2"), 100)


def test_a_palette_that_is_missing_is_undecodable(tmp_path: Path) -> None:
    source = sources.image_file(tmp_path / "a.dcm", np.zeros((2, 2), np.uint8), photometric="PALETTE COLOR")
    with pytest.raises(Undecodable):
        render_pixels(source, 1)


def test_planes_and_pixels_show_the_same_colours(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (6, 8, 3), np.uint8)
    by_pixel = sources.image_file(tmp_path / "a.dcm", pixels)
    planes = np.ascontiguousarray(np.moveaxis(pixels, 2, 0)).reshape(6, 8, 3)
    by_plane = sources.image_file(tmp_path / "b.dcm", planes, PlanarConfiguration=1)
    assert np.array_equal(render_pixels(by_pixel, 1), pixels)
    assert np.array_equal(render_pixels(by_plane, 1), pixels)


def test_colour_of_sixteen_bits_keeps_its_high_bits(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 4096, (4, 4, 3)).astype(np.uint16)
    source = sources.image_file(tmp_path / "a.dcm", pixels, BitsStored=12, HighBit=11)
    assert np.array_equal(render_pixels(source, 1), (pixels >> 4).astype(np.uint8))


def test_ybr_of_every_kind_becomes_rgb(tmp_path: Path) -> None:
    red = sources.image_file(tmp_path / "a.dcm", np.full((2, 2, 3), (76, 85, 255), np.uint8), photometric="YBR_FULL")
    assert np.abs(render_pixels(red, 1).astype(int) - (255, 0, 0)).max() <= 1
    white = sources.image_file(
        tmp_path / "b.dcm", np.full((2, 2, 3), (235, 128, 128), np.uint8), photometric="YBR_PARTIAL_420"
    )
    assert render_pixels(white, 1).tolist() == [[[255] * 3] * 2] * 2


def test_enhanced_images_are_windowed_frame_by_frame(tmp_path: Path) -> None:
    def voi(center: float) -> dict[str, Any]:
        window = {"00281050": {"vr": "DS", "Value": [center]}, "00281051": {"vr": "DS", "Value": [101]}}
        return {"00289132": {"vr": "SQ", "Value": [window]}}

    rescale = {"00281052": {"vr": "DS", "Value": [-100]}, "00281053": {"vr": "DS", "Value": [2]}}
    pixels = np.broadcast_to(np.array([[25, 50, 75, 100]], np.uint16), (2, 1, 4))
    source = sources.image_file(
        tmp_path / "a.dcm",
        np.ascontiguousarray(pixels),
        **{
            "52009229": {"vr": "SQ", "Value": [{"00289145": {"vr": "SQ", "Value": [rescale]}}]},
            "52009230": {"vr": "SQ", "Value": [voi(0.5), voi(50.5)]},
        },
    )
    # modality values are -50, 0, 50, 100
    assert render_pixels(source, 1).tolist() == [[0, 128, 255, 255]]
    assert render_pixels(source, 2).tolist() == [[0, 0, 128, 255]]


def test_segmentations_are_black_and_white_even_when_a_frame_has_one_of_them(tmp_path: Path) -> None:
    bits = np.array([[[0] * 16], [[1] * 16]], np.uint8)
    packed = np.packbits(bits.reshape(-1), bitorder="little")
    attributes = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "Rows": 1, "Columns": 16, "NumberOfFrames": 2}
    sources.image_file(tmp_path / "a.dcm", packed[np.newaxis], **attributes)
    source = sources.source_of(tmp_path / "a.dcm")
    assert set(render_pixels(source, 1).flat) == {0}
    assert set(render_pixels(source, 2).flat) == {255}


def test_fractional_segmentations_go_up_to_their_maximum(tmp_path: Path) -> None:
    source = sources.image_file(
        tmp_path / "a.dcm",
        np.array([[0, 50]], np.uint8),
        SegmentationType="FRACTIONAL",
        **{"0062000E": {"vr": "US", "Value": [100]}},
    )
    assert render_pixels(source, 1).tolist() == [[0, 128]]


def test_floating_point_pixels_are_shown_over_their_finite_range(tmp_path: Path) -> None:
    values = np.array([[0.5, 1.0, 1.5, np.nan, np.inf]], "<f4")
    path = tmp_path / "a.dcm"
    sources.image_file(path, None, Rows=1, Columns=5, BitsAllocated=32, BitsStored=None, HighBit=None)
    raw = values.tobytes()
    path.write_bytes(path.read_bytes() + b"\xe0\x7f\x08\x00OF\0\0" + len(raw).to_bytes(4, "little") + raw)
    assert render_pixels(sources.source_of(path), 1)[0, :3].tolist() == [0, 128, 255]


def test_overlays_are_drawn_white() -> None:
    source = sources.source_of(sources.real("examples_overlay.dcm"))
    shown = render_pixels(source, 1)
    import pydicom

    mask = pydicom.dcmread(source.path).overlay_array(0x6000).astype(bool)
    assert mask.any()
    assert (shown[mask] == 255).all()


def test_an_even_frame_is_black_rather_than_an_error(tmp_path: Path) -> None:
    source = sources.image_file(tmp_path / "a.dcm", np.full((3, 3), 7, np.uint16))
    assert set(render_pixels(source, 1).flat) == {0}


def test_attributes_that_are_no_numbers_do_not_stop_the_picture(tmp_path: Path) -> None:
    text = {tag: {"vr": "DS", "Value": ["abc"]} for tag in ("00281050", "00281051", "00281052", "00281053")}
    source = sources.image_file(tmp_path / "a.dcm", np.array([[0, 100]], np.uint16), **text)
    assert render_pixels(source, 1).tolist() == [[0, 255]]


# Pictures: sizes, viewports, formats.


def picture(tmp_path: Path, rows: int = 40, columns: int = 60, **attributes: Any) -> Any:
    y, x = np.mgrid[0:rows, 0:columns]
    return sources.image_file(tmp_path / "a.dcm", (x * 4).astype(np.uint8) + (y > rows // 2), **attributes)


@pytest.mark.parametrize(
    ("viewport", "size"),
    [
        (Viewport(30, 30), (30, 20)),
        (Viewport(600, 100), (150, 100)),
        (Viewport(20, 20, 10, 10, 20, 20), (20, 20)),
        (Viewport(20, 20, 10, 10), (20, 12)),
        (Viewport(50, 50, 50, 0, 100, 10), (50, 50)),
    ],
)
def test_viewports_keep_proportions(viewport: Viewport, size: tuple[int, int], tmp_path: Path) -> None:
    data = render(picture(tmp_path), 1, RenderOptions("image/png", viewport=viewport))
    assert opened(data).size == size


def test_a_viewport_shows_its_region_and_flips_it(tmp_path: Path) -> None:
    source = picture(tmp_path)
    whole = render_pixels(source, 1)

    def shown(*region: float) -> NDArray[Any]:
        options = RenderOptions("image/png", viewport=Viewport(20, 10, *region))
        return np.asarray(opened(render(source, 1, options)))

    part = whole[5:15, 10:30]
    assert np.array_equal(shown(10, 5, 20, 10), part)
    assert np.array_equal(shown(10, 5, -20, 10), part[:, ::-1])
    assert np.array_equal(shown(10, 5, 20, -10), part[::-1])


def test_a_region_outside_the_image_is_invalid(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        render(picture(tmp_path), 1, RenderOptions(viewport=Viewport(10, 10, 100, 100, 5, 5)))


def test_thumbnails_shrink_and_never_grow(tmp_path: Path) -> None:
    assert opened(render(picture(tmp_path), 1, RenderOptions(max_size=30))).size == (30, 20)
    assert opened(render(picture(tmp_path), 1, RenderOptions(max_size=500))).size == (60, 40)


def test_pixels_that_are_not_square_are_scaled_to_their_shape(tmp_path: Path) -> None:
    source = picture(tmp_path, PixelSpacing=[2, 1])
    assert opened(render(source, 1, RenderOptions(viewport=Viewport(100, 100)))).size == (75, 100)
    source = picture(tmp_path, PixelAspectRatio=[1, 2])
    assert opened(render(source, 1, RenderOptions(max_size=30))).size == (30, 10)
    assert opened(render(source, 1, RenderOptions())).size == (60, 40)


@pytest.mark.parametrize("isal", [True, False], ids=["isal", "zlib"])
def test_png_is_exact(isal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not isal:
        monkeypatch.setitem(sys.modules, "isal", None)
    grey = picture(tmp_path)
    assert np.array_equal(np.asarray(opened(render(grey, 1, RenderOptions("image/png")))), render_pixels(grey, 1))
    pixels = np.random.default_rng(2).integers(0, 256, (7, 5, 3), np.uint8)
    color = sources.image_file(tmp_path / "c.dcm", pixels)
    assert np.array_equal(np.asarray(opened(render(color, 1, RenderOptions("image/png")))), pixels)


def test_quality_changes_the_jpeg() -> None:
    source = sources.source_of(sources.real("examples_rgb_color.dcm"))
    low, high = (len(render(source, 1, RenderOptions(quality=quality))) for quality in (10, 95))
    assert low < high / 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: RenderOptions(quality=0),
        lambda: RenderOptions(quality=101),
        lambda: RenderOptions(max_size=0),
        lambda: Window(0, 0.5),
        lambda: Window(0, -1, "SIGMOID"),
        lambda: Window(float("nan"), 100),
        lambda: Window(0, float("inf")),
        lambda: Window(0, 100, "CUBIC"),
        lambda: Viewport(0, 10),
        lambda: Viewport(10, 1 << 20),
        lambda: Viewport(10, 10, 0, 0, 0, 5),
        lambda: Viewport(10, 10, float("nan")),
    ],
)
def test_options_that_mean_nothing_are_invalid(make: Any) -> None:
    with pytest.raises(Invalid):
        make()


def test_other_media_types_are_not_acceptable_and_say_what_is() -> None:
    with pytest.raises(NotAcceptable) as refused:
        RenderOptions("image/webp")
    assert "image/png" in refused.value.available


def test_frames_and_pixels_that_are_not_there_are_not_found() -> None:
    with pytest.raises(NotFound):
        render(sources.source_of(sources.real("rtdose.dcm")), 16, RenderOptions())
    with pytest.raises(NotFound):
        render(sources.source_of(sources.real("rtplan.dcm")), 1, RenderOptions())
