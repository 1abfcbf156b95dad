"""A CT of a head that never was, for ``--demo``: ellipsoids in the manner of Shepp and Logan, one image a slice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

_SLICES, _SIDE = 48, 256
_PIXEL_MM, _SLICE_MM = 0.9, 4.0
_AIR = -1000
# Centre and half axes in units of half the field of view (x to the left, y to the back, z to the top), turn about z in
# degrees, and the HU that are inside instead of what was there before.
_ELLIPSOIDS = (
    ((0.0, 0.0, 0.0), (0.72, 0.88, 0.92), 0, 40),  # skin
    ((0.0, 0.0, 0.0), (0.69, 0.85, 0.90), 0, 1100),  # skull
    ((0.0, -0.01, 0.0), (0.64, 0.80, 0.85), 0, 10),  # fluid around the brain
    ((0.0, -0.01, 0.0), (0.62, 0.78, 0.83), 0, 36),  # grey matter
    ((0.0, -0.02, 0.02), (0.52, 0.66, 0.70), 0, 28),  # white matter
    ((0.17, -0.08, 0.10), (0.09, 0.26, 0.24), -14, 6),  # ventricles
    ((-0.17, -0.08, 0.10), (0.09, 0.26, 0.24), 14, 6),
    ((0.0, 0.12, 0.0), (0.03, 0.08, 0.12), 0, 6),
    ((0.24, 0.02, 0.0), (0.07, 0.13, 0.12), -20, 38),  # deep nuclei
    ((-0.24, 0.02, 0.0), (0.07, 0.13, 0.12), 20, 38),
    ((-0.36, 0.22, 0.18), (0.12, 0.10, 0.11), 30, 68),  # what there is to find
    ((0.27, -0.74, -0.45), (0.15, 0.15, 0.15), 0, 12),  # eyes
    ((-0.27, -0.74, -0.45), (0.15, 0.15, 0.15), 0, 12),
    ((0.0, 0.55, -0.55), (0.34, 0.22, 0.22), 0, 34),  # cerebellum
)


def write(folder: Path) -> None:
    """Files of one series. Always the same bytes, so that taking them in again changes nothing."""
    for number, pixels in enumerate(_volume(), 1):
        _data_set(number, pixels).save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)


def _volume() -> Iterator[NDArray[np.int16]]:
    """(rows, columns) of stored values, HU + 1024, from the bottom to the top."""
    axis = (np.arange(_SIDE, dtype=np.float32) + 0.5) / _SIDE * 2 - 1
    y, x = axis[:, None], axis[None, :]
    noise = np.random.default_rng(1)
    for z in np.linspace(-0.62, 0.9, _SLICES):
        hounsfield = np.full((_SIDE, _SIDE), _AIR, np.float32)
        for (cx, cy, cz), (ax, ay, az), turn, value in _ELLIPSOIDS:
            cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
            u, v = (x - cx) * cos + (y - cy) * sin, (y - cy) * cos - (x - cx) * sin
            hounsfield[(u / ax) ** 2 + (v / ay) ** 2 + ((z - cz) / az) ** 2 <= 1] = value
        hounsfield += noise.normal(0, 3, hounsfield.shape)
        yield np.clip(np.rint(hounsfield) + 1024, 0, 4095).astype("<i2")


def _data_set(number: int, pixels: NDArray[np.int16]) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, _uid(f"image {number}")
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SpecificCharacterSet = "ISO_IR 192"
    made.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    made.StudyDate = made.SeriesDate = made.ContentDate = "20250115"
    made.StudyTime = made.SeriesTime = made.ContentTime = "093000"
    made.AccessionNumber, made.StudyID = "DEMO-1", "1"
    made.Modality, made.Manufacturer = "CT", "raccoon-pacs"
    made.StudyDescription, made.SeriesDescription = "Head phantom", "Axial 4 mm"
    made.ReferringPhysicianName = ""
    made.PatientName, made.PatientID = "Phantom^Head", "DEMO"
    made.PatientBirthDate, made.PatientSex = "19700101", "O"
    made.BodyPartExamined, made.PatientPosition = "HEAD", "HFS"
    made.StudyInstanceUID, made.SeriesInstanceUID = _uid("study"), _uid("series")
    made.FrameOfReferenceUID, made.PositionReferenceIndicator = _uid("frame of reference"), ""
    made.SeriesNumber, made.InstanceNumber = 1, number
    corner = -_SIDE / 2 * _PIXEL_MM
    made.ImagePositionPatient = [corner, corner, (number - 1) * _SLICE_MM]
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.SliceThickness = [_PIXEL_MM, _PIXEL_MM], _SLICE_MM
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = _SIDE
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.RescaleIntercept, made.RescaleSlope, made.RescaleType = -1024, 1, "HU"
    made.WindowCenter, made.WindowWidth = [40, 400], [100, 2000]
    made.WindowCenterWidthExplanation = ["BRAIN", "BONE"]
    made.PixelData = pixels.tobytes()
    return made


def _uid(of: str) -> UID:
    return generate_uid(entropy_srcs=["raccoon-pacs demo", of])
