"""File meta information, ours and other people's."""

from __future__ import annotations

import io
from struct import pack

import pydicom
import pytest

from pacs.dicom import file_meta, uids
from pacs.dicom.file_meta import FileMeta

META = FileMeta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1", "STORE_SCU")


def test_what_is_written_is_complete_and_read_back() -> None:
    data = file_meta.encode(META)
    assert data[:132] == bytes(128) + b"DICM"
    assert file_meta.read(data) == (META, len(data))
    meta = pydicom.dcmread(io.BytesIO(data)).file_meta
    assert meta.FileMetaInformationGroupLength == len(data) - 144
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert meta.ImplementationClassUID == uids.IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == uids.IMPLEMENTATION_VERSION_NAME
    assert meta.SourceApplicationEntityTitle == "STORE_SCU"


@pytest.mark.parametrize("length", [0, 1, 26, 200, 0xFFFFFFFF])
def test_a_wrong_group_length_is_not_believed(length: int) -> None:
    data = file_meta.encode(META)
    wrong = data[:140] + pack("<L", length) + data[144:] + b"\x08\0\x05\0CS\0\0"
    assert file_meta.read(wrong) == (META, len(data))


def test_group_length_and_preamble_may_be_missing() -> None:
    data = file_meta.encode(META)
    no_length = data[:132] + data[144:]
    assert file_meta.read(no_length) == (META, len(data) - 12)
    assert file_meta.read(data[132:]) == (META, len(data) - 132)
    assert file_meta.read(data[128:]) == (META, len(data) - 128)


def test_elements_may_be_missing() -> None:
    bare = bytes(128) + b"DICM" + pack("<HH2sH", 2, 0x10, b"UI", 4) + b"1.2\0" + b"\x08\0"
    assert file_meta.read(bare) == (FileMeta("", "", "1.2"), 144)
    assert file_meta.read(bytes(128) + b"DICM" + b"\x08\0\x05\0CS\0\0") == (None, 132)


def test_meta_in_implicit_vr_is_understood() -> None:
    data = bytes(128) + b"DICM" + pack("<HHL", 2, 0, 4) + b"\0\0\0\0" + pack("<HHL", 2, 0x10, 4) + b"1.2\0"
    assert file_meta.read(data) == (FileMeta("", "", "1.2"), len(data))


@pytest.mark.parametrize("data", [b"", b"\2", b"\2\0" * 4, b"\2\0" * 5000, bytes(5000), b"DICM", bytes(128) + b"DICM"])
def test_garbage_does_not_raise(data: bytes) -> None:
    meta, offset = file_meta.read(data)
    assert offset <= len(data)
    assert meta is None or isinstance(meta, FileMeta)
