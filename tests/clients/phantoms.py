"""Studies with pictures that a test recognises on a screen."""

from __future__ import annotations

from io import BytesIO

import highdicom
import numpy as np
import pydicom
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from pacs.dicom.uids import new_uid
from tests import builders

SIZE = 128
SLICES = 12
AIR, WATER, BONE = -1000, 40, 600


def ct_series(**attributes: object) -> list[bytes]:
    """An axial CT series: a disc of water in air, and in it a bar of bone, lower in each slice. Window 40/400."""
    study_uid, series_uid, frame_of_reference_uid = new_uid(), new_uid(), new_uid()
    return [
        builders.ct(
            study_uid,
            series_uid,
            rows=SIZE,
            columns=SIZE,
            PixelData=(hounsfield(number) + 1024).astype("<i2").tobytes(),
            **{
                "PatientName": "Phantom^Disc",
                "PatientID": "PHANTOM",
                "StudyDescription": "Disc and bar",
                "SeriesDescription": "Axial",
                "FrameOfReferenceUID": frame_of_reference_uid,
                "PositionReferenceIndicator": None,
                "InstanceNumber": number,
                "ImagePositionPatient": [-63.5, -63.5, 2.5 * number],
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                "PixelSpacing": [1, 1],
                "SliceThickness": 2.5,
                "WindowCenter": 40,
                "WindowWidth": 400,
                "RescaleType": "HU",
                "ReferringPhysicianName": None,
                "AcquisitionNumber": 1,
                "KVP": 120,
                **attributes,
            },
        )
        for number in range(1, SLICES + 1)
    ]


def hounsfield(number: int) -> NDArray[np.int16]:
    """Slice ``number``, from 1, as (rows, columns) in HU."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    values = np.full((SIZE, SIZE), AIR, np.int16)
    values[(rows - 63.5) ** 2 + (columns - 63.5) ** 2 < 56**2] = WATER
    values[bar(number)] = BONE
    return values


def bar(number: int) -> tuple[slice, slice]:
    """Where the bar lies in slice ``number``."""
    top = 28 + 5 * number
    return slice(top, top + 8), slice(44, 84)


def segmentation(series: list[bytes]) -> bytes:
    """A binary SEG of the upper left quarter of the disc, in all slices of a series; as highdicom makes it."""
    images = [pydicom.dcmread(BytesIO(file)) for file in series]
    mask = np.zeros((len(images), SIZE, SIZE), np.uint8)
    mask[:, 30:60, 30:60] = 1
    algorithm = highdicom.AlgorithmIdentificationSequence("quarter", codes.DCM.ArtificialIntelligence, "1")
    segment = SegmentDescription(
        1,
        "Quarter",
        codes.SCT.Organ,
        codes.SCT.Liver,
        highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm,
    )
    made = Segmentation(
        images,
        mask,
        highdicom.seg.SegmentationTypeValues.BINARY,
        [segment],
        new_uid(),
        20,
        new_uid(),
        1,
        "Test",
        "Test",
        "1",
        "1",
        series_description="Quarter of the disc",
    )
    made.StudyDescription = images[0].StudyDescription
    written = BytesIO()
    made.save_as(written)
    return written.getvalue()


def pdf_document() -> bytes:
    """A PDF of one page that is half black, half white."""
    drawing = b"0 0 0 rg 0 0 300 200 re f"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 400]/Contents 4 0 R/Resources<<>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(drawing), drawing),
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start = len(body)
    body += b"xref\n0 5\n0000000000 65535 f \n" + table
    return body + b"trailer<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % start


def encapsulated_pdf(study_uid: str, document: bytes, **attributes: object) -> bytes:
    even = document + b"\0" * (len(document) % 2)
    return builders.part10(
        {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1",
            "SOPInstanceUID": new_uid(),
            "StudyInstanceUID": study_uid,
            "SeriesInstanceUID": new_uid(),
            "StudyDate": "20240131",
            "StudyTime": "101500",
            "StudyDescription": "Disc and bar",
            "ContentDate": "20240131",
            "ContentTime": "101500",
            "AccessionNumber": "A1",
            "Modality": "DOC",
            "ConversionType": "WSD",
            "PatientName": "Phantom^Disc",
            "PatientID": "PHANTOM",
            "SeriesNumber": 30,
            "InstanceNumber": 1,
            "SeriesDescription": "Report",
            "BurnedInAnnotation": "NO",
            "DocumentTitle": "Report",
            "MIMETypeOfEncapsulatedDocument": "application/pdf",
            "EncapsulatedDocument": even,
            **attributes,
        }
    )
