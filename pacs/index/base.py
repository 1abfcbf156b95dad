"""The contract of an index engine. Every engine passes ``tests/contracts/index_contract.py`` unchanged.

Identity: an instance is (Study, Series, SOP Instance UID). A SOP Instance UID that turns up in a second study is a
second instance, so that neither can hide or overwrite the other. A patient is (Patient ID, Issuer); studies without a
Patient ID never share a patient.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import NamedTuple, Protocol

from pacs.dicom.layout import Layout
from pacs.dicom.matching import Matcher, TagPath
from pacs.dicom.model import EVERYTHING, BlobRef, Caller, InstanceRecord, Level, Scope, StoredInstance, Target
from pacs.index.work import NewJob, Work


def nothing() -> None:
    """For files that are durable already."""


class Put(Enum):
    """What became of one record."""

    STORED = "stored"
    SAME = "same"  # already there with the same digest and transfer syntax: nothing was changed
    CONFLICT = "conflict"  # already there with other bytes, and not asked to replace: nothing was changed
    REPLACED = "replaced"  # the earlier version's row is kept as superseded, its file untouched


@dataclass(frozen=True, slots=True)
class PutResult:
    """existing: the instance that was there before (SAME, CONFLICT, REPLACED)."""

    outcome: Put
    existing: StoredInstance | None = None


@dataclass(frozen=True, slots=True)
class Fields:
    """Which attributes each row carries.

    levels: those whose default attributes (``Attribute.default``, ``DEFAULT_SEQUENCES``) are wanted. tags: further
    top-level tags by name, of any level ("GGGGEEEE" or "GGGG00EE@CREATOR"). everything: all that the row's level and
    those above keep (for Level.IMAGE, the whole of the instance's metadata). A tag that the row's level does not keep
    is taken from one of its instances. An attribute that was asked for by name and has no value is left out; the
    adapter adds it empty where its protocol wants that.
    """

    levels: frozenset[Level] = frozenset()
    tags: frozenset[str] = frozenset()
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """By one attribute of the query's level or above, those without a value last.

    tag: of a study StudyDate (then StudyTime), PatientName, PatientID, AccessionNumber, StudyDescription,
    ModalitiesInStudy, NumberOfStudyRelatedInstances; of a series SeriesNumber; "" is the order of first storage, at any
    level. Normal forms are compared, the first of several values. Equal ones come in the order of first storage; all
    that has a value is the other way round when descending, equal ones too.
    """

    tag: str
    is_descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """One search.

    keys: of levels above and below ``level`` as well (relational): an entity matches when some one instance under it
    meets all keys together with its series, study and patient. A key outside
    ``attributes.BY_TAG`` matches against the metadata of instances. within: a subtree (QIDO's path). limit: None for
    all. offset: rows left out first. after: ``Page.next`` of the page before. count: fill ``Page.total``.

    scope: what the caller may see: keys are met by what is visible alone, and a study or patient of which nothing is
    visible is not found. labels: studies that bear one of these; none: any. text: words of which each has to begin a
    word of patient's name, Patient ID, accession number, study description, study date (20240131, 2024-01), modality or
    study label (``pacs.index.listing``); Level.STUDY only.

    Rows come in order of first storage, oldest first, so that pages stay put while instances arrive; with ``order``,
    in that order.
    """

    level: Level
    keys: Mapping[TagPath, Matcher]
    within: Target | None = None
    fields: Fields = Fields()
    limit: int | None = None
    offset: int = 0
    after: str | None = None
    count: bool = False
    scope: Scope = EVERYTHING
    labels: frozenset[str] = frozenset()
    text: str = ""
    order: Order | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """rows: ready DICOM JSON objects, UTF-8, attributes in ascending tag order. next: cursor when more follow.

    total: how many match in all, when asked. inconsistent: positions in ``rows`` of studies whose instances disagree on
    study or patient attributes (the last stored won).
    """

    rows: list[bytes]
    next: str | None = None
    total: int | None = None
    inconsistent: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class InstanceMetadata:
    """json: the DICOM JSON object made at ingest, BulkDataURI relative (see ``pacs.dicom.model``)."""

    target: Target
    json: bytes


class Held(NamedTuple):
    """Everything about one instance, of one moment: parts that were read one by one may be of different versions.

    metadata: as ``InstanceMetadata.json``.
    """

    instance: StoredInstance
    layout: Layout
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Counts:
    """Totals of the whole archive."""

    patients: int
    studies: int
    series: int
    instances: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What some studies hold of one modality. studies: those with at least one series of it."""

    studies: int = 0
    series: int = 0
    instances: int = 0
    size_bytes: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.studies + other.studies,
            self.series + other.series,
            self.instances + other.instances,
            self.size_bytes + other.size_bytes,
        )


@dataclass(frozen=True, slots=True)
class UsagePage:
    """by_modality: "" for series without one. next: where to go on, None at the end."""

    by_modality: Mapping[str, Usage]
    next: str | None


@dataclass(frozen=True, slots=True)
class Discarded:
    """A version that nobody is shown any more, whose file is still there.

    at: when it was deleted or superseded, aware. is_deleted: False when a newer version took its place. is_earlier: it
    had been superseded before it was deleted. received_at, source: of an instance that was current, where known.
    """

    instance: StoredInstance
    at: datetime
    is_deleted: bool
    is_earlier: bool = False
    received_at: datetime | None = None
    source: Caller | None = None


@dataclass(frozen=True, slots=True)
class Deletion:
    """What one deletion took of one study, as far as its files are still there. note: what was written down with it."""

    study_uid: str
    at: datetime
    instances: int
    size_bytes: int
    note: bytes | None = None


# Kind of the record that a deletion leaves, for as long as any of its files is there.
DELETION = "deletion"


def deletion_key(at: datetime, study_uid: str) -> str:
    """Of the record of a deletion; in this order they are listed, backwards."""
    return f"{at.isoformat()} {study_uid}"


@dataclass(frozen=True, slots=True)
class AddedIndex:
    """An index over an attribute outside the table of attributes. done: instances it holds already, of ``total``."""

    path: TagPath
    is_complete: bool
    done: int
    total: int


class Index(Protocol):
    """Safe to call from any thread. Raises OutOfResources when it cannot write (full disk, locked, read-only)."""

    @property
    def work(self) -> Work:
        """Jobs, changes and records in the same storage."""

    def check(self) -> None:
        """Raises OutOfResources while it is known that nothing can be written. Costs nothing: before anything else."""

    def load(self) -> int:
        """How many writes wait for their turn in this process. Costs nothing."""

    def size_bytes(self) -> int | None:
        """What the index itself takes on its disk; None where that cannot be told."""

    def put(
        self,
        records: Sequence[InstanceRecord],
        *,
        replace: bool = False,
        durable: Callable[[], None] = nothing,
        jobs: Sequence[Sequence[NewJob]] = (),
        announce: bool = True,
    ) -> list[PutResult]:
        """Add instances, with counters, in one durable transaction; returns when it is on disk.

        Calls from several threads at once share a commit. One result a record, in order. durable: makes the records'
        files durable; called once, by this thread, and nothing is committed before it returns. What it raises is
        raised, and no row is kept. jobs: what follows from each record that is STORED or REPLACED, in their order.
        announce: whether those are changes to others; not when an index is made anew.
        """

    def search(self, query: Query) -> Page:
        """Rows that match. Raises Invalid for what this level cannot be searched or ordered by, or a bad cursor."""

    # scope, below: what is not visible is as if it were not there. EVERYTHING costs nothing.

    def select(
        self, keys: Mapping[TagPath, Matcher], within: Target | None = None, *, scope: Scope = EVERYTHING
    ) -> list[StoredInstance]:
        """Instances that match, in order of study, series, Instance Number, SOP Instance UID."""

    def locate(self, target: Target, *, scope: Scope = EVERYTHING) -> list[StoredInstance]:
        """All instances of a subtree, in the same order; empty when there are none."""

    def last_arrival(self, study_uid: str) -> datetime | None:
        """When the latest of a study's instances was received, aware; None when there are none."""

    def metadata(self, target: Target, *, scope: Scope = EVERYTHING) -> Iterator[InstanceMetadata]:
        """Metadata of all instances of a subtree, in the same order. Reads in pages; holds no lock between them."""

    def held(self, target: Target, *, scope: Scope = EVERYTHING) -> Held | None:
        """One instance, or None."""

    def labels_of(self, study_uids: Sequence[str], *, scope: Scope = EVERYTHING) -> dict[str, list[str]]:
        """Labels of each of some studies that are there, in alphabetical order; [] for one that bears none."""

    def label_counts(self, *, scope: Scope = EVERYTHING) -> dict[str, int]:
        """Each label that studies bear, in alphabetical order, and how many they are."""

    def layout(self, target: Target) -> Layout:
        """Layout of one instance. Raises NotFound."""

    def remove(self, targets: Sequence[Target]) -> list[BlobRef]:
        """Take subtrees out, with counters, in one transaction; returns the files that no row needs any more."""

    def delete(
        self, target: Target, at: datetime, jobs: Sequence[NewJob] = (), note: bytes | None = None
    ) -> list[StoredInstance]:
        """Take a subtree out of sight, with counters, in one transaction; its files stay noted (``discarded``).

        Returns what was there, superseded versions included. A deleted instance may be stored again. jobs: what follows
        when there was something. note: JSON about it, for ``deletions``.
        """

    def deletions(self, before: str | None, limit: int) -> list[Deletion]:
        """Deletions that can be undone, latest first, those before ``before`` (a ``deletion_key``)."""

    def deleted(self, target: Target) -> list[Discarded]:
        """Versions of a subtree that can be restored, latest deletion first, in one deletion current ones first."""

    def restore(
        self, records: Sequence[InstanceRecord], jobs: Sequence[Sequence[NewJob]] = ()
    ) -> list[PutResult | None]:
        """Take deleted versions back in, as ``put`` would, in one transaction.

        records: made of the same files under the same keys. What is STORED is noted as deleted no more, and versions
        that it had superseded, and that were deleted with it, are so again. SAME, CONFLICT: another file of the
        instance has been stored meanwhile; this one stays deleted. None: it can no longer be restored.
        """

    def doom(self, keys: Collection[str]) -> set[str]:
        """Settle that discarded files are to go: nobody can restore them from now on. Those of which that is so."""

    def versions(self, target: Target) -> list[StoredInstance]:
        """All instances of a subtree and their superseded versions: what ``delete`` would take."""

    def is_deleted(self, target: Target) -> bool:
        """Whether anything in this subtree has ever been deleted; it may be there again."""

    def discarded(self, until: datetime) -> Iterator[Discarded]:
        """Deleted and superseded versions up to a moment, each group oldest first, in pages: for purge."""

    def forget(self, keys: Collection[str]) -> None:
        """The files under these keys are gone: superseded rows go, deleted ones only remember that they were."""

    def bury(self, versions: Sequence[Discarded]) -> None:
        """Note deletions that an earlier index knew (reindex); keys that are noted already are left alone."""

    def stored(self) -> Iterator[StoredInstance]:
        """Every instance, superseded ones included, in pages: for verify and export."""

    def holds_key(self, key: str) -> bool:
        """Whether any row, superseded and deleted ones included, points at this blob key."""

    def held_keys(self, keys: Sequence[str]) -> set[str]:
        """Those of a few hundred blob keys for which ``holds_key`` is true."""

    def counts(self) -> Counts: ...

    def usage(self, after: str = "", studies: int = 200) -> UsagePage:
        """What the next so many studies hold, by modality: the whole archive is looked through page by page.

        Reads every instance of these studies, so it is for the background; no lock is held between pages.
        """

    def add_index(self, path: TagPath) -> None:
        """Begin an index over an attribute, "GGGGEEEE" or "GGGG00EE@CREATOR", or one within sequences.

        What is put from now on goes into it; ``fill_index`` takes in what is there. Searches use it once it is
        complete, and find what they find without. Idempotent. Raises Invalid for an attribute that is always indexed,
        or cannot be searched by value.
        """

    def fill_index(self, path: TagPath) -> bool:
        """Take in the next few instances that were there before; whether it is complete. Raises NotFound."""

    def drop_index(self, path: TagPath) -> None:
        """Forget an index. Raises NotFound."""

    def added_indexes(self) -> list[AddedIndex]:
        """All of them, in the order in which they were added."""

    def setting(self, name: str) -> str | None:
        """A value that belongs to the archive as a whole; None when nobody set it."""

    def remember(self, name: str, value: str, instead_of: str | None = None) -> str:
        """Set such a value, durably, if it is ``instead_of`` now, or not set. Returns what it is afterwards.

        Of several callers at once, in whatever process, one succeeds, and all are told the same.
        """

    def clear(self) -> None:
        """Forget all rows (reindex); settings stay."""

    def close(self) -> None:
        """Finish what is queued, then let go of files and threads. No call may follow."""
