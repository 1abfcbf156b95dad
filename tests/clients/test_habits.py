"""Requests as viewers word them: the letter of each was taken from the client, its quirks included."""

from __future__ import annotations

import http.client
import json

import pytest

from tests.clients import wheel
from tests.clients.wheel import WheelFile
from tests.server import Server
from tests.wire.clients import split_multipart

FILES = {file.name: file for file in wheel.files()}
CT = FILES["test_files/CT_small.dcm"]
JPEG = FILES["test_files/examples_ybr_color.dcm"]
JPEG_2000 = FILES["test_files/MR_small_jp2klossless.dcm"]
RLE = FILES["test_files/MR_small_RLE.dcm"]
EXPLICIT = "1.2.840.10008.1.2.1"

# The fields that the study list of OHIF shows.
OHIF_LIST = "limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060%2C00080090%2C00100030"
# Slim (dicom-microscopy-viewer) asks for tiles in whichever form they are stored.
SLIM_TILE = ", ".join(
    [
        'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1',
        'multipart/related; type="image/jpeg"; transfer-syntax=1.2.840.10008.1.2.4.50',
        'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.80',
        'multipart/related; type="image/jp2"; transfer-syntax=1.2.840.10008.1.2.4.90',
        'multipart/related; type="image/jpx"; transfer-syntax=1.2.840.10008.1.2.4.92',
    ]
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


def ask(server: Server, path: str, accept: str | None, **headers: str) -> tuple[int, str, bytes]:
    """(status, content type, body). The path goes out letter by letter, and no header but these."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    connection.request("GET", "/dicom-web" + path, headers=headers if accept is None else {"Accept": accept, **headers})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers.get("Content-Type", ""), body


@pytest.mark.parametrize(
    "query",
    [
        OHIF_LIST,
        OHIF_LIST + "&PatientName=*Compressed*",
        OHIF_LIST + "&PatientName=%2acompressed%2A&00100020=%2A1CT1%2A",
        OHIF_LIST.replace("false", "true") + "&PatientName=compressedsamples",
        "PatientName=&PatientID=&AccessionNumber=&StudyDate=&ModalitiesInStudy=",  # forms with empty fields
        "PatientName=*&StudyDate=19700102-20991231",
        "StudyDate=20040119-&ModalitiesInStudy=CT",
        "ModalitiesInStudy=CT%2CMR",
        "ModalitiesInStudy=CT%5CMR",
        "ModalitiesInStudy=CT&ModalitiesInStudy=MR",
        "00080020=20040119",
        f"StudyInstanceUID={CT.study_uid}%5C{RLE.study_uid}",  # OHIF, several studies
        f"0020000D={CT.study_uid},{RLE.study_uid}",
        f"0020000d={CT.study_uid}",
        "includefield=all&orderby=-StudyDate&returnempty=false",  # dcm4chee's viewer
    ],
)
def test_searches_of_study_lists_find_the_study(wheel_archive: Server, query: str) -> None:
    status, media_type, body = ask(wheel_archive, f"/studies?{query}", "application/dicom+json")
    assert (status, media_type) == (200, "application/dicom+json")
    assert CT.study_uid in {row["0020000D"]["Value"][0] for row in json.loads(body)}


def test_a_study_without_modality_does_not_break_the_list_of_ohif(wheel_archive: Server) -> None:
    """It reads the length of Modalities in Study wherever the attribute is there, and else shows no study at all."""
    odd = FILES["test_files/SC_jpeg_no_color_transform.dcm"]
    rows = json.loads(ask(wheel_archive, f"/studies?{OHIF_LIST}", "application/dicom+json")[2])
    assert "00080061" not in next(row for row in rows if row["0020000D"]["Value"] == [odd.study_uid])
    assert all(row["00080061"]["Value"] for row in rows if "00080061" in row)


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "application/json",
        "application/dicom+json; charset=utf-8",
        "application/json, text/plain, */*",
        "application/dicom+json, application/json;q=0.9, */*;q=0.1",
        BROWSER,
    ],
)
def test_json_comes_however_it_is_asked_for(wheel_archive: Server, accept: str | None) -> None:
    for path in ("/studies", f"/studies/{CT.study_uid}/series", CT.path + "/metadata"):
        status, media_type, body = ask(wheel_archive, path, accept)
        assert status == 200
        assert media_type == ("application/json" if accept == "application/json" else "application/dicom+json")
        assert isinstance(json.loads(body), list)


@pytest.mark.parametrize("escaped", [".", "0123456789."])
def test_escaped_uids_are_the_same_uids(wheel_archive: Server, escaped: str) -> None:
    path = "/".join(_escaped(piece, escaped) for piece in CT.path.split("/"))
    for resource in (path, path + "/metadata", path + "/frames/1", path + "/rendered", path.rpartition("/")[0]):
        assert ask(wheel_archive, resource, None)[0] == 200, resource


@pytest.mark.parametrize(
    "accept",
    [
        'multipart/related; type="application/dicom"; transfer-syntax=*',
        "multipart/related;type=application/dicom;transfer-syntax=*",
        'multipart/related; type="application/dicom"; transfer-syntax="*"',
        'multipart/related; transfer-syntax=*; type="application/dicom"; boundary=mine',
        'Multipart/Related; Type="application/dicom"; Transfer-Syntax=*',
        'multipart/related; type="application/dicom"; transfer-syntax=*, */*;q=0.1',
    ],
)
@pytest.mark.parametrize("file", [CT, JPEG, RLE], ids=["ct", "jpeg", "rle"])
def test_files_come_as_they_are_stored(wheel_archive: Server, file: WheelFile, accept: str) -> None:
    status, media_type, body = ask(wheel_archive, file.path, accept)
    assert status == 200
    (found,) = split_multipart(media_type, body)
    assert found[132:] == file.data[132:]


@pytest.mark.parametrize(
    "accept",
    [
        'multipart/related; type="application/octet-stream"; transfer-syntax=*',
        'multipart/related; type="application/octet-stream"; transfer-syntax="*"',  # OHIF 3.13
        "multipart/related; type=application/octet-stream; transfer-syntax=*",  # OHIF, omitQuotationForMultipartRequest
    ],
)
@pytest.mark.parametrize("file", [CT, JPEG, JPEG_2000, RLE], ids=["ct", "jpeg", "jpeg 2000", "rle"])
def test_frames_come_as_they_are_stored(wheel_archive: Server, file: WheelFile, accept: str) -> None:
    status, media_type, body = ask(wheel_archive, file.path + "/frames/1", accept)
    assert status == 200
    (found,) = split_multipart(media_type, body)
    assert found in file.data


@pytest.mark.parametrize(
    ("file", "accept", "part_type"),
    [
        (JPEG, "multipart/related;type=image/jpeg", "image/jpeg"),
        (JPEG, 'multipart/related; type="image/jpeg"; transfer-syntax=*', "image/jpeg"),
        (JPEG, SLIM_TILE, "image/jpeg"),
        (JPEG, "multipart/related; type=image/*, multipart/related; type=application/octet-stream", "image/jpeg"),
        (JPEG_2000, SLIM_TILE, "image/jp2"),
        (JPEG_2000, "multipart/related; type=image/dicom+jp2", "image/jp2"),  # cornerstone's old loader
        (RLE, 'multipart/related; type="image/x-dicom-rle"', "image/dicom-rle"),
        (CT, SLIM_TILE, "application/octet-stream"),
        (CT, "multipart/related; type=image/*, multipart/related; type=application/octet-stream", "application/octet-"),
    ],
)
def test_a_frame_is_sent_in_the_form_that_fits_it(
    wheel_archive: Server, file: WheelFile, accept: str, part_type: str
) -> None:
    status, media_type, body = ask(wheel_archive, file.path + "/frames/1", accept)
    assert status == 200
    assert f'type="{part_type}' in media_type
    (found,) = split_multipart(media_type, body)
    assert found in file.data


def test_a_native_frame_without_transfer_syntax_is_decoded(wheel_archive: Server) -> None:
    for part_type in ('"application/octet-stream"', "application/octet-stream"):
        status, media_type, body = ask(wheel_archive, RLE.path + "/frames/1", f"multipart/related; type={part_type}")
        assert status == 200
        (found,) = split_multipart(media_type, body)
        assert found == RLE.read().pixel_array.tobytes()


@pytest.mark.parametrize(
    ("resource", "accept", "media_type"),
    [
        ("/thumbnail?accept=image%2Fjpeg", None, "image/jpeg"),  # OHIF: an <img>'s source cannot say Accept
        ("/thumbnail", "image/jpeg", "image/jpeg"),
        ("/rendered", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image/"),  # an <img>
        ("/rendered", BROWSER, "image/"),
        ("/rendered", "image/png", "image/png"),
        ("/frames/1/rendered?accept=image/png&window=40,400,linear&quality=90", None, "image/png"),
        ("/rendered?viewport=64,64", "image/jpeg", "image/jpeg"),
    ],
)
def test_pictures_come_in_a_form_that_an_img_shows(
    wheel_archive: Server, resource: str, accept: str | None, media_type: str
) -> None:
    status, found, body = ask(wheel_archive, CT.path + resource, accept)
    assert status == 200
    assert found.startswith(media_type)
    assert body


def test_bulk_data_are_fetched_by_their_address_and_by_range(wheel_archive: Server) -> None:
    _, _, metadata = ask(wheel_archive, CT.path + "/metadata", "application/dicom+json")
    (found,) = json.loads(metadata)
    path = found["7FE00010"]["BulkDataURI"].partition("/dicom-web")[2]
    pixels = CT.read().PixelData
    for accept in ("application/octet-stream", "application/octet-stream; transfer-syntax=*"):
        assert ask(wheel_archive, path, accept)[2] == pixels
    status, _, body = ask(wheel_archive, path, "application/octet-stream", Range="bytes=0-65535")
    assert (status, body) == (206, pixels)  # longer than it is: a reader of pieces


def _escaped(text: str, letters: str) -> str:
    return "".join(f"%{ord(letter):02X}" if letter in letters else letter for letter in text)
