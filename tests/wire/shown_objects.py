"""Instances that are no plain images, made for the tests of rendered resources."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from highdicom.sr import CodedConcept
from pydicom.data import get_testdata_file
from pydicom.filebase import DicomBytesIO
from pydicom.sr.codedict import codes

from tests import builders

PDF = b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n"  # an odd length: it is padded in the instance
CDA = '<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"><title>Ärztebrief</title></ClinicalDocument>'
STL = b"made by a test".ljust(80) + struct.pack("<I", 0)
FILM = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(range(200))


def wheel(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path)


def uids(study: str, number: int = 1) -> dict[str, str]:
    """Of the only series."""
    return {
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.1",
        "SOPInstanceUID": f"{study}.1.{number}",
    }


def document(study: str, sop_class: str, media_type: str, content: bytes, number: int = 1, **more: Any) -> bytes:
    return builders.part10(
        {
            "SOPClassUID": sop_class,
            **uids(study, number),
            "Modality": "DOC",
            "PatientID": "P1",
            "EncapsulatedDocument": content + b"\0" * (len(content) % 2),
            "MIMETypeOfEncapsulatedDocument": media_type,
            "EncapsulatedDocumentLength": len(content),
            **more,
        }
    )


def pdf(study: str, number: int = 1) -> bytes:
    return document(study, "1.2.840.10008.5.1.4.1.1.104.1", "application/pdf", PDF, number)


def film(study: str, content: bytes = FILM, transfer_syntax: str = "1.2.840.10008.1.2.4.102") -> bytes:
    return builders.encapsulated(
        [content[:100], content[100:]],
        transfer_syntax=transfer_syntax,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.1.1",
        NumberOfFrames=30,
        **uids(study),
    )


def code(value: str, meaning: str) -> dict[str, str]:
    return {"CodeValue": value, "CodingSchemeDesignator": "99TEST", "CodeMeaning": meaning}


def item(value_type: str, name: str, **attributes: Any) -> dict[str, Any]:
    return {
        "RelationshipType": "CONTAINS",
        "ValueType": value_type,
        "ConceptNameCodeSequence": [code("1", name)],
        **attributes,
    }


def report(study: str, content: list[dict[str, Any]], number: int = 1, **more: Any) -> bytes:
    """A Comprehensive SR of these content items, whose evidence is instance 1.2.3.4.1.9 of its own study."""
    return builders.part10(
        {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.33",
            **uids(study, number),
            "Modality": "SR",
            "PatientName": "Müller^Jörg",
            "PatientID": "P<1>",
            "SpecificCharacterSet": "ISO_IR 192",
            "ValueType": "CONTAINER",
            "ConceptNameCodeSequence": [code("0", "Test report")],
            "CurrentRequestedProcedureEvidenceSequence": [
                {
                    "StudyInstanceUID": study,
                    "ReferencedSeriesSequence": [
                        {
                            "SeriesInstanceUID": f"{study}.7",
                            "ReferencedSOPSequence": [{"ReferencedSOPInstanceUID": f"{study}.7.9"}],
                        }
                    ],
                }
            ],
            "ContentSequence": content,
            **more,
        }
    )


def measurements() -> tuple[pydicom.Dataset, bytes]:
    """A TID 1500 report by highdicom, and its bytes."""
    image = pydicom.dcmread(wheel("CT_small.dcm"))
    region = hd.sr.ImageRegion(
        graphic_type=hd.sr.GraphicTypeValues.CIRCLE,
        graphic_data=np.array([[60.0, 60.0], [70.0, 60.0]]),
        source_image=hd.sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID),
    )
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), "Lesion <1>"),
        referenced_region=region,
        finding_type=CodedConcept("108369006", "SCT", "Neoplasm"),
        measurements=[hd.sr.Measurement(name=codes.SCT.Diameter, value=12.5, unit=codes.UCUM.Millimeter)],
    )
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes(name="Doe^Jane"),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_person_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[group],
    )
    made = hd.sr.ComprehensiveSR(
        evidence=[image],
        content=content,
        series_instance_uid=hd.UID(),
        series_number=9,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Test",
    )
    return made, written(made)


def segmentation(kind: hd.seg.SegmentationTypeValues) -> bytes:
    """Two segments of a CT slice by highdicom: the left and the lower right quarter."""
    image = pydicom.dcmread(wheel("CT_small.dcm"))
    labels = np.zeros((image.Rows, image.Columns), np.uint8)
    labels[:, :40] = 1
    labels[64:, 64:] = 2
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
            display_color=color,
        )
        for number, name, color in (
            (1, "Left", hd.color.CIELabColor(53.2, 80.1, 67.2)),  # red of sRGB
            (2, "Right", hd.color.CIELabColor(87.7, -86.2, 83.2)),  # green
        )
    ]
    made = hd.seg.Segmentation(
        source_images=[image],
        pixel_array=labels[None],
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=8,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Test",
        manufacturer_model_name="Test",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=False,
    )
    return written(made)


def structure_set(study: str) -> bytes:
    def square(left: float, top: float, size: float, z: float) -> list[float]:
        corners = ((0, 0), (size, 0), (size, size), (0, size))
        return [number for x, y in corners for number in (left + x, top + y, z)]

    def region(number: int, color: list[int], contours: list[list[float]]) -> dict[str, Any]:
        drawn = [
            {"ContourGeometricType": "CLOSED_PLANAR", "NumberOfContourPoints": 4, "ContourData": contour}
            for contour in contours
        ]
        return {"ROIDisplayColor": color, "ReferencedROINumber": number, "ContourSequence": drawn}

    return builders.part10(
        {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.3",
            **uids(study),
            "Modality": "RTSTRUCT",
            "PatientID": "P1",
            "StructureSetROISequence": [
                {"ROINumber": 1, "ROIName": "Body"},
                {"ROINumber": 2, "ROIName": "Target"},
            ],
            "ROIContourSequence": [
                region(1, [255, 0, 0], [square(-100, -100, 200, z) for z in (0.0, 5.0)]),
                region(2, [0, 255, 0], [square(-20, -20, 40, 0.0)]),
            ],
        }
    )


def written(ds: pydicom.Dataset) -> bytes:
    out = DicomBytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()
