"""WADO-RS over real HTTP: files, metadata, frames, bulk data."""

from __future__ import annotations

import gzip
import os
import socket
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
from pydicom.data import get_testdata_file

from pacs.dicom.uids import new_uid
from tests import builders
from tests.unit.web.running import RunningArchive
from tests.wire.clients import split_multipart, stow

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG_2000, RLE, JPEG_BASELINE = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50"
RPCL = "1.2.840.10008.1.2.4.202"
DICOM = 'multipart/related; type="application/dicom"'
OCTETS = 'multipart/related; type="application/octet-stream"'

PLAIN = builders.ct("1.1", "1.1.1", "1.1.1.1", rows=32, columns=32)
MULTIFRAME = builders.ct("1.2", "1.2.1", "1.2.1.1", rows=16, columns=16, frames=5)
IN_BIG_ENDIAN = builders.ct("1.3", "1.3.1", "1.3.1.1", rows=16, columns=16, transfer_syntax=BIG)
IN_DEFLATED = builders.ct("1.4", "1.4.1", "1.4.1.1", rows=16, columns=16, transfer_syntax=DEFLATED)
# Not a codestream of any kind: stored as it is, but nothing can be made of it.
BROKEN = builders.encapsulated(
    [b"not a jpeg!!"],
    transfer_syntax=JPEG_BASELINE,
    StudyInstanceUID="1.5",
    SeriesInstanceUID="1.5.1",
    SOPInstanceUID="1.5.1.1",
)
MIXED = builders.ct("1.5", "1.5.2", "1.5.2.1", rows=8, columns=8)


