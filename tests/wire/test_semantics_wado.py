"""Rows of the WADO-RS table that concern files and frames, each by the test named after it, over real HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import openjpeg
import psutil
import pydicom
import pytest
import requests
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames

from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.uids import new_uid
from pacs.imaging.encode import LOSSLESS, LOSSY
from pacs.imaging.transcode import NATIVE
from tests import builders
from tests.conftest import Backend
from tests.server import Server, dcmtk
from tests.wire.clients import split_multipart, stow

DICOM = 'multipart/related; type="application/dicom"'
OCTETS = "application/octet-stream"
RLE, J2K, SV1 = syntaxes.RLE_LOSSLESS, syntaxes.JPEG_2000_LOSSLESS, syntaxes.JPEG_LOSSLESS_SV1
MEDIA_TYPES = {
    "image/jpeg": SV1,
    "image/jls": syntaxes.JPEG_LS_LOSSLESS,
    "image/jp2": J2K,
    "image/jphc": syntaxes.HTJ2K_LOSSLESS_RPCL,
    "image/dicom-rle": RLE,
}
SLOW_SIDE = 5000


class Stored:
    """One instance in the archive."""

    def __init__(self, data_set: pydicom.Dataset) -> None:
        file = BytesIO()
        data_set.save_as(file, enforce_file_format=True)
        self.file = file.getvalue()
        self.data_set = data_set
        self.syntax = str(data_set.file_meta.TransferSyntaxUID)
        self.study = f"/studies/{data_set.StudyInstanceUID}"
        self.series = f"{self.study}/series/{data_set.SeriesInstanceUID}"
        self.path = f"{self.series}/instances/{data_set.SOPInstanceUID}"


def real(name: str) -> Stored:
    """A file of the pydicom wheel in a study of its own."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    data_set = pydicom.dcmread(path)
    data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = new_uid()
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = new_uid(), new_uid()
    return Stored(data_set)


def made(**attributes: object) -> Stored:
    return Stored(pydicom.dcmread(BytesIO(builders.ct(**attributes))))  # type: ignore[arg-type]


def video() -> Stored:
    data_set = made(rows=16, columns=16).data_set
    data_set.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    data_set.PixelData = encapsulate([b"\0\0\0\x18ftypmp42" + bytes(1000)])
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    return Stored(data_set)


def slow() -> Stored:
    """Noise that takes JPEG 2000 many seconds."""
    noise = np.random.default_rng(1).integers(0, 255, (SLOW_SIDE, SLOW_SIDE), np.uint8)
    described = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    return made(rows=SLOW_SIDE, columns=SLOW_SIDE, PixelData=noise.tobytes(), **described)


def huge() -> Stored:
    """A few bytes that say they are a frame of 1.6 gigapixels."""
    data_set = made(rows=16, columns=16).data_set
    data_set.Rows = data_set.Columns = 40_000
    data_set.file_meta.TransferSyntaxUID = RLE
    data_set.PixelData = encapsulate([bytes(100)])
    data_set["PixelData"].is_undefined_length = True
    return Stored(data_set)


@pytest.fixture(scope="module")
def stored() -> dict[str, Stored]:
    study = new_uid()
    found = {
        "native": real("CT_small.dcm"),
        "rle": real("MR_small_RLE.dcm"),
        "j2k": real("MR_small_jp2klossless.dcm"),
        "jpeg": real("SC_rgb_jpeg_dcmtk.dcm"),
        "colour": real("examples_rgb_color.dcm"),
        "multiframe": real("examples_ybr_color.dcm"),
        "big endian": real("MR_small_bigendian.dcm"),
        "deflated": real("image_dfl.dcm"),
        "32 bits": real("rtdose_1frame.dcm"),
        "report": real("reportsi.dcm"),
        "video": video(),
        "huge": huge(),
        "slow": slow(),
        "mixed 1": made(study_uid=study, rows=32, columns=32),
        "mixed 2": made(study_uid=study, rows=32, columns=32, InstanceNumber=2),
    }
    dose = found["32 bits"].data_set
    dose.StudyInstanceUID = study
    return {**found, "32 bits": Stored(dose)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, stored: dict[str, Stored], backend: Backend) -> Iterator[Server]:
    limits = {"IMAGING_WORKERS": "1", "IMAGING_QUEUE": "1", "IMAGING_TIMEOUT_S": "2"}
    with Server(tmp_path_factory.mktemp("semantics"), {**backend(), **limits}) as running:
        answer = stow(running, [each.file for each in stored.values()])
        assert answer.status_code in (200, 202), answer.text
        assert "00081198" not in answer.json(), answer.text
        yield running


