"""STOW-RS of metadata with bulk data (PS3.18 10.5.1.2), in JSON and XML, over real HTTP."""

from __future__ import annotations

import base64
import gzip
import socket
import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
import requests

from pacs.dicom import file_meta
from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.encode import encode_data_set
from pacs.dicom.header import parse_data_set
from pacs.dicom.uids import new_uid
from pacs.errors import Unreadable
from tests import builders
from tests.server import Server
from tests.wire.clients import TIMEOUT_S, failures, retrieve_files, stow, value
from tests.wire.metadata_requests import (
    JSON,
    XML,
    body_of,
    bulk_part,
    elements_of,
    metadata_of,
    metadata_parts,
    parts_of,
    store_metadata,
)

GREY = (np.arange(64 * 48, dtype=np.uint32).reshape(48, 64) * 7 % 251).astype(np.uint8)
COLOR = np.dstack([GREY, GREY[::-1], 255 - GREY])
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DICOMDIR = "1.2.840.10008.1.3.10"
VIDEO = "1.2.840.10008.5.1.4.1.1.77.1.1.1"


def instance(study: str | None = None, sop: str | None = None, /, **attributes: Any) -> dict[str, Any]:
    """A secondary capture without pixels as DICOM JSON."""
    defaults: dict[str, Any] = {
        "SOPClassUID": SECONDARY_CAPTURE,
        "SOPInstanceUID": sop or new_uid(),
        "StudyInstanceUID": study or new_uid(),
        "SeriesInstanceUID": new_uid(),
        "Modality": "OT",
        "PatientName": "Müller^José=山田^太郎",
        "PatientID": "M1",
    }
    return builders.json_of({**defaults, **attributes})


def with_pixels(uri: str = "bulk/1", /, **attributes: Any) -> dict[str, Any]:
    found = instance(**attributes)
    found["7FE00010"] = {"vr": "OW", "BulkDataURI": uri}
    return found


def read(archive: Server, data_set: dict[str, Any]) -> pydicom.Dataset:
    """The stored file of an instance, in its stored transfer syntax."""
    (file,) = retrieve_files(archive, f"/studies/{value(data_set, '0020000D')}")
    return pydicom.dcmread(BytesIO(file))


def post(archive: Server, *instances: dict[str, Any], bulk: Any = (), **options: Any) -> requests.Response:
    return store_metadata(f"{archive.dicomweb_url}/studies", instances, bulk, **options)


def encoded(form: str, image: np.ndarray[Any, Any] = GREY) -> bytes:
    match form:
        case "baseline":
            return bytes(imagecodecs.jpeg8_encode(image, level=90))
        case "lossless":
            return bytes(imagecodecs.jpeg8_encode(image, lossless=True, predictor=1))
        case "lossless-6":
            return bytes(imagecodecs.jpeg8_encode(image, lossless=True, predictor=6))
        case "jls":
            return bytes(imagecodecs.jpegls_encode(image))
        case "jls-near":
            return bytes(imagecodecs.jpegls_encode(image, level=2))
        case "j2k":
            return bytes(imagecodecs.jpeg2k_encode(image, codecformat="j2k", reversible=True))
        case "j2k-lossy":
            return bytes(imagecodecs.jpeg2k_encode(image, codecformat="j2k", level=30, reversible=False))
        case "jp2":
            return bytes(imagecodecs.jpeg2k_encode(image, codecformat="jp2", reversible=True))
        case "htj2k":
            return bytes(imagecodecs.htj2k_encode(image))
    raise AssertionError(form)


@pytest.mark.parametrize("kind", [JSON, XML])
def test_metadata_alone_become_an_instance(archive: Server, kind: str) -> None:
    data_set = instance(**{"SliceThickness": 0.5, "InstanceNumber": 7, "Rows": None})
    response = post(archive, data_set, kind=kind)
    assert response.status_code == 200, response.text
    url = value(response.json()["00081199"]["Value"][0], "00081190")
    for form in (JSON, XML):
        (back,) = metadata_of(url, form)
        assert back.pop("00080005") == {"vr": "CS", "Value": ["ISO_IR 192"]}
        assert back == data_set
    assert str(read(archive, data_set).PatientName) == "Müller^José=山田^太郎"


