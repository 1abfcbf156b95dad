"""dicomweb-client (PyPI), as it comes, against the server process."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom.data import get_testdata_file

from pacs.dicom.uids import new_uid
from tests import builders
from tests.server import Server

STUDY, SERIES = new_uid(), new_uid()
SOPS = [new_uid() for _ in range(3)]


def data_set(file: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(file))


STORED = [
    data_set(
        builders.ct(
            STUDY, SERIES, sop, rows=32, columns=32, InstanceNumber=number, PatientID="DWC", PatientName="Doe^Client"
        )
    )
    for number, sop in enumerate(SOPS, 1)
]
MULTIFRAME = data_set(builders.ct(rows=16, columns=16, frames=4, PatientID="DWC2"))


@pytest.fixture(scope="module")
def client(archive: Server) -> DICOMwebClient:
    made = DICOMwebClient(archive.dicomweb_url)
    answer = made.store_instances(STORED)
    assert {str(item.ReferencedSOPInstanceUID) for item in answer.ReferencedSOPSequence} == set(SOPS)
    assert "FailedSOPSequence" not in answer
    made.store_instances([MULTIFRAME], study_instance_uid=MULTIFRAME.StudyInstanceUID)
    return made


def test_searches_at_three_levels(client: DICOMwebClient) -> None:
    (study,) = client.search_for_studies(search_filters={"PatientID": "DWC"})
    assert study["0020000D"]["Value"] == [STUDY]
    assert client.search_for_studies(
        search_filters={"PatientName": "doe^cl*"}, fields=["StudyDescription"], limit=5, offset=0
    )
    assert client.search_for_studies(search_filters={"PatientName": "doe"}, fuzzymatching=True)
    (series,) = client.search_for_series(STUDY)
    assert series["0020000E"]["Value"] == [SERIES]
    assert client.search_for_series(search_filters={"SeriesInstanceUID": SERIES})
    found = client.search_for_instances(STUDY, SERIES)
    assert [row["00080018"]["Value"][0] for row in found] == SOPS
    assert len(client.search_for_instances(STUDY)) == 3
    assert len(client.search_for_instances(search_filters={"SOPInstanceUID": SOPS[0]})) == 1
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []


def test_pages_until_everything_is_there(client: DICOMwebClient) -> None:
    found = client.search_for_instances(STUDY, limit=2, get_remaining=True)
    assert sorted(row["00080018"]["Value"][0] for row in found) == sorted(SOPS)


def test_retrieves_study_series_and_instance(client: DICOMwebClient) -> None:
    for found in (client.retrieve_study(STUDY), client.retrieve_series(STUDY, SERIES)):
        assert sorted(str(each.SOPInstanceUID) for each in found) == sorted(SOPS)
    one = client.retrieve_instance(STUDY, SERIES, SOPS[1])
    assert one == STORED[1]
    assert one.PixelData == STORED[1].PixelData
    assert sum(1 for _ in client.iter_study(STUDY)) == 3
    stored = client.retrieve_instance(STUDY, SERIES, SOPS[1], media_types=(("application/dicom", "*"),))
    assert stored.PixelData == STORED[1].PixelData


def test_retrieves_metadata_of_three_levels(client: DICOMwebClient) -> None:
    assert len(client.retrieve_study_metadata(STUDY)) == 3
    assert len(client.retrieve_series_metadata(STUDY, SERIES)) == 3
    metadata = client.retrieve_instance_metadata(STUDY, SERIES, SOPS[0])
    assert pydicom.Dataset.from_json(metadata, bulk_data_uri_handler=lambda *_: b"").SOPInstanceUID == SOPS[0]


def test_retrieves_frames(client: DICOMwebClient) -> None:
    uids = (MULTIFRAME.StudyInstanceUID, MULTIFRAME.SeriesInstanceUID, MULTIFRAME.SOPInstanceUID)
    frames = client.retrieve_instance_frames(*uids, [1, 4])
    pixels = MULTIFRAME.pixel_array
    assert frames == [pixels[0].tobytes(), pixels[3].tobytes()]
    asked = client.retrieve_instance_frames(*uids, [2], media_types=("application/octet-stream",))
    assert asked == [pixels[1].tobytes()]


def test_retrieves_bulk_data_and_ranges_of_it(client: DICOMwebClient) -> None:
    url = client.retrieve_instance_metadata(STUDY, SERIES, SOPS[0])["7FE00010"]["BulkDataURI"]
    assert client.retrieve_bulkdata(url) == [STORED[0].PixelData]
    assert client.retrieve_bulkdata(url, media_types=("application/octet-stream",)) == [STORED[0].PixelData]
    assert client.retrieve_bulkdata(url, byte_range=(10, 19)) == [STORED[0].PixelData[10:20]]


def test_retrieves_pictures(client: DICOMwebClient) -> None:
    plain = client.retrieve_instance_rendered(STUDY, SERIES, SOPS[0])
    assert Image.open(BytesIO(plain)).size == (32, 32)
    png = client.retrieve_instance_rendered(
        STUDY, SERIES, SOPS[0], media_types=("image/png",), params={"window": "40,400,linear"}
    )
    assert Image.open(BytesIO(png)).format == "PNG"
    uids = (MULTIFRAME.StudyInstanceUID, MULTIFRAME.SeriesInstanceUID, MULTIFRAME.SOPInstanceUID)
    frame = client.retrieve_instance_frames_rendered(*uids, [2], media_types=("image/jpeg",))
    assert Image.open(BytesIO(frame)).size == (16, 16)


def test_compressed_instances_come_as_they_are_or_decoded(client: DICOMwebClient) -> None:
    path = get_testdata_file("MR_small_jp2klossless.dcm", download=False)
    assert isinstance(path, str)
    stored = pydicom.dcmread(Path(path))
    client.store_instances([stored])
    uids = (stored.StudyInstanceUID, stored.SeriesInstanceUID, stored.SOPInstanceUID)
    back = client.retrieve_instance(*uids, media_types=(("application/dicom", "1.2.840.10008.1.2.1"),))
    assert back.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    np.testing.assert_array_equal(back.pixel_array, stored.pixel_array)
    as_stored = client.retrieve_instance(*uids)
    assert as_stored.file_meta.TransferSyntaxUID == stored.file_meta.TransferSyntaxUID
    (frame,) = client.retrieve_instance_frames(*uids, [1], media_types=(("image/jp2", "1.2.840.10008.1.2.4.90"),))
    assert frame == next(pydicom.encaps.generate_frames(stored.PixelData, number_of_frames=1))
