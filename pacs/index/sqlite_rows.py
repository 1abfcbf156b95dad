"""Instances as the tables of the SQLite index hold them: keys and digests packed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

from pacs.dicom.model import BlobRef, StoredInstance, Target

# Columns that StoredInstance is made of, from instances i, series e and studies s.
INSTANCE_COLUMNS = (
    "s.c0020000D, e.c0020000E, i.c00080018, COALESCE(i.sop_class_uid, i.c00080016), i.c00083002, i.blob_key,"
    " i.size_bytes, i.digest, i.data_set_offset"
)
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AS_IT_IS = "\0"
_MARKS = ("\1", "\2", "\3")
_MARKED = re.compile("[\0-\3]")


def stored_digest(digest: str) -> bytes | str:
    """A digest as instances hold it: the 32 bytes of a SHA-256, any other text as it is."""
    found = _SHA256.fullmatch(digest)
    return bytes.fromhex(found[1]) if found else digest


def stored_key(key: str, target: Target) -> str:
    """A blob key as instances hold it: U+0001, U+0002 and U+0003 stand for the UIDs, which most keys are made of."""
    if _MARKED.search(key):
        return _AS_IT_IS + key
    # The longest first: a study's UID is often where those of its instances begin.
    for uid, mark in sorted(zip(_uids(target), _MARKS, strict=True), key=lambda pair: -len(pair[0])):
        if uid:
            key = key.replace(uid, mark)
    return key


def stored_time(at: datetime) -> int:
    """Microseconds since 1970, UTC."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def loaded_time(microseconds: int) -> datetime:
    """What ``stored_time`` was made of."""
    return _EPOCH + timedelta(microseconds=microseconds)


def key_hash(key: str) -> int:
    """What instances are found by whose key this may be.

    Neighbours for the files of one folder: a series that comes changes a page of the index, not a page an instance.
    """
    folder, _, name = key.rpartition("/")
    return _hash32(folder) << 32 | (_hash32(name) & 0xFFFFFFFF)


def _hash32(text: str) -> int:
    """Signed, as SQLite keeps integers."""
    hashed = blake2b(text.encode(errors="surrogatepass"), digest_size=4)
    return int.from_bytes(hashed.digest(), "big", signed=True)


def _uids(target: Target) -> tuple[str, str, str]:
    return target.study_uid, target.series_uid or "", target.sop_uid or ""


def _plain_key(stored: str, target: Target) -> str:
    if stored[:1] == _AS_IT_IS:
        return stored[1:]
    study_uid, series_uid, sop_uid = _uids(target)
    # No mark comes out of a UID: then the key would have had it, and been kept as it is.
    return stored.replace("\1", study_uid).replace("\2", series_uid).replace("\3", sop_uid)


def stored_instance(row: Sequence[Any]) -> StoredInstance:
    """row: ``INSTANCE_COLUMNS``."""
    study_uid, series_uid, sop_uid, sop_class_uid, transfer_syntax_uid, key, size_bytes, digest, offset = row
    target = Target(study_uid, series_uid, sop_uid)
    whole = f"sha256:{digest.hex()}" if digest.__class__ is bytes else digest
    return StoredInstance(
        target, sop_class_uid, transfer_syntax_uid, BlobRef(_plain_key(key, target), size_bytes, whole), offset
    )


def earlier_version(row: Sequence[Any]) -> StoredInstance:
    """row: the same columns of a superseded or deleted version, which hold key and digest in full."""
    study_uid, series_uid, sop_uid, sop_class_uid, transfer_syntax_uid, key, size_bytes, digest, offset = row
    return StoredInstance(
        Target(study_uid, series_uid, sop_uid),
        sop_class_uid,
        transfer_syntax_uid,
        BlobRef(key, size_bytes, digest),
        offset,
    )


def version_values(instance: StoredInstance) -> tuple[Any, ...]:
    """The values of a superseded or deleted version's columns, as ``earlier_version`` reads them."""
    target, blob = instance.target, instance.blob
    return (
        *(target.study_uid, target.series_uid, target.sop_uid, instance.sop_class_uid, instance.transfer_syntax_uid),
        *(blob.key, blob.size_bytes, blob.digest, instance.data_set_offset),
    )
