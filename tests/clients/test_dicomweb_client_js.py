"""dicomweb-client (npm), the library that OHIF and Slim speak through, as it comes, under node."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from PIL import Image

from pacs.dicom.uids import new_uid
from tests import builders
from tests.clients import npm
from tests.clients.needs import needs
from tests.server import Server
from tests.wire.clients import data_set_of

pytestmark = needs("node", "npm", npm_packages=["dicomweb-client", "xhr2"])

STUDY, SERIES = new_uid(), new_uid()
SOPS = [new_uid() for _ in range(3)]
FILES = [
    builders.ct(STUDY, SERIES, sop, rows=32, columns=32, InstanceNumber=number, PatientID="JS", PatientName="Müller^J")
    for number, sop in enumerate(SOPS, 1)
]
CLIP = builders.ct(rows=16, columns=16, frames=4, PatientID="JS2")
OF_CT = {"studyInstanceUID": STUDY, "seriesInstanceUID": SERIES, "sopInstanceUID": SOPS[0]}


class Refused(Exception):
    """The client gave up. status: the answer's, None when it did not get that far."""

    def __init__(self, text: str, status: int | None) -> None:
        super().__init__(text)
        self.status = status


class Client:
    """One node process; each call makes a client of its own, with the options that are given."""

    def __init__(self, url: str) -> None:
        script = Path(__file__).with_name("dicomweb_client.cjs")
        self._process = subprocess.Popen(
            ["node", script, str(npm.MODULES), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def call(self, method: str, argument: Mapping[str, Any] | None = None, **options: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"method": method, "argument": argument or {}, "options": options}, default=_packed)
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline(), object_hook=_unpacked)
        if "error" in answer:
            raise Refused(answer["error"], answer.get("status"))
        return answer.get("value")

    def close(self) -> None:
        self._process.communicate(timeout=10)


@pytest.fixture(scope="module")
def client(archive: Server) -> Iterator[Client]:
    made = Client(archive.dicomweb_url)
    answer = json.loads(made.call("storeInstances", {"datasets": FILES}))
    assert {item["00081155"]["Value"][0] for item in answer["00081199"]["Value"]} == set(SOPS)
    assert "00081198" not in answer
    made.call("storeInstances", {"datasets": [CLIP], "studyInstanceUID": clip()["studyInstanceUID"]})
    yield made
    made.close()


def test_searches_at_three_levels(client: Client) -> None:
    (study,) = client.call("searchForStudies", {"queryParams": {"PatientID": "JS"}})
    assert study["0020000D"]["Value"] == [STUDY]
    (series,) = client.call("searchForSeries", {"studyInstanceUID": STUDY})
    assert series["0020000E"]["Value"] == [SERIES]
    assert client.call("searchForSeries", {"queryParams": {"SeriesInstanceUID": SERIES}})
    found = client.call("searchForInstances", {"studyInstanceUID": STUDY, "seriesInstanceUID": SERIES})
    assert [row["00080018"]["Value"][0] for row in found] == SOPS
    assert len(client.call("searchForInstances", {"queryParams": {"SOPInstanceUID": SOPS[0]}})) == 1
    assert client.call("searchForStudies", {"queryParams": {"PatientID": "nobody at all"}}) == []


def test_searches_the_way_that_viewers_do(client: Client) -> None:
    habits = {"limit": 101, "offset": 0, "fuzzymatching": False, "includefield": "00081030,00080060"}
    for name in ("*müller*", "MULLER*", "M?ller^J"):
        (study,) = client.call("searchForStudies", {"queryParams": {**habits, "00100010": name}})
        assert study["00100010"]["Value"][0]["Alphabetic"] == "Müller^J"
        assert study["00081030"]["Value"] == ["Thorax"]


def test_retrieves_study_series_and_instance(client: Client) -> None:
    expected = sorted(map(data_set_of, FILES))
    assert sorted(map(data_set_of, client.call("retrieveStudy", OF_CT))) == expected
    assert sorted(map(data_set_of, client.call("retrieveSeries", OF_CT))) == expected
    assert data_set_of(client.call("retrieveInstance", OF_CT)) == data_set_of(FILES[0])


def test_retrieves_metadata_of_three_levels(client: Client) -> None:
    assert len(client.call("retrieveStudyMetadata", OF_CT)) == 3
    assert len(client.call("retrieveSeriesMetadata", OF_CT)) == 3
    (metadata,) = client.call("retrieveInstanceMetadata", OF_CT)
    assert metadata["00080018"]["Value"] == [SOPS[0]]
    assert metadata["00100010"]["Value"] == [{"Alphabetic": "Müller^J"}]


@pytest.mark.parametrize("options", [{}, {"singlepart": "bulkdata"}], ids=["multipart", "singlepart"])
def test_retrieves_bulk_data(client: Client, options: dict[str, str]) -> None:
    (metadata,) = client.call("retrieveInstanceMetadata", OF_CT)
    asked = {"BulkDataURI": metadata["7FE00010"]["BulkDataURI"]}
    pixels = pydicom.dcmread(BytesIO(FILES[0])).PixelData
    assert client.call("retrieveBulkData", asked, **options) == [pixels]


