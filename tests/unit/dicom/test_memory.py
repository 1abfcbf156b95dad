"""Reading the header of a file takes memory for the header, not for the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from struct import pack

import pytest

from tests import builders

GIGABYTE = 1 << 30
MEASURE = """
import sys, resource, psutil
from pathlib import Path
from pacs.dicom.header import read_header
small, large = map(Path, sys.argv[1:])
read_header(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
header = read_header(large)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(header.layout.pixels.number_of_frames, (after - before) // 1024)
"""


def growth(small: Path, large: Path) -> tuple[int, int]:
    """Number of frames and growth of the peak resident size in MB, in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(large)], capture_output=True, text=True, check=True
    )
    frames, megabytes = result.stdout.split()
    return int(frames), int(megabytes)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.write_bytes(builders.ct())
    return path


def test_a_gigabyte_of_native_frames_is_not_read(small: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    head = builders.ct(rows=512, columns=512, NumberOfFrames=2048, PixelData=...)
    with large.open("wb") as file:
        file.write(head + pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, GIGABYTE))
        file.truncate(len(head) + 12 + GIGABYTE)
    frames, megabytes = growth(small, large)
    assert frames == 2048
    assert megabytes < 60


@pytest.mark.parametrize("fragment", [4096, 65536, 1 << 20])
def test_a_gigabyte_of_fragments_is_walked_without_keeping_it(small: Path, tmp_path: Path, fragment: int) -> None:
    large = tmp_path / "large"
    count = min(GIGABYTE // (fragment + 8), 60_000)
    head = builders.encapsulated([], transfer_syntax="1.2.840.10008.1.2.4.50", delimiter=False, NumberOfFrames=1)
    with large.open("wb") as file:
        file.write(head)
        for _ in range(count):
            file.write(pack("<HHL", 0xFFFE, 0xE000, fragment) + b"\xff\xd8\xff\xe0")
            file.seek(fragment - 4, 1)
        file.write(pack("<HHL", 0xFFFE, 0xE0DD, 0))
    frames, megabytes = growth(small, large)
    assert frames == count
    assert megabytes < 60
