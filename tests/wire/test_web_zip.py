"""ZIP files with a DICOMDIR over real HTTP, read by Python, unzip, DCMTK and pydicom."""

from __future__ import annotations

import io
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
import requests
from pydicom.fileset import FileSet

from pacs.dicom.uids import new_uid
from pacs.web.archive_zip import ZipWriter
from tests import builders
from tests.server import Server, dcmtk
from tests.unit.web.running import RunningArchive
from tests.wire.clients import stow

JPEG_2000, EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
COMPRESSED = "4.1"


def slice_of(series: int, number: int, **attributes: object) -> bytes:
    return builders.ct(
        "1.1", f"1.1.{series}", f"1.1.{series}.{number}", rows=8, columns=8, InstanceNumber=number, **attributes
    )


FILES = [
    *(slice_of(1, number) for number in range(1, 5)),
    slice_of(2, 1, Modality="MR", PatientName="Müller^Jörg=山田^太郎", SeriesNumber=None),
]


def real(name: str) -> bytes:
    path = Path(pydicom.__file__).parent / "data" / "test_files" / name
    return path.read_bytes()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    with RunningArchive(tmp_path_factory.mktemp("zip")) as running:
        data_set = pydicom.dcmread(io.BytesIO(real("MR_small_jp2klossless.dcm")))
        data_set.StudyInstanceUID = COMPRESSED
        file = io.BytesIO()
        data_set.save_as(file)
        others = [file.getvalue(), real("reportsi.dcm"), real("rtplan.dcm"), real("rtdose.dcm")]
        answer = stow(running, [*FILES, *others])  # type: ignore[arg-type]
        assert answer.status_code in (200, 202), answer.text
        yield running


def get(web: RunningArchive, path: str, accept: str = "application/zip", **headers: str) -> requests.Response:
    return requests.get(web.dicomweb_url + path, headers={"Accept": accept, **headers}, timeout=60)


def opened(response: requests.Response) -> zipfile.ZipFile:
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert archive.testzip() is None
    return archive


def test_a_study_comes_as_the_stored_bytes_and_a_dicomdir(web: RunningArchive) -> None:
    archive = opened(get(web, "/studies/1.1"))
    names = archive.namelist()
    assert names[-1] == "DICOMDIR"
    assert sorted(archive.read(name) for name in names[:-1]) == sorted(FILES)
    assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())


def test_series_and_instance_come_too(web: RunningArchive) -> None:
    assert len(opened(get(web, "/studies/1.1/series/1.1.1")).namelist()) == 5
    one = opened(get(web, "/studies/1.1/series/1.1.1/instances/1.1.1.2"))
    assert one.read(one.namelist()[0]) == FILES[1]


def test_the_accept_parameter_asks_for_a_zip(web: RunningArchive) -> None:
    response = requests.get(f"{web.dicomweb_url}/studies/1.1", params={"accept": "application/zip"}, timeout=60)
    assert len(opened(response).namelist()) == 6


@pytest.mark.parametrize(
    ("accept", "is_zip"),
    [
        ("application/zip", True),
        ("application/zip, */*", True),
        ("*/*, application/zip;q=0.5", False),
        ('multipart/related; type="application/dicom", application/zip', False),
        ('application/zip, multipart/related; type="application/dicom"; q=0.9', True),
        ("application/dicom+json;q=0.2, application/zip;q=0.1", True),
        ("*/*", False),
    ],
)
def test_a_zip_comes_when_it_is_what_the_client_likes_best(web: RunningArchive, accept: str, is_zip: bool) -> None:
    content_type = get(web, "/studies/1.1", accept).headers["Content-Type"]
    assert (content_type == "application/zip") is is_zip


def test_file_names_are_file_ids_of_the_standard(web: RunningArchive) -> None:
    for name in opened(get(web, "/studies/1.1")).namelist():
        assert all(re.fullmatch("[A-Z0-9_]{1,8}", part) for part in name.split("/")), name


