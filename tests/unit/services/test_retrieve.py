"""The retrieve service over the real index, files and pixel workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from pacs.blobs.filesystem import FilesystemBlobs
from pacs.dicom.model import Caller, StoredInstance, Target
from pacs.dicom.transfer_syntax import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from pacs.errors import NotAcceptable, NotFound, Undecodable
from pacs.imaging import forms, show
from pacs.imaging.options import RenderOptions, Viewport
from pacs.imaging.pool import Pool
from pacs.index.sqlite import SqliteIndex
from pacs.services.file_key import FileKeyPattern
from pacs.services.retrieve import Content, Retrieve
from pacs.services.store import Store
from tests import builders
from tests.unit.imaging import sources

CALLER = Caller("TEST", "127.0.0.1", "cli")


@dataclass
class Room:
    store: Store
    retrieve: Retrieve
    blobs: FilesystemBlobs

    def send(self, data: bytes) -> StoredInstance:
        spool = self.store.spool()
        spool.write(data)
        return self.store.store(spool, CALLER, derive_uids=True).instance

    def send_example(self, name: str) -> tuple[StoredInstance, bytes]:
        data = Path(str(get_testdata_file(name))).read_bytes()
        return self.send(data), data


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool(1, 8, 60.0)
    yield pool
    pool.close()


@pytest.fixture
def room(tmp_path: Path, pool: Pool) -> Iterator[Room]:
    index = SqliteIndex(tmp_path / "index.sqlite")
    blobs = FilesystemBlobs(tmp_path / "files", tmp_path / "incoming")
    store = Store(index, blobs, FileKeyPattern("{0020000D}/{00080018}"))
    yield Room(store, Retrieve(index, blobs, pool), blobs)
    index.close()


def read(content: Content) -> bytes:
    data = b"".join(content.chunks())
    assert len(data) == content.size_bytes
    content.close()
    return data


def pixels_of(part10: bytes, folder: Path) -> np.ndarray:
    path = folder / "read.dcm"
    path.write_bytes(part10)
    return pydicom.dcmread(path).pixel_array


def test_the_stored_file_and_its_data_set_come_back_byte_for_byte(room: Room) -> None:
    data = builders.ct()
    instance = room.send(data)
    assert read(room.retrieve.file(instance)) == data
    assert read(room.retrieve.data_set(instance)) == builders.data_set_of(data)


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "image_dfl.dcm"]
)
@pytest.mark.parametrize("wanted", [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN])
def test_another_transfer_syntax_has_the_same_pixels_and_leaves_no_file_behind(
    room: Room, tmp_path: Path, name: str, wanted: str
) -> None:
    instance, data = room.send_example(name)
    made = room.retrieve.file(instance, wanted)
    assert made.transfer_syntax_uid == wanted
    part10 = read(made)
    np.testing.assert_array_equal(pixels_of(part10, tmp_path), pixels_of(data, tmp_path))
    assert read(room.retrieve.data_set(instance, wanted)) == builders.data_set_of(part10)
    assert list(room.blobs.incoming().iterdir()) == []


def test_a_transfer_syntax_that_cannot_be_made_says_what_can(room: Room) -> None:
    instance, _ = room.send_example("CT_small.dcm")
    with pytest.raises(NotAcceptable) as caught:
        room.retrieve.file(instance, EXPLICIT_VR_BIG_ENDIAN)
    assert EXPLICIT_VR_LITTLE_ENDIAN in caught.value.available
    assert list(room.blobs.incoming().iterdir()) == []


def test_native_frames_are_read_by_their_place(room: Room) -> None:
    data = builders.ct(frames=3, rows=16, columns=16)
    instance = room.send(data)
    frames = room.retrieve.frames(instance.target, [3, 1])
    assert frames.transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN
    pixels = data[-3 * 512 :]
    assert frames.frames == [pixels[1024:], pixels[:512]]


def test_stored_codestreams_pass_through_and_are_decoded_when_asked(room: Room, tmp_path: Path) -> None:
    instance, data = room.send_example("JPEG2000.dcm")
    stored = room.retrieve.frames(instance.target, [1])
    assert stored.transfer_syntax_uid == instance.transfer_syntax_uid
    assert stored.frames[0].startswith(b"\xff\x4f\xff\x51")
    assert stored.frames[0] in data
    native = room.retrieve.frames(instance.target, [1], EXPLICIT_VR_LITTLE_ENDIAN)
    assert native.transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN
    assert native.frames[0] == pixels_of(data, tmp_path).astype("<i2").tobytes()


def test_big_endian_pixels_come_out_little_endian_as_frames_and_as_bulk_data(room: Room, tmp_path: Path) -> None:
    instance, data = room.send_example("MR_small_bigendian.dcm")
    expected = pixels_of(data, tmp_path).astype("<i2").tobytes()
    assert room.retrieve.frames(instance.target, [1], EXPLICIT_VR_LITTLE_ENDIAN).frames == [expected]
    assert room.retrieve.frames(instance.target, [1]).frames == [expected]
    assert b"".join(room.retrieve.bulkdata(instance.target, "7FE00010").chunks) == expected
    assert b"".join(room.retrieve.bulkdata(instance.target, "7FE00010", 100, 7).chunks) == expected[100:107]


def test_bulk_data_of_a_deflated_data_set_is_inflated(room: Room, tmp_path: Path) -> None:
    instance, data = room.send_example("image_dfl.dcm")
    bulk = room.retrieve.bulkdata(instance.target, "7FE00010")
    expected = pixels_of(data, tmp_path).tobytes()
    value = b"".join(bulk.chunks)
    assert value[: len(expected)] == expected
    assert bulk.size_bytes == len(value)


def test_a_range_of_bulk_data_ends_where_the_value_ends(room: Room) -> None:
    instance = room.send(builders.ct(rows=16, columns=16))
    bulk = room.retrieve.bulkdata(instance.target, "7FE00010", 500, 100)
    assert (bulk.size_bytes, bulk.offset, bulk.length) == (512, 500, 12)
    assert len(b"".join(bulk.chunks)) == 12


def test_what_is_not_there_is_not_found(room: Room) -> None:
    instance = room.send(builders.ct(frames=2))
    target = instance.target
    nowhere = Target("1.2.3", "1.2", "1.1")
    with pytest.raises(NotFound):
        room.retrieve.instances(nowhere, CALLER)
    with pytest.raises(NotFound):
        room.retrieve.metadata(nowhere, CALLER)
    with pytest.raises(NotFound, match="has 2"):
        room.retrieve.frames(target, [3])
    with pytest.raises(NotFound):
        room.retrieve.frames(target, [0], EXPLICIT_VR_LITTLE_ENDIAN)
    with pytest.raises(NotFound):
        room.retrieve.bulkdata(target, "00100010")
    with pytest.raises(NotFound):
        room.retrieve.rendered(target, 3, RenderOptions())


def test_without_pixels_there_are_no_frames_and_no_picture(room: Room) -> None:
    instance, _ = room.send_example("reportsi.dcm")
    assert room.retrieve.number_of_frames(instance.target) == 0
    with pytest.raises(NotAcceptable):
        room.retrieve.rendered(instance.target, None, RenderOptions())
    assert room.retrieve.representative(Target(instance.target.study_uid)) == instance.target


def test_a_series_is_represented_by_its_middle_instance(room: Room) -> None:
    for number in range(1, 6):
        room.send(builders.ct("1.2", "1.2.3", f"1.2.3.{number}", InstanceNumber=number, rows=8, columns=8))
    assert room.retrieve.representative(Target("1.2")).sop_uid == "1.2.3.3"


def test_a_picture_is_made_of_the_middle_frame(room: Room) -> None:
    instance = room.send(builders.ct(frames=3))
    picture = room.retrieve.rendered(instance.target, None, RenderOptions())
    assert picture.data.startswith(b"\xff\xd8")
    assert picture.data == room.retrieve.rendered(instance.target, 2, RenderOptions()).data


def test_pixels_that_cannot_be_decoded_say_so_and_the_next_call_works(room: Room) -> None:
    broken = room.send(builders.encapsulated([b"not a codestream"], transfer_syntax="1.2.840.10008.1.2.4.90"))
    with pytest.raises(Undecodable):
        room.retrieve.frames(broken.target, [1], EXPLICIT_VR_LITTLE_ENDIAN)
    whole = room.send(builders.ct())
    assert len(room.retrieve.rendered(whole.target, 1, RenderOptions()).data) > 100


def test_a_small_native_picture_takes_no_worker_and_is_what_a_worker_makes(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite")
    blobs = FilesystemBlobs(tmp_path / "files", tmp_path / "incoming")
    pool = Pool(1, 8, 60.0)
    room = Room(Store(index, blobs, FileKeyPattern("{00080018}")), Retrieve(index, blobs, pool), blobs)
    instance = room.send(builders.ct())
    here = room.retrieve.rendered(instance.target, None, RenderOptions())
    assert pool.worker_ids() == []
    whole = Viewport(10, 10)
    room.retrieve.rendered(instance.target, None, RenderOptions(viewport=whole))  # scaled: this one is left to a worker
    assert len(pool.worker_ids()) == 1
    with blobs.local(instance.blob) as path:
        source = sources.source_of(path)
        assert here.data == pool.run(show.picture, source, forms.IMAGE, None, RenderOptions())
    pool.close()
    index.close()
