"""The values that every room of the archive speaks in. Frozen; no behaviour beyond naming."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from functools import cached_property

from pacs.dicom.json_model import Attributes as Attributes
from pacs.dicom.json_model import dumps
from pacs.dicom.layout import Layout


class Level(IntEnum):
    """Query/Retrieve levels, top to bottom (PS3.4 C.6.1)."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    IMAGE = 3


@dataclass(frozen=True, slots=True)
class Target:
    """A subtree of the archive: a study, a series of it, or an instance of that."""

    study_uid: str
    series_uid: str | None = None
    sop_uid: str | None = None

    @property
    def level(self) -> Level:
        if self.sop_uid is not None:
            return Level.IMAGE
        return Level.STUDY if self.series_uid is None else Level.SERIES


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. name: AE title, user or command; address: host or host:port; protocol: dimse, web or cli."""

    name: str
    address: str
    protocol: str


@dataclass(frozen=True, slots=True)
class BlobRef:
    """One stored file. key: relative, "/"-separated; size: bytes of the whole file (Part 10, with meta).

    digest: "sha256:" + hex of the data set as received, without preamble and file meta information: a C-STORE and
    a STOW of the same instance agree on it.
    """

    key: str
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class Header:
    """All that is known of one data set without its bulk data.

    target: study, series and SOP Instance UID, all present. attributes: DICOM JSON, group 0002 left out, text decoded.
    layout: where bulk data and frames lie in the file. data_set_offset: bytes of preamble and meta information before
    the data set (0: the file has none).
    """

    target: Target
    sop_class_uid: str
    transfer_syntax_uid: str
    data_set_offset: int
    attributes: Attributes
    layout: Layout

    @cached_property
    def json(self) -> bytes:
        """``attributes`` as UTF-8 JSON, made once."""
        return dumps(self.attributes)


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """What ``Index.put`` stores: an instance whose file is already durable."""

    header: Header
    blob: BlobRef
    received_at: datetime  # aware, UTC
    source: Caller


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """What is needed to send or open one instance; nothing that must be parsed."""

    target: Target
    sop_class_uid: str
    transfer_syntax_uid: str
    blob: BlobRef
    data_set_offset: int
