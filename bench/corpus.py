"""CT slices of 0.5 MB that cost nothing to make: built once, then stamped with new UIDs of the same length.

The header is the one that pydicom ships in ``CT_small.dcm`` (over 200 elements, private ones included); the pixels are
512 × 512 × 16 bit of smooth structure with noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file

_ROOT = "1.2.826.0.1.3680043.10.1462"
_NUMBER_DIGITS = 12


def study_uid(number: int) -> str:
    return _uid(1, number)


def series_uid(number: int) -> str:
    return _uid(2, number)


def sop_uid(number: int) -> str:
    return _uid(3, number)


def patient_id(number: int) -> str:
    return f"B{number:011d}"


def _uid(kind: int, number: int) -> str:
    # A leading 1 keeps the component free of leading zeros and the UID's length fixed.
    return f"{_ROOT}.{kind}.1{number:0{_NUMBER_DIGITS}d}"


@dataclass(frozen=True)
class Slice:
    """Where one slice belongs: its study and series (one each, same number) and its own number."""

    study: int
    number: int
    instance: int

    @property
    def study_uid(self) -> str:
        return study_uid(self.study)

    @property
    def series_uid(self) -> str:
        return series_uid(self.study)

    @property
    def sop_uid(self) -> str:
        return sop_uid(self.number)

    @property
    def patient_id(self) -> str:
        return patient_id(self.study)


class Template:
    """A Part 10 file whose UIDs, Patient ID and Instance Number are overwritten in place.

    size: rows and columns. ``stamp`` gives the bytes of one slice; ``restamp``
    rewrites a file that ``write`` made, touching only the few bytes that change.
    """

    def __init__(self, size: int = 512, *, patient_name: str = "Bench^Mark") -> None:
        data_set = _data_set(size, patient_name)
        buffer = BytesIO()
        pydicom.dcmwrite(buffer, data_set, enforce_file_format=True)
        self.data = buffer.getvalue()
        self.elements = sum(1 for _ in data_set.iterall())
        self._places = {
            kind: _occurrences(self.data, text.encode())
            for kind, text in {
                "study": study_uid(0),
                "series": series_uid(0),
                "sop": sop_uid(0),
                "patient": patient_id(0),
            }.items()
        }
        assert len(self._places["sop"]) == 2, "file meta and data set"
        assert all(len(self._places[kind]) == 1 for kind in ("study", "series", "patient"))
        self._instance_place = self.data.index(b"\x20\x00\x13\x00IS\x06\x00") + 8

    def stamp(self, slice_: Slice) -> bytes:
        data = bytearray(self.data)
        for place, value in self._values(slice_):
            data[place : place + len(value)] = value
        return bytes(data)

    def write(self, path: Path, slice_: Slice) -> None:
        path.write_bytes(self.stamp(slice_))

    def restamp(self, path: Path, slice_: Slice) -> None:
        with path.open("r+b") as file:
            for place, value in self._values(slice_):
                file.seek(place)
                file.write(value)

    def _values(self, slice_: Slice) -> list[tuple[int, bytes]]:
        values = {
            "study": slice_.study_uid,
            "series": slice_.series_uid,
            "sop": slice_.sop_uid,
            "patient": slice_.patient_id,
        }
        placed = [(place, text.encode()) for kind, text in values.items() for place in self._places[kind]]
        return [*placed, (self._instance_place, f"{slice_.instance:06d}".encode())]


def _data_set(size: int, patient_name: str) -> pydicom.FileDataset:
    data_set = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    data_set.PatientName = patient_name
    data_set.PatientID = patient_id(0)
    data_set.StudyInstanceUID = study_uid(0)
    data_set.SeriesInstanceUID = series_uid(0)
    data_set.SOPInstanceUID = sop_uid(0)
    data_set.file_meta.MediaStorageSOPInstanceUID = sop_uid(0)
    data_set.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data_set.InstanceNumber = f"{0:06d}"
    data_set["InstanceNumber"].value.original_string = f"{0:06d}"
    data_set.Rows = data_set.Columns = size
    data_set.PixelData = _pixels(size)
    data_set["PixelData"].VR = "OW"
    if "DataSetTrailingPadding" in data_set:
        del data_set.DataSetTrailingPadding
    return data_set


def _pixels(size: int) -> bytes:
    random = np.random.default_rng(1462)
    rows, columns = np.mgrid[0:size, 0:size] / size
    structure = 900 + 700 * np.sin(9 * rows) * np.cos(7 * columns)
    noisy = structure + random.normal(0, 25, (size, size))
    return noisy.astype("<i2").tobytes()


def _occurrences(data: bytes, text: bytes) -> list[int]:
    places, start = [], data.find(text)
    while start >= 0:
        places.append(start)
        start = data.find(text, start + 1)
    return places
