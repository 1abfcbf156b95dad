"""The parser against pydicom's reading of every DICOM file in its wheel, and pydicom's frames against ours."""

from __future__ import annotations

import base64
import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import encaps

from pacs.dicom import file_meta
from pacs.dicom.header import read_header
from pacs.dicom.transfer_syntax import find
from pacs.errors import Rejected
from tests import builders

DATA = Path(pydicom.__file__).parent / "data"
REFUSED = {
    "MR_truncated.dcm": "pixel data end early: pydicom hands over what is there",
    "rtplan_truncated.dcm": "ends within a sequence: pydicom hands over what is there",
    "DICOMDIR-nooffset": "its one sequence claims four bytes more than the file has",
}
# Where pydicom leaves out (suppress_invalid_tags) what is there and readable.
LEFT_OUT_BY_PYDICOM = {"badVR.dcm": {"00280008", "300C0002"}}
LONGER_THAN_FRAMES = {
    "MR_small_padded.dcm": "128 bytes of padding",
    "badVR.dcm": "Number of Frames is 1A",
    "nested_priv_SQ.dcm": "two bytes, and no rows",
    "meta_missing_tsyntax.dcm": "two bytes, and no rows",
}
FILES = [path for path, _ in builders.real_files()]


def ours(path: Path) -> dict[str, Any]:
    """Attributes with everything inline, whatever UIDs are missing."""
    from pacs.dicom.guess import encoding_at
    from pacs.dicom.inflate import inflated
    from pacs.dicom.parser import parse

    data = path.read_bytes()
    meta, offset = file_meta.read(data)
    assert meta is not None
    syntax = find(meta.transfer_syntax_uid)
    if syntax.deflated:
        with inflated(data, offset, 1 << 30, None) as plain:
            return parse(plain, 0, encoding_at(plain, 0, syntax), bulk_threshold=None).attributes
    return parse(data, offset, encoding_at(data, offset, syntax), bulk_threshold=None).attributes


def theirs(path: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path).to_json_dict(suppress_invalid_tags=True)


def normal(attributes: dict[str, Any], big_endian: bool) -> dict[str, Any]:
    """pydicom's JSON with the differences that are on purpose taken out."""
    found = {}
    for tag, element in attributes.items():
        vr = str(element["vr"])
        values = element.get("Value")
        if tag.endswith("0000"):
            continue  # group lengths have no place in JSON
        if tag == "00080005" and values:
            values = ["ISO_IR 192"]  # JSON is UTF-8
        elif vr == "SQ" and values:
            values = [normal(item, big_endian) for item in values]
        elif vr in ("AE", "CS", "LO", "SH") and values:
            # Blanks at either end mean nothing; an empty value among others is null (PS3.18 F.2.5).
            values = [(value or "").strip() or None for value in values]
        elif big_endian and vr == "OW" and "InlineBinary" in element:
            raw = bytearray(base64.b64decode(element["InlineBinary"]))
            whole = len(raw) // 2 * 2
            raw[0:whole:2], raw[1:whole:2] = raw[1:whole:2], raw[0:whole:2]
            element = {"InlineBinary": base64.b64encode(raw).decode()}  # little endian (PS3.18 F.2.7)
        found[tag] = {"vr": vr}
        if values:
            found[tag]["Value"] = values
        elif element.get("InlineBinary"):
            found[tag]["InlineBinary"] = element["InlineBinary"]
    return found


@pytest.mark.parametrize("path", [p for p in FILES if p.name not in REFUSED], ids=lambda path: path.name)
def test_attributes_are_those_that_pydicom_reads(path: Path) -> None:
    expected = normal(theirs(path), _syntax(path).big_endian)
    actual = ours(path)
    left_out = {tag for tag in actual if tag not in expected and _is_unvalidated(path, tag)}
    assert {tag: element for tag, element in actual.items() if tag not in left_out} == expected
    assert list(actual) == sorted(actual)


def _is_unvalidated(path: Path, tag: str) -> bool:
    """Whether pydicom leaves the element out because a value in it is invalid."""
    return tag in LEFT_OUT_BY_PYDICOM.get(path.name, ()) or (path.name.startswith("rtdose") and tag == "300C0002")


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_end_early_are_refused(name: str) -> None:
    (path,) = (p for p in FILES if p.name == name)
    with pytest.raises(Rejected, match="ends early"):
        read_header(path, derive_uids=True)


@pytest.mark.parametrize("path", [p for p in FILES if p.name not in REFUSED], ids=lambda path: path.name)
def test_frames_are_those_that_pydicom_finds(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set = pydicom.dcmread(path)
    try:
        header = read_header(path, derive_uids=True, fallback=file_meta.FileMeta("1.2.3", "1.2.3.4", ""))
    except Rejected:
        assert "DICOMDIR" in path.name
        return
    pixels = header.layout.pixels
    if "PixelData" not in data_set:
        assert pixels is None
        return
    assert pixels is not None
    assert header.attributes["7FE00010"]["BulkDataURI"] == "7FE00010"
    number = int(data_set.get("NumberOfFrames") or 1) if path.name != "badVR.dcm" else 1
    assert pixels.number_of_frames == number
    raw = _plain_bytes(path)
    value = raw[pixels.value.offset : pixels.value.offset + pixels.value.length]
    if pixels.encapsulated:
        frames = [b"".join(raw[s.offset : s.offset + s.length] for s in frame) for frame in pixels.frames]
        assert frames == list(encaps.generate_frames(data_set.PixelData, number_of_frames=number))
        assert data_set.PixelData.startswith(value)
    else:
        assert value == data_set.PixelData
        trailing = len(value) - pixels.frame_length * number
        assert trailing in (0, 1) or (trailing > 0 and path.name in LONGER_THAN_FRAMES)


def _plain_bytes(path: Path) -> bytes:
    from pacs.dicom.inflate import inflated

    data = path.read_bytes()
    if not _syntax(path).deflated:
        return data
    with inflated(data, file_meta.read(data)[1], 1 << 30, None) as plain:
        return bytes(plain)


def _syntax(path: Path) -> Any:
    return find(dict(builders.real_files())[path])