def get(server: Server, path: str, accept: str | None = None, **headers: str) -> requests.Response:
    fields = {"Accept": accept} if accept is not None else {"Accept": None}
    return requests.get(server.dicomweb_url + path, headers={**fields, **headers}, timeout=60)


def parts(response: requests.Response) -> list[bytes]:
    assert response.status_code in (200, 206), response.text
    return split_multipart(response.headers["Content-Type"], response.content)


def part_headers(response: requests.Response, name: str) -> list[str]:
    start = f"{name}: ".encode()
    return [line[len(start) :].decode() for line in response.content.split(b"\r\n") if line.startswith(start)]


def read(file: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(file))


@pytest.mark.parametrize("accept", [None, "*/*", f"{DICOM}; transfer-syntax=*", "multipart/related"])
def test_without_accept_the_stored_transfer_syntax_comes_as_multipart(
    server: Server, stored: dict[str, Stored], accept: str | None
) -> None:
    for name in ("native", "rle", "j2k", "big endian", "deflated", "video", "huge"):
        response = get(server, stored[name].path, accept)
        assert response.headers["Content-Type"].startswith(f"{DICOM}; boundary=")
        (file,) = parts(response)
        assert builders.data_set_of(file) == builders.data_set_of(stored[name].file)
        assert part_headers(response, "Content-Type") == [f"application/dicom; transfer-syntax={stored[name].syntax}"]


def test_application_dicom_without_transfer_syntax_is_explicit_vr_little_endian(
    server: Server, stored: dict[str, Stored]
) -> None:
    for name in ("native", "rle", "j2k", "big endian", "deflated"):
        for accept in (DICOM, "application/dicom"):
            response = get(server, stored[name].path, accept)
            file = parts(response)[0] if accept == DICOM else response.content
            assert read(file).file_meta.TransferSyntaxUID == syntaxes.EXPLICIT_VR_LITTLE_ENDIAN
            np.testing.assert_array_equal(read(file).pixel_array, stored[name].data_set.pixel_array)
        kept = get(server, stored[name].path, "application/dicom; transfer-syntax=*")
        assert builders.data_set_of(kept.content) == builders.data_set_of(stored[name].file)


@pytest.mark.parametrize("uid", [*NATIVE, *LOSSLESS])
@pytest.mark.parametrize("name", ["native", "rle", "j2k", "big endian", "deflated", "colour"])
def test_every_lossless_transfer_syntax_that_is_asked_has_the_same_pixels(
    server: Server, stored: dict[str, Stored], name: str, uid: str, tmp_path: Path
) -> None:
    response = get(server, stored[name].path, f"application/dicom; transfer-syntax={uid}")
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == f"application/dicom; transfer-syntax={uid}"
    data_set = read(response.content)
    assert data_set.file_meta.TransferSyntaxUID == uid
    assert data_set.SOPInstanceUID == stored[name].data_set.SOPInstanceUID
    np.testing.assert_array_equal(pixels_by_others(data_set, tmp_path), stored[name].data_set.pixel_array)
    (tmp_path / "a.dcm").write_bytes(response.content)
    assert dcmtk("dcmdump", tmp_path / "a.dcm").returncode == 0


def pixels_by_others(data_set: pydicom.Dataset, folder: Path) -> np.ndarray:
    """By pydicom, by DCMTK or OpenJPEG where pydicom has no decoder as it is installed here."""
    uid = str(data_set.file_meta.TransferSyntaxUID)
    if uid in (syntaxes.HTJ2K_LOSSLESS, syntaxes.HTJ2K_LOSSLESS_RPCL):
        return np.asarray(openjpeg.decode(next(generate_frames(data_set.PixelData, number_of_frames=1))))
    tools = {
        SV1: "dcmdjpeg",
        syntaxes.JPEG_LS_LOSSLESS: "dcmdjpls",
        syntaxes.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: "dcmconv +te",
    }
    if uid in tools:
        data_set.save_as(folder / "in.dcm")
        done = dcmtk(*tools[uid].split(), folder / "in.dcm", folder / "out.dcm")
        assert done.returncode == 0, done.stdout
        data_set = pydicom.dcmread(folder / "out.dcm")
    return np.asarray(data_set.pixel_array)