@pytest.mark.parametrize("kind", [JSON, XML])
def test_uncompressed_bulk_data_become_native_pixel_data(archive: Server, kind: str) -> None:
    data_set = with_pixels(
        **{"Rows": 48, "Columns": 64, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "SamplesPerPixel": 1},
        **{"PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2"},
    )
    response = post(archive, data_set, bulk=[bulk_part("bulk/1", GREY.tobytes())], kind=kind)
    assert response.status_code == 200, response.text
    stored = read(archive, data_set)
    assert stored.file_meta.TransferSyntaxUID == syntaxes.EXPLICIT_VR_LITTLE_ENDIAN
    assert np.array_equal(stored.pixel_array, GREY)


@pytest.mark.parametrize(
    ("form", "content_type", "uid"),
    [
        ("baseline", "image/jpeg", syntaxes.JPEG_BASELINE),
        ("lossless", "image/jpeg", syntaxes.JPEG_LOSSLESS_SV1),
        ("lossless", f"image/jpeg; transfer-syntax={syntaxes.JPEG_LOSSLESS_SV1}", syntaxes.JPEG_LOSSLESS_SV1),
        ("lossless-6", "image/jpeg", syntaxes.JPEG_LOSSLESS),
        ("jls", "image/jls", syntaxes.JPEG_LS_LOSSLESS),
        ("jls", "image/x-jls", syntaxes.JPEG_LS_LOSSLESS),
        ("jls-near", "image/jls", syntaxes.JPEG_LS_NEAR_LOSSLESS),
        ("j2k", "image/jp2", syntaxes.JPEG_2000_LOSSLESS),
        ("jp2", "image/jp2", syntaxes.JPEG_2000_LOSSLESS),
        ("j2k-lossy", "image/jp2", syntaxes.JPEG_2000),
        ("htj2k", "image/jphc", syntaxes.HTJ2K_LOSSLESS),
    ],
)
def test_a_codestream_becomes_encapsulated_pixel_data_and_says_what_the_image_is(
    archive: Server, form: str, content_type: str, uid: str
) -> None:
    data_set = with_pixels()
    codestream = encoded(form)
    response = post(archive, data_set, bulk=[bulk_part("bulk/1", codestream, content_type)])
    assert response.status_code == 200, response.text
    stored = read(archive, data_set)
    assert stored.file_meta.TransferSyntaxUID == uid
    assert (stored.Rows, stored.Columns, stored.SamplesPerPixel) == (48, 64, 1)
    assert (stored.BitsAllocated, stored.BitsStored, stored.HighBit, stored.PixelRepresentation) == (8, 8, 7, 0)
    assert stored.PhotometricInterpretation == "MONOCHROME2"
    is_lossy = syntaxes.find(uid).lossy
    assert stored.get("LossyImageCompression") == ("01" if is_lossy else None)
    path = f"/studies/{value(data_set, '0020000D')}/series/{value(data_set, '0020000E')}"
    frame = requests.get(
        f"{archive.dicomweb_url}{path}/instances/{value(data_set, '00080018')}/frames/1",
        headers={"Accept": "application/octet-stream"},
        timeout=TIMEOUT_S,
    )
    assert frame.status_code == 200, frame.text
    difference = np.abs(np.frombuffer(frame.content, np.uint8).reshape(48, 64).astype(int) - GREY)
    assert difference.max() <= (60 if is_lossy else 0)


