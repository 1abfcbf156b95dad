"""A folder of worklist files: what changes is noticed, what is broken is skipped, who writes is waited for."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from pacs.dicom.worklist_item import key_of
from pacs.services import worklist_folder
from pacs.services.worklist_folder import WorklistFolder
from tests.worklists import write_file


def steps(folder: WorklistFolder) -> list[tuple[str, str]]:
    return [(item.called, key_of(item.attributes).step_id) for item in folder.items()]


def test_files_that_appear_change_and_vanish_are_noticed(tmp_path: Path) -> None:
    folder = WorklistFolder(tmp_path)
    assert steps(folder) == []
    path = write_file(tmp_path / "a.wl", step="A")
    assert steps(folder) == [("", "A")]
    write_file(path, step="B")
    assert steps(folder) == [("", "B")]
    (tmp_path / "CT1").mkdir()
    write_file(tmp_path / "CT1" / "c.WL", step="C")
    (tmp_path / "CT1" / "notes.txt").write_text("none of these")
    assert steps(folder) == [("", "B"), ("CT1", "C")]
    path.unlink()
    assert steps(folder) == [("CT1", "C")]


def test_only_what_changed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def noting(path: Path) -> list[dict[str, object]]:
        read.append(path.name)
        return real(path)

    real = worklist_folder.read_items
    monkeypatch.setattr(worklist_folder, "read_items", noting)
    for name in "abc":
        write_file(tmp_path / f"{name}.wl", step=name)
    folder = WorklistFolder(tmp_path)
    assert len(steps(folder)) == 3
    write_file(tmp_path / "b.wl", step="other")
    assert [step for _, step in steps(folder)] == ["a", "other", "c"]
    assert read == ["a.wl", "b.wl", "c.wl", "b.wl"]


def test_broken_files_are_named_once_and_taken_when_they_are_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = write_file(tmp_path / "whole.wl", step="A").read_bytes()
    (tmp_path / "empty.wl").write_bytes(b"")
    (tmp_path / "cut.wl").write_bytes(whole[:-20])
    (tmp_path / "text.wl").write_text("this is no DICOM")
    write_file(tmp_path / "incomplete.wl", station="")
    (tmp_path / "dangling.wl").symlink_to(tmp_path / "nowhere")
    folder = WorklistFolder(tmp_path)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert steps(folder) == [("", "A")]
    for name in ("empty.wl", "cut.wl", "text.wl", "incomplete.wl"):
        assert len([record for record in caplog.messages if name in record]) == 1, caplog.messages
    assert "ScheduledStationAETitle" in caplog.text
    (tmp_path / "cut.wl").write_bytes(whole)
    assert len(steps(folder)) == 2


def test_text_that_is_too_long_for_its_vr_is_passed_on_as_wlmscpfs_does(tmp_path: Path) -> None:
    write_file(tmp_path / "long.wl", step="A", description="x" * 70)
    assert steps(WorklistFolder(tmp_path)) == [("", "A")]


def test_a_file_with_two_steps_makes_two_items(tmp_path: Path) -> None:
    from pydicom import dcmread

    path = write_file(tmp_path / "two.wl", step="A")
    data = dcmread(path)
    second = dcmread(path).ScheduledProcedureStepSequence[0]
    second.ScheduledProcedureStepID = "B"
    data.ScheduledProcedureStepSequence.append(second)
    data.save_as(path)
    assert steps(WorklistFolder(tmp_path)) == [("", "A"), ("", "B")]


def test_a_folder_that_is_not_there_has_nothing_and_is_found_when_it_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = WorklistFolder(tmp_path / "later")
    assert steps(folder) == []
    assert steps(folder) == []
    assert len([message for message in caplog.messages if "later" in message]) == 1
    (tmp_path / "later").mkdir()
    write_file(tmp_path / "later" / "a.wl", step="A")
    assert steps(folder) == [("", "A")]


def test_who_holds_the_lock_file_is_waited_for_and_what_was_known_stays(tmp_path: Path) -> None:
    (tmp_path / "lockfile").touch()
    write_file(tmp_path / "a.wl", step="A")
    folder = WorklistFolder(tmp_path)
    assert steps(folder) == [("", "A")]
    writer = os.open(tmp_path / "lockfile", os.O_RDWR)
    fcntl.flock(writer, fcntl.LOCK_EX)
    write_file(tmp_path / "b.wl", step="B")
    assert steps(folder) == [("", "A")]  # after a while, with what is known
    found: list[tuple[str, str]] = []
    reader = threading.Thread(target=lambda: found.extend(steps(folder)))
    reader.start()
    time.sleep(0.1)
    os.close(writer)
    reader.join()
    assert found == [("", "A"), ("", "B")]