def real(name: str) -> bytes:
    """A file of the pydicom wheel under UIDs of its own: some of them share theirs."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    data_set = pydicom.dcmread(path)
    data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = new_uid()
    file = BytesIO()
    data_set.save_as(file)
    return file.getvalue()


class Located:
    """One stored instance: its file, data set and URL below the DICOMweb root."""

    def __init__(self, file: bytes) -> None:
        self.file = file
        self.data_set = pydicom.dcmread(BytesIO(file), force=True)
        self.study = f"/studies/{self.data_set.StudyInstanceUID}"
        self.series = f"{self.study}/series/{self.data_set.SeriesInstanceUID}"
        self.path = f"{self.series}/instances/{self.data_set.SOPInstanceUID}"


@pytest.fixture(scope="module")
def reals() -> dict[str, Located]:
    """Real files, each of another transfer syntax."""
    return {
        name: Located(real(name))
        for name in (
            "MR_small_RLE.dcm",
            "JPEG2000.dcm",
            "MR_small_jp2klossless.dcm",
            "SC_rgb_jpeg_dcmtk.dcm",
            "reportsi.dcm",
        )
    }


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, reals: dict[str, Located]) -> Iterator[RunningArchive]:
    with RunningArchive(tmp_path_factory.mktemp("wado")) as running:
        files = [PLAIN, MULTIFRAME, IN_BIG_ENDIAN, IN_DEFLATED, BROKEN, MIXED]
        many = [builders.ct("1.6", "1.6.1", f"1.6.1.{n}", rows=8, columns=8, InstanceNumber=n) for n in range(30)]
        answer = stow(running, [*files, *many, *(each.file for each in reals.values())])  # type: ignore[arg-type]
        assert answer.status_code in (200, 202), answer.text
        assert "00081198" not in answer.json(), answer.text
        yield running


def get(web: RunningArchive, path: str, accept: str | None = None, **headers: str) -> requests.Response:
    fields = {"Accept": accept} if accept is not None else {"Accept": ""}
    return requests.get(web.dicomweb_url + path, headers={**fields, **headers}, timeout=60)


def parts(response: requests.Response) -> list[bytes]:
    assert response.status_code in (200, 206), response.text
    return split_multipart(response.headers["Content-Type"], response.content)


def part_types(response: requests.Response) -> list[str]:
    lines = response.content.split(b"\r\n")
    return [line[14:].decode() for line in lines if line.startswith(b"Content-Type: ")]


def syntax_of(file: bytes) -> str:
    return str(pydicom.dcmread(BytesIO(file)).file_meta.TransferSyntaxUID)


@pytest.mark.parametrize(
    "accept", [None, "*/*", "multipart/related", f"{DICOM}; transfer-syntax=*", 'multipart/related; type="*/*"']
)
@pytest.mark.parametrize("file", [PLAIN, MULTIFRAME, IN_BIG_ENDIAN, IN_DEFLATED, BROKEN])
def test_stored_bytes_come_back_when_anything_is_accepted(web: RunningArchive, file: bytes, accept: str | None) -> None:
    located = Located(file)
    (back,) = parts(get(web, located.path, accept))
    assert builders.data_set_of(back) == builders.data_set_of(file)
    assert syntax_of(back) == syntax_of(file)


def test_plain_application_dicom_means_explicit_little_endian(web: RunningArchive, reals: dict[str, Located]) -> None:
    stored = [
        Located(PLAIN),
        Located(IN_BIG_ENDIAN),
        Located(IN_DEFLATED),
        reals["JPEG2000.dcm"],
        reals["MR_small_RLE.dcm"],
    ]
    for located in stored:
        response = get(web, located.path, DICOM)
        (back,) = parts(response)
        assert syntax_of(back) == EXPLICIT
        assert part_types(response) == [f"application/dicom; transfer-syntax={EXPLICIT}"]
        data_set = pydicom.dcmread(BytesIO(back))
        np.testing.assert_array_equal(data_set.pixel_array, located.data_set.pixel_array)


def test_a_named_transfer_syntax_is_made_or_kept(web: RunningArchive, reals: dict[str, Located]) -> None:
    rle = reals["MR_small_RLE.dcm"]
    assert syntax_of(parts(get(web, rle.path, f"{DICOM}; transfer-syntax={RLE}"))[0]) == RLE
    assert syntax_of(parts(get(web, rle.path, f"{DICOM}; transfer-syntax={IMPLICIT}"))[0]) == IMPLICIT
    preferred = f"{DICOM}; transfer-syntax={RLE}; q=0.1, {DICOM}; transfer-syntax={EXPLICIT}; q=0.9"
    assert syntax_of(parts(get(web, rle.path, preferred))[0]) == EXPLICIT


@pytest.mark.parametrize(
    "accept", [f"{DICOM}; transfer-syntax={JPEG_BASELINE}", "text/plain", 'multipart/related; type="image/jpeg"']
)
def test_what_cannot_be_made_is_406_with_what_there_is(web: RunningArchive, accept: str) -> None:
    response = get(web, Located(PLAIN).path, accept)
    assert response.status_code == 406
    assert any(EXPLICIT in form for form in response.json()["available"])


def test_what_cannot_be_decoded_is_406_and_does_not_take_others_with_it(web: RunningArchive) -> None:
    assert get(web, Located(BROKEN).path, DICOM).status_code == 406
    response = get(web, "/studies/1.5", DICOM)
    assert response.status_code == 206
    assert "1 of 2 instances" in response.headers["Warning"]
    assert [pydicom.dcmread(BytesIO(part)).SOPInstanceUID for part in parts(response)] == ["1.5.2.1"]
    assert len(parts(get(web, "/studies/1.5", f"{DICOM}; transfer-syntax=*"))) == 2
    assert not list(web.incoming.iterdir())


@pytest.mark.parametrize(
    ("path", "count"),
    [("/studies/1.6", 30), ("/studies/1.6/series/1.6.1", 30), ("/studies/1.6/series/1.6.1/instances/1.6.1.7", 1)],
)
def test_every_level_has_its_instances(web: RunningArchive, path: str, count: int) -> None:
    response = get(web, path)
    assert response.headers["Content-Type"].startswith('multipart/related; type="application/dicom"; boundary=')
    assert len({builders.data_set_of(part) for part in parts(response)}) == count
    assert len(get(web, f"{path}/metadata").json()) == count


@pytest.mark.parametrize(
    "path",
    [
        "/studies/9.9",
        "/studies/1.1/series/9.9",
        "/studies/1.1/series/1.1.1/instances/9.9",
        "/studies/1.2/series/1.1.1/instances/1.1.1.1",
    ],
)
@pytest.mark.parametrize("kind", ["", "/metadata", "/rendered", "/thumbnail"])
def test_what_is_not_there_is_404(web: RunningArchive, path: str, kind: str) -> None:
    response = get(web, path + kind)
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


def test_one_file_by_itself_with_validators_and_ranges(web: RunningArchive) -> None:
    located = Located(PLAIN)
    whole = get(web, located.path, "application/dicom")
    assert whole.headers["Content-Type"].startswith("application/dicom")
    assert builders.data_set_of(whole.content) == builders.data_set_of(PLAIN)
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert int(whole.headers["Content-Length"]) == len(whole.content)
    etag = whole.headers["ETag"]
    assert etag.startswith('"')
    same = get(web, located.path, "application/dicom", **{"If-None-Match": etag})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", etag)
    part = get(web, located.path, "application/dicom", Range="bytes=100-199")
    assert part.status_code == 206
    assert part.content == whole.content[100:200]
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(whole.content)}"
    outside = get(web, located.path, "application/dicom", Range="bytes=99999999-")
    assert (outside.status_code, outside.headers["Content-Range"]) == (416, f"bytes */{len(whole.content)}")
    head = requests.head(web.dicomweb_url + located.path, headers={"Accept": "application/dicom"}, timeout=60)
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", etag)
    assert head.headers["Content-Length"] == str(len(whole.content))


def test_several_files_cannot_be_one_body(web: RunningArchive) -> None:
    assert get(web, "/studies/1.6", "application/dicom; transfer-syntax=*").status_code == 406
    assert (
        len(
            parts(
                get(
                    web,
                    "/studies/1.6",
                    "application/dicom; transfer-syntax=*;q=0.5, multipart/related;q=0.1, */*;q=0.1",
                )
            )
        )
        == 30
    )


def test_head_of_a_study_leaves_nothing_behind(web: RunningArchive, reals: dict[str, Located]) -> None:
    response = requests.head(web.dicomweb_url + reals["JPEG2000.dcm"].study, headers={"Accept": DICOM}, timeout=60)
    assert (response.status_code, response.content) == (200, b"")
    for _ in range(200):
        if not list(web.incoming.iterdir()):
            return
        time.sleep(0.02)
    raise AssertionError("a transcoded file was left behind")


def test_a_client_that_goes_half_way_leaves_nothing_behind(web: RunningArchive) -> None:
    uids = [f"1.11.1.{number}" for number in range(12)]
    files = [builders.ct("1.11", "1.11.1", uid, rows=512, columns=512) for uid in uids]
    assert stow(web, files).status_code == 200  # type: ignore[arg-type]
    accept = f"{DICOM}; transfer-syntax={JPEG_2000}"
    with requests.get(
        f"{web.dicomweb_url}/studies/1.11", headers={"Accept": accept}, stream=True, timeout=30
    ) as answer:
        assert answer.status_code == 200
        assert next(answer.iter_content(100))
    deadline = time.monotonic() + 60
    while left := list(web.incoming.iterdir()):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
    whole = parts(get(web, "/studies/1.11", accept))
    assert [pydicom.dcmread(BytesIO(part)).SOPInstanceUID for part in whole] == sorted(uids)
    assert {syntax_of(part) for part in whole} == {JPEG_2000}


def test_metadata_is_the_data_set_with_links_to_its_bulk_data(web: RunningArchive) -> None:
    located = Located(PLAIN)
    response = get(web, f"{located.path}/metadata")
    assert response.headers["Content-Type"] == "application/dicom+json"
    (attributes,) = response.json()
    assert list(attributes) == sorted(attributes)
    assert not [tag for tag in attributes if tag.startswith("0002")]
    assert attributes["7FE00010"] == {"vr": "OW", "BulkDataURI": f"{web.dicomweb_url}{located.path}/bulkdata/7FE00010"}
    bulk = requests.get(attributes["7FE00010"]["BulkDataURI"], timeout=60)
    assert bulk.content == located.data_set.PixelData


def test_text_that_looks_like_a_link_stays_text(web: RunningArchive) -> None:
    text = '"BulkDataURI":"x'
    file = builders.ct(
        "1.8", "1.8.1", "1.8.1.1", rows=8, columns=8, ImageComments=text, StudyDescription='\\"BulkDataURI\\":\\"'
    )
    assert stow(web, [file]).status_code == 200  # type: ignore[arg-type]
    (attributes,) = get(web, "/studies/1.8/metadata").json()
    assert attributes["00204000"]["Value"] == [text]


def test_metadata_has_validators_and_ranges(web: RunningArchive) -> None:
    whole = get(web, "/studies/1.6/metadata", **{"Accept-Encoding": "identity"})
    etag = whole.headers["ETag"]
    assert (
        get(web, "/studies/1.6/metadata", **{"Accept-Encoding": "identity", "If-None-Match": etag}).status_code == 304
    )
    part = get(web, "/studies/1.6/metadata", **{"Accept-Encoding": "identity", "Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, whole.content[1000:2000])
    zipped = requests.get(
        f"{web.dicomweb_url}/studies/1.6/metadata", headers={"Accept-Encoding": "gzip"}, stream=True, timeout=30
    )
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert zipped.headers["ETag"] != etag
    packed = zipped.raw.read(decode_content=False)
    assert gzip.decompress(packed) == whole.content
    assert len(packed) < len(whole.content) / 4
    other = get(web, "/studies/1.6/metadata", **{"Accept-Encoding": "identity", "Host": "other.example"})
    assert other.headers["ETag"] != etag
    assert other.json()[0]["7FE00010"]["BulkDataURI"].startswith(f"http://other.example:{web.server.port}/dicom-web/")


def test_a_new_instance_changes_the_metadata_s_validator(web: RunningArchive) -> None:
    stow(web, [builders.ct("1.9", "1.9.1", "1.9.1.1", rows=8, columns=8)])  # type: ignore[arg-type]
    before = get(web, "/studies/1.9/metadata").headers["ETag"]
    stow(web, [builders.ct("1.9", "1.9.1", "1.9.1.2", rows=8, columns=8)])  # type: ignore[arg-type]
    assert get(web, "/studies/1.9/metadata", **{"If-None-Match": before}).status_code == 200


def native(located: Located, number: int) -> bytes:
    """One frame as native little endian bytes, by pydicom."""
    pixels = located.data_set.pixel_array
    frame = pixels[number - 1] if int(located.data_set.get("NumberOfFrames", 1) or 1) > 1 else pixels
    return frame.astype(frame.dtype.newbyteorder("<")).tobytes()


@pytest.mark.parametrize("accept", [OCTETS, f'multipart/related; type="image/jphc"; transfer-syntax={RPCL}'])
def test_a_multipart_answer_of_one_frame_says_how_long_it_is(web: RunningArchive, accept: str) -> None:
    path = Located(MULTIFRAME).path
    response = get(web, f"{path}/frames/3", accept)
    assert int(response.headers["Content-Length"]) == len(response.content)
    assert len(parts(response)) == 1
    with requests.head(f"{web.dicomweb_url}{path}/frames/3", headers={"Accept": accept}, timeout=60) as head:
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == response.headers["Content-Length"]


@pytest.mark.parametrize(
    "accept", [OCTETS, f"{OCTETS}; transfer-syntax={EXPLICIT}", "*/*", 'multipart/related; type="*/*"']
)
def test_native_frames_by_list_in_the_order_asked(web: RunningArchive, accept: str) -> None:
    located = Located(MULTIFRAME)
    response = get(web, f"{located.path}/frames/2,5,1,2", accept)
    assert response.headers["Content-Type"].startswith('multipart/related; type="application/octet-stream"')
    assert parts(response) == [native(located, number) for number in (2, 5, 1, 2)]
    assert part_types(response) == [f"application/octet-stream; transfer-syntax={EXPLICIT}"] * 4
    assert parts(get(web, f"{located.path}/frames/1%2C3", accept)) == [native(located, 1), native(located, 3)]


def test_frames_of_big_endian_and_deflated_files_are_little_endian(web: RunningArchive) -> None:
    for file in (IN_BIG_ENDIAN, IN_DEFLATED):
        assert parts(get(web, f"{Located(file).path}/frames/1", OCTETS)) == [native(Located(file), 1)]


@pytest.mark.parametrize(
    ("accept", "part_type"),
    [
        ("*/*", "image/jp2"),
        ('multipart/related; type="image/jp2"', "image/jp2"),
        ('multipart/related; type="image/*"', "image/jp2"),
        (f'multipart/related; type="image/jp2"; transfer-syntax={JPEG_2000}', "image/jp2"),
        (f"{OCTETS}; transfer-syntax=*", "application/octet-stream"),
        (f"{OCTETS}; transfer-syntax={JPEG_2000}", "application/octet-stream"),
    ],
)
def test_a_stored_codestream_is_passed_through(
    web: RunningArchive, reals: dict[str, Located], accept: str, part_type: str
) -> None:
    located = reals["MR_small_jp2klossless.dcm"]
    response = get(web, f"{located.path}/frames/1", accept)
    (frame,) = parts(response)
    assert frame == next(pydicom.encaps.generate_frames(located.data_set.PixelData, number_of_frames=1))
    assert part_types(response) == [f"{part_type}; transfer-syntax={JPEG_2000}"]


def test_a_stored_codestream_is_decoded_for_who_wants_pixels(web: RunningArchive, reals: dict[str, Located]) -> None:
    for name in ("MR_small_jp2klossless.dcm", "MR_small_RLE.dcm"):
        assert parts(get(web, f"{reals[name].path}/frames/1", OCTETS)) == [native(reals[name], 1)]


def test_one_frame_by_itself(web: RunningArchive, reals: dict[str, Located]) -> None:
    located = Located(MULTIFRAME)
    response = get(web, f"{located.path}/frames/3", "application/octet-stream")
    assert response.headers["Content-Type"].startswith("application/octet-stream")
    assert response.content == native(located, 3)
    assert (
        get(web, f"{located.path}/frames/3", "application/octet-stream", Range="bytes=0-9").content
        == native(located, 3)[:10]
    )
    assert get(web, f"{located.path}/frames/1,2", "application/octet-stream").status_code == 406
    jpeg = reals["SC_rgb_jpeg_dcmtk.dcm"]
    response = get(web, f"{jpeg.path}/frames/1", "image/jpeg")
    assert response.content[:3] == b"\xff\xd8\xff"
    same = get(web, f"{jpeg.path}/frames/1", "image/jpeg", **{"If-None-Match": response.headers["ETag"]})
    assert same.status_code == 304


@pytest.mark.parametrize(
    ("frames", "status"),
    [("6", 404), ("1,6", 404), ("0", 400), ("x", 400), ("1,,2", 400), ("-1", 400), ("1-99999999", 400)],
)
def test_frames_that_are_not_there(web: RunningArchive, frames: str, status: int) -> None:
    assert get(web, f"{Located(MULTIFRAME).path}/frames/{frames}").status_code == status


def test_frames_of_what_has_none(web: RunningArchive, reals: dict[str, Located]) -> None:
    assert get(web, f"{reals['reportsi.dcm'].path}/frames/1").status_code == 404
    baseline = f'multipart/related; type="image/jpeg"; transfer-syntax={JPEG_BASELINE}'
    assert get(web, f"{Located(PLAIN).path}/frames/1", baseline).status_code == 406  # 16 bits
    assert get(web, f"{Located(BROKEN).path}/frames/1", OCTETS).status_code == 406
    assert parts(get(web, f"{Located(BROKEN).path}/frames/1", "*/*")) == [b"not a jpeg!!"]


def test_bulk_data_whole_and_in_ranges(web: RunningArchive) -> None:
    located = Located(PLAIN)
    url, value = f"{located.path}/bulkdata/7FE00010", located.data_set.PixelData
    for accept in (None, "*/*", "application/octet-stream"):
        response = get(web, url, accept)
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.content == value
    etag = response.headers["ETag"]
    assert get(web, url, **{"If-None-Match": etag}).status_code == 304
    part = get(web, url, Range="bytes=10-19")
    assert (part.status_code, part.content) == (206, value[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(value)}"
    assert get(web, url, Range="bytes=-6").content == value[-6:]
    assert get(web, url, Range=f"bytes={len(value)}-").status_code == 416
    assert get(web, url, Range="bytes=10-19", **{"If-Range": '"old"'}).status_code == 200


@pytest.mark.parametrize("accept", ['multipart/related; type="*/*"', OCTETS, f"{OCTETS}; transfer-syntax=*"])
def test_bulk_data_as_multipart_with_a_range_too(web: RunningArchive, accept: str) -> None:
    located = Located(PLAIN)
    url, value = f"{located.path}/bulkdata/7FE00010", located.data_set.PixelData
    assert parts(get(web, url, accept)) == [value]
    part = get(web, url, accept, Range="bytes=4-7")
    assert part.status_code == 206
    assert parts(part) == [value[4:8]]
    assert f"Content-Range: bytes 4-7/{len(value)}".encode() in part.content


def test_bulk_data_of_encapsulated_pixels(web: RunningArchive, reals: dict[str, Located]) -> None:
    located = reals["MR_small_RLE.dcm"]
    response = get(web, f"{located.path}/bulkdata/7fe00010", "*/*")
    assert response.status_code == 200
    assert RLE in response.headers["Content-Type"]
    assert parts(get(web, f"{located.path}/bulkdata/7FE00010", OCTETS))


@pytest.mark.parametrize("path", ["00100010", "7FE00011", "x", "7FE00010/1/00100010", "%2e%2e/%2e%2e/etc/passwd"])
def test_bulk_data_that_is_not_there(web: RunningArchive, path: str) -> None:
    assert get(web, f"{Located(PLAIN).path}/bulkdata/{path}").status_code == 404


def test_large_values_within_sequences_are_bulk_data_of_their_own(web: RunningArchive) -> None:
    blob = os.urandom(4096)
    file = builders.ct("1.7", "1.7.1", "1.7.1.1", rows=8, columns=8, IconImageSequence=[{"Rows": 1, "PixelData": blob}])
    assert stow(web, [file]).status_code == 200  # type: ignore[arg-type]
    (attributes,) = get(web, "/studies/1.7/metadata").json()
    uri = attributes["00880200"]["Value"][0]["7FE00010"]["BulkDataURI"]
    assert requests.get(uri, timeout=60).content == blob


def test_a_thousand_frames_are_sent_in_groups(web: RunningArchive, tmp_path: Path) -> None:
    path = tmp_path / "frames.dcm"
    uids = {"StudyInstanceUID": "1.10", "SeriesInstanceUID": "1.10.1", "SOPInstanceUID": "1.10.1.1"}
    frames = builders.write_multiframe(path, 1000 * 64 * 64 * 2, rows=64, columns=64, **uids)
    assert stow(web, [path.read_bytes()]).status_code == 200  # type: ignore[arg-type]
    located = "/studies/1.10/series/1.10.1/instances/1.10.1.1"
    found = parts(get(web, f"{located}/frames/" + ",".join(str(number) for number in range(1, frames + 1)), OCTETS))
    assert [int.from_bytes(frame[:4], "little") for frame in found] == list(range(1, frames + 1))


def test_requests_one_after_the_other_share_a_connection(web: RunningArchive) -> None:
    with socket.create_connection(("127.0.0.1", web.server.port), 10) as connection:
        for _ in range(3):
            connection.sendall(b"GET /dicom-web/studies/1.1/metadata HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\r\n0\r\n\r\n"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