def test_unzip_and_dcmdump_read_it(web: RunningArchive, tmp_path: Path) -> None:
    (tmp_path / "study.zip").write_bytes(get(web, "/studies/1.1").content)
    tested = subprocess.run(
        ["/usr/bin/unzip", "-q", "study.zip"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (tested.returncode, tested.stderr) == (0, "")
    dumped = dcmtk("dcmdump", "--load-all", tmp_path / "DICOMDIR")
    assert dumped.returncode == 0, dumped.stdout
    types = re.findall(r"\(0004,1430\) CS \[(\w+) *\]", dumped.stdout)
    assert types == ["PATIENT", "STUDY", "SERIES", "IMAGE", "IMAGE", "IMAGE", "IMAGE", "SERIES", "IMAGE"]
    assert "E:" not in dumped.stdout
    assert "W:" not in dumped.stdout
    for path in re.findall(r"\(0004,1500\) CS \[([^\]]+)\]", dumped.stdout):
        assert (tmp_path / path.replace("\\", "/").strip()).exists()


def test_a_file_set_reader_finds_every_instance_by_its_directory(web: RunningArchive, tmp_path: Path) -> None:
    opened(get(web, "/studies/1.1")).extractall(tmp_path)
    found = FileSet(tmp_path / "DICOMDIR")
    assert {instance.SOPInstanceUID for instance in found} == {
        pydicom.dcmread(io.BytesIO(file)).SOPInstanceUID for file in FILES
    }
    for instance in found:
        data_set = instance.load()
        assert data_set.SOPInstanceUID == instance.SOPInstanceUID
        assert data_set.file_meta.TransferSyntaxUID == instance.ReferencedTransferSyntaxUIDInFile
    assert len(found.find(Modality="MR")) == 1


def test_names_beyond_ascii_are_declared_in_the_directory(web: RunningArchive) -> None:
    archive = opened(get(web, "/studies/1.1/series/1.1.2"))
    directory = pydicom.dcmread(io.BytesIO(archive.read("DICOMDIR")))
    patient = directory.DirectoryRecordSequence[0]
    assert patient.DirectoryRecordType == "PATIENT"
    assert str(patient.PatientName) == "Müller^Jörg=山田^太郎"
    assert patient.SpecificCharacterSet == "ISO_IR 192"
    (series,) = [each for each in directory.DirectoryRecordSequence if each.DirectoryRecordType == "SERIES"]
    assert series.SeriesNumber == 1  # the object has none, and a record must


@pytest.mark.parametrize(
    ("name", "record_type"),
    [("reportsi.dcm", "SR DOCUMENT"), ("rtplan.dcm", "RT PLAN"), ("rtdose.dcm", "RT DOSE")],
)
def test_other_objects_have_records_of_their_own(web: RunningArchive, name: str, record_type: str) -> None:
    data_set = pydicom.dcmread(io.BytesIO(real(name)))
    archive = opened(get(web, f"/studies/{data_set.StudyInstanceUID}"))
    directory = pydicom.dcmread(io.BytesIO(archive.read("DICOMDIR")))
    record = directory.DirectoryRecordSequence[-1]
    assert record.DirectoryRecordType == record_type
    assert record.ReferencedSOPClassUIDInFile == data_set.SOPClassUID


def test_files_come_in_the_transfer_syntax_that_is_asked(web: RunningArchive) -> None:
    asked = opened(get(web, f"/studies/{COMPRESSED}", f"application/zip; transfer-syntax={EXPLICIT}"))
    file = pydicom.dcmread(io.BytesIO(asked.read(asked.namelist()[0])))
    directory = pydicom.dcmread(io.BytesIO(asked.read("DICOMDIR")))
    assert file.file_meta.TransferSyntaxUID == EXPLICIT
    assert directory.DirectoryRecordSequence[-1].ReferencedTransferSyntaxUIDInFile == EXPLICIT
    stored = opened(get(web, f"/studies/{COMPRESSED}"))
    assert pydicom.dcmread(io.BytesIO(stored.read(stored.namelist()[0]))).file_meta.TransferSyntaxUID == JPEG_2000


def test_a_transfer_syntax_that_cannot_be_made_is_406(web: RunningArchive) -> None:
    response = get(web, "/studies/1.1", "application/zip; transfer-syntax=1.2.840.10008.1.2.4.100")
    assert response.status_code == 406
    assert any(EXPLICIT in each for each in response.json()["available"])


def test_what_is_not_there_is_404_and_a_refusal_names_the_zip(web: RunningArchive) -> None:
    assert get(web, "/studies/9.9").status_code == 404
    assert "application/zip" in get(web, "/studies/1.1", "text/plain").json()["available"]


def test_the_same_request_gives_the_same_bytes_and_can_be_resumed(web: RunningArchive) -> None:
    whole = get(web, "/studies/1.1")
    assert get(web, "/studies/1.1").content == whole.content
    rest = get(web, "/studies/1.1", Range="bytes=1000-", **{"If-Range": whole.headers["ETag"]})
    assert rest.status_code == 206
    assert whole.content[:1000] + rest.content == whole.content
    assert get(web, "/studies/1.1", **{"If-None-Match": whole.headers["ETag"]}).status_code == 304


def test_a_file_too_large_to_be_held_is_whole(web: RunningArchive) -> None:
    large = builders.ct("5.1", "5.1.1", "5.1.1.1", size_bytes=20 << 20, columns=512)
    assert stow(web, [large]).status_code == 200  # type: ignore[arg-type]
    archive = opened(get(web, "/studies/5.1"))
    assert archive.read(archive.namelist()[0]) == large


def test_memory_does_not_grow_with_the_study(archive: Server) -> None:
    study = new_uid()
    files = 40
    for _ in range(files):
        large = builders.ct(study, f"{study}.1", new_uid(), size_bytes=5 << 20, columns=512)
        assert stow(archive, [large]).status_code == 200
    before = archive.rss_bytes()
    size = highest = 0
    url = f"{archive.dicomweb_url}/studies/{study}"
    with requests.get(url, headers={"Accept": "application/zip"}, stream=True, timeout=60) as response:
        for piece in response.iter_content(1 << 20):
            size += len(piece)
            highest = max(highest, archive.rss_bytes())
    assert size > files * (5 << 20) * 0.99
    assert highest - before < 40 << 20, f"{(highest - before) >> 20} MiB"


def test_entries_past_four_gigabytes_and_65535_use_zip64(tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    writer = ZipWriter()
    size = (4 << 30) + 5
    with path.open("wb") as file:
        file.write(writer.begin("LARGE", size, 0))
        file.seek(size, io.SEEK_CUR)  # a hole: read as zeros
        for number in range(65_600):
            file.write(writer.begin(f"N{number:07}", 1, 0xE8B7BE43) + b"a")
        for piece in writer.end():
            file.write(piece)
    with zipfile.ZipFile(path) as archive:
        assert len(archive.infolist()) == 65_601
        assert archive.getinfo("LARGE").file_size == size
        assert archive.read("N0065599") == b"a"
    listed = subprocess.run(["/usr/bin/unzip", "-Z1", path], capture_output=True, text=True, check=False)
    assert (listed.returncode, len(listed.stdout.splitlines())) == (0, 65_601)
