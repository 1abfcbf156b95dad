from __future__ import annotations

import base64
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest

from pacs.errors import NotAcceptable, OutOfResources, PacsError, Undecodable
from pacs.imaging import frames
from pacs.imaging.decode import changed_attributes, decode_frames
from pacs.imaging.source import Source
from pacs.imaging.transcode import NATIVE, targets_of, transcode
from tests import builders
from tests.unit.imaging import sources

_PIXELS = "7FE00010"
_UNDECODABLE = {"JPEG2000-embedded-sequence-delimiter.dcm"}


def storable() -> list[Path]:
    """Every file of the wheel that is stored, pixels or not; of the many slices of the file-set examples a few."""
    found = []
    for path, _ in builders.real_files():
        many = "dicomdirtests" in path.parts and int(path.name) % 3 if path.name.isdigit() else 0
        if path.name in _UNDECODABLE or many:
            continue
        with contextlib.suppress(PacsError):  # truncated ones and DICOMDIRs are refused at the door
            sources.source_of(path)
            found.append(path)
    return found


def values(attributes: Any, *, implicit: bool) -> dict[str, Any]:
    """Attributes without pixel data; implicit VR forgets the VR of private ones, so those are left out then."""
    kept = {}
    for tag, element in attributes.items():
        if tag[:4] == "7FE0" or (implicit and int(tag[3], 16) % 2):
            continue
        if element["vr"] == "SQ":
            element = [values(item, implicit=implicit) for item in element.get("Value", [])]
        elif "BulkDataURI" in element:
            element = element["BulkDataURI"]
        kept[tag] = element
    return kept


@pytest.mark.parametrize("uid", NATIVE)
@pytest.mark.parametrize("path", storable(), ids=lambda path: path.name)
def test_every_real_instance_keeps_attributes_bulk_data_and_pixels(path: Path, uid: str, tmp_path: Path) -> None:
    source, out = sources.source_of(path), tmp_path / "out.dcm"
    transcode(source, out, uid)
    result = sources.source_of(out)
    assert result.transfer_syntax_uid == uid
    changed = changed_attributes(source) if source.layout.pixels else {}
    implicit = uid == sources.IMPLICIT
    before, after = values(source.attributes, implicit=implicit), values(result.attributes, implicit=implicit)
    for tag, value in changed.items():
        assert str(result.value(tag)) == str(value)
        before.pop(tag, None)
        after.pop(tag, None)
    assert after == before
    with source.open() as old, result.open() as new:
        for place in {*source.layout.bulk} & {*result.layout.bulk} - {_PIXELS}:
            element: dict[str, Any] = {}
            assert source.bulk(old, place, element) == result.bulk(new, place, element)
    if source.layout.pixels:
        numbers = range(1, source.layout.pixels.number_of_frames + 1)
        assert decode_frames(result, numbers) == decode_frames(source, numbers)
    assert sources.dcmtk("dcmdump", out).returncode == 0


@pytest.mark.parametrize("name", ["SC_rgb_rle_16bit_2frame.dcm", "693_J2KI.dcm", "examples_jpeg2k.dcm", "CT_small.dcm"])
def test_pydicom_reads_the_same_pixels(name: str, tmp_path: Path) -> None:
    path, out = sources.real(name), tmp_path / "out.dcm"
    transcode(sources.source_of(path), out, sources.EXPLICIT)
    assert np.array_equal(pydicom.dcmread(out).pixel_array, pydicom.dcmread(path).pixel_array)


def test_text_keeps_its_bytes_whatever_the_character_set(tmp_path: Path) -> None:
    path, out = sources.real("chrH31.dcm"), tmp_path / "out.dcm"
    transcode(sources.source_of(path), out, sources.IMPLICIT)
    before, after = pydicom.dcmread(path), pydicom.dcmread(out)
    assert after["PatientName"].value.original_string == before["PatientName"].value.original_string
    assert after.SpecificCharacterSet == before.SpecificCharacterSet


