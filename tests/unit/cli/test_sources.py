"""What an import finds: folders, DICOMDIRs, ZIP files, and what it tells apart."""

import shutil
import zipfile
from contextlib import closing
from pathlib import Path

import pydicom
import pytest

from pacs.cli.sources import Opener, Source, Unavailable, find, is_directory, may_be_dicom
from tests import builders

# A real one, that comes with pydicom.
DICOMDIR = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"


def test_folder_is_walked_in_order_of_name(tmp_path):
    for name in ("b/2", "b/1", "a", "c/d/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    found = [str(each.path.relative_to(tmp_path)) for each in find([tmp_path])]

    assert found == ["a", "b/1", "b/2", "c/d/3"]


def test_zip_file_gives_its_members(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.ZIP", "w") as archive:
        archive.writestr("study/2", b"two")
        archive.writestr("study/1", b"one")
        archive.mkdir("empty")

    found = list(find([tmp_path / "x.ZIP"]))

    assert [each.member for each in found] == ["study/1", "study/2"]
    with closing(Opener()) as opener, opener.open(found[1]) as file:
        assert file.read() == b"two"


@pytest.mark.parametrize("name", ["missing", "missing.zip", "missing/DICOMDIR"])
def test_path_that_is_not_there_is_reported(tmp_path, name):
    (found,) = find([tmp_path / name])

    assert isinstance(found, Unavailable)
    assert name in found.name


def test_broken_zip_file_is_reported(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 but no more")

    (found,) = find([tmp_path / "x.zip"])

    assert isinstance(found, Unavailable)


def test_dicomdir_leads_to_the_files_it_refers_to(tmp_path):
    shutil.copytree(DICOMDIR, tmp_path / "cd")
    on_disk = {path for path in (tmp_path / "cd").glob("[0-9]*/**/*") if path.is_file()}
    assert on_disk, "pydicom's wheel no longer brings the files of its DICOMDIR"

    found = list(find([tmp_path / "cd" / "DICOMDIR"]))

    available = {each.path for each in found if isinstance(each, Source)}
    assert available == on_disk
    assert all("refers to it" in each.reason for each in found if isinstance(each, Unavailable))


def test_referenced_files_are_found_in_small_letters(tmp_path):
    shutil.copytree(DICOMDIR, tmp_path / "cd")
    first = next(each.path for each in find([tmp_path / "cd" / "DICOMDIR"]) if isinstance(each, Source))
    first.rename(first.with_name("renamed"))
    small = first.with_name(first.name.lower())
    first.with_name("renamed").rename(small)

    found = [each.path for each in find([tmp_path / "cd" / "DICOMDIR"]) if isinstance(each, Source)]

    assert small in found


def test_file_that_is_only_named_dicomdir_is_reported(tmp_path):
    (tmp_path / "DICOMDIR").write_bytes(b"nothing of the kind")

    (found,) = find([tmp_path / "DICOMDIR"])

    assert isinstance(found, Unavailable)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (builders.ct(), True),
        (builders.data_set_of(builders.ct()), True),
        (builders.ct()[128:], True),
        (b"", False),
        (b"\xff\xd8\xff\xe0 a JPEG", False),
        (b"PK\x03\x04", False),
        (bytes(200), False),
    ],
)
def test_what_may_be_dicom_by_its_first_bytes(head, expected):
    assert may_be_dicom(head[:132]) is expected


def test_dicomdir_is_known_by_name_also_in_a_zip_file():
    assert is_directory("x.zip:CD/DICOMDIR")
    assert is_directory("dicomdir")
    assert not is_directory("DICOMDIR/IM1")