def test_colour_codestreams_get_a_photometric_interpretation_that_fits(archive: Server) -> None:
    for form, content_type, photometric in (
        ("baseline", "image/jpeg", "YBR_FULL_422"),
        ("jls", "image/jls", "RGB"),
        ("j2k", "image/jp2", "YBR_RCT"),
    ):
        data_set = with_pixels()
        response = post(archive, data_set, bulk=[bulk_part("bulk/1", encoded(form, COLOR), content_type)])
        assert response.status_code == 200, response.text
        stored = read(archive, data_set)
        assert (stored.SamplesPerPixel, stored.PlanarConfiguration) == (3, 0)
        assert stored.PhotometricInterpretation == photometric


@pytest.mark.parametrize("numbered", [True, False])
def test_frames_are_parts_of_their_own(archive: Server, numbered: bool) -> None:
    data_set = with_pixels()
    frames = [encoded("jls", np.roll(GREY, shift, axis=1)) for shift in range(3)]
    bulk = [
        bulk_part(f"bulk/1/frames/{number}" if numbered else "bulk/1", frame, "image/jls")
        for number, frame in enumerate(frames, 1)
    ]
    response = post(archive, data_set, bulk=bulk[::-1] if numbered else bulk)
    assert response.status_code == 200, response.text
    stored = read(archive, data_set)
    assert stored.NumberOfFrames == 3
    assert [bytes(frame).rstrip(b"\0") for frame in pydicom.encaps.generate_frames(stored.PixelData)] == [
        frame.rstrip(b"\0") for frame in frames
    ]


def test_a_video_becomes_one_fragment(archive: Server) -> None:
    movie = b"\0\0\0\x20ftypisom" + builders.noise(100_001)
    data_set = with_pixels(**{"SOPClassUID": VIDEO, "NumberOfFrames": 25, "Rows": 480, "Columns": 640})
    response = post(archive, data_set, bulk=[bulk_part("bulk/1", movie, "video/mp4")])
    assert response.status_code == 200, response.text
    stored = read(archive, data_set)
    assert stored.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.102"
    (fragment,) = list(pydicom.encaps.generate_fragments(stored.PixelData))[1:]
    assert fragment == movie + b"\0"


@pytest.mark.parametrize("kind", [JSON, XML])
def test_a_pdf_becomes_an_encapsulated_document(archive: Server, kind: str) -> None:
    pdf = b"%PDF-1.4\n" + builders.noise(3_002) + b"%%EOF\n"
    data_set = instance(**{"SOPClassUID": ENCAPSULATED_PDF})
    data_set["00420011"] = {"vr": "OB", "BulkDataURI": "http://example.org/report.pdf"}
    bulk = [bulk_part("http://example.org/report.pdf", pdf, "application/pdf")]
    response = post(archive, data_set, bulk=bulk, kind=kind)
    assert response.status_code == 200, response.text
    stored = read(archive, data_set)
    assert stored.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert stored.EncapsulatedDocumentLength == len(pdf)
    assert stored.EncapsulatedDocument == pdf + b"\0" * (len(pdf) % 2)