def test_lossy_sources_say_so_afterwards(tmp_path: Path) -> None:
    out = tmp_path / "out.dcm"
    transcode(sources.source_of(sources.real("examples_ybr_color.dcm")), out, sources.EXPLICIT)
    data_set = pydicom.dcmread(out)
    assert data_set.LossyImageCompression == "01"
    assert data_set.PhotometricInterpretation == "RGB"
    assert data_set.NumberOfFrames == 30
    assert len(data_set.PixelData) == 30 * 240 * 320 * 3


def test_attributes_behind_the_pixels_are_kept(tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    source = sources.image_file(
        tmp_path / "a.dcm", pixels, "1.2.840.10008.1.2.4.80", frames=[imagecodecs.jpegls_encode(pixels)]
    )
    tail = b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0abcd"
    source.path.write_bytes(source.path.read_bytes() + tail)
    out = tmp_path / "out.dcm"
    transcode(sources.source_of(source.path), out, sources.EXPLICIT)
    assert out.read_bytes().endswith(tail)
    assert pydicom.dcmread(out).PixelData == pixels.tobytes()


def test_a_compressed_icon_is_left_out_and_a_native_one_kept(tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for compressed in (False, True):
        data_set = pydicom.dcmread(sources.image_file(tmp_path / "a.dcm", pixels).path)
        icon = pydicom.Dataset()
        icon.Rows = icon.Columns = 2
        icon.BitsAllocated = 8
        icon.PixelData = b"abcd"
        data_set.IconImageSequence = [icon]
        data_set.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.80"
        data_set.PixelData = pydicom.encaps.encapsulate([imagecodecs.jpegls_encode(pixels)])
        data_set["PixelData"].is_undefined_length = True
        if compressed:
            icon.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8abcd"])
            icon["PixelData"].is_undefined_length = True
            icon["PixelData"].VR = "OB"
        data_set.save_as(tmp_path / "icon.dcm")
        out = tmp_path / "out.dcm"
        transcode(sources.source_of(tmp_path / "icon.dcm"), out, sources.EXPLICIT)
        result = pydicom.dcmread(out)
        assert ("IconImageSequence" in result) is not compressed
        assert result.PixelData == pixels.tobytes()
        if not compressed:
            assert result.IconImageSequence[0].PixelData == b"abcd"


def test_sequences_hundreds_deep_come_through(tmp_path: Path) -> None:
    depth, undefined = 300, b"\xff\xff\xff\xff"
    path, out = tmp_path / "deep.dcm", tmp_path / "out.dcm"
    path.write_bytes(
        sources.image_file(tmp_path / "flat.dcm", None, sources.IMPLICIT, Rows=None, Columns=None).path.read_bytes()
        + (b"\x40\0\x55\x05" + undefined + b"\xfe\xff\0\xe0" + undefined) * depth
        + b"\x08\0\0\x01\x04\0\0\0END "
        + (b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0") * depth
    )
    source = sources.source_of(path)
    assert source.metadata.count(b"00400555") == depth
    transcode(source, out, sources.EXPLICIT)
    # As bytes: comparing dicts this deep would recurse.
    assert sources.source_of(out).metadata == source.metadata


def test_single_bit_frames_run_on_from_frame_to_frame(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (3, 5, 7), np.uint8)
    packed = [np.packbits(frame.reshape(-1), bitorder="little").tobytes() for frame in bits]
    source = sources.image_file(
        tmp_path / "a.dcm",
        bits,
        "1.2.840.10008.1.2.1.98",
        frames=packed,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
    )
    out = tmp_path / "out.dcm"
    transcode(source, out, sources.EXPLICIT)
    whole = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    assert pydicom.dcmread(out).PixelData == whole + b"\0" * (len(whole) % 2)
    assert decode_frames(sources.source_of(out), [1, 2, 3]) == packed


def test_what_cannot_be_made_is_not_acceptable_and_says_what_can(tmp_path: Path) -> None:
    source = sources.source_of(sources.real("CT_small.dcm"))
    with pytest.raises(NotAcceptable) as refused:
        transcode(source, tmp_path / "out.dcm", "1.2.840.10008.1.2.4.50")  # 16 bits
    assert refused.value.available == targets_of(source)
    assert "1.2.840.10008.1.2.4.90" in refused.value.available
    video = Source(source.path, "1.2.840.10008.1.2.4.102", source.data_set_offset, source.metadata, source.layout)
    assert targets_of(video) == ()
    with pytest.raises(NotAcceptable) as refused:
        transcode(video, tmp_path / "out.dcm", sources.EXPLICIT)
    assert refused.value.available == ("1.2.840.10008.1.2.4.102",)


def test_nothing_is_left_behind_when_the_pixels_cannot_be_decoded(tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    good = bytes(imagecodecs.jpegls_encode(pixels))
    source = sources.image_file(
        tmp_path / "a.dcm",
        np.stack([pixels, pixels]),
        "1.2.840.10008.1.2.4.80",
        frames=[good, good[:30]],
    )
    out = tmp_path / "out.dcm"
    with pytest.raises(Undecodable):
        transcode(source, out, sources.EXPLICIT)
    assert not out.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_out_of_resources(tmp_path: Path) -> None:
    full = tmp_path / "out.dcm"
    full.symlink_to("/dev/full")
    with pytest.raises(OutOfResources):
        transcode(sources.source_of(sources.real("693_J2KI.dcm")), full, sources.EXPLICIT)
    assert not full.is_symlink()


_MEASURE = """
import resource, sys
from pathlib import Path
from tests.unit.imaging import sources
from pacs.imaging.transcode import transcode
source = sources.source_of(Path(sys.argv[1]))
transcode(sources.source_of(sources.real("CT_small.dcm")), Path(sys.argv[2]), sys.argv[3])
# Not ru_maxrss: it is inherited from the process that started us.
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
before = peak()
transcode(source, Path(sys.argv[2]), sys.argv[3])
print(peak() - before)
"""


@pytest.mark.parametrize(
    ("stored", "uid"),
    [
        (sources.EXPLICIT, sources.IMPLICIT),
        ("1.2.840.10008.1.2.1.99", sources.EXPLICIT),
        (sources.EXPLICIT, "1.2.840.10008.1.2.1.99"),
        (sources.EXPLICIT, "1.2.840.10008.1.2.5"),
    ],
    ids=["native", "deflated", "to deflated", "to RLE"],
)
def test_memory_does_not_grow_with_the_instance(stored: str, uid: str, tmp_path: Path) -> None:
    path, out = tmp_path / "large.dcm", tmp_path / "out.dcm"
    builders.write_multiframe(path, 250_000_000)
    if stored != sources.EXPLICIT:
        deflate(path)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path), str(out), uid], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 20_000  # KiB
    source, result = sources.source_of(path), sources.source_of(out)
    assert frames.pixels_of(result).number_of_frames == frames.pixels_of(source).number_of_frames > 400
    assert decode_frames(source, [1, 300]) == decode_frames(result, [1, 300])


def deflate(path: Path) -> None:
    import zlib

    from pacs.dicom import file_meta

    data = path.read_bytes()
    meta, start = file_meta.read(data)
    assert meta is not None
    deflater = zlib.compressobj(1, wbits=-15)
    path.write_bytes(
        file_meta.encode(file_meta.FileMeta(meta.sop_class_uid, meta.sop_uid, "1.2.840.10008.1.2.1.99"))
        + deflater.compress(data[start:])
        + deflater.flush()
    )


def test_big_endian_words_inside_sequences_and_bulk_are_turned(tmp_path: Path) -> None:
    words = np.arange(1000, dtype="<u2").tobytes()
    path, out = tmp_path / "a.dcm", tmp_path / "out.dcm"
    path.write_bytes(
        builders.part10(
            {
                "SOPClassUID": sources.SECONDARY_CAPTURE,
                "SOPInstanceUID": "2.25.1",
                "StudyInstanceUID": "2.25.2",
                "SeriesInstanceUID": "2.25.3",
                "54000100": {
                    "vr": "SQ",
                    "Value": [
                        {
                            "54001004": {"vr": "US", "Value": [16]},
                            "54001010": {"vr": "OW", "InlineBinary": base64.b64encode(words).decode()},
                        }
                    ],
                },
            },
            "1.2.840.10008.1.2.2",
        )
    )
    transcode(sources.source_of(path), out, sources.EXPLICIT)
    item = pydicom.dcmread(out).WaveformSequence[0]
    assert item.WaveformBitsAllocated == 16
    assert item.WaveformData == words
