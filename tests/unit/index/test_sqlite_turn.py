"""Processes take turns at writing: one at a time, and who waits is not passed by."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pacs.index.sqlite_turn import Turn
from tests.server import clean_environment

# Takes its turn again and again, as a busy process does, and appends its name while it has it.
_GREEDY = """
import sys, time
from pathlib import Path
from pacs.index.sqlite_turn import Turn
turn, name, log = Turn(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
end = time.monotonic() + 1.0
while time.monotonic() < end:
    with turn, log.open("a") as file:
        file.write(f"{name}in ")
        file.flush()
        time.sleep(0.002)
        file.write(f"{name}out ")
"""


def _start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _GREEDY, *map(str, arguments)],
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_busy_processes_write_one_at_a_time_and_in_turn(tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [_start(tmp_path / "index", name, log) for name in "abc"]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        process.communicate("go\n", timeout=30)

    entries = log.read_text().split()
    pairs = list(zip(entries[::2], entries[1::2], strict=True))
    assert all((enters, leaves) == (f"{enters[0]}in", f"{enters[0]}out") for enters, leaves in pairs)
    shares = [sum(enters[0] == name for enters, _ in pairs) for name in "abc"]
    assert min(shares) > len(pairs) / 6, shares


def test_a_process_that_is_killed_in_its_turn_gives_it_back(tmp_path: Path) -> None:
    process = _start(tmp_path / "index", "a", tmp_path / "log")
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    while not (tmp_path / "log").exists():
        assert process.poll() is None
    process.kill()
    process.wait()

    with Turn(tmp_path / "index"):  # does not wait for ever
        pass


def test_a_folder_without_room_for_locks_keeps_nobody_from_writing(tmp_path: Path) -> None:
    with Turn(tmp_path / "no such folder" / "index") as turn:
        turn.close()
