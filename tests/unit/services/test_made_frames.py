"""Frames that were made, kept in a folder of limited size."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacs.dicom.model import BlobRef
from pacs.services.made_frames import MadeFrames, drop_frames_of

UID = "1.2.840.10008.1.2.4.202"
ONE, OTHER = BlobRef("a/1.dcm", 1000, "sha256:11"), BlobRef("a/2.dcm", 1000, "sha256:22")


class Encoder:
    """Makes frames that tell which they are, and remembers what it was asked for."""

    def __init__(self, size: int = 1000) -> None:
        self.size = size
        self.asked: list[list[int]] = []

    def __call__(self, numbers: list[int]) -> list[bytes]:
        self.asked.append(numbers)
        return [bytes([number]) * self.size for number in numbers]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[MadeFrames]:
    made = MadeFrames(tmp_path / "frames", 10_000, "encoder 1")
    yield made
    made.close()


def test_only_what_is_not_there_is_made_and_all_come_in_the_order_asked(made: MadeFrames) -> None:
    encoder = Encoder()
    made.frames(ONE, [2], UID, encoder)
    assert made.frames(ONE, [3, 2, 1, 3], UID, encoder) == [bytes([n]) * 1000 for n in (3, 2, 1, 3)]
    assert encoder.asked == [[2], [3, 1]]


def test_another_file_syntax_or_encoder_has_frames_of_its_own(made: MadeFrames, tmp_path: Path) -> None:
    made.frames(ONE, [1], UID, Encoder())
    newer = MadeFrames(tmp_path / "frames", 10_000, "encoder 2")
    for store, ref, uid in ((made, OTHER, UID), (made, ONE, f"{UID}.1"), (newer, ONE, UID)):
        assert store.lacks(ref, 1, uid)
    assert not made.lacks(ONE, 1, UID)
    newer.close()


def test_what_was_used_longest_ago_makes_room(made: MadeFrames, tmp_path: Path) -> None:
    encoder = Encoder()
    for number in range(1, 10):
        made.frames(ONE, [number], UID, encoder)
        (path,) = (tmp_path / "frames").rglob(f"*.{number}.{UID}.*")
        os.utime(path, (time.time() - 100 + number,) * 2)
    made.frames(ONE, [1], UID, encoder)
    made.frames(ONE, [10, 11], UID, encoder)
    assert not made.lacks(ONE, 1, UID)
    assert made.lacks(ONE, 2, UID)
    kept = sum(path.stat().st_size for path in (tmp_path / "frames").rglob(f"*{UID}*"))
    assert 5_000 < kept <= 10_000


def test_a_frame_larger_than_all_the_room_is_passed_on_and_not_kept(made: MadeFrames) -> None:
    assert made.frames(ONE, [1], UID, Encoder(20_000)) == [b"\1" * 20_000]
    assert made.lacks(ONE, 1, UID)


def test_a_failure_to_make_is_passed_on_and_leaves_nothing(made: MadeFrames, tmp_path: Path) -> None:
    def fail(numbers: list[int]) -> list[bytes]:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  raised above, without a message
        made.frames(ONE, [1], UID, fail)
    assert [path for path in (tmp_path / "frames").rglob("*") if path.name != ".used"] == []


def test_dropping_a_file_drops_its_frames_only(made: MadeFrames, tmp_path: Path) -> None:
    for ref in (ONE, OTHER):
        made.frames(ref, [1, 2], UID, Encoder())
    drop_frames_of(tmp_path / "frames", ONE)
    assert [made.lacks(ref, number, UID) for ref in (ONE, OTHER) for number in (1, 2)] == [True, True, False, False]
