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


class Role(IntEnum):
    """What somebody may do; each may do what those before it may."""

    READER = 1  # search, view, retrieve
    WRITER = 2  # store, label, delete, send, change worklists and procedure steps
    ADMIN = 3  # accounts, jobs, peers, settings, logs

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Scope:
    """What of the archive somebody may see; None: no limit of that kind.

    modalities: series of these (0008,0060). labels: studies that bear at least one of these. studies: these alone.
    """

    modalities: frozenset[str] | None = None
    labels: frozenset[str] | None = None
    studies: frozenset[str] | None = None

    @property
    def is_everything(self) -> bool:
        return self.modalities is None and self.labels is None and self.studies is None


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. name: AE title, account or command; address: host or host:port; protocol: dimse, web or cli."""

    name: str
    address: str
    protocol: str
    role: Role = Role.ADMIN
    scope: Scope = EVERYTHING


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