@pytest.mark.parametrize("uid", LOSSY)
def test_a_lossy_transfer_syntax_that_is_asked_says_so(server: Server, stored: dict[str, Stored], uid: str) -> None:
    response = get(server, stored["colour"].path, f"application/dicom; transfer-syntax={uid}")
    data_set, original = read(response.content), stored["colour"].data_set
    assert data_set.file_meta.TransferSyntaxUID == uid
    assert data_set.LossyImageCompression == "01"
    assert data_set.LossyImageCompressionMethod
    assert float(data_set.LossyImageCompressionRatio) > 1
    assert (data_set.SOPInstanceUID, data_set.ImageType) == (original.SOPInstanceUID, original.ImageType)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (f"{DICOM}; transfer-syntax={RLE};q=0.3, {DICOM}; transfer-syntax={J2K};q=0.9", J2K),
        (f"{DICOM}; transfer-syntax={RLE};q=0.9, {DICOM}; transfer-syntax={J2K};q=0.3", RLE),
        (f"{DICOM}; transfer-syntax={RLE};q=0, {DICOM}; transfer-syntax=*;q=0.1", syntaxes.EXPLICIT_VR_LITTLE_ENDIAN),
        (f"{DICOM}; transfer-syntax={syntaxes.JPEG_BASELINE}, {DICOM}; transfer-syntax={RLE};q=0.2", RLE),
        (f"text/plain, image/png;q=0.9, {DICOM}; transfer-syntax={J2K};q=0.1", J2K),
    ],
)
def test_q_values_and_several_ranges_are_negotiated(
    server: Server, stored: dict[str, Stored], accept: str, expected: str
) -> None:
    (file,) = parts(get(server, stored["native"].path, accept))
    assert read(file).file_meta.TransferSyntaxUID == expected
    # The query parameter says the same, and wins over the header (PS3.18 8.3.3.1).
    response = requests.get(
        server.dicomweb_url + stored["native"].path,
        params={"accept": accept},
        headers={"Accept": "text/html"},
        timeout=60,
    )
    (file,) = parts(response)
    assert read(file).file_meta.TransferSyntaxUID == expected


def test_what_is_not_supported_is_406_with_the_list_of_what_is_there(server: Server, stored: dict[str, Stored]) -> None:
    grey16 = get(server, stored["native"].path, f"{DICOM}; transfer-syntax={syntaxes.JPEG_BASELINE}")
    assert grey16.status_code == 406
    assert grey16.headers["Content-Type"] == "application/problem+json"
    for uid in (syntaxes.EXPLICIT_VR_LITTLE_ENDIAN, J2K, RLE, syntaxes.HTJ2K_LOSSLESS_RPCL):
        assert f"{DICOM}; transfer-syntax={uid}" in grey16.json()["available"]
    assert not any(syntaxes.JPEG_BASELINE in form for form in grey16.json()["available"])
    wide = get(server, stored["32 bits"].path, f"{DICOM}; transfer-syntax={J2K}").json()
    assert wide["available"] == [f"{DICOM}; transfer-syntax={uid}" for uid in dict.fromkeys(
        (stored["32 bits"].syntax, *NATIVE))]  # fmt: skip
    film = get(server, stored["video"].path, DICOM)
    assert (film.status_code, len(film.json()["available"])) == (406, 1)
    frame = get(server, f"{stored['native'].path}/frames/1", "image/png")
    assert frame.status_code == 406
    for media_type, uid in MEDIA_TYPES.items():
        assert f"{media_type}; transfer-syntax={uid}" in frame.json()["available"]
    assert get(server, stored["native"].path, "text/html").status_code == 406


