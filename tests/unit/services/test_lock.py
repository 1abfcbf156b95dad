"""The data folder's lock."""

import subprocess
import sys

import pytest

from pacs.errors import OutOfResources
from pacs.services.lock import ArchiveLock


def test_several_share_the_folder(tmp_path):
    with ArchiveLock(tmp_path), ArchiveLock(tmp_path):
        pass


def test_nobody_is_alone_beside_others(tmp_path):
    with (
        ArchiveLock(tmp_path),
        pytest.raises(OutOfResources, match="stop it first"),
        ArchiveLock(tmp_path, exclusive=True),
    ):
        pass


def test_others_are_kept_out_until_the_one_is_done(tmp_path):
    with ArchiveLock(tmp_path, exclusive=True), pytest.raises(OutOfResources, match="try again"), ArchiveLock(tmp_path):
        pass
    with ArchiveLock(tmp_path):
        pass


def test_folder_is_made(tmp_path):
    with ArchiveLock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()


def test_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(OutOfResources, match="cannot be used"), ArchiveLock(tmp_path / "file" / "data"):
        pass


def test_killed_process_leaves_no_lock(tmp_path):
    code = (
        "import sys, time, pathlib; from pacs.services.lock import ArchiveLock\n"
        "with ArchiveLock(pathlib.Path(sys.argv[1]), exclusive=True): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OutOfResources), ArchiveLock(tmp_path):
            pass
        holder.kill()

    with ArchiveLock(tmp_path):
        pass
