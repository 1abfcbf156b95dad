"""Every DICOM file of the pydicom wheel in a form that one archive can hold at once.

Files that share a SOP Instance UID with an earlier one get another of the same length, byte for byte in place; those
that lack what an archive needs (DICOMDIRs, colour palettes, mere data sets) get it added by pydicom. What is damaged
stays as it is, and is not among them.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.uid import ImplicitVRLittleEndian

from tests import builders

_DATA = Path(pydicom.__file__).parent / "data"
_NEEDED = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66",  # Raw Data
    "SOPInstanceUID": "1.2.826.0.1.3680043.8.498.1000000000000000000001",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.2000000000000000000001",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.3000000000000000000001",
}
DAMAGED = (
    "test_files/MR_truncated.dcm",
    "test_files/rtplan_truncated.dcm",
    "test_files/dicomdirtests/DICOMDIR-nooffset",
)


@dataclass(frozen=True)
class WheelFile:
    """name: path below pydicom's data folder; data: the Part 10 file as it is stored; the UIDs are those of it."""

    name: str
    data: bytes
    study_uid: str
    series_uid: str
    sop_uid: str
    transfer_syntax_uid: str

    @property
    def path(self) -> str:
        """Of the instance, below the DICOMweb root."""
        return f"/studies/{self.study_uid}/series/{self.series_uid}/instances/{self.sop_uid}"

    def read(self) -> pydicom.FileDataset:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(BytesIO(self.data), force=True)


@cache
def files() -> list[WheelFile]:
    found: dict[str, WheelFile] = {}
    for path, _ in builders.real_files():
        name = str(path.relative_to(_DATA))
        if name in DAMAGED:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = _made(name, path.read_bytes())
            if made.sop_uid in found:
                other = _other_uid(made.sop_uid, name)
                made = _made(name, made.data.replace(made.sop_uid.encode(), other.encode()))
        assert made.sop_uid not in found, name
        found[made.sop_uid] = made
    return list(found.values())


def _made(name: str, data: bytes) -> WheelFile:
    read = pydicom.dcmread(BytesIO(data), force=True)
    if missing := [keyword for keyword in _NEEDED if not read.get(keyword)]:
        for keyword in missing:
            setattr(read, keyword, _NEEDED[keyword])
        read.file_meta.MediaStorageSOPClassUID = read.SOPClassUID
        read.file_meta.MediaStorageSOPInstanceUID = read.SOPInstanceUID
        written = BytesIO()
        read.save_as(written, enforce_file_format=False)
        data = written.getvalue()
    return WheelFile(
        name,
        data,
        str(read.StudyInstanceUID),
        str(read.SeriesInstanceUID),
        str(read.SOPInstanceUID),
        str(read.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)),
    )


def _other_uid(uid: str, name: str) -> str:
    """A UID of the same length and the same dots, made of the file's name."""
    digits = iter(str(int(hashlib.sha256(name.encode()).hexdigest(), 16)).replace("0", "7"))
    tail = "".join(next(digits) if each != "." else "." for each in uid[-9:])
    return uid[:-9] + tail