def test_a_charset_other_than_utf_8_is_406(server: Server, stored: dict[str, Stored]) -> None:
    url = f"{server.dicomweb_url}{stored['native'].path}/metadata"
    for charset, status in (("utf-8", 200), ("UTF-8", 200), ("latin1,utf-8;q=0.5", 200), ("*", 200), ("latin1", 406)):
        assert requests.get(url, params={"charset": charset}, timeout=60).status_code == status
    refused = requests.get(url, params={"charset": "utf-8;q=0,latin1"}, timeout=60)
    assert (refused.status_code, refused.json()["available"]) == (406, ["utf-8"])


@pytest.mark.parametrize("kind", ["", "/frames/1", "/pixeldata"])
def test_what_is_not_in_the_archive_is_404(server: Server, kind: str) -> None:
    response = get(server, f"/studies/9.9/series/9.9/instances/9.9{kind}")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


def test_when_some_of_several_cannot_be_sent_as_asked_206_says_so(server: Server, stored: dict[str, Stored]) -> None:
    response = get(server, stored["mixed 1"].study, f"{DICOM}; transfer-syntax={J2K}")
    assert response.status_code == 206
    assert response.headers["Warning"].startswith("299 ")
    assert "1 of 3 instances" in response.headers["Warning"]
    files = [read(part) for part in parts(response)]
    assert {file.SOPInstanceUID for file in files} == {
        stored[name].data_set.SOPInstanceUID for name in ("mixed 1", "mixed 2")
    }
    assert {file.file_meta.TransferSyntaxUID for file in files} == {J2K}
    fallback = f"{DICOM}; transfer-syntax={J2K}, {DICOM}; transfer-syntax={syntaxes.EXPLICIT_VR_LITTLE_ENDIAN};q=0.5"
    whole = get(server, stored["mixed 1"].study, fallback)
    assert (whole.status_code, len(parts(whole))) == (200, 3)


def test_single_part_files_and_frames_have_validators_and_ranges(server: Server, stored: dict[str, Stored]) -> None:
    for path, accept in (
        (stored["native"].path, f"application/dicom; transfer-syntax={J2K}"),
        (stored["rle"].path, "application/dicom; transfer-syntax=*"),
        (f"{stored['native'].path}/frames/1", "image/jls"),
        (f"{stored['rle'].path}/frames/1", "image/dicom-rle"),
        (f"{stored['video'].path}/frames/1", "video/mp4"),
    ):
        whole = get(server, path, accept)
        assert whole.status_code == 200, whole.text
        etag = whole.headers["ETag"]
        assert etag.startswith('"')
        assert whole.headers["Accept-Ranges"] == "bytes"
        assert get(server, path, accept, **{"If-None-Match": etag}).status_code == 304
        part = get(server, path, accept, Range="bytes=10-19")
        assert (part.status_code, part.content) == (206, whole.content[10:20])
        assert part.headers["Content-Range"] == f"bytes 10-19/{len(whole.content)}"
        assert get(server, path, accept, Range="bytes=99999999-").status_code == 416


@pytest.mark.parametrize("name", ["rle", "j2k", "jpeg", "multiframe", "video"])
def test_a_stored_codestream_passes_through_unchanged_when_acceptable(
    server: Server, stored: dict[str, Stored], name: str
) -> None:
    each = stored[name]
    expected = next(generate_frames(each.data_set.PixelData, number_of_frames=each.data_set.get("NumberOfFrames", 1)))
    media_type = syntaxes.find(each.syntax).media_type
    by_name = get(server, f"{each.path}/frames/1", media_type)
    assert (by_name.status_code, by_name.content) == (200, expected)
    assert by_name.headers["Content-Type"] == f"{media_type}; transfer-syntax={each.syntax}"
    for accept in (
        "*/*",
        f'multipart/related; type="{media_type}"',
        f"multipart/related; transfer-syntax={each.syntax}",
    ):
        assert parts(get(server, f"{each.path}/frames/1", accept)) == [expected]


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("name", ["native", "rle", "j2k"])
def test_frames_are_transcoded_when_the_stored_codestream_is_not_acceptable(
    server: Server, stored: dict[str, Stored], name: str, media_type: str
) -> None:
    url, uid = f"{stored[name].path}/frames/1", MEDIA_TYPES[media_type]
    response = get(server, url, media_type)
    assert response.headers["Content-Type"] in {
        f"{media_type}; transfer-syntax={each}" for each in (uid, stored[name].syntax)
    }
    decoders = {
        "image/jpeg": imagecodecs.jpegsof3_decode,
        "image/jls": imagecodecs.jpegls_decode,
        "image/jp2": imagecodecs.jpeg2k_decode,
        "image/jphc": imagecodecs.htj2k_decode,
        "image/dicom-rle": lambda data: np.frombuffer(imagecodecs.dicomrle_decode(data, "<u2"), "<u2"),
    }
    expected = stored[name].data_set.pixel_array
    found = decoders[media_type](response.content).reshape(expected.shape)
    np.testing.assert_array_equal(found.astype(expected.dtype), expected)
    several = get(server, url, f'multipart/related; type="{media_type}"; transfer-syntax={uid}')
    assert part_headers(several, "Content-Type") == [f"{media_type}; transfer-syntax={uid}"]
    assert part_headers(several, "Content-Location") == [server.dicomweb_url + url]