def test_retrieves_ranges_of_bulk_data(client: Client) -> None:
    (metadata,) = client.call("retrieveInstanceMetadata", OF_CT)
    asked = {"BulkDataURI": metadata["7FE00010"]["BulkDataURI"], "byteRange": [10, 19]}
    pixels = pydicom.dcmread(BytesIO(FILES[0])).PixelData
    assert client.call("retrieveBulkData", asked) == [pixels[10:20]]


def test_retrieves_frames(client: Client) -> None:
    pixels = pydicom.dcmread(BytesIO(CLIP)).pixel_array
    expected = [pixels[0].tobytes(), pixels[3].tobytes()]
    assert client.call("retrieveInstanceFrames", {**clip(), "frameNumbers": [1, 4]}) == expected
    for syntax in ("*", "1.2.840.10008.1.2.1"):
        asked = [{"mediaType": "application/octet-stream", "transferSyntaxUID": syntax}]
        found = client.call("retrieveInstanceFrames", {**clip(), "frameNumbers": [1, 4], "mediaTypes": asked})
        assert found == expected


def test_retrieves_frames_compressed_or_not_whichever_is_stored(client: Client) -> None:
    files = {path.name: path for path, _ in builders.real_files()}
    path = files["MR_small_jp2klossless.dcm"]
    client.call("storeInstances", {"datasets": [path.read_bytes()]})
    stored = pydicom.dcmread(path)
    uids = uids_of(path.read_bytes())
    either = [
        {"mediaType": "image/jp2", "transferSyntaxUID": "1.2.840.10008.1.2.4.90"},
        {"mediaType": "application/octet-stream", "transferSyntaxUID": "1.2.840.10008.1.2.1"},
    ]
    (codestream,) = pydicom.encaps.generate_frames(stored.PixelData, number_of_frames=1)
    assert client.call("retrieveInstanceFrames", {**uids, "frameNumbers": [1], "mediaTypes": either}) == [codestream]
    native = stored.pixel_array.tobytes()
    assert client.call("retrieveInstanceFrames", {**uids, "frameNumbers": [1], "mediaTypes": either[1:]}) == [native]


def test_calls_high_throughput_jpeg_2000_by_a_name_of_its_own(client: Client) -> None:
    # It asks for image/jhc, where PS3.18 has image/jphc; and asks for both at once only when there are two types.
    syntax = "1.2.840.10008.1.2.4.201"
    file = builders.encapsulated([b"codestream"], transfer_syntax=syntax)
    client.call("storeInstances", {"datasets": [file]})
    either = [
        {"mediaType": "image/jhc", "transferSyntaxUID": syntax},
        {"mediaType": "application/octet-stream", "transferSyntaxUID": "1.2.840.10008.1.2.1"},
    ]
    asked = {**uids_of(file), "frameNumbers": [1], "mediaTypes": either}
    assert client.call("retrieveInstanceFrames", asked) == [b"codestream"]


def test_retrieves_pictures(client: Client) -> None:
    assert picture(client.call("retrieveInstanceRendered", OF_CT)).size == (32, 32)
    png = {**OF_CT, "mediaTypes": [{"mediaType": "image/png"}], "queryParams": {"window": "40,400,linear"}}
    assert picture(client.call("retrieveInstanceRendered", png)).format == "PNG"
    frames = {**clip(), "frameNumbers": [2], "mediaTypes": [{"mediaType": "image/jpeg"}]}
    assert picture(client.call("retrieveInstanceFramesRendered", frames)).format == "JPEG"
    assert picture(client.call("retrieveInstanceThumbnail", OF_CT)).format == "JPEG"
    assert picture(client.call("retrieveInstanceFramesThumbnail", frames)).format == "JPEG"


def test_what_is_not_there_is_told_with_its_status(client: Client) -> None:
    with pytest.raises(Refused) as refused:
        client.call("retrieveInstance", {**OF_CT, "sopInstanceUID": new_uid()})
    assert refused.value.status == 404


def picture(answer: Any) -> Image.Image:
    """Some calls answer with a list of one."""
    return Image.open(BytesIO(answer[0] if isinstance(answer, list) else answer))


def clip() -> dict[str, str]:
    return uids_of(CLIP)


def uids_of(file: bytes) -> dict[str, str]:
    read = pydicom.dcmread(BytesIO(file), stop_before_pixels=True)
    return {
        "studyInstanceUID": read.StudyInstanceUID,
        "seriesInstanceUID": read.SeriesInstanceUID,
        "sopInstanceUID": read.SOPInstanceUID,
    }


def _packed(value: Any) -> dict[str, str]:
    return {"$bytes": base64.b64encode(value).decode()}


def _unpacked(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["$bytes"]) if "$bytes" in value else value
