"""Drawings: waveforms, structure sets, segments, letters."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pacs.errors import Undecodable
from pacs.imaging import annotate, contours, forms, lettering, quick, segments, show, waveform
from pacs.imaging.options import RenderOptions, Viewport
from pacs.imaging.source import Source, items
from tests import builders
from tests.unit.imaging import sources
from tests.wire import shown_objects as shown


def wave(folder: Path, samples: NDArray[Any], interpretation: str = "SS", **group: Any) -> Source:
    """A waveform of (samples, channels)."""
    channels = samples.shape[1]
    definition = {
        "ChannelSourceSequence": [shown.code("1", "Lead V1 (x)")],
        **{key: group.pop(key) for key in list(group) if key.startswith("ChannelS") or key == "ChannelBaseline"},
    }
    path = folder / "wave.dcm"
    path.write_bytes(
        builders.part10(
            {
                "SOPClassUID": "1.2.840.10008.5.1.4.1.1.9.1.2",
                **shown.uids("1.2.3"),
                "WaveformSequence": [
                    {
                        "NumberOfWaveformChannels": channels,
                        "NumberOfWaveformSamples": len(samples),
                        "SamplingFrequency": "500",
                        "ChannelDefinitionSequence": [definition] * channels,
                        "WaveformBitsAllocated": samples.dtype.itemsize * 8,
                        "WaveformSampleInterpretation": interpretation,
                        "WaveformData": samples.tobytes(),
                        **group,
                    }
                ],
            }
        )
    )
    return sources.source_of(path)


def channels_of(source: Source, most: int = 1 << 20) -> list[waveform.Channel]:
    with source.open() as reader:
        return waveform.read(source, reader, items(source.attributes, "54000100")[0], most)


def picture(source: Source) -> NDArray[np.uint8]:
    with source.open() as reader:
        return waveform.draw(source, reader)


def test_channels_are_calibrated_to_millivolt(tmp_path: Path) -> None:
    samples = np.arange(-500, 500, dtype="<i2").reshape(-1, 2)
    source = wave(
        tmp_path,
        samples,
        ChannelSensitivity="2.5",
        ChannelSensitivityUnitsSequence=[shown.code("uV", "microvolt")],
        ChannelSensitivityCorrectionFactor="2",
        ChannelBaseline="100",
    )
    channel = channels_of(source)[1]
    assert (channel.label, channel.unit) == ("V1", "mV")
    np.testing.assert_allclose(channel.values, (samples[:, 1] * 5.0 + 100) / 1000)


def test_samples_of_every_kind_are_read(tmp_path: Path) -> None:
    for interpretation, kind in (("SB", "i1"), ("UB", "u1"), ("US", "<u2"), ("SL", "<i4"), ("UL", "<u4")):
        samples = np.array([[1], [200 if kind != "i1" else -3]], kind)
        np.testing.assert_array_equal(channels_of(wave(tmp_path, samples, interpretation))[0].values, samples[:, 0])


def test_companded_audio_is_expanded(tmp_path: Path) -> None:
    # ITU-T G.711: the codes of the greatest, the least positive and the greatest negative value.
    codes = np.array([[0x80], [0xFF], [0x00], [0xF0]], "u1")
    assert channels_of(wave(tmp_path, codes, "MB"))[0].values.tolist() == [32124, 0, -32124, 120]
    codes = np.array([[0xAA], [0xD5], [0x2A], [0x55]], "u1")
    assert channels_of(wave(tmp_path, codes, "AB"))[0].values.tolist() == [32256, 8, -32256, -8]


def test_padding_leaves_a_gap(tmp_path: Path) -> None:
    samples = np.full((1000, 1), 7, "<i2")
    samples[400:600] = -32768
    source = wave(tmp_path, samples, WaveformPaddingValue=b"\x00\x80")
    assert np.isnan(channels_of(source)[0].values[400:600]).all()
    ink = (picture(source).max(axis=2) < 128)[60:].any(axis=0).nonzero()[0]
    assert np.diff(ink).max() == pytest.approx(200 / 500 * 100, abs=6)


def test_hours_of_samples_are_shown_in_part(tmp_path: Path) -> None:
    page = picture(wave(tmp_path, np.zeros((500 * 3600, 1), "<i2")))
    assert page.shape[1] < 20 * 100 + 200


@pytest.mark.parametrize(
    "broken",
    [
        {"SamplingFrequency": "0"},
        {"SamplingFrequency": None},
        {"WaveformSampleInterpretation": "XX"},
        {"WaveformData": ...},
        {"WaveformData": b"\0\0"},
        {"NumberOfWaveformChannels": 0},
        {"NumberOfWaveformChannels": 60000},
    ],
)
def test_waveforms_that_make_no_sense_are_undecodable(broken: dict[str, Any], tmp_path: Path) -> None:
    source = wave(tmp_path, np.zeros((50, 2), "<i2"), **broken)
    with pytest.raises(Undecodable):
        picture(source)


def test_more_channels_than_are_described_are_numbered(tmp_path: Path) -> None:
    source = wave(tmp_path, np.zeros((50, 3), "<i2"), ChannelDefinitionSequence=[])
    assert [channel.label for channel in channels_of(source)] == ["1", "2", "3"]
    assert picture(source).shape[2] == 3


def test_structure_sets_without_contours_are_undecodable() -> None:
    with pytest.raises(Undecodable):
        contours.draw({"30060039": {"vr": "SQ", "Value": [{"30060040": {"vr": "SQ", "Value": [{}]}}]}})
    damaged = {"30060050": {"vr": "DS", "Value": ["x", None, 3]}}
    with pytest.raises(Undecodable):
        contours.draw({"30060039": {"vr": "SQ", "Value": [{"30060040": {"vr": "SQ", "Value": [damaged]}}]}})


def test_colours_of_segments_agree_with_littlecms() -> None:
    to_srgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    for light, a, b in ((60, 30, 20), (30, -10, 25), (85, 5, -10), (0, 0, 0), (100, 0, 0)):
        lab = Image.new("LAB", (1, 1), (round(light * 2.55), a + 128, b + 128))
        expected = ImageCms.applyTransform(lab, to_srgb).getpixel((0, 0))  # type: ignore[union-attr]
        assert np.abs(np.subtract(segments.from_lab(light, a, b), expected)).max() <= 3  # type: ignore[arg-type]


def test_names_and_dates_are_written_for_people() -> None:
    attributes = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane^Q"}]},
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "00100030": {"vr": "DA", "Value": ["19700131"]},
        "00100040": {"vr": "CS", "Value": ["F"]},
        "00101010": {"vr": "AS", "Value": ["000Y"]},
        "00180060": {"vr": "DS", "Value": ["120.0"]},
        "00080020": {"vr": "DA", "Value": ["20240131"]},
    }
    assert annotate.patient_lines(attributes) == ["Doe, Jane Q", "P1", "*1970-01-31  F"]
    assert annotate.technique_lines(attributes) == ["120 kV", "2024-01-31"]
    assert annotate.patient_lines({"00100010": {"vr": "PN", "Value": [None]}}) == []


def test_names_in_other_scripts_do_not_stop_a_picture() -> None:
    attributes = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Ωμέγα^Ж", "Ideographic": "山田^太郎"}]}}
    written = annotate.write(np.zeros((200, 300), np.uint8), attributes, ("patient",))
    assert written.shape == (200, 300)
    assert written.max() == 255
    assert lettering.can_draw("Müller")


def test_drawings_are_annotated_beside_what_is_drawn() -> None:
    source = sources.source_of(sources.real("waveform_ecg.dcm"))
    form = forms.of_attributes(source.attributes, source.layout)
    plain, annotated = (
        np.asarray(Image.open(BytesIO(show.picture(source, form, None, RenderOptions("image/png", annotation=what)))))
        for what in ((), ("patient", "technique"))
    )
    above = len(annotated) - len(plain)
    np.testing.assert_array_equal(annotated[above:], plain)
    assert annotated[:above].min() == 0


def test_long_lines_stay_within_the_picture() -> None:
    attributes = {"00100020": {"vr": "LO", "Value": ["W" * 64]}}
    written = annotate.write(np.full((90, 120), 200, np.uint8), attributes, ("patient",))
    assert (written[:, -2:] <= 200).all()
    assert written.max() > 230


def test_the_representative_frame_is_the_one_that_the_image_names(tmp_path: Path) -> None:
    frames = np.stack([np.tile(np.arange(8, dtype="u1") * n, (8, 1)) for n in range(1, 6)])
    options = RenderOptions("image/png")
    for said, expected in ((2, 2), (9, 3), (None, 3)):
        source = sources.image_file(tmp_path / "multi.dcm", frames, RepresentativeFrameNumber=said)
        assert show.picture(source, forms.IMAGE, None, options) == show.picture(source, forms.IMAGE, expected, options)


@pytest.mark.parametrize(
    ("timing", "delays"),
    [
        ({"FrameTime": "33.333"}, [30, 40, 30]),
        ({"FrameTimeVector": ["0", "50", "50"]}, [50, 50, 50]),
        ({"CineRate": 25}, [40, 40, 40]),
        ({"RecommendedDisplayFrameRate": 5, "CineRate": 25}, [200, 200, 200]),
        ({"FrameTime": "0"}, [100, 100, 100]),
        ({"FrameTime": "1"}, [20, 20, 20]),
    ],
)
def test_animations_play_at_the_speed_of_the_examination(
    timing: dict[str, Any], delays: list[int], tmp_path: Path
) -> None:
    frames = np.stack([np.full((8, 8), n * 60, "u1") for n in range(1, 4)])
    source = sources.image_file(tmp_path / "cine.dcm", frames, **timing)
    (tmp_path / "a.gif").write_bytes(show.animation(source, RenderOptions("image/gif")))
    found = []
    with Image.open(tmp_path / "a.gif") as image:
        for number in range(3):
            image.seek(number)
            found.append(image.info["duration"])
    assert found == delays


def test_long_animations_leave_frames_out_and_keep_their_length(tmp_path: Path) -> None:
    count = show.MOST_FRAMES * 2 + 10
    frames = np.stack([np.full((4, 4), n % 251, "u1") for n in range(count)])
    source = sources.image_file(tmp_path / "cine.dcm", frames, FrameTime="40")
    (tmp_path / "a.gif").write_bytes(show.animation(source, RenderOptions("image/gif")))
    with Image.open(tmp_path / "a.gif") as image:
        number = image.n_frames  # type: ignore[attr-defined]
        assert show.MOST_FRAMES * 0.9 < number <= show.MOST_FRAMES  # frames that look alike are one
        total = 0
        for place in range(number):
            image.seek(place)
            total += image.info["duration"]
    assert total == count * 40


def small(folder: Path, **attributes: Any) -> Source:
    pixels = np.arange(60 * 50, dtype=np.uint16).reshape(60, 50)
    return sources.image_file(folder / "small.dcm", pixels, **attributes)


def test_small_native_grey_frames_are_quick(tmp_path: Path) -> None:
    source = small(tmp_path, WindowCenter="100", WindowWidth="50")
    assert quick.is_quick(source, forms.IMAGE, RenderOptions())
    assert quick.is_quick(source, forms.IMAGE, RenderOptions(media_type="image/png", max_size=20))


def test_what_reads_more_than_the_frame_or_grows_beyond_it_is_not_quick(tmp_path: Path) -> None:
    source = small(tmp_path)
    for options in (
        RenderOptions(media_type="image/gif"),
        RenderOptions(viewport=Viewport(9000, 9000)),
        RenderOptions(annotation=("patient",)),
        RenderOptions(icc_profile="srgb"),
    ):
        assert not quick.is_quick(source, forms.IMAGE, options)
    table = small(tmp_path, VOILUTSequence=[{"LUTExplanation": "bones"}])
    assert not quick.is_quick(table, forms.IMAGE, RenderOptions())
    overlay = small(tmp_path, **{"60020010": {"vr": "US", "Value": [60]}})
    assert not quick.is_quick(overlay, forms.IMAGE, RenderOptions())
    large = sources.image_file(tmp_path / "large.dcm", np.zeros((1100, 1000), np.uint16))
    assert not quick.is_quick(large, forms.IMAGE, RenderOptions())
    encoded = sources.source_of(sources.real("JPEG2000.dcm"))
    assert not quick.is_quick(encoded, forms.IMAGE, RenderOptions())