def test_jpeg_frames_are_lossless_unless_baseline_is_asked(server: Server, stored: dict[str, Stored]) -> None:
    url = f"{stored['colour'].path}/frames/1"
    lossless = get(server, url, "image/jpeg")
    assert lossless.headers["Content-Type"] == f"image/jpeg; transfer-syntax={SV1}"
    expected = stored["colour"].data_set.pixel_array
    np.testing.assert_array_equal(imagecodecs.jpegsof3_decode(lossless.content), expected)
    baseline = get(server, url, f"image/jpeg; transfer-syntax={syntaxes.JPEG_BASELINE}")
    assert baseline.headers["Content-Type"] == f"image/jpeg; transfer-syntax={syntaxes.JPEG_BASELINE}"
    found = imagecodecs.jpeg8_decode(baseline.content).astype(int)
    assert np.abs(found - expected).mean() < 4
    assert len(baseline.content) < len(lossless.content)


def test_lists_of_frames_are_sent_in_the_order_asked_and_one_alone_by_itself(
    server: Server, stored: dict[str, Stored]
) -> None:
    each = stored["multiframe"]
    expected = list(generate_frames(each.data_set.PixelData, number_of_frames=30))
    response = get(server, f"{each.path}/frames/30,2,7", 'multipart/related; type="image/jpeg"')
    assert parts(response) == [expected[29], expected[1], expected[6]]
    turned = get(server, f"{each.path}/frames/30,2", 'multipart/related; type="image/jls"')
    assert [imagecodecs.jpegls_decode(part).shape for part in parts(turned)] == [(240, 320, 3)] * 2
    native = get(server, f"{each.path}/frames/3", OCTETS)
    assert len(native.content) == 240 * 320 * 3
    assert get(server, f"{each.path}/frames/1,2", "image/jpeg").status_code == 406


def test_native_frames_of_a_subsampled_jpeg_are_rgb(server: Server, stored: dict[str, Stored]) -> None:
    """Viewers keep the label of /metadata, YBR_FULL_422, and take full samples under it for RGB."""
    each = stored["multiframe"]
    expected = each.data_set.pixel_array  # pydicom makes RGB of it
    frames = parts(get(server, f"{each.path}/frames/1,30", f'multipart/related; type="{OCTETS}"'))
    for found, frame in zip(frames, (expected[0], expected[29]), strict=True):
        assert np.abs(np.frombuffer(found, np.uint8).reshape(frame.shape).astype(int) - frame).max() <= 2
    explicit = syntaxes.EXPLICIT_VR_LITTLE_ENDIAN
    made = read(get(server, each.path, f"application/dicom; transfer-syntax={explicit}").content)
    assert made.PhotometricInterpretation == "RGB"
    assert np.abs(made.pixel_array.astype(int) - expected).max() <= 2
    lossless = read(get(server, each.path, f"application/dicom; transfer-syntax={syntaxes.JPEG_2000_LOSSLESS}").content)
    assert lossless.PhotometricInterpretation == "YBR_RCT"
    first = imagecodecs.jpeg2k_decode(next(generate_frames(lossless.PixelData, number_of_frames=30)))
    np.testing.assert_array_equal(first, made.pixel_array[0])


