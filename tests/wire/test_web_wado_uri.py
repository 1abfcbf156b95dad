"""WADO-URI over real HTTP: every parameter of PS3.18 Section 9."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
from PIL import Image

from tests import builders
from tests.unit.web.running import RunningArchive
from tests.wire.clients import stow

EXPLICIT, IMPLICIT, BIG, DEFLATED = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
STORED_IMPLICIT = builders.ct("1.1", "1.1.1", "1.1.1.2", rows=8, columns=8, transfer_syntax=IMPLICIT)
PDF = b"%PDF-1.4\nnot a real one, but long enough to be bulk data\n" + b"%" * 2001
ONE = {"studyUID": "1.1", "seriesUID": "1.1.1", "objectUID": "1.1.1.1"}
MANY = {"studyUID": "1.2", "seriesUID": "1.2.1", "objectUID": "1.2.1.1"}
DOCUMENT = {"studyUID": "1.3", "seriesUID": "1.3.1", "objectUID": "1.3.1.1"}
STATE = {"presentationSeriesUID": "1.1.9", "presentationUID": "1.1.9.1"}
REPORT: dict[str, str] = {}  # filled in when it is stored
IN_DEFLATED = {"studyUID": "1.4", "seriesUID": "1.4.1", "objectUID": "1.4.1.1"}


def gradient(rows: int, columns: int) -> bytes:
    """Dark on the left, bright on the right."""
    return np.tile(np.arange(columns, dtype="<u2") * 8, (rows, 1)).tobytes()


IMAGE = builders.ct("1.1", "1.1.1", "1.1.1.1", rows=40, columns=80, PixelData=gradient(40, 80))
FRAMES = builders.ct(
    "1.2", "1.2.1", "1.2.1.1", rows=16, columns=16, frames=3, PixelData=b"".join(bytes([n, 0]) * 256 for n in (1, 2, 3))
)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    with RunningArchive(tmp_path_factory.mktemp("wado_uri")) as running:
        document = builders.part10(
            {
                "SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1",
                "SOPInstanceUID": DOCUMENT["objectUID"],
                "StudyInstanceUID": DOCUMENT["studyUID"],
                "SeriesInstanceUID": DOCUMENT["seriesUID"],
                "Modality": "DOC",
                "EncapsulatedDocument": PDF + b"\0" * (len(PDF) % 2),
                "MIMETypeOfEncapsulatedDocument": "application/pdf",
                "EncapsulatedDocumentLength": len(PDF),
            }
        )
        state = builders.ct("1.1", "1.1.9", "1.1.9.1", rows=8, columns=8)
        deflated = builders.ct("1.4", "1.4.1", "1.4.1.1", rows=8, columns=8, transfer_syntax=DEFLATED)
        report = (Path(pydicom.__file__).parent / "data" / "test_files" / "reportsi.dcm").read_bytes()
        data_set = pydicom.dcmread(io.BytesIO(report))
        REPORT.update(
            studyUID=data_set.StudyInstanceUID, seriesUID=data_set.SeriesInstanceUID, objectUID=data_set.SOPInstanceUID
        )
        answer = stow(running, [IMAGE, STORED_IMPLICIT, FRAMES, document, state, deflated, report])  # type: ignore[arg-type]
        assert answer.status_code in (200, 202), answer.text
        assert "00081198" not in answer.json()
        yield running


def get(
    web: RunningArchive, names: dict[str, str], *, at_root: bool = False, **parameters: object
) -> requests.Response:
    root = web.root_url if at_root else web.dicomweb_url
    return requests.get(f"{root}/wado", params={"requestType": "WADO", **names, **parameters}, timeout=60)


def picture(response: requests.Response, kind: str) -> Image.Image:
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == f"image/{kind.lower()}"
    image = Image.open(io.BytesIO(response.content))
    assert image.format == kind
    return image


def refused(response: requests.Response, parameter: str) -> None:
    assert response.status_code == 400, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["parameter"] == parameter
    assert parameter in response.json()["detail"]


@pytest.mark.parametrize("at_root", [True, False])
def test_an_image_is_a_jpeg_unasked_at_both_addresses(web: RunningArchive, at_root: bool) -> None:
    assert picture(get(web, ONE, at_root=at_root), "JPEG").size == (80, 40)


@pytest.mark.parametrize(("content_type", "kind"), [("image/png", "PNG"), ("image/gif", "GIF"), ("image/jpeg", "JPEG")])
def test_content_type_chooses_the_form(web: RunningArchive, content_type: str, kind: str) -> None:
    picture(get(web, ONE, contentType=content_type), kind)


def test_content_type_is_a_list_in_order_of_preference(web: RunningArchive) -> None:
    picture(get(web, ONE, contentType="video/mpeg, image/png, image/jpeg"), "PNG")


def test_an_object_comes_as_explicit_little_endian_unless_another_syntax_is_asked(web: RunningArchive) -> None:
    names = {**ONE, "objectUID": "1.1.1.2"}
    response = get(web, names, contentType="application/dicom")
    assert response.headers["Content-Type"] == "application/dicom"
    data_set = pydicom.dcmread(io.BytesIO(response.content))
    assert data_set.file_meta.TransferSyntaxUID == EXPLICIT
    assert data_set.SOPInstanceUID == "1.1.1.2"
    assert get(web, ONE, contentType="application/dicom").content == IMAGE


def test_the_transfer_syntax_that_is_stored_passes_through(web: RunningArchive) -> None:
    response = get(web, IN_DEFLATED, contentType="application/dicom", transferSyntax=DEFLATED)
    assert pydicom.dcmread(io.BytesIO(response.content)).file_meta.TransferSyntaxUID == DEFLATED


def test_a_transfer_syntax_that_cannot_be_made_falls_back_to_explicit(web: RunningArchive) -> None:
    response = get(web, ONE, contentType="application/dicom", transferSyntax="1.2.840.10008.1.2.4.100")
    assert pydicom.dcmread(io.BytesIO(response.content)).file_meta.TransferSyntaxUID == EXPLICIT


@pytest.mark.parametrize("uid", [IMPLICIT, BIG, "x", ""])
def test_transfer_syntaxes_that_may_not_be_asked_are_400(web: RunningArchive, uid: str) -> None:
    refused(get(web, ONE, contentType="application/dicom", transferSyntax=uid), "transferSyntax")


def test_a_multi_frame_object_is_dicom_unasked_and_a_picture_by_frame(web: RunningArchive) -> None:
    assert get(web, MANY).content == FRAMES
    window = {"windowCenter": -1022.5, "windowWidth": 4}
    shades = [
        int(np.asarray(picture(get(web, MANY, frameNumber=n, contentType="image/png", **window), "PNG")).max())
        for n in (1, 2, 3)
    ]
    assert shades == sorted(set(shades))


def test_a_frame_that_is_not_there_is_404(web: RunningArchive) -> None:
    assert get(web, MANY, frameNumber=4).status_code == 404


def test_rows_and_columns_are_maxima_that_keep_the_proportions(web: RunningArchive) -> None:
    assert picture(get(web, ONE, rows=20), "JPEG").size == (40, 20)
    assert picture(get(web, ONE, columns=20), "JPEG").size == (20, 10)
    assert picture(get(web, ONE, rows=100, columns=40), "JPEG").size == (40, 20)


def test_region_cuts_out_by_relative_coordinates(web: RunningArchive) -> None:
    whole = np.asarray(picture(get(web, ONE, contentType="image/png"), "PNG"))
    part = np.asarray(picture(get(web, ONE, contentType="image/png", region="0.5,0.25,1,0.75"), "PNG"))
    assert np.array_equal(part, whole[10:30, 40:80])
    assert picture(get(web, ONE, region="0,0,0.5,1", rows=20), "JPEG").size == (20, 20)


def test_a_window_changes_the_picture(web: RunningArchive) -> None:
    dark = np.asarray(picture(get(web, ONE, contentType="image/png", windowCenter=5000, windowWidth=10), "PNG"))
    bright = np.asarray(picture(get(web, ONE, contentType="image/png", windowCenter=-5000, windowWidth=10), "PNG"))
    assert (dark.max(), bright.min()) == (0, 255)


def test_image_quality_makes_files_smaller(web: RunningArchive) -> None:
    assert len(get(web, ONE, imageQuality=5).content) < len(get(web, ONE, imageQuality=100).content)


def test_an_encapsulated_document_comes_as_it_is_without_padding(web: RunningArchive) -> None:
    response = get(web, DOCUMENT, contentType="application/pdf")
    assert (response.headers["Content-Type"], response.content) == ("application/pdf", PDF)
    assert get(web, DOCUMENT).headers["Content-Type"] == "application/dicom"
    refused(get(web, DOCUMENT, contentType="application/pdf", rows=10), "rows")


def test_what_is_no_picture_is_406_as_one(web: RunningArchive) -> None:
    response = get(web, DOCUMENT, contentType="image/jpeg")
    assert response.status_code == 406
    assert response.json()["available"] == ["application/dicom", "application/pdf"]


def test_anonymize_is_refused_clearly(web: RunningArchive) -> None:
    response = get(web, ONE, contentType="application/dicom", anonymize="yes")
    assert response.status_code == 406
    assert "anonymize" in response.json()["detail"]
    refused(get(web, ONE, anonymize="maybe"), "anonymize")


def test_a_presentation_state_is_404_or_406(web: RunningArchive) -> None:
    assert get(web, ONE, presentationSeriesUID="1.1.9", presentationUID="9.9").status_code == 404
    assert get(web, ONE, **STATE).status_code == 406
    refused(get(web, ONE, presentationUID="1.1.9.1"), "presentationSeriesUID")


def test_annotation_knows_its_values(web: RunningArchive) -> None:
    refused(get(web, ONE, annotation="weather"), "annotation")
    plain = picture(get(web, ONE, contentType="image/png", rows=400), "PNG")
    written = picture(get(web, ONE, contentType="image/png", rows=400, annotation="patient,technique"), "PNG")
    assert written.size == plain.size
    assert not np.array_equal(np.asarray(written), np.asarray(plain))


def test_a_report_is_a_page_unasked(web: RunningArchive) -> None:
    response = get(web, REPORT)
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Document Title" in response.text
    assert get(web, REPORT, contentType="text/plain", charset="utf-8").headers["Content-Type"].startswith("text/plain")
    assert get(web, REPORT, contentType="application/dicom").headers["Content-Type"] == "application/dicom"


@pytest.mark.parametrize("name", ["requestType", "studyUID", "seriesUID", "objectUID"])
def test_what_must_be_there_is_asked_for(web: RunningArchive, name: str) -> None:
    parameters = {"requestType": "WADO", **ONE}
    del parameters[name]
    refused(requests.get(f"{web.root_url}/wado", params=parameters, timeout=60), name)


@pytest.mark.parametrize(
    ("name", "value", "more"),
    [
        ("requestType", "WADO-RS", {}),
        ("studyUID", "a b", {}),
        ("contentType", "picture", {}),
        ("charset", "utf 8!", {}),
        ("rows", "0", {}),
        ("rows", "1.5", {}),
        ("columns", "99999", {}),
        ("region", "0,0,1", {}),
        ("region", "0.5,0,0.5,1", {}),
        ("region", "0,0,2,1", {}),
        ("region", "a,b,c,d", {}),
        ("windowCenter", "x", {"windowWidth": "10"}),
        ("windowWidth", "0", {"windowCenter": "10"}),
        ("windowWidth", "nan", {"windowCenter": "10"}),
        ("frameNumber", "-1", {}),
        ("imageQuality", "101", {}),
        ("transferSyntax", EXPLICIT, {"contentType": "image/jpeg"}),
        ("frameNumber", "1", {"contentType": "application/dicom"}),
    ],
)
def test_a_wrong_value_is_400_and_named(web: RunningArchive, name: str, value: str, more: dict[str, str]) -> None:
    refused(get(web, ONE, **{name: value, **more}), name)


def test_half_a_window_is_400(web: RunningArchive) -> None:
    refused(get(web, ONE, windowCenter="40"), "windowWidth")
    refused(get(web, ONE, windowWidth="40"), "windowCenter")


def test_an_unknown_object_is_404_and_one_of_another_study_too(web: RunningArchive) -> None:
    assert get(web, {**ONE, "objectUID": "9.9"}).status_code == 404
    assert get(web, {**ONE, "studyUID": "1.2"}).status_code == 404


def test_validators_and_unknown_parameters(web: RunningArchive) -> None:
    first = get(web, ONE, contentType="image/png", somethingElse="1")
    again = requests.get(first.url, headers={"If-None-Match": first.headers["ETag"]}, timeout=60)
    assert again.status_code == 304
