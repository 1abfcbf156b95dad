"""Each row of the STOW-RS table that the archive promises, over real HTTP; the names are the rows'."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from pacs.dicom.uids import new_uid
from pacs.dicom.xml_model import from_xml
from tests import builders
from tests.conftest import StartArchive
from tests.server import Server
from tests.wire.clients import (
    STOW_TYPE,
    TIMEOUT_S,
    failures,
    multipart,
    qido,
    retrieve_files,
    stored_uids,
    stow,
    value,
)
from tests.wire.metadata_requests import JSON, XML, bulk_part, store_metadata

STORED, FAILED, REASON, COMMENT, WARNING = "00081199", "00081198", "00081197", "00000902", "00081196"


def ct(study: str, sop: str | None = None, **attributes: Any) -> bytes:
    return builders.ct(study, f"{study}.1", sop, rows=8, columns=8, **attributes)


def post(archive: Server, body: Any, content_type: str | None = STOW_TYPE, accept: str = JSON) -> requests.Response:
    headers = {"Accept": accept, **({"Content-Type": content_type} if content_type else {})}
    return requests.post(f"{archive.dicomweb_url}/studies", data=body, headers=headers, timeout=TIMEOUT_S)


def found(archive: Server, study: str) -> set[str]:
    return {value(row, "00080018") for row in qido(archive, f"/studies/{study}/instances")}


@pytest.mark.parametrize("accept", [JSON, XML, "*/*"])
def test_all_stored(archive: Server, accept: str) -> None:
    study, sops = new_uid(), {new_uid(), new_uid()}
    response = post(archive, multipart(ct(study, sop) for sop in sops), accept=accept)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == (XML if accept == XML else JSON)
    answer = from_xml(response.content) if accept == XML else response.json()
    assert stored_uids(answer) == sops == found(archive, study)
    assert FAILED not in answer
    assert value(answer, "00081190") == f"{archive.dicomweb_url}/studies/{study}"
    for item in answer[STORED]["Value"]:
        assert requests.get(f"{value(item, '00081190')}/metadata", timeout=TIMEOUT_S).status_code == 200


def test_some_stored_or_any_warning(archive: Server) -> None:
    study = new_uid()
    some = stow(archive, [ct(study), b"not DICOM"])
    assert some.status_code == 202
    assert (len(some.json()[STORED]["Value"]), len(some.json()[FAILED]["Value"])) == (1, 1)
    warned = stow(archive, [ct(study, NumberOfFrames=9)])
    assert warned.status_code == 202
    assert FAILED not in warned.json()


def test_none_stored(archive: Server) -> None:
    response = stow(archive, [b"not DICOM", b""])
    assert response.status_code == 409
    assert STORED not in response.json()
    assert len(failures(response.json())) == 2


@pytest.mark.parametrize("content_type", [STOW_TYPE, 'multipart/related; type="application/dicom+json"; boundary=x'])
def test_empty_body_no_boundary(archive: Server, content_type: str) -> None:
    assert post(archive, b"", content_type).status_code == 400
    assert post(archive, b"x", content_type.partition("; boundary")[0]).status_code == 400


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json", "multipart/form-data; boundary=x"])
def test_wrong_top_level_media_type(archive: Server, content_type: str | None) -> None:
    response = post(archive, b"--x\r\n\r\n\r\n--x--", content_type)
    assert response.status_code == 415
    assert XML in response.headers["Accept-Post"]


def test_body_over_the_configured_limit(start_archive: StartArchive) -> None:
    limited = start_archive({"STOW_MAX_BYTES": "100000"})
    study = new_uid()
    assert stow(limited, [builders.ct(study, size_bytes=200_000)]).status_code == 413
    chunks = (part for part in [multipart([builders.ct(study, size_bytes=200_000)])])
    assert post(limited, chunks).status_code == 413
    data_set = builders.json_of({"SOPInstanceUID": new_uid(), "StudyInstanceUID": study, "PixelData": None})
    response = store_metadata(f"{limited.dicomweb_url}/studies", [data_set], [bulk_part("x", bytes(200_000))])
    assert response.status_code == 413
    assert stow(limited, [ct(study)]).status_code == 200
    assert len(found(limited, study)) == 1


def test_out_of_disk(start_archive: StartArchive) -> None:
    full = start_archive({"MIN_FREE_BYTES": str(1 << 60)})
    study = new_uid()
    data_set = builders.json_of({"SOPInstanceUID": new_uid(), "StudyInstanceUID": study})
    for response in (
        stow(full, [ct(study)]),
        store_metadata(f"{full.dicomweb_url}/studies", [data_set], [bulk_part("x", b"x")]),
    ):
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
    assert found(full, study) == set()
    assert not full.files()
    assert not list((full.data / "incoming").iterdir())


def test_same_uid_same_bytes(archive: Server) -> None:
    study, sop = new_uid(), new_uid()
    file = ct(study, sop)
    answers = [stow(archive, [file]) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    before = archive.files()
    assert stow(archive, [file]).status_code == 200
    assert before == archive.files()


def test_same_uid_other_bytes_rejected_by_default(archive: Server) -> None:
    study, sop = new_uid(), new_uid()
    first = ct(study, sop)
    assert stow(archive, [first]).status_code == 200
    response = stow(archive, [ct(study, sop, PatientName="Other")])
    assert (response.status_code, failures(response.json())) == (409, [0x0111])
    assert [builders.data_set_of(file) for file in retrieve_files(archive, f"/studies/{study}")] == [
        builders.data_set_of(first)
    ]


def test_same_uid_other_bytes_replaced_by_policy(start_archive: StartArchive) -> None:
    replacing = start_archive({"DUPLICATES": "replace"})
    study, sop = new_uid(), new_uid()
    files = [ct(study, sop), ct(study, sop, PatientName="Other")]
    assert [stow(replacing, [file]).status_code for file in files] == [200, 200]
    (back,) = retrieve_files(replacing, f"/studies/{study}")
    assert builders.data_set_of(back) == builders.data_set_of(files[1])
    assert len(replacing.files()) == 2  # the earlier version is kept


def test_study_instance_uid_is_not_the_urls(archive: Server) -> None:
    study, other, sop = new_uid(), new_uid(), new_uid()
    response = stow(archive, [ct(study, sop), ct(other)], study)
    assert (response.status_code, failures(response.json())) == (202, [0xA901])
    assert found(archive, study) == {sop}
    assert found(archive, other) == set()
    data_sets = [
        builders.json_of(
            {
                "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11",
                "SOPInstanceUID": new_uid(),
                "StudyInstanceUID": each,
                "SeriesInstanceUID": new_uid(),
            }
        )
        for each in (study, other)
    ]
    response = store_metadata(f"{archive.dicomweb_url}/studies/{study}", data_sets)
    assert (response.status_code, failures(response.json())) == (202, [43265])


def test_not_parseable_as_dicom(archive: Server) -> None:
    whole = ct(new_uid())
    response = stow(archive, [b"garbage" * 100, whole[: len(whole) // 2], b""])
    assert response.status_code == 409
    for item in response.json()[FAILED]["Value"]:
        assert value(item, REASON) == 0x0110 or 0xC000 <= value(item, REASON) <= 0xCFFF
        assert value(item, COMMENT)
    document = b"<NativeDicomModel><DicomAttribute/>"
    body = b"--b\r\nContent-Type: application/dicom+xml\r\n\r\n" + document + b"\r\n--b--\r\n"
    response = post(archive, body, f'multipart/related; type="{XML}"; boundary=b')
    assert response.status_code == 409
    assert 0xC000 <= failures(response.json())[0] <= 0xCFFF


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_missing_mandatory_uid(archive: Server, keyword: str) -> None:
    study = new_uid()
    response = stow(archive, [ct(study, **{keyword: ...}), ct(study, **{keyword: None}), ct(study)])
    assert response.status_code == 202
    assert failures(response.json()) == [0x0120, 0x0121]


def test_stored_with_coercion_data_set_mismatch(archive: Server) -> None:
    study = new_uid()
    file = ct(study, new_uid())
    wrong_meta = file.replace(builders.CT_IMAGE_STORAGE.encode() + b"\0", b"1.2.840.10008.5.1.4.1.1.4\0", 1)
    coerced = stow(archive, [wrong_meta])
    mismatched = stow(archive, [ct(study, NumberOfFrames=3)])
    data_set = builders.json_of(
        {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11",
            "SOPInstanceUID": new_uid(),
            "StudyInstanceUID": study,
            "SeriesInstanceUID": new_uid(),
            "00080000": {"vr": "UL", "Value": [4]},
        }
    )
    discarded = store_metadata(f"{archive.dicomweb_url}/studies", [data_set])
    for response, reason in ((coerced, 0xB000), (mismatched, 0xB007), (discarded, 0xB006)):
        assert response.status_code == 202, response.text
        (item,) = response.json()[STORED]["Value"]
        assert value(item, WARNING) == reason
        assert value(item, COMMENT)


def test_part_10_preamble(archive: Server) -> None:
    study = new_uid()
    assert stow(archive, [b"MZ" + b"\x90" * 126 + ct(study)[128:]]).status_code == 200
    (back,) = retrieve_files(archive, f"/studies/{study}")
    assert back[:132] == bytes(128) + b"DICM"


def test_each_part_fails_or_succeeds_by_itself(archive: Server) -> None:
    study, good = new_uid(), [new_uid() for _ in range(3)]
    parts = [
        b"x",
        ct(study, good[0]),
        ct(study)[:500],
        ct(study, good[1]),
        ct(study, SOPInstanceUID=...),
        ct(study, good[2]),
    ]
    response = stow(archive, parts)
    assert response.status_code == 202
    assert stored_uids(response.json()) == set(good) == found(archive, study)
    assert len(failures(response.json())) == 3