def test_a_frame_beyond_number_of_frames_is_404(server: Server, stored: dict[str, Stored]) -> None:
    assert get(server, f"{stored['multiframe'].path}/frames/31").status_code == 404
    assert get(server, f"{stored['multiframe'].path}/frames/1,31", "image/jls").status_code == 404
    assert get(server, f"{stored['native'].path}/frames/2").status_code == 404
    assert get(server, f"{stored['report'].path}/frames/1").status_code == 404


def test_pixeldata_has_the_pixels_of_every_instance(server: Server, stored: dict[str, Stored]) -> None:
    study = get(server, f"{stored['mixed 1'].study}/pixeldata", f'multipart/related; type="{OCTETS}"')
    located = dict(zip(part_headers(study, "Content-Location"), parts(study), strict=True))
    assert located == {
        f"{server.dicomweb_url}{stored[name].path}/bulkdata/7FE00010": stored[name].data_set.PixelData
        for name in ("mixed 1", "mixed 2", "32 bits")
    }
    each = stored["multiframe"]
    frames = get(server, f"{each.path}/pixeldata")
    assert parts(frames) == list(generate_frames(each.data_set.PixelData, number_of_frames=30))
    assert part_headers(frames, "Content-Location")[29] == f"{server.dicomweb_url}{each.path}/frames/30"
    decoded = get(server, f"{each.series}/pixeldata", f'multipart/related; type="{OCTETS}"')
    assert [len(part) for part in parts(decoded)] == [30 * 240 * 320 * 3]
    some = get(server, f"{stored['mixed 1'].study}/pixeldata", 'multipart/related; type="image/jp2"')
    assert (some.status_code, len(parts(some))) == (206, 2)
    assert "1 of 3" in some.headers["Warning"]
    assert get(server, f"{stored['report'].path}/pixeldata").status_code == 404


def test_what_goes_wrong_is_a_problem_body_without_a_trace(server: Server, stored: dict[str, Stored]) -> None:
    for path in (f"{stored['native'].path}/frames/x", "/studies/not%20a%20uid"):
        response = get(server, path)
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.status_code == 400
        assert "Traceback" not in response.text


def test_more_pixels_than_are_decoded_at_all_are_413(server: Server, stored: dict[str, Stored]) -> None:
    for path, accept in (
        (stored["huge"].path, DICOM),
        (f"{stored['huge'].path}/frames/1", OCTETS),
        (f"{stored['huge'].path}/frames/1", "image/jp2"),
        (f"{stored['huge'].path}/rendered", "image/png"),
    ):
        response = get(server, path, accept)
        assert response.status_code == 413, response.text
        assert response.headers["Content-Type"] == "application/problem+json"


def test_a_slow_image_is_503_and_holds_up_nobody_else(server: Server, stored: dict[str, Stored]) -> None:
    asked = f"application/dicom; transfer-syntax={J2K}"
    with ThreadPoolExecutor(8) as threads:
        slow_ones = [threads.submit(get, server, stored["slow"].path, asked) for _ in range(8)]
        time.sleep(0.3)
        longest = 0.0
        while not all(each.done() for each in slow_ones):
            began = time.monotonic()
            assert get(server, "/studies?limit=1").status_code == 200
            assert get(server, stored["native"].path).status_code == 200
            assert get(server, f"{stored['native'].path}/frames/1", OCTETS).status_code == 200
            longest = max(longest, time.monotonic() - began)
        echo = dcmtk("echoscu", "-aec", server.ae_title, "127.0.0.1", str(server.dimse_port))
        assert echo.returncode == 0, echo.stdout
        answers = [each.result() for each in slow_ones]
    assert {answer.status_code for answer in answers} == {503}
    assert all(answer.headers["Retry-After"] for answer in answers)
    told = {answer.json()["detail"] for answer in answers}
    assert told == {"the pixels take too long to process", "too many images are being processed"}
    assert longest < 1.5
    # The worker that was given up is replaced, and nothing is left behind.
    assert get(server, stored["native"].path, asked).status_code == 200
    deadline = time.monotonic() + 60  # the last answer's file goes after the answer
    while left := list((server.data / "incoming").glob("*.transcoded")):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
    assert len(psutil.Process(server.pid).children()) <= 2