def test_bulk_data_within_items_are_put_there(archive: Server) -> None:
    data_set = instance(**{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.9.1.1"})
    item = {"54001010": {"vr": "OW", "BulkDataURI": "w"}, "003A0005": {"vr": "US", "Value": [1]}}
    text = {"vr": "SQ", "Value": [{"0040A160": {"vr": "UT", "BulkDataURI": "t"}}, {}]}
    data_set["54000100"] = {"vr": "SQ", "Value": [item]}
    data_set["0040A730"] = text
    response = post(archive, data_set, bulk=[bulk_part("w", b"\1\2" * 900), bulk_part("t", "Grüße!".encode())])
    assert response.status_code == 200, response.text
    stored = read(archive, data_set)
    assert stored.WaveformSequence[0].WaveformData == b"\1\2" * 900
    assert stored.ContentSequence[0].TextValue == "Grüße!"
    assert len(stored.ContentSequence) == 2


def test_private_attributes_keep_their_creator(archive: Server) -> None:
    data_set = instance()
    data_set["00110010"] = {"vr": "LO", "Value": ["ACME"]}
    data_set["00111001"] = {"vr": "OB", "InlineBinary": base64.b64encode(b"abcd").decode()}
    for kind in (JSON, XML):
        again = {
            **data_set,
            "00080018": {"vr": "UI", "Value": [new_uid()]},
            "0020000D": {"vr": "UI", "Value": [new_uid()]},
        }
        assert post(archive, again, kind=kind).status_code == 200
        stored = read(archive, again)
        assert stored.private_block(0x11, "ACME")[1].value == b"abcd"


def test_xml_without_blocks_gets_one(archive: Server) -> None:
    data_set = instance()
    document = next(iter(metadata_parts([data_set], XML)))[1].replace(
        b"</NativeDicomModel>",
        b'<DicomAttribute tag="00110007" vr="LO" privateCreator="ACME"><Value number="1">x</Value></DicomAttribute>'
        b"</NativeDicomModel>",
    )
    response = post(archive, kind=XML, body=body_of([({"Content-Type": XML}, document)]))
    assert response.status_code == 200, response.text
    assert read(archive, data_set).private_block(0x11, "ACME")[7].value == "x"


@pytest.mark.parametrize(
    ("change", "bulk", "reason", "comment"),
    [
        ({}, [], 0xC000, "not in the request"),
        ({}, [bulk_part("bulk/2", b"x")], 0xC000, "not in the request"),
        ({"Rows": 99}, [bulk_part("bulk/1", encoded("jls"), "image/jls")], 0x0106, "Rows"),
        ({"NumberOfFrames": 2}, [bulk_part("bulk/1", encoded("jls"), "image/jls")], 0x0106, "Number of Frames"),
        ({}, [bulk_part("bulk/1", encoded("jls"), "image/jpeg")], 0x0106, "image/jpeg"),
        ({}, [bulk_part("bulk/1", b"nothing like it", "image/jp2")], 0x0106, "image/jp2"),
        (
            {},
            [bulk_part("bulk/1", encoded("baseline"), "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.70")],
            0x0106,
            "transfer syntax",
        ),
        ({"Rows": 64, "Columns": 64, "BitsAllocated": 16}, [bulk_part("bulk/1", b"x" * 100)], 0x0106, "100 bytes"),
        ({"SOPInstanceUID": ...}, [bulk_part("bulk/1", b"x" * 100)], 0x0120, "missing"),
        ({"SOPInstanceUID": None}, [bulk_part("bulk/1", b"x" * 100)], 0x0121, "empty"),
        ({"00280010": {"vr": "US", "Value": ["many"]}}, [], 0x0106, "(0028,0010)"),
        ({"00280010": {"vr": "US", "Value": [70000]}}, [], 0x0106, "(0028,0010)"),
        ({"00280010": {"vr": "XX", "Value": [1]}}, [], 0x0106, "(0028,0010)"),
        ({"00280010": {"vr": "US", "Value": [1], "BulkDataURI": "x"}}, [], 0x0106, "(0028,0010)"),
        ({"00081140": {"vr": "SQ", "Value": [7]}}, [], 0x0106, "(0008,1140)"),
        ({"00111001": {"vr": "OB", "InlineBinary": "***"}}, [], 0x0106, "(0011,1001)"),
    ],
)
def test_what_does_not_fit_fails_alone_with_its_reason(
    archive: Server, change: dict[str, Any], bulk: Any, reason: int, comment: str
) -> None:
    good, bad = instance(), with_pixels("bulk/1", **{k: v for k, v in change.items() if not k.startswith("00")})
    bad.update({tag: element for tag, element in change.items() if tag.startswith("00")})
    response = post(archive, good, bad, bulk=bulk)
    assert response.status_code == 202, response.text
    (failed,) = response.json()["00081198"]["Value"]
    assert value(failed, "00081197") == reason, value(failed, "00000902")
    assert comment in value(failed, "00000902")
    assert value(failed, "00081155") == value(bad, "00080018")
    assert value(response.json()["00081199"]["Value"][0], "00081155") == value(good, "00080018")


def test_group_2_of_the_metadata_names_the_transfer_syntax(archive: Server) -> None:
    data_set = with_pixels(**{"Rows": 48, "Columns": 64, "BitsAllocated": 8, "SamplesPerPixel": 1})
    data_set["00020010"] = {"vr": "UI", "Value": [syntaxes.JPEG_LS_LOSSLESS]}
    response = post(archive, data_set, bulk=[bulk_part("bulk/1", encoded("jls"))])
    assert response.status_code == 200, response.text
    assert read(archive, data_set).file_meta.TransferSyntaxUID == syntaxes.JPEG_LS_LOSSLESS


def test_a_packed_request_is_the_same(archive: Server) -> None:
    data_set = with_pixels()
    body = body_of([*metadata_parts([data_set], JSON), bulk_part("bulk/1", encoded("jls"), "image/jls")])
    response = post(archive, body=gzip.compress(body), **{"Content-Encoding": "gzip"})
    assert response.status_code == 200, response.text


def test_nothing_is_left_in_the_incoming_folder(archive: Server) -> None:
    assert post(archive, with_pixels(), bulk=[bulk_part("other", b"x" * 1000)]).status_code == 409
    assert post(archive, with_pixels(), bulk=[bulk_part("bulk/1", encoded("jls"), "image/jls")]).status_code == 200
    assert not list((archive.data / "incoming").iterdir())


def test_a_client_that_goes_half_way_leaves_nothing(archive: Server) -> None:
    body = body_of([*metadata_parts([with_pixels()], JSON), bulk_part("bulk/1", bytes(3 << 20))])
    head = (
        f"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        f'Content-Type: multipart/related; type="{JSON}"; boundary=metadata-boundary-3f1c\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", archive.http_port)) as client:
        client.sendall(head.encode() + body[: 2 << 20])
        deadline = time.monotonic() + 60
        while not list((archive.data / "incoming").glob("*.bulk")):
            assert time.monotonic() < deadline, "nothing was received"
            time.sleep(0.01)
    while list((archive.data / "incoming").iterdir()):
        assert time.monotonic() < deadline, "something is left"
        time.sleep(0.01)


def test_a_cut_off_request_stores_what_was_whole(archive: Server) -> None:
    """A part without its end is none: the instance that needs it fails, the other is kept."""
    good, cut = instance(), with_pixels()
    whole = body_of([*metadata_parts([good, cut], JSON), bulk_part("bulk/1", encoded("jls"), "image/jls")])
    response = post(archive, body=whole[:-40])
    assert response.status_code == 202, response.text
    assert failures(response.json()) == [0xC000]


def test_large_bulk_data_do_not_go_through_memory(archive: Server) -> None:
    size = 300 << 20
    data_set = with_pixels(**{"Rows": 10240, "Columns": 10240, "BitsAllocated": 8, "NumberOfFrames": 3})
    block = builders.noise(1 << 20)

    def body() -> Any:
        yield body_of([*metadata_parts([data_set], JSON), bulk_part("bulk/1", b"")]).rpartition(b"\r\n--")[0]
        for _ in range(size >> 20):
            yield block
        yield body_of([])[0:0] + b"\r\n--metadata-boundary-3f1c--\r\n"

    before = archive.rss_bytes()
    response = post(archive, body=body())  # type: ignore[arg-type]  # sent in chunks
    assert response.status_code == 200, response.text
    assert archive.peak_rss_bytes() - before < 150 << 20


@pytest.fixture(scope="module")
def replacing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An archive in which the files of one instance in several encodings follow each other."""
    with Server(tmp_path_factory.mktemp("replacing"), {"DUPLICATES": "replace"}) as server:
        yield server


def with_uids(file: bytes) -> bytes | None:
    """The file, with UIDs put before its data set's own elements where it lacks them; None for what is no instance."""
    meta, offset = file_meta.read(file)
    if meta is None or meta.sop_class_uid == DICOMDIR or meta.transfer_syntax_uid == syntaxes.EXPLICIT_VR_BIG_ENDIAN:
        return file if meta is not None and meta.sop_class_uid != DICOMDIR else None
    try:
        data_set = pydicom.dcmread(BytesIO(file), stop_before_pixels=True)
        parse_data_set(file[offset:], meta.transfer_syntax_uid)
    except Unreadable:
        return None
    missing = {keyword: new_uid() for keyword in ("StudyInstanceUID", "SeriesInstanceUID") if not data_set.get(keyword)}
    for keyword, uid in (
        ("SOPClassUID", meta.sop_class_uid or builders.CT_IMAGE_STORAGE),
        ("SOPInstanceUID", meta.sop_uid or new_uid()),
    ):
        if not data_set.get(keyword):
            missing[keyword] = uid
    if not missing or syntaxes.find(meta.transfer_syntax_uid).deflated:
        return file
    elements = encode_data_set(builders.json_of(missing), meta.transfer_syntax_uid)
    return file[:offset] + elements + file[offset:]


def _round_trip_files() -> list[Any]:
    return [pytest.param(path, id=path.name) for path, _ in builders.real_files()]


@pytest.mark.parametrize("path", _round_trip_files())
def test_what_is_retrieved_as_metadata_and_bulk_data_can_be_stored_again(replacing: Server, path: Any) -> None:
    file = with_uids(path.read_bytes())
    if file is None:
        pytest.skip("no instance: a DICOMDIR, or cut off")
    response = stow(replacing, [file])
    assert response.status_code in (200, 202), response.text
    url = value(response.json()["00081199"]["Value"][0], "00081190")
    for kind in (JSON, XML):
        (original,) = metadata_of(url, kind)
        bulk = []
        for uri in dict.fromkeys(
            element["BulkDataURI"] for element in elements_of(original) if "BulkDataURI" in element
        ):
            found = requests.get(uri, headers={"Accept": "*/*"}, timeout=TIMEOUT_S)
            assert found.status_code == 200, uri
            bulk += [bulk_part(uri, content, headers["content-type"]) for headers, content in parts_of(found)]
        fresh = {tag: {"vr": "UI", "Value": [new_uid()]} for tag in ("00080018", "0020000D", "0020000E")}
        again = store_metadata(f"{replacing.dicomweb_url}/studies", [{**original, **fresh}], bulk, kind)
        assert again.status_code in (200, 202), again.text
        (item,) = again.json()["00081199"]["Value"]
        new_url = value(item, "00081190")
        (copy,) = metadata_of(new_url)
        assert without_addresses(copy, new_url) == without_addresses({**original, **fresh}, url)
        for element, new in zip(elements_of(original), elements_of(copy), strict=True):
            if "BulkDataURI" in element:
                pair = [requests.get(e["BulkDataURI"], timeout=TIMEOUT_S).content for e in (element, new)]
                assert pair[0] == pair[1], element["BulkDataURI"]


def without_addresses(data_set: dict[str, Any], url: str) -> Any:
    """Bulk data by their path alone; Specific Character Set left out, which says only how a file was written."""
    found: dict[str, Any] = {}
    for tag, element in data_set.items():
        if tag == "00080005":
            continue
        if "BulkDataURI" in element:
            element = {**element, "BulkDataURI": element["BulkDataURI"].removeprefix(url)}
        if element["vr"] == "SQ":
            element = {**element, "Value": [without_addresses(item, url) for item in element.get("Value", ())]}
        if "InlineBinary" in element:
            # Of even length (PS3.5 7.1.1), whatever a file had.
            raw = base64.b64decode(element["InlineBinary"])
            element = {**element, "InlineBinary": base64.b64encode(raw + b"\0" * (len(raw) % 2)).decode()}
        if tag == "7FE00010":
            element = {**element, "vr": "O?"}  # encapsulated ones are OB (PS3.5 A.4), whatever a file had
        found[tag] = element
    return found
