"""Makers of DICOM bytes for tests: small, deterministic apart from the UIDs, and written by the archive's own encoder.

``ct()`` and ``part10()`` return whole Part 10 files, ``data_set_of()`` what is left after preamble and file meta,
``write_multiframe()`` streams a file of any size to disk, ``real_files()`` lists real ones.
"""

from __future__ import annotations

import base64
import random
import zlib
from functools import cache
from pathlib import Path
from struct import pack
from typing import Any

import pydicom
from pydicom import datadict

from pacs.dicom import file_meta
from pacs.dicom.encode import encode_data_set
from pacs.dicom.file_meta import FileMeta
from pacs.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, find
from pacs.dicom.uids import new_uid

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2.1"
_BULK_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "UN")


def ct(
    study_uid: str | None = None,
    series_uid: str | None = None,
    sop_uid: str | None = None,
    *,
    rows: int = 64,
    columns: int = 64,
    frames: int = 1,
    transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN,
    size_bytes: int | None = None,
    **attributes: Any,
) -> bytes:
    """A CT slice as a Part 10 file: 16 bits, signed, the same noise each time.

    UIDs left out are new. frames > 1: NumberOfFrames is written. size_bytes: rows are chosen so that the file is about
    that long. transfer_syntax: an uncompressed or the deflated one. attributes: by DICOM keyword, over the defaults
    (``PatientName="Doe^Jane"``; a list for several values, dicts of keywords for items of a sequence, bytes for binary
    VRs, None for an empty element, ``...`` to leave a default out).
    """
    if size_bytes is not None:
        rows = max(1, (size_bytes - 1500) // (2 * columns * frames))
    defaults: dict[str, Any] = {
        "SOPClassUID": CT_IMAGE_STORAGE,
        "SOPInstanceUID": sop_uid or new_uid(),
        "StudyInstanceUID": study_uid or new_uid(),
        "SeriesInstanceUID": series_uid or new_uid(),
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "StudyDate": "20240131",
        "StudyTime": "101500",
        "AccessionNumber": "A1",
        "Modality": "CT",
        "Manufacturer": "Test",
        "StudyDescription": "Thorax",
        "SeriesDescription": "Lung",
        "PatientName": "Doe^Jane",
        "PatientID": "P1",
        "PatientBirthDate": "19700101",
        "PatientSex": "F",
        "StudyID": "1",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 1,
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        "PixelData": noise(rows * columns * frames * 2),
    }
    if frames > 1:
        defaults["NumberOfFrames"] = frames
    return part10({**defaults, **attributes}, transfer_syntax)


def part10(attributes: dict[str, Any], transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN) -> bytes:
    """A Part 10 file of attributes by keyword (or "GGGGEEEE" with ready DICOM JSON), and nothing but them."""
    attributes_json = json_of(attributes)
    meta = FileMeta(_first(attributes_json, "00080016"), _first(attributes_json, "00080018"), transfer_syntax, "TESTS")
    data_set = encode_data_set(attributes_json, transfer_syntax)
    if find(transfer_syntax).deflated:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data_set = deflater.compress(data_set) + deflater.flush()
        data_set += b"\0" * (len(data_set) % 2)
    return file_meta.encode(meta) + data_set


def encapsulated(
    fragments: list[bytes],
    *,
    offsets: list[int] | None = None,
    transfer_syntax: str,
    delimiter: bool = True,
    **attributes: Any,
) -> bytes:
    """A CT slice whose pixel data are these fragments as they are (no padding is added).

    offsets: content of the Basic Offset Table, empty when None. delimiter: write the sequence delimiter at the end.
    """
    without = ct(transfer_syntax=transfer_syntax, **{"PixelData": ..., **attributes})
    table = b"".join(pack("<L", offset) for offset in offsets or [])
    items = b"".join(pack("<HHL", 0xFFFE, 0xE000, len(item)) + item for item in [table, *fragments])
    end = pack("<HHL", 0xFFFE, 0xE0DD, 0) if delimiter else b""
    return without + pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + items + end


def data_set_of(part10_file: bytes) -> bytes:
    """The bare data set of a Part 10 file, as a C-STORE carries it."""
    return part10_file[file_meta.read(part10_file)[1] :]


def write_multiframe(path: Path, size_bytes: int, *, rows: int = 512, columns: int = 512, **attributes: Any) -> int:
    """Write an enhanced CT of about ``size_bytes`` frame by frame, never holding more than one; returns its frames.

    Each frame begins with its own number (uint32), the rest is the same noise.
    """
    frame_length = rows * columns * 2
    frames = max(1, size_bytes // frame_length)
    head = ct(
        rows=rows,
        columns=columns,
        **{"SOPClassUID": ENHANCED_CT_IMAGE_STORAGE, "NumberOfFrames": frames, "PixelData": ..., **attributes},
    )
    body = noise(frame_length)[4:]
    with path.open("wb") as file:
        file.write(head)
        file.write(pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, frames * frame_length))
        for number in range(1, frames + 1):
            file.write(pack("<L", number))
            file.write(body)
    return frames


@cache
def real_files() -> list[tuple[Path, str]]:
    """The pydicom wheel's DICOM files that state a transfer syntax, with its UID; sorted, DICOMDIRs included."""
    found = []
    # Not by get_testdata_files(), which tries to download what the wheel does not carry.
    for path in sorted((Path(pydicom.__file__).parent / "data").rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                meta = file_meta.read(file.read(4096))[0]
            if meta is not None and meta.transfer_syntax_uid:
                found.append((path, meta.transfer_syntax_uid))
    return found


def json_of(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes by keyword as DICOM JSON in tag order; keys that are tags must hold DICOM JSON already."""
    found: dict[str, Any] = {}
    for keyword, value in attributes.items():
        if value is ...:
            continue
        tag = datadict.tag_for_keyword(keyword)
        if tag is None:
            found[keyword] = value
        else:
            found[f"{tag:08X}"] = _element(_vr(datadict.dictionary_VR(tag)), value)
    return dict(sorted(found.items()))


def noise(length: int) -> bytes:
    """The same pseudo-random bytes for the same length; every second byte below 8, so that 16-bit values fit 12."""
    block = bytearray(random.Random(7).randbytes(4096))
    block[1::2] = bytes(byte & 7 for byte in block[1::2])
    return (bytes(block) * (length // 4096 + 1))[:length]


def _element(vr: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {"vr": vr}
    if vr in _BULK_VRS:
        return {"vr": vr, "InlineBinary": base64.b64encode(value).decode()}
    values = value if isinstance(value, list | tuple) else [value]
    if vr == "SQ":
        return {"vr": vr, "Value": [json_of(item) for item in values]}
    if vr == "PN":
        return {"vr": vr, "Value": [_name(each) for each in values]}
    return {"vr": vr, "Value": list(values)}


def _name(text: str) -> dict[str, str]:
    names = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {group: name for group, name in names if name}


def _vr(vr: str) -> str:
    return {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}.get(vr, vr)


def _first(attributes: dict[str, Any], tag: str) -> str:
    values = attributes.get(tag, {}).get("Value") or [""]
    return str(values[0])
