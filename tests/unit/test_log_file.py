"""A log file that several processes write: rotated by one of them, never torn, never lost."""

import logging
import multiprocessing
import os
from pathlib import Path

from pacs import logs
from pacs.log_file import SharedFile, lines_backwards, rotated


def _write_lines(path, number, count):
    file = SharedFile(Path(path), 30_000, 500)
    for line in range(count):
        file._looked = 0.0  # as if a second had passed: look before each line
        file.write(b"%d %d %b\n" % (number, line, b"x" * (line % 90)))
    file.close()


def test_processes_that_rotate_at_once_lose_and_tear_no_line(tmp_path):
    path = tmp_path / "shared.log"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_lines, args=(str(path), number, 1500)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0

    assert rotated(path, 2).exists()
    lines = [line.split(b" ") for line in lines_backwards(path)]
    assert {(int(number), int(line)) for number, line, _ in lines} == {(n, i) for n in range(3) for i in range(1500)}
    assert all(rest == b"x" * (int(line) % 90) for _, line, rest in lines)
    sizes = [file.stat().st_size for file in tmp_path.glob("shared.log.?*") if file.suffix != ".lock"]
    assert max(sizes) < 30_000 + 1000


def test_only_so_many_rotated_files_are_kept(tmp_path):
    path = tmp_path / "kept.log"
    file = SharedFile(path, 100, 2)
    for number in range(50):
        file._looked = 0.0
        file.write(b"%d %b\n" % (number, b"x" * 60))
    file.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["kept.log", "kept.log.1", "kept.log.2", "kept.log.lock"]
    assert next(lines_backwards(path)).startswith(b"49 ")


def test_a_file_that_logrotate_moved_is_left_for_the_new_one(tmp_path):
    path = tmp_path / "moved.log"
    file = SharedFile(path)
    file.write(b"before\n")
    path.rename(tmp_path / "elsewhere")
    file.reopen()
    file.write(b"after\n")
    file.close()
    assert path.read_bytes() == b"after\n"


def test_lines_are_read_backwards_over_the_ends_of_blocks(tmp_path):
    path = tmp_path / "long.log"
    lines = [b"%06d %b" % (number, b"y" * (number % 300)) for number in range(3000)]
    path.write_bytes(b"\n".join(lines))  # the last one without its end
    assert list(lines_backwards(path)) == lines[::-1]


def test_a_disk_that_is_full_does_not_stop_what_is_logged(tmp_path, capsys, root_logger):
    logs.configure(file=logs.LogFile(tmp_path / "full.log"))
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, root_logger.handlers[-1].file._descriptor)
    os.close(full)
    logging.getLogger("pacs.test").info("one")
    logging.getLogger("pacs.test").info("two")
    assert capsys.readouterr().err.count("the log file cannot be written") == 1
