"""Rows of the WADO-RS table that concern metadata, bulk data and what is gone, over real HTTP."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import requests

from pacs.dicom.uids import new_uid
from tests import builders
from tests.server import Server
from tests.wire.clients import split_multipart, stow

STUDY, SERIES = new_uid(), new_uid()
SOP_UIDS = [new_uid() for _ in range(3)]
SERIES_PATH = f"/studies/{STUDY}/series/{SERIES}"
MANY_SERIES = new_uid()
MANY = 1000
LONG, SHORT = bytes(range(256)) * 8, b"\1\2\3\4"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("metadata")) as running:
        slices = [
            builders.ct(
                STUDY,
                SERIES,
                uid,
                InstanceNumber=number,
                rows=16,
                columns=16,
                PatientName="Müller^Jörg",
                SpecificCharacterSet="ISO_IR 192",
                SpectroscopyData=None,
                EncapsulatedDocument=LONG,
                RequestAttributesSequence=[{"ScheduledProcedureStepID": "S1"}],
                ICCProfile=SHORT,
            )
            for number, uid in enumerate(SOP_UIDS, 1)
        ]
        assert stow(running, slices).status_code == 200
        many = [builders.ct(STUDY, MANY_SERIES, rows=4, columns=4, InstanceNumber=n) for n in range(MANY)]
        assert stow(running, many).status_code == 200
        yield running


def get(server: Server, path: str, accept: str, **headers: str) -> requests.Response:
    return requests.get(server.dicomweb_url + path, headers={"Accept": accept, **headers}, timeout=60)


def instance_path(number: int) -> str:
    return f"{SERIES_PATH}/instances/{SOP_UIDS[number]}"


def test_metadata_is_json_without_group_0002_and_keeps_every_sequence(server: Server) -> None:
    response = get(server, f"{SERIES_PATH}/metadata", "application/dicom+json")
    assert response.headers["Content-Type"] == "application/dicom+json"
    found = response.json()
    assert [each["00080018"]["Value"] for each in found] == [[uid] for uid in SOP_UIDS]
    for attributes in found:
        assert not [tag for tag in attributes if tag.startswith("0002")]
        assert attributes["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jörg"}]}
        assert attributes["00400275"]["Value"] == [{"00400009": {"vr": "SH", "Value": ["S1"]}}]


def test_metadata_is_also_xml(server: Server) -> None:
    response = get(server, f"{SERIES_PATH}/metadata", 'multipart/related; type="application/dicom+xml"')
    parts = split_multipart(response.headers["Content-Type"], response.content)
    models = [ElementTree.fromstring(part) for part in parts]
    assert len(models) == len(SOP_UIDS)
    names = [model.findtext(".//{*}PersonName/{*}Alphabetic/{*}FamilyName") for model in models]
    assert names == ["Müller"] * len(SOP_UIDS)


def test_metadata_is_compressed_when_asked(server: Server) -> None:
    plain = get(server, f"{SERIES_PATH}/metadata", "application/dicom+json", **{"Accept-Encoding": "identity"})
    address = f"{server.dicomweb_url}{SERIES_PATH}/metadata"
    headers = {"Accept": "application/dicom+json", "Accept-Encoding": "gzip"}
    with requests.get(address, headers=headers, stream=True, timeout=60) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(response.raw.read(decode_content=False)) == plain.content


def test_bulk_data_uris_stand_for_large_values_and_always_for_pixel_data(server: Server) -> None:
    (attributes,) = get(server, f"{instance_path(0)}/metadata", "application/dicom+json").json()
    base = f"{server.dicomweb_url}{instance_path(0)}/bulkdata"
    assert attributes["7FE00010"] == {"vr": "OW", "BulkDataURI": f"{base}/7FE00010"}
    assert attributes["00420011"] == {"vr": "OB", "BulkDataURI": f"{base}/00420011"}
    assert attributes["00282000"] == {"vr": "OB", "InlineBinary": "AQIDBA=="}


def test_a_bulk_data_uri_resolves_and_ranges_are_allowed(server: Server) -> None:
    path = f"{instance_path(0)}/bulkdata/00420011"
    whole = get(server, path, "application/octet-stream")
    assert whole.content == LONG
    part = get(server, path, "application/octet-stream", Range="bytes=100-299")
    assert part.status_code == 206
    assert part.headers["Content-Range"] == f"bytes 100-299/{len(LONG)}"
    assert part.content == LONG[100:300]
    outside = get(server, path, "application/octet-stream", Range=f"bytes={len(LONG)}-")
    assert outside.status_code == 416


@pytest.mark.parametrize(
    ("path", "instances"), [(instance_path(1), [1]), (SERIES_PATH, [0, 1, 2])], ids=["instance", "series"]
)
def test_bulk_data_of_a_whole_level_come_with_their_uris(server: Server, path: str, instances: list[int]) -> None:
    response = get(server, f"{path}/bulkdata", "*/*")
    assert response.status_code == 200
    parts = split_multipart(response.headers["Content-Type"], response.content)
    places = [
        line.removeprefix(b"Content-Location: ").decode()
        for line in response.content.split(b"\r\n")
        if line.startswith(b"Content-Location: ")
    ]
    tags = ("00420011", "7FE00010")
    assert places == [f"{server.dicomweb_url}{instance_path(i)}/bulkdata/{tag}" for i in instances for tag in tags]
    assert parts[::2] == [LONG] * len(instances)
    assert {len(part) for part in parts[1::2]} == {16 * 16 * 2}


def test_bulk_data_of_a_study_are_those_of_all_its_series(server: Server) -> None:
    response = get(server, f"/studies/{STUDY}/bulkdata", "multipart/related; type=application/octet-stream")
    assert len(split_multipart(response.headers["Content-Type"], response.content)) == 2 * len(SOP_UIDS) + MANY


def test_bulk_data_that_are_not_there_are_404_and_other_media_types_406(server: Server) -> None:
    assert get(server, f"{instance_path(0)}/bulkdata/00100010", "*/*").status_code == 404
    assert get(server, f"/studies/{new_uid()}/bulkdata", "*/*").status_code == 404
    assert get(server, f"{SERIES_PATH}/bulkdata", "image/jpeg").status_code == 406


def test_metadata_of_a_thousand_instances_opens_no_dicom_file(server: Server) -> None:
    files = server.data / "files"
    hidden = files.rename(server.data / "elsewhere")
    try:
        response = get(server, f"/studies/{STUDY}/series/{MANY_SERIES}/metadata", "application/dicom+json")
        assert response.status_code == 200
        assert len({each["00080018"]["Value"][0] for each in response.json()}) == MANY
    finally:
        hidden.rename(files)


def test_what_is_not_allowed_is_403(tmp_path: Path) -> None:
    """The one thing that configuration forbids so far: deleting. Nothing is lost by asking."""
    with Server(tmp_path, {"ALLOW_DELETE": "false"}) as forbidding:
        study, series, sop = new_uid(), new_uid(), new_uid()
        assert stow(forbidding, [builders.ct(study, series, sop, rows=4, columns=4)]).status_code == 200
        for path in (f"/studies/{study}", f"/studies/{study}/series/{series}", f"/studies/{new_uid()}"):
            response = requests.delete(forbidding.dicomweb_url + path, timeout=60)
            assert response.status_code == 403
            assert response.headers["Content-Type"] == "application/problem+json"
        assert get(forbidding, f"/studies/{study}/metadata", "application/dicom+json").status_code == 200


def test_what_was_deleted_is_410(server: Server) -> None:
    data = builders.ct(rows=8, columns=8)
    assert stow(server, [data]).status_code == 200
    stored = requests.get(f"{server.dicomweb_url}/instances", params={"Rows": 8, "includefield": "all"}, timeout=60)
    (row,) = stored.json()
    study, series, sop = (row[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
    path = f"/studies/{study}/series/{series}/instances/{sop}"
    assert requests.delete(f"{server.dicomweb_url}/studies/{study}", timeout=60).status_code == 204
    for gone in (path, f"{path}/metadata", f"{path}/bulkdata", f"{path}/frames/1", f"{path}/rendered"):
        assert get(server, gone, "*/*").status_code == 410, gone
    assert requests.delete(f"{server.dicomweb_url}/studies/{study}", timeout=60).status_code == 410
