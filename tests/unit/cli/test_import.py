"""Taking files in, over the real store."""

import zipfile

import pytest

from pacs.archive import Archive
from pacs.cli.import_ import take_in
from pacs.settings import load
from tests import builders


@pytest.fixture
def archive(tmp_path):
    settings = load(environment={"PACS_HOME": str(tmp_path / "home")}).settings
    with Archive.open(settings) as opened:
        yield opened


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def test_everything_is_stored_once_however_often(archive, inbox):
    for number in range(40):
        (inbox / f"{number}").write_bytes(builders.ct(rows=4, columns=4))

    first = take_in(archive.store, [inbox], threads=3, show=False)
    second = take_in(archive.store, [inbox, inbox], threads=3, show=False)

    assert (first.stored, first.same, first.failed) == (40, 0, [])
    assert (second.stored, second.same, second.failed) == (0, 80, [])
    assert archive.index.counts().instances == 40
    assert list(archive.blobs.incoming().iterdir()) == []


def test_other_files_are_left_out_and_counted(archive, inbox):
    (inbox / "image.dcm").write_bytes(builders.ct())
    (inbox / "bare").write_bytes(builders.data_set_of(builders.ct()))
    (inbox / "README.txt").write_text("read me")
    (inbox / "empty").touch()
    (inbox / "looks").write_bytes(b"\x08\x00 like it, for two bytes")

    summary = take_in(archive.store, [inbox], show=False)

    assert (summary.stored, summary.skipped, summary.failed) == (2, 3, [])


def test_damaged_dicom_file_is_a_failure_and_the_others_are_kept(archive, inbox):
    (inbox / "good").write_bytes(builders.ct())
    (inbox / "bad").write_bytes(builders.ct()[:-100])

    summary = take_in(archive.store, [inbox], show=False)

    assert summary.stored == 1
    ((name, reason),) = summary.failed
    assert name == str(inbox / "bad")
    assert reason


def test_other_bytes_under_a_stored_uid_are_a_failure(archive, inbox):
    uids = {"study_uid": "1.2.3", "series_uid": "1.2.3.4", "sop_uid": "1.2.3.4.5"}
    (inbox / "1").write_bytes(builders.ct(**uids))
    take_in(archive.store, [inbox], show=False)
    (inbox / "1").write_bytes(builders.ct(**uids, PatientName="Other"))

    summary = take_in(archive.store, [inbox], show=False)

    assert (summary.stored, len(summary.failed)) == (0, 1)


def test_members_of_a_zip_file_are_taken_in(archive, inbox):
    with zipfile.ZipFile(inbox / "x.zip", "w", zipfile.ZIP_DEFLATED) as target:
        for number in range(20):
            target.writestr(f"a/{number}", builders.ct(rows=4, columns=4))
        target.writestr("a/notes.txt", "notes")
        target.writestr("DICOMDIR", bytes(128) + b"DICM")

    summary = take_in(archive.store, [inbox], show=False)

    assert (summary.stored, summary.skipped, summary.directories, summary.failed) == (20, 1, 1, [])


def test_unreadable_file_is_a_failure(archive, inbox):
    (inbox / "dangling").symlink_to(inbox / "nowhere")

    summary = take_in(archive.store, [inbox], show=False)

    assert [reason for _, reason in summary.failed] == ["there is no such file"]


def test_damaged_zip_member_is_a_failure_and_the_others_are_kept(archive, inbox):
    with zipfile.ZipFile(inbox / "x.zip", "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("1", builders.ct())
        target.writestr("2", builders.ct())
    data = bytearray((inbox / "x.zip").read_bytes())
    data[1000:1010] = bytes(10)
    (inbox / "x.zip").write_bytes(data)

    summary = take_in(archive.store, [inbox], show=False)

    assert summary.stored == 1
    assert [name for name, _ in summary.failed] == [f"{inbox / 'x.zip'}:1"]
    assert list(archive.blobs.incoming().iterdir()) == []
